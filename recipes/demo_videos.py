"""Makes the videos of `assets/coinrun-videos`, from which `make demo` learns.

    python recipes/demo_videos.py assets/coinrun-videos

Each file is one attempt at one level of easy CoinRun without backgrounds, 64x64 at 10 frames/s, without labels. The same
command makes the same pictures again. It needs the extra `coinrun`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tqdm import tqdm

from djinn.data.importers.procgen import CoinRun, play_level
from djinn.data.video import write_video

FPS = 10
FRAMES = 300


def main() -> None:
    """Plays levels, in turn with held random buttons and mostly to the right, and keeps the longest attempt at each."""
    parser = argparse.ArgumentParser(description="Make the demo's videos of CoinRun.")
    parser.add_argument("out", type=Path, help="folder for the mp4 files")
    parser.add_argument("--levels", type=int, default=100, help="levels to play, one file each")
    arguments = parser.parse_args()
    for level in tqdm(range(arguments.levels), unit=" levels"):
        game = CoinRun(mode="easy", policy="right" if level % 2 else "sticky", backgrounds=False)
        attempts = [frames for frames, _ in play_level(level, FRAMES, game)]
        write_video(arguments.out / f"coinrun-{level:03d}.mp4", max(attempts, key=len)[:FRAMES], FPS, exact=True)


if __name__ == "__main__":
    main()
