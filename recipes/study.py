"""Shared parts of the studies: arms with different settings but equal data, seeds and time.

An arm is a run folder of `djinn train`, so a study may be stopped at any time: the same command
resumes it and skips finished arms. If the arms differ in the dynamics stage only, they share one
tokenizer.

A study writes to OUT: a run folder for each arm and seed, results.json (all metrics with their
protocol), table.md and figure.png.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from study_data import open_data
from study_report import (
    Column,
    draw_panels,
    lookup,
    markdown_table,
    publish,
    require_matplotlib,
    summarize,
    wrap_text,
    write_text,
)

from djinn.atomic import atomic_write, check_writable_file, check_writable_folder
from djinn.config import UNLIMITED, TrainConfig, with_limits
from djinn.config.presets import get_preset
from djinn.config.yaml import from_dict, save_yaml, to_dict
from djinn.data.dataset import Dataset
from djinn.errors import UserError

CPU_MINUTES = 4.0
"""Training minutes per arm at size `cpu`."""
GPU_MINUTES = 16.0
"""Training minutes of a whole study at size `gpu`."""
SMOKE_STEPS = 12

_SMALL = {"d_model": 256, "heads": 8, "head_dim": 32, "ffn_mult": 4.0, "time_every": 1}
SIZES: dict[str, dict[str, Any]] = {
    "cpu": {},
    "gpu": {
        "world.context_frames": 16,
        "world.tokenizer.patch": 8,
        "world.tokenizer.encoder": {"blocks": 4, **_SMALL},
        "world.tokenizer.decoder": {"blocks": 4, **_SMALL},
        "world.latent_action.encoder": {"blocks": 4, **_SMALL},
        "world.latent_action.decoder": {"blocks": 4, **_SMALL},
        "world.dynamics.transformer": {"blocks": 8, **_SMALL, "d_model": 512, "head_dim": 64},
        "world.sampler.steps": 8,
        "tokenizer.batch": 16,
        "tokenizer.lr": 1e-3,
        "dynamics.batch": 32,
        "dynamics.lr": 1e-3,
        "compile": "off",  # compilation times differ between arms and would count as training
    },
}
"""Changes of each size to the preset `tiny`."""

COLUMNS = (
    Column("roll-out PSNR, dB", "rollout_psnr", plotted=True),
    Column("roll-out SSIM", "rollout_ssim", 3),
    Column("Δ4PSNR, dB", "delta_psnr.4", interval="delta_psnr_interval.4", plotted=True),
    Column("codes in use", "action_usage.num_used", 0),
    Column("consistency of actions", "action_effects.consistency"),
    Column("FVD", "fvd", 1),
    Column("Fréchet, random network", "random_frechet", 3),
    Column("steps", "steps", 0),
)
"""Columns of every study; a column that no arm has measured is omitted."""


@dataclass(frozen=True)
class Arm:
    """One variant in a study."""

    name: str
    changes: Mapping[str, Any]
    """Config keys with their values, for example `{"world.dynamics.action": "prepend"}`."""
    paper: Mapping[str, str] = field(default_factory=dict)
    """Values of the paper by column heading."""


@dataclass(frozen=True)
class Study:
    """A comparison of arms, one table."""

    name: str
    title: str
    arms: tuple[Arm, ...]
    paper: str
    """What the paper reports, printed below the table."""
    columns: tuple[Column, ...] = COLUMNS
    shared_tokenizer: bool = True
    """Whether the arms differ in the dynamics stage only and share a tokenizer."""
    extra: Callable[[Path, argparse.Namespace], dict[str, Any]] | None = None
    """Additional metrics of a run folder, beside those of `djinn.evaluate.evaluation.evaluate`."""

    def run(self, args: argparse.Namespace) -> list[dict[str, Any]]:
        """Train and evaluate all arms that are not finished.

        Args:
            args: Options from `read_args`.

        Returns:
            One result per arm and seed: `arm`, `seed` and the metrics.

        Raises:
            UserError: An option is invalid, or `--out` holds a study with other settings.
            Stopped: After Ctrl-C or SIGTERM; everything is saved.
        """
        data, test = open_data(args)
        if args.fvd_detector is not None:
            check_detector(args.fvd_detector, args, test)
        minutes = self.minutes(args)
        settings = {
            "study": self.name,
            **{name: getattr(args, name) for name in ("size", "smoke", "clips", "horizon", "fvd_detector")},
            "minutes": minutes,
            "data": data.identity,
            "test": test.identity,
        }
        path = args.out / "results.json"
        results = read_results(path, settings)
        jobs = [(arm, seed) for seed in range(args.seeds) for arm in self.arms]
        for number, (arm, seed) in enumerate(jobs, start=1):
            label = f"arm {number} of {len(jobs)}: {arm.name}, seed {seed}"
            if any((r["arm"], r["seed"]) == (arm.name, seed) for r in results):
                print_status(f"{label}: already finished")
                continue
            limit = f"{SMOKE_STEPS} steps" if args.smoke else f"{minutes:.3g} minutes of training"
            print_status(f"{label}, {limit}")
            config = base_config(args, minutes, seed, data)
            run = self._train(arm, config, args, data)
            metrics = self._evaluate(run, args, test)
            results.append({"arm": arm.name, "seed": seed, "changes": dict(arm.changes), **metrics})
            write_results(path, settings, results)
        return results

    def minutes(self, args: argparse.Namespace) -> float:
        """Return the training minutes of an arm: `--minutes`, or the default of the size."""
        if args.minutes is not None or args.size == "cpu":
            return args.minutes or CPU_MINUTES
        share = TrainConfig().tokenizer_share if self.shared_tokenizer else 0.0
        return GPU_MINUTES / (share + (1 - share) * len(self.arms))

    def _train(self, arm: Arm, config: TrainConfig, args: argparse.Namespace, data: Dataset) -> Path:
        """Train an arm for its full time and return its run folder."""
        from djinn.train.run import train

        run = args.out / arm.name / f"seed{config.seed}"
        arm_config = with_changes(config, arm.changes)
        if self.shared_tokenizer:
            source = args.out / "tokenizer" / f"seed{config.seed}"
            train(data.path, source, config, stage="tokenizer", device=args.device)
            copy_tokenizer(source, run, arm_config)
        train(data.path, run, arm_config, stage="dynamics" if self.shared_tokenizer else "all", device=args.device)
        return run

    def _evaluate(self, run: Path, args: argparse.Namespace, test: Dataset) -> dict[str, Any]:
        from djinn.benchmark.machine import describe_machine
        from djinn.config.yaml import load_yaml
        from djinn.evaluate.evaluation import evaluate
        from djinn.evaluate.results import GRID_EXAMPLES
        from djinn.evaluate.settings import EvaluationSettings
        from djinn.models.world import World
        from djinn.plan import count_parameters
        from djinn.report.results import save_rollout_grid
        from djinn.train.loggers import last_evaluation

        world = World.from_pretrained(run, args.device)
        config = load_yaml(TrainConfig, run / "config.yaml")
        settings = EvaluationSettings(
            clips=args.clips,
            horizon=args.horizon,
            code_clips=16 if args.smoke else 512,
            effect_prompts=2 if args.smoke else 12,
            examples=GRID_EXAMPLES,
            fvd_detector=args.fvd_detector,
            random_frechet=args.fvd_detector is None,
        )
        evaluation = evaluate(world, test, settings)
        save_rollout_grid(evaluation, run / "rollouts.png")
        return {
            **evaluation.summary(),
            "steps": last_evaluation(run, "dynamics")["step"],
            "parameters": count_parameters(config.world),
            "machine": describe_machine(world.device),
            **(self.extra(run, args) if self.extra else {}),
        }

    def table(self, results: Sequence[Mapping[str, Any]]) -> str:
        """Return the metrics of all arms as a Markdown table, the paper's values on the right."""
        by_arm = self._by_arm(results)
        columns = [c for c in self.columns if any(summarize(group, c) for group in by_arm.values())]
        paper_headings = list(dict.fromkeys(heading for arm in self.arms for heading in arm.paper))
        rows = [["arm", *(c.heading for c in columns), *(f"paper: {heading}" for heading in paper_headings)]]
        for arm in self.arms:
            values = [(summarize(by_arm.get(arm.name, []), c), c.digits) for c in columns]
            cells = ["" if value is None else value.format(digits) for value, digits in values]
            rows.append([arm.name, *cells, *(arm.paper.get(heading, "") for heading in paper_headings)])
        return markdown_table(rows)

    def plot(self, results: Sequence[Mapping[str, Any]], path: Path) -> None:
        """Plot the columns marked `plotted` and the roll-out PSNR by frame into a PNG."""
        by_arm = self._by_arm(results)
        points = {}
        for column in (c for c in self.columns if c.plotted):
            values = {name: summarize(group, column) for name, group in by_arm.items()}
            points[column.heading] = {name: value for name, value in values.items() if value is not None}
        curves = {}
        for name, group in by_arm.items():
            by_seed = [lookup(metrics, "rollout.inferred.psnr") for metrics in group]
            curves[name] = [sum(values) / len(values) for values in zip(*by_seed, strict=True)]
        frames = range(1, 1 + max(map(len, curves.values())))
        labels = ("frame after the prompt", "dB")
        draw_panels(path, self.title, points, {"roll-out PSNR by frame": curves}, frames, labels)

    def page(self, results: Sequence[Mapping[str, Any]], args: argparse.Namespace) -> str:
        """Return the protocol, the table and the plot in Markdown."""
        first = results[0]
        protocol, sampler, host = first["protocol"], first["protocol"]["sampler"], first["machine"]
        spread = (
            f"means of {args.seeds} seeds, in brackets their range"
            if args.seeds > 1
            else "one seed, in brackets 95 % bootstrap intervals over clips"
        )
        training = f"{SMOKE_STEPS} steps of each stage" if args.smoke else f"{self.minutes(args):.3g} minutes"
        description = (
            f"Preset `tiny` at size `{args.size}`, {training} per arm on {host['gpu'] or host['cpu']} "
            f"({host['threads']} thread(s)); {spread}. Measured on {protocol['clips']} clips of split "
            f"`{protocol['split']}` of `{Path(protocol['dataset']).name}` ({protocol['dataset_identity']}), "
            f"{protocol['prompt_frames']} prompt frame and {protocol['horizon']} generated, "
            f"{sampler['steps']} MaskGIT steps, temperature {sampler['temperature']:g}."
        )
        parts = (wrap_text(description), self.table(results).rstrip(), wrap_text(self.paper))
        return "\n\n".join(parts) + f"\n\n![{self.title}](figure.png)\n"

    def _by_arm(self, results: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
        groups = {arm.name: [r for r in results if r["arm"] == arm.name] for arm in self.arms}
        return {name: group for name, group in groups.items() if group}


def base_config(args: argparse.Namespace, minutes: float, seed: int, data: Dataset) -> TrainConfig:
    """Return the config that all arms share: `tiny` at the chosen size, no evaluation."""
    config = with_changes(get_preset("tiny"), SIZES[args.size])
    config = with_limits(config, steps=SMOKE_STEPS) if args.smoke else with_limits(config, minutes=minutes)
    return dataclasses.replace(
        config,
        world=dataclasses.replace(config.world, height=data.height, width=data.width, fps=data.fps),
        tokenizer=dataclasses.replace(config.tokenizer, eval_every=UNLIMITED),
        dynamics=dataclasses.replace(config.dynamics, eval_every=UNLIMITED),
        seed=seed,
    )


def with_changes(config: TrainConfig, changes: Mapping[str, Any]) -> TrainConfig:
    """Return the config with other values at some dotted keys.

    Raises:
        UserError: A key is unknown, or a value has the wrong type or conflicts with another one.
    """
    data = to_dict(config)
    for key, value in changes.items():
        *path, last = key.split(".")
        part = data
        for name in path:
            part = part[name]
        part[last] = value
    return from_dict(TrainConfig, data)


def check_detector(source: str, args: argparse.Namespace, test: Dataset) -> None:
    """Run the network of `--fvd-detector` on a black clip, so that it fails before training.

    Raises:
        UserError: The network does not exist or does not accept clips of this size.
    """
    import numpy as np
    import torch

    from djinn.evaluate.detectors import load_detector

    device = torch.device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    load_detector(source, device)(np.zeros((1, 1 + args.horizon, test.height, test.width, 3), np.uint8))


def copy_tokenizer(source: Path, run: Path, config: TrainConfig) -> None:
    """Copy the tokenizer checkpoint of the run `source` to `run`, unless it has one."""
    from djinn.train.checkpointer import checkpoint_path

    target = checkpoint_path(run, "tokenizer")
    if target.exists():
        return
    run.mkdir(parents=True, exist_ok=True)
    save_yaml(config, run / "config.yaml")
    with atomic_write(target) as temporary:
        shutil.copyfile(checkpoint_path(source, "tokenizer"), temporary)


def read_results(path: Path, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Read the results so far, or create the file.

    Raises:
        UserError: They were measured with other settings, or the file is damaged.
    """
    if not path.is_file():
        write_results(path, settings, [])
        return []
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        previous, results = stored["settings"], stored["results"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        raise UserError(f"{path} is damaged: move it away to measure all arms from the start") from None
    changed = [
        f"{key} {previous.get(key)}, now {value}" for key, value in settings.items() if previous.get(key) != value
    ]
    if changed:
        raise UserError(
            f"{path} was measured with other settings ({'; '.join(changed)}): use those, or pass another --out"
        )
    return results


def write_results(path: Path, settings: dict[str, Any], results: list[dict[str, Any]]) -> None:
    """Write the results so far, with their settings."""
    write_text(path, json.dumps({"settings": settings, "results": results}, indent=1) + "\n")


def read_args(study: Study, doc: str | None, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line of a study.

    Raises:
        UserError: A value is invalid.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--out", type=Path, default=Path("runs") / study.name, help="output folder (%(default)s)")
    add("--data", type=Path, help="training data set; by default easy CoinRun is recorded into OUT")
    add("--test", type=Path, help="data set whose split test is used for evaluation; by default --data")
    add("--size", choices=tuple(SIZES), default="cpu", help="model size (%(default)s)")
    add(
        "--minutes",
        type=float,
        help=f"training minutes per arm ({CPU_MINUTES:g} at size cpu; at size gpu {GPU_MINUTES:g} for all arms)",
    )
    add("--seeds", type=int, default=1, help="number of runs per arm (%(default)s)")
    add("--clips", type=int, default=256, help="number of evaluation clips (%(default)s)")
    add("--horizon", type=int, default=7, help="frames to generate from each prompt (%(default)s)")
    add("--fvd-detector", help="TorchScript I3D for FVD; by default a random network's Fréchet distance")
    add("--device", help="cpu or cuda; by default cuda if available")
    add("--publish", type=Path, metavar="PAGE", help="also write table and plot into PAGE, for example docs/studies.md")
    add("--smoke", action="store_true", help="run for about a minute to check that everything works")
    args = parser.parse_args(argv)
    if args.smoke:
        args.out, args.size, args.seeds, args.clips, args.horizon = args.out / "smoke", "cpu", 1, 4, 4
    for name, minimum in (("seeds", 1), ("clips", 1), ("horizon", 4)):
        if getattr(args, name) < minimum:
            raise UserError(f"--{name} must be at least {minimum}, got {getattr(args, name)}")
    if args.minutes is not None and args.minutes <= 0:
        raise UserError(f"--minutes must be positive, got {args.minutes:g}")
    check_writable_folder(args.out)
    if args.publish is not None:
        check_writable_file(args.publish)
    return args


def main(study: Study, doc: str | None, argv: Sequence[str] | None = None) -> None:
    """Run a study from its command line to table and plot."""
    try:
        args = read_args(study, doc, argv)
        require_matplotlib()
        results = study.run(args)
        write_outputs(study.name, study.page(results, args), lambda path: study.plot(results, path), args)
    except UserError as error:
        sys.exit(f"{study.name}: {error}")


def write_outputs(name: str, page: str, plot: Callable[[Path], None], args: argparse.Namespace) -> None:
    """Write table and plot into `--out` and into the page of `--publish`, and print the table."""
    write_text(args.out / "table.md", page)
    plot(args.out / "figure.png")
    if args.publish is not None:
        publish(args.publish, name, page, args.out / "figure.png")
    print(f"\n{page}")
    print_status(f"metrics, table and plot are in {args.out}")


def print_status(text: str) -> None:
    """Print one line on the current step."""
    print(f"== {text}", flush=True)
