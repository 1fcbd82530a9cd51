"""CoinRun from the game to the figures: the paper's case study (Appendix F), at any size and on any device.

Records the game, trains both stages, and measures the world on levels that it has never seen (seeds from 10,000 on). What
is not said on the command line follows the device: on a GPU the paper's sizes (Tables 15 to 17), the hard game and its
random policy; on a CPU the preset `tiny`, the easy game, and one who plays as a person does. All it needs besides Djinn
is the game:

    pip install 'djinn[coinrun,plot]'
    python recipes/coinrun.py --budget 60                                   # an hour of training on what is there
    python recipes/coinrun.py --preset genie-41m --frames 3000000           # larger
    python recipes/coinrun.py --compare-policies random,mix --budget 60     # who should play for the recording?
    python recipes/coinrun.py --smoke                                       # does it run? a minute

It may be stopped at any time; the same command goes on where it was. On a machine that is lent for ten minutes at a time,
give the same command with `--call-minutes 9` until it has measured (a step, an evaluation and a checkpoint come on top), or
one stage after the other:

    python recipes/coinrun.py --budget 30 --call-minutes 9 --stage data     # then tokenizer, world, evaluate

In OUT it leaves data/ and test/ (the recorded game), run/ (checkpoints, metrics, pictures, and run/world to play),
report/report.html, results.json (all figures with their protocol), rollouts.png, and one row more in results.csv; after
a comparison all of it for each policy in OUT/POLICY, and compare.md and compare.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from coinrun_compare import compare, read_policies
from coinrun_results import append_row, is_trained, note_machine, row_of, trained_minutes, trained_on
from study import say
from study_report import write
from time_limit import TimeLimit

from djinn.config import TrainConfig, with_limits
from djinn.config.presets import PRESETS, get_preset
from djinn.config.yaml import from_dict, to_dict
from djinn.data.importers.policies import POLICIES, RENAMED_POLICIES, check_policy
from djinn.errors import UserError

TEST_LEVELS = range(10_000, 10_200)
TEST_FRAMES = 20_000
STAGES = ("data", "tokenizer", "world", "evaluate")
FITTING: dict[str, dict[str, Any]] = {
    "cuda": {"preset": "coinrun", "mode": "hard", "policy": "random", "levels": 10_000, "frames": 1_000_000},
    "cpu": {"preset": "tiny", "mode": "easy", "policy": "keyboard-jump", "levels": 4_000, "frames": 400_000},
}
"""What fits a device, where the command line does not say otherwise."""
SMOKE: dict[str, Any] = {"preset": "tiny", "levels": 20, "frames": 2_000, "clips": 4, "workers": 1}
SMOKE_STEPS = 20
SMOKE_TEST_FRAMES = 640


def main() -> None:
    """Runs the recipe."""
    try:
        args = read_args()
        say(args.why)
        with TimeLimit(args.call_minutes) as call:
            run(args, call)
    except UserError as error:
        sys.exit(f"coinrun: {error}")


def read_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line, and fills in what fits the device.

    Raises:
        UserError: a value makes no sense.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--out", type=Path, default=Path("runs/coinrun"), help="folder for everything (%(default)s)")
    add("--stage", choices=("all", *STAGES), default="all", help="what to do in this call (%(default)s)")
    add("--call-minutes", type=float, metavar="M", help="stop this call after M minutes; the same command goes on")
    add("--preset", help=f"{', '.join(PRESETS)} ({_by_device('preset')})")
    add("--budget", type=float, metavar="MINUTES", help="minutes to train, instead of the preset's steps")
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a config key, e.g. world.dynamics.masking=paper",
    )
    add("--mode", choices=("hard", "easy"), help=f"the game's ({_by_device('mode')})")
    add("--policy", help=f"{', '.join(POLICIES)} ({_by_device('policy')})")
    add("--compare-policies", metavar="P,P", help="the whole job for each of several policies, e.g. random,mix")
    add("--levels", type=int, help=f"levels to learn from, at most 10000 ({_by_device('levels')})")
    add("--frames", type=int, help=f"frames to record; the paper has 10 million ({_by_device('frames')})")
    add("--plain", action="store_true", help="one theme and no backgrounds")
    add("--workers", type=int, default=os.cpu_count() or 1, help="processes that play (%(default)s)")
    add("--device", help="cpu or cuda; cuda where there is one by default")
    add("--clips", type=int, default=256, help="clips to measure on (%(default)s)")
    add("--horizon", type=int, default=10, help="frames to generate from each prompt (%(default)s)")
    add("--no-report", action="store_true", help="no HTML report, which needs matplotlib")
    add("--smoke", action="store_true", help="a run of a minute that shows that all parts work")
    args = parser.parse_args(argv)
    if args.smoke:
        if args.budget is not None:
            raise UserError(f"--smoke trains {SMOKE_STEPS} steps, whatever --budget says: leave one of them out")
        parser.set_defaults(**SMOKE)  # what is given counts for more
        args = parser.parse_args(argv)
    if args.policy is not None:
        check_policy(args.policy)
    if args.compare_policies is not None:
        if args.policy is not None:
            raise UserError("--policy is given beside --compare-policies, which names all of them: leave one out")
        args.compare_policies = read_policies(args.compare_policies)
    if args.smoke:
        args.out = args.out / "smoke"
    args.csv = args.out / "results.csv"
    _fit(args)
    if not 1 <= args.levels <= TEST_LEVELS.start:
        raise UserError(f"--levels must lie between 1 and {TEST_LEVELS.start:,}, got {args.levels:,}")
    for name, least in (("horizon", 4), ("clips", 1), ("workers", 1)):
        if getattr(args, name) < least:
            raise UserError(f"--{name} must be at least {least}, got {getattr(args, name)}")
    return args


def _by_device(name: str) -> str:
    return " or ".join(f"{FITTING[device][name]} on {'a GPU' if device == 'cuda' else 'a CPU'}" for device in FITTING)


def _fit(args: argparse.Namespace) -> None:
    """Finds the device, fills in what fits it, and says so in `why`.

    Raises:
        UserError: the device is not there.
    """
    import torch

    there = torch.cuda.is_available()
    given = args.device is not None
    args.device = args.device or ("cuda" if there else "cpu")
    try:
        kind = torch.device(args.device).type
    except RuntimeError:
        kind = ""
    if kind not in FITTING:
        raise UserError(f"--device is cpu or cuda, got '{args.device}'")
    if kind == "cuda" and not there:
        raise UserError(f"--device {args.device}, but no GPU is found here: leave the option out, or pass --device cpu")
    found = f"a GPU is found ({torch.cuda.get_device_name(args.device)})" if kind == "cuda" else "no GPU is found"
    found = f"--device {args.device} is asked for" if given else found
    chosen = []
    for name, value in FITTING[kind].items():
        if name == "policy" and args.compare_policies:
            chosen.append(f"policies {', '.join(args.compare_policies)} (given)")
            continue
        asked = getattr(args, name)
        setattr(args, name, value if asked is None else asked)
        text = f"{getattr(args, name):,} {name}" if isinstance(value, int) else f"{name} {getattr(args, name)}"
        chosen.append(
            text if asked is None else f"{text} ({'smoke' if args.smoke and asked == SMOKE.get(name) else 'given'})"
        )
    args.why = f"{found}: {', '.join(chosen)}"


def run(args: argparse.Namespace, call: TimeLimit | None = None) -> Any:
    """Data, training, figures; with `--compare-policies` for each policy.

    Args:
        args: as of `read_args`.
        call: the limit on this call, if there is one.

    Returns:
        What is written to results.json, or the results in compare.json; nothing if measuring was not asked for.

    Raises:
        UserError: an option makes no sense, a stage is missing that others need, or the folder holds another recording.
        Stopped: after Ctrl-C, SIGTERM or `--call-minutes`, with everything saved.
    """
    call = call or TimeLimit()
    configure(args)
    if args.stage in ("all", "evaluate") and not args.no_report:
        from djinn.report.charts import require_plot

        try:
            require_plot()
        except UserError as error:
            raise UserError(f"{error}, or pass --no-report") from None
    if args.compare_policies:
        return compare(args, call, prepare, measure)
    prepare(args, call)
    return measure(args, args, call) if args.stage in ("all", "evaluate") else None


def prepare(args: argparse.Namespace, call: TimeLimit) -> None:
    """The stages that are asked for, up to a trained world."""
    from djinn.train.checkpointer import checkpoint_path

    make = args.stage in ("all", "data")
    data = args.out / "data"
    shorter = "pass fewer --frames or more --workers"
    if args.stage != "evaluate":
        with call.whole(f"recording {args.frames:,} frames", shorter):
            recorded(args, "data", range(args.levels), args.frames, make=make)
    if args.stage in ("all", "data", "evaluate"):
        frames = SMOKE_TEST_FRAMES if args.smoke else TEST_FRAMES
        with call.whole(f"recording {frames:,} frames to test on", "pass more --workers"):
            recorded(args, "test", TEST_LEVELS, frames, make=make)
    if args.stage == "tokenizer" or (args.stage == "all" and not checkpoint_path(args.out / "run", "world").exists()):
        learn(args, data, "tokenizer", call)
    if args.stage in ("all", "world"):
        learn(args, data, "world", call)


def learn(args: argparse.Namespace, data: Path, stage: Literal["tokenizer", "world"], call: TimeLimit) -> None:
    """Trains a stage to its end.

    Raises:
        UserError: the tokenizer is to be built on and not at its end.
    """
    from djinn.train.checkpointer import checkpoint_path
    from djinn.train.run import train

    call.check()
    folder, config = args.out / "run", configure(args)
    if (
        stage == "world"
        and not checkpoint_path(folder, "world").exists()
        and not is_trained(folder, "tokenizer", config)
    ):
        raise UserError(f"the tokenizer in {folder} is not trained to its end yet: do so first with --stage tokenizer")
    if not is_trained(folder, stage, config):
        note_machine(folder, stage, args.device)
    train(data, folder, config, stage, device=args.device)
    call.check()


def measure(args: argparse.Namespace, tested: argparse.Namespace, call: TimeLimit) -> dict[str, Any]:
    """Measures the world of one job on the test levels of another.

    Args:
        args: the job of the world.
        tested: the job of the test levels; where it is the same, report, results and row are written.
        call: the limit on this call.

    Raises:
        UserError: the world is not trained to its end.
    """
    from djinn.data.dataset import Dataset
    from djinn.evaluate.drift import FEWEST
    from djinn.models.world import World
    from djinn.report.evaluation import evaluate
    from djinn.report.text_report import print_report

    folder, own, config = args.out / "run", args.out == tested.out, configure(args)
    if not is_trained(folder, "world", config):
        raise UserError(f"the world in {folder} is not trained to its end yet: do so first with --stage world")
    say(f"measuring on levels {TEST_LEVELS.start:,} to {TEST_LEVELS.stop - 1:,}")
    options: dict[str, Any] = {"picture": args.out / "rollouts.png"} if own else {}
    if own and not args.no_report:
        options["report"] = args.out / "report"
    with call.whole("measuring", "pass fewer --clips"):
        world = World.from_pretrained(folder, args.device)
        if args.smoke:
            few = dataclasses.replace(world.config.sampler, steps=min(4, world.config.sampler.steps))
            options |= {"sampler": few, "code_clips": 16, "drift_frames": FEWEST if "report" in options else 0}
        figures = evaluate(
            world,
            Dataset.open(tested.out / "test"),
            clips=args.clips,
            horizon=args.horizon,
            name=f"CoinRun, preset {args.preset}, policy {args.policy}",
            **options,
        )
        if own:
            figures["recipe"] = {
                **{k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items() if k != "why"},
                "config": to_dict(config),
                "trained_on": trained_on(folder),
                "minutes": trained_minutes(folder),
            }
            write(args.out / "results.json", json.dumps(figures, indent=2) + "\n")
            append_row(args.csv, row_of(figures))
    print_report(figures)
    if own:
        say(f"all figures are in {args.out / 'results.json'}; play it: djinn play {folder}")
    return figures


def configure(args: argparse.Namespace) -> TrainConfig:
    """The preset with `--budget` and the keys of `--set`, which count for more than it."""
    config = get_preset(args.preset)
    config = _with_keys(
        dataclasses.replace(config, world=dataclasses.replace(config.world, height=64, width=64)), args.set
    )
    if args.smoke:
        config = with_limits(config, steps=SMOKE_STEPS)
    elif args.budget is not None:
        config = with_limits(config, minutes=args.budget)
    return _with_keys(config, args.set)


def _with_keys(config: TrainConfig, keys: Sequence[str]) -> TrainConfig:
    """The config with some keys set.

    Raises:
        UserError: a key is unknown, or a value has the wrong type or does not go together with the others.
    """
    data = to_dict(config)
    for text in keys:
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


def recorded(args: argparse.Namespace, name: str, levels: range, frames: int, *, make: bool = True) -> Path:
    """Records the game into a folder of `--out`, or finds it there from an earlier call.

    Raises:
        UserError: it was recorded with other settings, the disk has no room for it, or it is not there and not to be made.
    """
    from djinn.data.importers.procgen import SIZE, CoinRun, record

    folder = args.out / name
    looks = {"mode": args.mode, "policy": args.policy, "backgrounds": not args.plain, "restrict_themes": args.plain}
    asked = {**looks, "levels": [levels.start, levels.stop], "frames": frames}
    note = args.out / f"{name}.json"
    if (folder / "dataset.json").is_file():
        recorded_with = json.loads(note.read_text()) if note.is_file() else {}
        policy = recorded_with.get("policy")
        if {**recorded_with, "policy": RENAMED_POLICIES.get(policy, policy)} == asked:
            say(f"{folder} is there already")
            return folder
        raise UserError(f"{folder} was recorded with other settings: give another --out, or remove it")
    if not make:
        raise UserError(f"nothing is recorded in {folder} yet: do so first with --stage data")
    args.out.mkdir(parents=True, exist_ok=True)
    size, free = 3 * SIZE**2 * frames, shutil.disk_usage(args.out).free
    if size > free:
        raise UserError(
            f"{frames:,} frames take {size / 1e9:.0f} GB, but {free / 1e9:.0f} are free at {args.out}: "
            "pass fewer --frames, or another --out"
        )
    say(f"recording {frames:,} frames of CoinRun into {folder}")
    write(note, json.dumps(asked))
    record(folder, levels, frames, CoinRun(**looks), workers=args.workers)
    return folder


if __name__ == "__main__":
    main()
