"""The CoinRun case study of the paper (Appendix F): record, train and evaluate, at any size.

Records the game, trains both stages, and evaluates the world on unseen levels (seeds from 10,000).
Defaults depend on the device: on a GPU the paper's sizes (Tables 15 to 17), the hard mode and its
random policy; on a CPU the preset `tiny`, the easy mode and a policy that imitates a keyboard
player. Needs the game and matplotlib:

    pip install 'djinn[coinrun,plot]'
    python recipes/coinrun.py --budget 60  # an hour of training
    python recipes/coinrun.py --preset genie-41m --frames 3000000  # larger
    python recipes/coinrun.py --compare-policies random,mix --budget 60  # compare policies
    python recipes/coinrun.py --smoke  # check that it runs

It may be stopped at any time; the same command resumes. On a machine that is available for ten
minutes at a time, repeat the same command with `--call-minutes 9` until the evaluation is finished
(a step, an evaluation or a checkpoint may exceed the limit), or run one stage after the other:

    python recipes/coinrun.py --budget 30 --call-minutes 9 --stage data

with the stages data, tokenizer, dynamics, evaluate.

Output in OUT: data/ and test/ (the recorded game), run/ (checkpoints, metrics, images, and
run/world to play), report/report.html, results.json (all metrics with their protocol),
rollouts.png, and one more row in results.csv. A comparison writes all of it for each policy to
OUT/POLICY, and compare.md and compare.json.
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
from coinrun_results import append_row, is_trained, record_machine, result_row, trained_minutes, trained_on
from study import print_status
from study_report import write_text
from time_limit import TimeLimit

from djinn.atomic import check_writable_folder
from djinn.config import TrainConfig, with_limits
from djinn.config.presets import PRESETS, get_preset
from djinn.config.yaml import from_dict, to_dict
from djinn.data.importers.policies import POLICIES, RENAMED_POLICIES, check_policy
from djinn.errors import UserError

TEST_LEVELS = range(10_000, 10_200)
TEST_FRAMES = 20_000
STAGES = ("data", "tokenizer", "dynamics", "evaluate")
DEVICE_DEFAULTS: dict[str, dict[str, Any]] = {
    "cuda": {"preset": "coinrun", "mode": "hard", "policy": "random", "levels": 10_000, "frames": 1_000_000},
    "cpu": {"preset": "tiny", "mode": "easy", "policy": "keyboard-jump", "levels": 4_000, "frames": 400_000},
}
"""Defaults of the options on each device."""
SMOKE: dict[str, Any] = {"preset": "tiny", "levels": 20, "frames": 2_000, "clips": 4, "workers": 1}
SMOKE_STEPS = 20
SMOKE_TEST_FRAMES = 640


def main() -> None:
    """Run the recipe."""
    try:
        args = read_args()
        print_status(args.summary)
        with TimeLimit(args.call_minutes) as call:
            run(args, call)
    except UserError as error:
        sys.exit(f"coinrun: {error}")


def read_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line and set the defaults of the device.

    Raises:
        UserError: A value is invalid.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--out", type=Path, default=Path("runs/coinrun"), help="output folder (%(default)s)")
    add("--stage", choices=("all", *STAGES), default="all", help="part to run (%(default)s)")
    add("--call-minutes", type=float, metavar="M", help="stop after M minutes; the same command resumes")
    add("--preset", help=f"{', '.join(PRESETS)} ({_by_device('preset')})")
    add("--budget", type=float, metavar="MINUTES", help="training minutes, instead of the preset's steps")
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a config key, e.g. world.dynamics.masking=paper",
    )
    add("--mode", choices=("hard", "easy"), help=f"mode of the game ({_by_device('mode')})")
    add("--policy", help=f"{', '.join(POLICIES)} ({_by_device('policy')})")
    add("--compare-policies", metavar="P,P", help="compare several policies, e.g. random,mix")
    add("--levels", type=int, help=f"training levels, at most 10000 ({_by_device('levels')})")
    add("--frames", type=int, help=f"frames to record; 10 million in the paper ({_by_device('frames')})")
    add("--plain", action="store_true", help="one theme and no backgrounds")
    add("--workers", type=int, default=os.cpu_count() or 1, help="recording processes (%(default)s)")
    add("--device", help="cpu or cuda; by default cuda if available")
    add("--clips", type=int, default=256, help="number of evaluation clips (%(default)s)")
    add("--horizon", type=int, default=10, help="frames to generate from each prompt (%(default)s)")
    add("--no-report", action="store_true", help="write no HTML report (it needs matplotlib)")
    add("--smoke", action="store_true", help="run for about a minute to check that everything works")
    args = parser.parse_args(argv)
    if args.smoke:
        if args.budget is not None:
            raise UserError(f"--smoke trains {SMOKE_STEPS} steps and ignores --budget: pass only one of them")
        parser.set_defaults(**SMOKE)  # options on the command line override them
        args = parser.parse_args(argv)
    if args.policy is not None:
        check_policy(args.policy)
    if args.compare_policies is not None:
        if args.policy is not None:
            raise UserError(
                "--policy conflicts with --compare-policies, which lists all policies: pass only one of them"
            )
        args.compare_policies = read_policies(args.compare_policies)
    if args.smoke:
        args.out = args.out / "smoke"
    args.csv = args.out / "results.csv"
    _set_device_defaults(args)
    if not 1 <= args.levels <= TEST_LEVELS.start:
        raise UserError(f"--levels must lie between 1 and {TEST_LEVELS.start:,}, got {args.levels:,}")
    for name, minimum in (("horizon", 4), ("clips", 1), ("workers", 1)):
        if getattr(args, name) < minimum:
            raise UserError(f"--{name} must be at least {minimum}, got {getattr(args, name)}")
    check_writable_folder(args.out)
    return args


def _by_device(name: str) -> str:
    return " or ".join(
        f"{DEVICE_DEFAULTS[device][name]} on {'a GPU' if device == 'cuda' else 'a CPU'}" for device in DEVICE_DEFAULTS
    )


def _set_device_defaults(args: argparse.Namespace) -> None:
    """Select the device, set its defaults, and describe both in `summary`.

    Raises:
        UserError: The device is not available.
    """
    import torch

    available = torch.cuda.is_available()
    given = args.device is not None
    args.device = args.device or ("cuda" if available else "cpu")
    try:
        kind = torch.device(args.device).type
    except RuntimeError:
        kind = ""
    if kind not in DEVICE_DEFAULTS:
        raise UserError(f"--device is cpu or cuda, got '{args.device}'")
    if kind == "cuda" and not available:
        raise UserError(f"--device {args.device}, but there is no GPU: leave the option out, or pass --device cpu")
    device = f"GPU {torch.cuda.get_device_name(args.device)}" if kind == "cuda" else "no GPU"
    device = f"--device {args.device}" if given else device
    chosen = []
    for name, value in DEVICE_DEFAULTS[kind].items():
        if name == "policy" and args.compare_policies:
            chosen.append(f"policies {', '.join(args.compare_policies)} (given)")
            continue
        option = getattr(args, name)
        setattr(args, name, value if option is None else option)
        text = f"{getattr(args, name):,} {name}" if isinstance(value, int) else f"{name} {getattr(args, name)}"
        chosen.append(
            text if option is None else f"{text} ({'smoke' if args.smoke and option == SMOKE.get(name) else 'given'})"
        )
    args.summary = f"{device}: {', '.join(chosen)}"


def run(args: argparse.Namespace, call: TimeLimit | None = None) -> Any:
    """Record, train and evaluate; with `--compare-policies` for each policy.

    Args:
        args: Options from `read_args`.
        call: Limit on this call, if any.

    Returns:
        The contents of results.json, or the results in compare.json; None without evaluation.

    Raises:
        UserError: An option is invalid, a required stage is missing, or the folder holds another
            recording.
        Stopped: After Ctrl-C, SIGTERM or `--call-minutes`; everything is saved.
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
        return compare(args, call, prepare, evaluate_world)
    prepare(args, call)
    return evaluate_world(args, args, call) if args.stage in ("all", "evaluate") else None


