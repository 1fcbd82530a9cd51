"""What the studies share: arms that differ in a few config keys and are given the same data, seeds and time.

An arm is a run folder of `djinn train`, so a study may be stopped at any moment: the same command goes on where it was,
and leaves alone what is done. Where the arms differ in the second stage only, one tokenizer is trained for all of them.

In OUT a study leaves a run folder for each arm and seed, results.json (all figures with their protocol), table.md and
figure.png.
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
from study_report import Column, draw, find, markdown, need_plot, publish, summarize, write

from djinn.config import UNLIMITED, TrainConfig, with_limits
from djinn.config.presets import get_preset
from djinn.config.yaml import from_dict, save_yaml, to_dict
from djinn.data.dataset import Dataset
from djinn.errors import UserError

CPU_MINUTES = 4.0
"""Of training for each arm."""
GPU_MINUTES = 16.0
"""Of training for all arms of a study, so that it is over in 20."""
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
        "compile": "off",  # its time differs between arms and would count as training
    },
}
"""What each size changes in the preset `tiny`."""

COLUMNS = (
    Column("roll-out PSNR, dB", "rollout_psnr", drawn=True),
    Column("roll-out SSIM", "rollout_ssim", 3),
    Column("Δ4PSNR, dB", "delta_psnr.4", interval="delta_psnr_interval.4", drawn=True),
    Column("codes in use", "code_use.used", 0),
    Column("consistency of actions", "effects.consistency"),
    Column("FVD", "fvd", 1),
    Column("Fréchet, random network", "random_frechet", 3),
    Column("steps", "steps", 0),
)
"""Figures that every study prints; one that no arm has measured is left out."""


@dataclass(frozen=True)
class Arm:
    """One thing that is compared."""

    name: str
    changes: Mapping[str, Any]
    """Config keys with their values, for instance `{"world.dynamics.action": "prepend"}`."""
    paper: Mapping[str, str] = field(default_factory=dict)
    """What the paper prints for it, by the head of the column."""


@dataclass(frozen=True)
class Study:
    """A table of the paper, or one that it lacks."""

    name: str
    title: str
    arms: tuple[Arm, ...]
    paper: str
    """What the paper says to it, below the table."""
    columns: tuple[Column, ...] = COLUMNS
    one_tokenizer: bool = True
    """The arms differ in the second stage only and share a tokenizer."""
    extra: Callable[[Path, argparse.Namespace], dict[str, Any]] | None = None
    """Measures more of an arm's run folder than `djinn.report.evaluation.evaluate` does."""

    def run(self, args: argparse.Namespace) -> list[dict[str, Any]]:
        """Trains and measures all arms that are not done yet.

        Args:
            args: as of `read_args`.

        Returns:
            One result for each arm and seed: `arm`, `seed`, and what was measured.

        Raises:
            UserError: an option makes no sense, or `--out` holds a study of other settings.
            Stopped: after Ctrl-C or SIGTERM, with everything saved.
        """
        data, test = open_data(args)
        if args.fvd_detector is not None:
            try_detector(args.fvd_detector, args, test)
        minutes = self.minutes(args)
        asked = {
            "study": self.name,
            **{name: getattr(args, name) for name in ("size", "smoke", "clips", "horizon", "fvd_detector")},
            "minutes": minutes,
            "data": data.identity,
            "test": test.identity,
        }
        path = args.out / "results.json"
        results = read_results(path, asked)
        jobs = [(arm, seed) for seed in range(args.seeds) for arm in self.arms]
        for number, (arm, seed) in enumerate(jobs, start=1):
            label = f"arm {number} of {len(jobs)}: {arm.name}, seed {seed}"
            if any((r["arm"], r["seed"]) == (arm.name, seed) for r in results):
                say(f"{label} is done already")
                continue
            say(f"{label}, {SMOKE_STEPS} steps" if args.smoke else f"{label}, {minutes:.3g} minutes of training")
            config = configure(args, minutes, seed, data)
            run = self._train(arm, config, args, data)
            results.append(
                {"arm": arm.name, "seed": seed, "changes": dict(arm.changes), **self._measure(run, args, test)}
            )
            write(path, json.dumps({"asked": asked, "results": results}, indent=1) + "\n")
        return results

    def minutes(self, args: argparse.Namespace) -> float:
        """Minutes of training for an arm, both stages: as asked, or what suits the size."""
        if args.minutes is not None or args.size == "cpu":
            return args.minutes or CPU_MINUTES
        share = TrainConfig().tokenizer_share if self.one_tokenizer else 0.0
        return GPU_MINUTES / (share + (1 - share) * len(self.arms))

    def _train(self, arm: Arm, config: TrainConfig, args: argparse.Namespace, data: Dataset) -> Path:
        """Trains an arm to the end of its time; returns its run folder."""
        from djinn.train.run import train

        run = args.out / arm.name / f"seed{config.seed}"
        own = changed(config, arm.changes)
        if self.one_tokenizer:
            source = args.out / "tokenizer" / f"seed{config.seed}"
            train(data.path, source, config, stage="tokenizer", device=args.device)
            lend_tokenizer(source, run, own)
        train(data.path, run, own, stage="world" if self.one_tokenizer else "all", device=args.device)
        return run

    def _measure(self, run: Path, args: argparse.Namespace, test: Dataset) -> dict[str, Any]:
        from djinn.benchmark.machine import describe_machine
        from djinn.config.yaml import load_yaml
        from djinn.models.world import World
        from djinn.plan import count_parameters
        from djinn.report.evaluation import evaluate
        from djinn.train.run import last_figures

        world = World.from_pretrained(run, args.device)
        config = load_yaml(TrainConfig, run / "config.yaml")
        return {
            **evaluate(
                world,
                test,
                clips=args.clips,
                horizon=args.horizon,
                code_clips=16 if args.smoke else 512,
                effect_prompts=2 if args.smoke else 12,
                fvd_detector=args.fvd_detector,
                random_frechet=args.fvd_detector is None,
                picture=run / "rollouts.png",
            ),
            "steps": last_figures(run, "world")["step"],
            "parameters": count_parameters(config.world),
            "machine": describe_machine(world.device),
            **(self.extra(run, args) if self.extra else {}),
        }

    def table(self, results: Sequence[Mapping[str, Any]]) -> str:
        """The figures of all arms as a Markdown table, with those of the paper on the right."""
        mine = self._by_arm(results)
        columns = [c for c in self.columns if any(summarize(group, c) for group in mine.values())]
        papers = list(dict.fromkeys(head for arm in self.arms for head in arm.paper))
        rows = [["arm", *(c.head for c in columns), *(f"paper: {head}" for head in papers)]]
        for arm in self.arms:
            values = [(summarize(mine.get(arm.name, []), c), c.digits) for c in columns]
            cells = ["" if value is None else value.text(digits) for value, digits in values]
            rows.append([arm.name, *cells, *(arm.paper.get(head, "") for head in papers)])
        return markdown(rows)

    def figure(self, results: Sequence[Mapping[str, Any]], path: Path) -> None:
        """Draws the columns that are to be drawn, and the roll-outs' PSNR by frame, into a PNG."""
        mine = self._by_arm(results)
        points = {}
        for column in (c for c in self.columns if c.drawn):
            values = {name: summarize(group, column) for name, group in mine.items()}
            points[column.head] = {name: value for name, value in values.items() if value is not None}
        lines = {}
        for name, group in mine.items():
            by_seed = [find(figures, "rollout.inferred.psnr") for figures in group]
            lines[name] = [sum(values) / len(values) for values in zip(*by_seed, strict=True)]
        frames = range(1, 1 + max(map(len, lines.values())))
        draw(path, self.title, points, {"roll-out PSNR by frame": lines}, frames, ("frame after the prompt", "dB"))

    def page(self, results: Sequence[Mapping[str, Any]], args: argparse.Namespace) -> str:
        """Table and figure with how they were made, in Markdown."""
        first = results[0]
        protocol, sampler, host = first["protocol"], first["protocol"]["sampler"], first["machine"]
        several = (
            f"means of {args.seeds} seeds, in brackets their range"
            if args.seeds > 1
            else "one seed, in brackets 95 % bootstrap intervals over clips"
        )
        trained = f"{SMOKE_STEPS} steps of each stage" if args.smoke else f"{self.minutes(args):.3g} minutes"
        how = (
            f"Preset `tiny` at size `{args.size}`, {trained} an arm on {host['gpu'] or host['cpu']} "
            f"({host['threads']} thread(s)); {several}. Measured on {protocol['clips']} clips of split `{protocol['split']}` "
            f"of `{Path(protocol['dataset']).name}` ({protocol['dataset_identity']}), {protocol['prompt_frames']} prompt frame "
            f"and {protocol['horizon']} generated, {sampler['steps']} MaskGIT steps, temperature {sampler['temperature']:g}."
        )
        return f"{how}\n\n{self.table(results)}\n{self.paper}\n\n![{self.title}](figure.png)\n"

    def _by_arm(self, results: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
        groups = {arm.name: [r for r in results if r["arm"] == arm.name] for arm in self.arms}
        return {name: group for name, group in groups.items() if group}


def configure(args: argparse.Namespace, minutes: float, seed: int, data: Dataset) -> TrainConfig:
    """What all arms have in common: `tiny` at the size asked for, on the data's frames, training in all of its time."""
    config = changed(get_preset("tiny"), SIZES[args.size])
    config = with_limits(config, steps=SMOKE_STEPS) if args.smoke else with_limits(config, minutes=minutes)
    return dataclasses.replace(
        config,
        world=dataclasses.replace(config.world, height=data.height, width=data.width, fps=data.fps),
        tokenizer=dataclasses.replace(config.tokenizer, eval_every=UNLIMITED),
        dynamics=dataclasses.replace(config.dynamics, eval_every=UNLIMITED),
        seed=seed,
    )


def changed(config: TrainConfig, changes: Mapping[str, Any]) -> TrainConfig:
    """The config with other values at some dotted keys.

    Raises:
        UserError: a key is unknown, or a value has the wrong type or does not go together with the others.
    """
    data = to_dict(config)
    for key, value in changes.items():
        *path, last = key.split(".")
        part = data
        for name in path:
            part = part[name]
        part[last] = value
    return from_dict(TrainConfig, data)


def try_detector(source: str, args: argparse.Namespace, test: Dataset) -> None:
    """Tries the network of `--fvd-detector` on a black clip, before hours of training and not after them.

    Raises:
        UserError: there is no such network, or it cannot be used on clips of this size.
    """
    import numpy as np
    import torch

    from djinn.evaluate.detectors import load_detector

    place = torch.device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    load_detector(source, place)(np.zeros((1, 1 + args.horizon, test.height, test.width, 3), np.uint8))


def lend_tokenizer(source: Path, run: Path, config: TrainConfig) -> None:
    """Puts the trained tokenizer of the run in `source` into the run folder `run`, unless it is there already."""
    from djinn.train.checkpointer import checkpoint_path

    own = checkpoint_path(run, "tokenizer")
    if own.exists():
        return
    own.parent.mkdir(parents=True, exist_ok=True)
    save_yaml(config, run / "config.yaml")
    temporary = own.with_name(own.name + ".tmp")
    shutil.copyfile(checkpoint_path(source, "tokenizer"), temporary)
    temporary.replace(own)


def read_results(path: Path, asked: dict[str, Any]) -> list[dict[str, Any]]:
    """Results so far; makes the file where there is none.

    Raises:
        UserError: they were made with other settings, or the file is damaged.
    """
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, json.dumps({"asked": asked, "results": []}) + "\n")
        return []
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
        was, results = there["asked"], there["results"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        raise UserError(f"{path} is damaged: move it away, and all arms are measured again") from None
    other = [f"{key} {was.get(key)}, now {asked.get(key)}" for key in asked if was.get(key) != asked.get(key)]
    if other:
        raise UserError(f"{path} was made with other settings ({'; '.join(other)}): use those, or give another --out")
    return results


def read_args(study: Study, doc: str | None, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line of a study.

    Raises:
        UserError: a value makes no sense.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--out", type=Path, default=Path("runs") / study.name, help="folder for everything (%(default)s)")
    add("--data", type=Path, help="data set to learn from; by default easy CoinRun is recorded into OUT")
    add("--test", type=Path, help="data set whose split test is measured on; by default --data")
    add("--size", choices=tuple(SIZES), default="cpu", help="of the models (%(default)s)")
    add(
        "--minutes",
        type=float,
        help=f"of training for each arm ({CPU_MINUTES:g} for cpu; for gpu what makes {GPU_MINUTES:g} in all)",
    )
    add("--seeds", type=int, default=1, help="how often each arm is trained (%(default)s)")
    add("--clips", type=int, default=256, help="clips to measure on (%(default)s)")
    add("--horizon", type=int, default=7, help="frames to generate from each prompt (%(default)s)")
    add(
        "--fvd-detector", help="TorchScript I3D for the Fréchet video distance; without it, a random network's distance"
    )
    add("--device", help="cpu or cuda; cuda where there is one by default")
    add("--publish", type=Path, metavar="PAGE", help="also put table and figure into this page, e.g. docs/studies.md")
    add("--smoke", action="store_true", help="a run of a minute that shows that all parts work")
    args = parser.parse_args(argv)
    if args.smoke:
        args.out, args.size, args.seeds, args.clips, args.horizon = args.out / "smoke", "cpu", 1, 4, 4
    for name, least in (("seeds", 1), ("clips", 1), ("horizon", 4)):
        if getattr(args, name) < least:
            raise UserError(f"--{name} must be at least {least}, got {getattr(args, name)}")
    if args.minutes is not None and args.minutes <= 0:
        raise UserError(f"--minutes must be positive, got {args.minutes:g}")
    return args


def main(study: Study, doc: str | None, argv: Sequence[str] | None = None) -> None:
    """Runs a study from its command line to table and figure."""
    try:
        args = read_args(study, doc, argv)
        need_plot()
        results = study.run(args)
        finish(study.name, study.page(results, args), lambda path: study.figure(results, path), args)
    except UserError as error:
        sys.exit(f"{study.name}: {error}")


def finish(name: str, page: str, figure: Callable[[Path], None], args: argparse.Namespace) -> None:
    """Writes table and figure into `--out`, into the page of `--publish`, and prints the table."""
    write(args.out / "table.md", page)
    figure(args.out / "figure.png")
    if args.publish is not None:
        publish(args.publish, name, page, args.out / "figure.png")
    print(f"\n{page}")
    say(f"figures, table and picture are in {args.out}")


def say(text: str) -> None:
    """A line on what happens now."""
    print(f"== {text}", flush=True)
