"""What the studies learn from: a data set that is there, or CoinRun, or, for a smoke test, a few of the demo's videos."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from djinn.data.dataset import Dataset
from djinn.errors import UserError

FRAMES = {"cpu": 100_000, "gpu": 1_000_000}
"""Frames of CoinRun that are recorded for each size."""
LEVELS = range(2_000)
TEST_FRAMES = 20_000
VIDEOS = Path(__file__).parent.parent / "assets" / "coinrun-videos"
SMOKE_VIDEOS = 12


def open_data(args: argparse.Namespace) -> tuple[Dataset, Dataset]:
    """Opens, or makes in `--out`, the data set to learn from and the one whose split `test` is measured on.

    Args:
        args: `out`, `data`, `test`, `size` and `smoke`, as `study.read_args` gives them.

    Raises:
        UserError: a data set is missing or holds no split to measure on, or the game is not installed.
    """
    if args.data is not None:
        data = Dataset.open(args.data)
        test = data if args.test is None else Dataset.open(args.test)
    elif args.test is not None:
        raise UserError("--test is given without --data: name the data set to learn from as well")
    elif args.smoke:
        data = test = _videos(args.out / "data")
    else:
        data, test = _coinrun(args)
    if "test" not in test.splits:
        raise UserError(f"data set {test.path} has no split 'test': name one that has with --test")
    return data, test


def _videos(folder: Path) -> Dataset:
    from djinn.data.importers.videos import import_videos

    if (folder / "dataset.json").is_file():
        return Dataset.open(folder)
    files = sorted(VIDEOS.glob("*.mp4"))[:SMOKE_VIDEOS]
    if not files:
        raise UserError(f"there are no videos in {VIDEOS}: run the recipe from a clone of Djinn, or pass --data")
    return import_videos(files, folder, (64, 64))


def _coinrun(args: argparse.Namespace) -> tuple[Dataset, Dataset]:
    from coinrun import TEST_LEVELS, recorded

    game = {"mode": "easy", "policy": "mix", "plain": False, "workers": os.cpu_count() or 1}
    asked = argparse.Namespace(out=args.out, **game)
    data = recorded(asked, "data", LEVELS, FRAMES[args.size])
    return Dataset.open(data), Dataset.open(recorded(asked, "test", TEST_LEVELS, TEST_FRAMES))