def prepare(args: argparse.Namespace, call: TimeLimit) -> None:
    """Run the requested stages, up to a trained world."""
    from djinn.train.checkpointer import checkpoint_path

    create = args.stage in ("all", "data")
    data = args.out / "data"
    shorter = "pass fewer --frames or more --workers"
    if args.stage != "evaluate":
        with call.uninterruptible(f"recording {args.frames:,} frames", shorter):
            record_levels(args, "data", range(args.levels), args.frames, create=create)
    if args.stage in ("all", "data", "evaluate"):
        frames = SMOKE_TEST_FRAMES if args.smoke else TEST_FRAMES
        with call.uninterruptible(f"recording {frames:,} test frames", "pass more --workers"):
            record_levels(args, "test", TEST_LEVELS, frames, create=create)
    if args.stage == "tokenizer" or (
        args.stage == "all" and not checkpoint_path(args.out / "run", "dynamics").exists()
    ):
        train_stage(args, data, "tokenizer", call)
    if args.stage in ("all", "dynamics"):
        train_stage(args, data, "dynamics", call)


def train_stage(args: argparse.Namespace, data: Path, stage: Literal["tokenizer", "dynamics"], call: TimeLimit) -> None:
    """Train a stage to its limit.

    Raises:
        UserError: The dynamics stage is requested before the tokenizer is finished.
    """
    from djinn.train.checkpointer import checkpoint_path
    from djinn.train.run import train

    call.check()
    folder, config = args.out / "run", configure(args)
    if (
        stage == "dynamics"
        and not checkpoint_path(folder, "dynamics").exists()
        and not is_trained(folder, "tokenizer", config)
    ):
        raise UserError(f"the tokenizer in {folder} is not finished: finish it with --stage tokenizer")
    if not is_trained(folder, stage, config):
        record_machine(folder, stage, args.device)
    train(data, folder, config, stage, device=args.device)
    call.check()


