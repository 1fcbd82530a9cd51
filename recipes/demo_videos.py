"""Makes the videos of `assets/coinrun-videos`, from which `make demo` learns.

    python recipes/demo_videos.py assets/coinrun-videos

Each file is one attempt at one level of easy CoinRun, 64x64 at 10 frames/s, without labels; the levels are none of those
that the world that comes with Djinn was trained or measured on. The same command makes the same pictures again. It needs
the extra `coinrun`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tqdm import tqdm

from djinn.data.importers.procgen import CoinRun, play_level
from djinn.data.video import write_video

FPS = 10
FRAMES = 300
FIRST_LEVEL = 20_000


def main() -> None:
    """Plays levels as people do, some turning round at walls and some jumping there, and keeps the longest attempt at each."""
    parser = argparse.ArgumentParser(description="Make the demo's videos of CoinRun.")
    parser.add_argument("out", type=Path, help="folder for the mp4 files")
    parser.add_argument("--levels", type=int, default=100, help="levels to play, one file each")
    arguments = parser.parse_args()
    game = CoinRun(mode="easy", policy="keyboard-mix")
    for number in tqdm(range(arguments.levels), unit=" levels"):
        attempts = [frames for frames, _ in play_level(FIRST_LEVEL + number, FRAMES, game)]
        write_video(arguments.out / f"coinrun-{number:03d}.mp4", max(attempts, key=len)[:FRAMES], FPS, exact=True)


if __name__ == "__main__":
    main()
