"""Generate the videos in `assets/coinrun-videos`, the training data of `make demo`.

    python recipes/demo_videos.py assets/coinrun-videos

Each file is one attempt at one level of easy CoinRun, 64x64 pixels at 10 frames per second, with no
labels. The levels were not used to train or evaluate the shipped world. The output is
deterministic. Requires the extra `coinrun`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from djinn.atomic import check_writable_folder
from djinn.data.importers.coinrun import CoinRun, play_level
from djinn.data.video import write_video
from djinn.errors import UserError

FPS = 10
FRAMES = 300
FIRST_LEVEL = 20_000


def main() -> None:
    """Play levels with the policy `keyboard-mix` and save the longest attempt at each level."""
    parser = argparse.ArgumentParser(description="Generate the videos of the demo.")
    parser.add_argument("out", type=Path, help="folder for the mp4 files")
    parser.add_argument("--levels", type=int, default=100, help="number of levels, one file each (%(default)s)")
    arguments = parser.parse_args()
    try:
        check_writable_folder(arguments.out)
    except UserError as error:
        sys.exit(f"demo_videos: {error}")
    game = CoinRun(mode="easy", policy="keyboard-mix")
    for number in tqdm(range(arguments.levels), unit=" levels"):
        attempts = [frames for frames, _ in play_level(FIRST_LEVEL + number, FRAMES, game)]
        write_video(arguments.out / f"coinrun-{number:03d}.mp4", max(attempts, key=len)[:FRAMES], FPS, exact=True)


if __name__ == "__main__":
    main()
