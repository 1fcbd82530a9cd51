"""CoinRun from the game to the figures: the paper's case study (Appendix F), at any size and on any device.

Records the game, trains both stages, and measures the world on levels that it has never seen (seeds from 10,000 on). It
may be stopped at any time; the same command goes on where it was. All it needs besides Djinn is the game:

    pip install 'djinn[coinrun]'
    python recipes/coinrun.py --preset tiny --mode easy --frames 200000 --budget 20    # two CPU cores
    python recipes/coinrun.py --frames 10000000 --workers 16                           # the paper's, on a GPU
    python recipes/coinrun.py --smoke                                                  # does it run? a minute

In OUT it leaves data/ and test/ (the recorded game), run/ (checkpoints, metrics, pictures, and run/world to play),
results.json (all figures with their protocol) and rollouts.png.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from djinn.config import TrainConfig, from_dict, to_dict, with_limits
from djinn.errors import UserError
from djinn.presets import PRESETS, get_preset

TEST_LEVELS = range(10_000, 10_200)


def main() -> None:
    """Runs the recipe."""
    args = read_args()
    try:
        run(args)
    except UserError as error:
        sys.exit(f"coinrun: {error}")


def read_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--out", type=Path, default=Path("runs/coinrun"), help="folder for everything (%(default)s)")
    add("--preset", default="coinrun", help=f"{', '.join(PRESETS)} (%(default)s)")
    add("--budget", type=float, metavar="MINUTES", help="minutes to train, instead of the preset's steps")
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a config key, e.g. world.dynamics.masking=paper",
    )
    add("--mode", choices=("hard", "easy"), default="hard", help="the game's (%(default)s)")
    add("--policy", default="random", help="who plays: random, random9, sticky, right, mix, person (%(default)s)")
    add("--levels", type=int, default=10_000, help="levels to learn from, at most 10000 (%(default)s)")
    add("--frames", type=int, default=1_000_000, help="frames to record; the paper has 10 million (%(default)s)")
    add("--plain", action="store_true", help="one theme and no backgrounds")
    add("--workers", type=int, default=os.cpu_count() or 1, help="processes that play (%(default)s)")
    add("--device", help="cpu or cuda; cuda where there is one by default")
    add("--clips", type=int, default=256, help="clips to measure on (%(default)s)")
    add("--horizon", type=int, default=7, help="frames to generate from each prompt (%(default)s)")
    add("--smoke", action="store_true", help="a run of a minute that shows that all parts work")
    args = parser.parse_args()
    if args.smoke:
        args.out = args.out / "smoke"
        args.preset, args.levels, args.frames, args.clips, args.workers = "tiny", 20, 2_000, 4, 1
    return args


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Data, training, figures.

    Args:
        args: as of `read_args`.

    Returns:
        What is written to results.json.

    Raises:
        UserError: an option makes no sense, or the folder holds another recording.
    """
    if not 1 <= args.levels <= TEST_LEVELS.start:
        raise UserError(f"--levels must lie between 1 and {TEST_LEVELS.start:,}, got {args.levels:,}")
    config = configure(args)
    data = recorded(args, "data", range(args.levels), args.frames)
    test = recorded(args, "test", TEST_LEVELS, 640 if args.smoke else 20_000)

    from djinn.data.dataset import Dataset
    from djinn.evaluate.console import print_report
    from djinn.evaluate.report import evaluate
    from djinn.models.world import World
    from djinn.train.run import train

    started = time.monotonic()
    train(data, args.out / "run", config, device=args.device)
    say(f"measuring on levels {TEST_LEVELS.start:,} to {TEST_LEVELS.stop - 1:,}")
    world = World.from_pretrained(args.out / "run", args.device)
    sampler = (
        dataclasses.replace(world.config.sampler, steps=min(4, world.config.sampler.steps)) if args.smoke else None
    )
    figures = evaluate(
        world,
        Dataset.open(test),
        clips=args.clips,
        horizon=args.horizon,
        sampler=sampler,
        code_clips=16 if args.smoke else 512,
        picture=args.out / "rollouts.png",
    )
    figures["recipe"] = {
        **{k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()},
        "config": to_dict(config),
        "minutes_of_this_call": round((time.monotonic() - started) / 60, 2),
    }
    print_report(figures)
    write(args.out / "results.json", json.dumps(figures, indent=2) + "\n")
    say(f"all figures are in {args.out / 'results.json'}; play it: djinn play {args.out / 'run'}")
    return figures


def configure(args: argparse.Namespace) -> TrainConfig:
    """The preset with `--budget` and the keys of `--set`."""
    config = get_preset(args.preset)
    world = dataclasses.replace(config.world, height=64, width=64)
    config = dataclasses.replace(config, world=world)
    if args.smoke:
        config = with_limits(config, steps=20)
    elif args.budget is not None:
        config = with_limits(config, minutes=args.budget)
    data = to_dict(config)
    for text in args.set:
        key, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--set takes KEY=VALUE, got '{text}'")
        *path, last = key.split(".")
        part = data
        for name in path:
            part = part.get(name) if isinstance(part, dict) else None
        if not isinstance(part, dict):
            raise UserError(f"unknown config key '{key}'")
        part[last] = yaml.safe_load(value)
    return from_dict(TrainConfig, data)


def recorded(args: argparse.Namespace, name: str, levels: range, frames: int) -> Path:
    """Records the game into a folder of `--out`, or finds it there from an earlier call."""
    from djinn.data.importers.procgen import CoinRun, record

    folder = args.out / name
    looks = {"mode": args.mode, "policy": args.policy, "backgrounds": not args.plain, "restrict_themes": args.plain}
    asked = {**looks, "levels": [levels.start, levels.stop], "frames": frames}
    note = args.out / f"{name}.json"
    if (folder / "dataset.json").is_file():
        if note.is_file() and json.loads(note.read_text()) == asked:
            say(f"{folder} is there already")
            return folder
        raise UserError(f"{folder} was recorded with other settings: give another --out, or remove it")
    say(f"recording {frames:,} frames of CoinRun into {folder}")
    args.out.mkdir(parents=True, exist_ok=True)
    write(note, json.dumps(asked))
    record(folder, levels, frames, CoinRun(**looks), workers=args.workers)
    return folder


def write(path: Path, text: str) -> None:
    """Writes a file, whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    temporary.replace(path)


def say(text: str) -> None:
    """A line on what happens now."""
    print(f"== {text}", flush=True)


if __name__ == "__main__":
    main()
