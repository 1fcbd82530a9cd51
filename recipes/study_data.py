"""Data sets of the studies: an existing one, CoinRun, or demo videos for a smoke test."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from djinn.data.dataset import Dataset
from djinn.errors import UserError

FRAMES = {"cpu": 100_000, "gpu": 1_000_000}
"""Frames of CoinRun to record for each size."""
LEVELS = range(2_000)
TEST_FRAMES = 20_000
VIDEOS = Path(__file__).parent.parent / "assets" / "coinrun-videos"
SMOKE_VIDEOS = 12


def open_data(args: argparse.Namespace) -> tuple[Dataset, Dataset]:
    """Open, or create in `--out`, the data sets for training and for evaluation (split `test`).

    Args:
        args: `out`, `data`, `test`, `size` and `smoke` from `study.read_args`.

    Raises:
        UserError: A data set is missing or has no split `test`, or the game is not installed.
    """
    if args.data is not None:
        data = Dataset.open(args.data)
        test = data if args.test is None else Dataset.open(args.test)
    elif args.test is not None:
        raise UserError("--test is given without --data: pass the training data set as well")
    elif args.smoke:
        data = test = _demo_videos(args.out / "data")
    else:
        data, test = _coinrun(args)
    if "test" not in test.splits:
        raise UserError(f"data set {test.path} has no split 'test': pass one that has it with --test")
    return data, test


def _demo_videos(folder: Path) -> Dataset:
    from djinn.data.importers.import_dataset import import_dataset
    from djinn.data.importers.videos import VideoOptions

    if (folder / "dataset.json").is_file():
        return Dataset.open(folder)
    files = sorted(VIDEOS.glob("*.mp4"))[:SMOKE_VIDEOS]
    if not files:
        raise UserError(f"there are no videos in {VIDEOS}: run the recipe from a clone of Djinn, or pass --data")
    return import_dataset(VideoOptions(tuple(map(str, files))), folder)


def _coinrun(args: argparse.Namespace) -> tuple[Dataset, Dataset]:
    from coinrun import TEST_LEVELS, record_levels

    game = {"mode": "easy", "policy": "mix", "plain": False, "workers": os.cpu_count() or 1}
    options = argparse.Namespace(out=args.out, **game)
    data = record_levels(options, "data", LEVELS, FRAMES[args.size])
    return Dataset.open(data), Dataset.open(record_levels(options, "test", TEST_LEVELS, TEST_FRAMES))