def evaluate_world(args: argparse.Namespace, test_args: argparse.Namespace, call: TimeLimit) -> dict[str, Any]:
    """Evaluate the world of one job on the test levels of another.

    Args:
        args: The job of the world.
        test_args: The job of the test levels; if it is the same, a report is written.
        call: Limit on this call.

    Raises:
        UserError: The world is not finished.
    """
    from djinn.data.dataset import Dataset
    from djinn.evaluate.evaluation import evaluate
    from djinn.evaluate.results import GRID_EXAMPLES
    from djinn.evaluate.settings import MIN_DRIFT_FRAMES, EvaluationSettings
    from djinn.models.world import World
    from djinn.report.results import save_rollout_grid, write_results
    from djinn.report.text_report import format_report

    folder, own, config = args.out / "run", args.out == test_args.out, configure(args)
    if not is_trained(folder, "dynamics", config):
        raise UserError(f"the world in {folder} is not finished: finish it with --stage dynamics")
    print_status(f"evaluating on levels {TEST_LEVELS.start:,} to {TEST_LEVELS.stop - 1:,}")
    with_report = own and not args.no_report
    settings = EvaluationSettings(clips=args.clips, horizon=args.horizon)
    with call.uninterruptible("the evaluation", "pass fewer --clips"):
        world = World.from_pretrained(folder, args.device)
        if args.smoke:
            steps = min(4, world.config.sampler.steps)
            drift_frames = MIN_DRIFT_FRAMES if with_report else 0
            settings = dataclasses.replace(settings, steps=steps, code_clips=16, drift_frames=drift_frames)
        settings = settings.for_report() if with_report else dataclasses.replace(settings, examples=GRID_EXAMPLES)
        name = f"CoinRun, preset {args.preset}, policy {args.policy}"
        evaluation = evaluate(world, Dataset.open(test_args.out / "test"), settings, name=name)
        metrics = evaluation.summary()
        if own:
            if with_report:
                write_results(evaluation, args.out / "report")
            save_rollout_grid(evaluation, args.out / "rollouts.png")
            metrics["recipe"] = {
                **{k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items() if k != "summary"},
                "config": to_dict(config),
                "trained_on": trained_on(folder),
                "minutes": trained_minutes(folder),
            }
            write_text(args.out / "results.json", json.dumps(metrics, indent=2) + "\n")
            append_row(args.csv, result_row(metrics))
    print(format_report(evaluation))
    if own:
        print_status(f"all metrics are in {args.out / 'results.json'}; play it: djinn play {folder}")
    return metrics


def configure(args: argparse.Namespace) -> TrainConfig:
    """Return the preset with `--budget` and the keys of `--set`, which override it."""
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
    """Return the config with other values at some keys.

    Raises:
        UserError: A key is unknown, or a value has the wrong type or conflicts with another one.
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


def record_levels(args: argparse.Namespace, name: str, levels: range, frames: int, *, create: bool = True) -> Path:
    """Record the game into a folder of `--out`, unless an earlier call has.

    Raises:
        UserError: It was recorded with other settings, the disk is too full, or it is missing and
            `create` is false.
    """
    from djinn.data.importers.coinrun import SIZE, CoinRun
    from djinn.data.importers.import_dataset import import_dataset
    from djinn.data.importers.procgen import ProcgenOptions

    folder = args.out / name
    game_options = {
        "mode": args.mode,
        "policy": args.policy,
        "backgrounds": not args.plain,
        "restrict_themes": args.plain,
    }
    settings = {**game_options, "levels": [levels.start, levels.stop], "frames": frames}
    record_file = args.out / f"{name}.json"
    if (folder / "dataset.json").is_file():
        recorded_with = json.loads(record_file.read_text()) if record_file.is_file() else {}
        policy = recorded_with.get("policy")
        if {**recorded_with, "policy": RENAMED_POLICIES.get(str(policy), policy)} == settings:
            print_status(f"{folder} exists already")
            return folder
        raise UserError(f"{folder} was recorded with other settings: pass another --out, or remove it")
    if not create:
        raise UserError(f"{folder} is not recorded yet: record it with --stage data")
    args.out.mkdir(parents=True, exist_ok=True)
    size, free = 3 * SIZE**2 * frames, shutil.disk_usage(args.out).free
    if size > free:
        raise UserError(
            f"{frames:,} frames take {size / 1e9:.0f} GB, but {args.out} has {free / 1e9:.0f} GB free: "
            "pass fewer --frames, or another --out"
        )
    print_status(f"recording {frames:,} frames of CoinRun into {folder}")
    write_text(record_file, json.dumps(settings))
    span = f"{levels.start}:{levels.stop}"
    options = ProcgenOptions("coinrun", span, frames, CoinRun(**game_options), workers=args.workers)
    import_dataset(options, folder)
    return folder


if __name__ == "__main__":
    main()
