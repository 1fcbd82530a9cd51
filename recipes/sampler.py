"""How a frame is sampled: MaskGIT steps and temperature, against quality and speed. Nothing is trained.

    python recipes/sampler.py WORLD DATASET        # a world of `djinn train`; measured on split test
    python recipes/sampler.py --smoke              # does it run? a minute, on a world of a few steps

Every pair of --steps and --temperatures plays the same clips from the same seed; top-k and noise are the world's own. It
may be stopped at any moment: pairs that were measured are not measured again. In OUT it leaves results.json, table.md and
figure.png.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from study import Arm, Study, finish, read_args, read_results, say
from study_report import draw, find, markdown, need_plot, write

from djinn.config import SamplerConfig
from djinn.data.dataset import Dataset
from djinn.errors import UserError

NAME, TITLE = "sampler", "MaskGIT steps and temperature"
STEPS, TEMPERATURES = (1, 2, 4, 8, 16, 25), (0.0, 0.5, 1.0, 2.0)
SPEED_FRAMES = 40
PAPER = (
    "The paper samples with 25 steps, at temperature 2 on Platformers (section 3) and 1 on CoinRun (Table 17), and plays at "
    "about 1 frame/s (section 5); it prints no figures for other settings."
)
QUALITY = {"roll-out PSNR, dB": "rollout_psnr", "Δ4PSNR, dB": "delta_psnr.4"}


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the recipe."""
    try:
        args = read(argv)
        need_plot()
        results = run(args)
        finish(NAME, page(results), lambda path: figure(results, path), args)
    except UserError as error:
        sys.exit(f"{NAME}: {error}")


def read(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line.

    Raises:
        UserError: a value makes no sense.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("world", nargs="?", help="world folder, run folder or name of a shipped world")
    add("dataset", nargs="?", type=Path, help="data set with a split test")
    add("--out", type=Path, default=Path("runs") / NAME, help="folder for everything (%(default)s)")
    add("--steps", type=int, nargs="+", default=STEPS, help="MaskGIT steps a frame (%(default)s)")
    add("--temperatures", type=float, nargs="+", default=TEMPERATURES, help="of the token draw (%(default)s)")
    add("--clips", type=int, default=64, help="clips to measure on (%(default)s)")
    add("--horizon", type=int, default=7, help="frames to generate from each prompt (%(default)s)")
    add("--device", help="cpu or cuda; cuda where there is one by default")
    add("--publish", type=Path, metavar="PAGE", help="also put table and figure into this page, e.g. docs/studies.md")
    add("--smoke", action="store_true", help="a run of a minute that shows that all parts work")
    args = parser.parse_args(argv)
    if args.smoke:
        args.out, args.clips, args.horizon = args.out / "smoke", 4, 4
        args.steps, args.temperatures = (1, 4), (0.0, 1.0)
    elif args.dataset is None:
        raise UserError("name a trained world and a data set: python recipes/sampler.py WORLD DATASET")
    for name, least in (("clips", 1), ("horizon", 4)):
        if getattr(args, name) < least:
            raise UserError(f"--{name} must be at least {least}, got {getattr(args, name)}")
    return args


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Measures all pairs of steps and temperature that are not measured yet.

    Args:
        args: as of `read`.

    Returns:
        One result for each pair: `steps`, `temperature`, `frames_per_second`, and the figures of
        `djinn.report.evaluation.evaluate`.

    Raises:
        UserError: world or data set are missing or do not match, or `--out` holds figures of others.
    """
    from djinn.backends.select import prepare_for_inference
    from djinn.benchmark.machine import describe_machine
    from djinn.benchmark.play import play
    from djinn.models.world import World
    from djinn.report.evaluation import evaluate
    from djinn.train.token_cache import fingerprint

    name, folder = smoke_world(args) if args.smoke else (args.world, args.dataset)
    data = Dataset.open(folder)
    world = World.from_pretrained(name, args.device)
    asked = {
        "study": NAME,
        "world": fingerprint(world),
        "data": data.identity,
        "clips": args.clips,
        "horizon": args.horizon,
        "machine": describe_machine(world.device)["gpu"] or describe_machine(world.device)["cpu"],
    }
    path = args.out / "results.json"
    results = read_results(path, asked)
    played = prepare_for_inference(world)
    for steps, temperature in itertools.product(args.steps, args.temperatures):
        label = f"{steps} steps at temperature {temperature:g}"
        if any((r["steps"], r["temperature"]) == (steps, temperature) for r in results):
            say(f"{label} are measured already")
            continue
        say(label)
        sampler: SamplerConfig = dataclasses.replace(world.config.sampler, steps=steps, temperature=temperature)
        speed = play(played, sampler, SPEED_FRAMES, lambda text: None)["play_fps"]["p50"]
        sizes = {"clips": args.clips, "horizon": args.horizon, "code_clips": 16, "effect_prompts": 0}
        figures = evaluate(world, data, sampler=sampler, **sizes)
        results.append({"steps": steps, "temperature": temperature, "frames_per_second": speed, **figures})
        write(path, json.dumps({"asked": asked, "results": results}, indent=1) + "\n")
    return [r for r in results if r["steps"] in args.steps and r["temperature"] in args.temperatures]


def smoke_world(args: argparse.Namespace) -> tuple[Path, Path]:
    """A world of a few steps and its data set, made in `--out`."""
    study = Study("smoke", "", (Arm("world", {}),), "")
    device = ["--device", args.device] if args.device else []
    own = read_args(study, None, ["--smoke", "--out", str(args.out), *device])
    study.run(own)
    return own.out / "world" / "seed0", own.out / "data"


def page(results: Sequence[Mapping[str, Any]]) -> str:
    """Table and figure with how they were made, in Markdown."""
    protocol = results[0]["protocol"]
    steps, temperatures = axes(results)
    cells = {(r["steps"], r["temperature"]): r for r in results}
    heads = [f"{name.split(',')[0]} at {t:g}" for name in QUALITY for t in temperatures]
    rows = [["steps", "frames/s", *heads]]
    for n in steps:
        speed = [cells[n, t]["frames_per_second"] for t in temperatures]
        quality = [f"{find(cells[n, t], key):.2f}" for key in QUALITY.values() for t in temperatures]
        rows.append([str(n), f"{sum(speed) / len(speed):.1f}", *quality])
    how = (
        f"Measured on {protocol['clips']} clips of split `{protocol['split']}` of "
        f"`{Path(protocol['dataset']).name}` ({protocol['dataset_identity']}), "
        f"{protocol['prompt_frames']} prompt frame and {protocol['horizon']} generated, noise "
        f"{protocol['sampler']['choice_temperature']:g}, top-k {protocol['sampler']['top_k'] or 'off'}; PSNR and Δ4PSNR in dB by "
        f"temperature; frames/s of one game on {protocol['device']}, mean over temperatures."
    )
    return f"{how}\n\n{markdown(rows)}\n{PAPER}\n\n![{TITLE}](figure.png)\n"


def figure(results: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draws quality and speed over the number of steps, a line for each temperature."""
    steps, temperatures = axes(results)
    cells = {(r["steps"], r["temperature"]): r for r in results}
    curves = {
        head: {f"temperature {t:g}": [find(cells[n, t], key) for n in steps] for t in temperatures}
        for head, key in {**QUALITY, "frames/s": "frames_per_second"}.items()
    }
    draw(path, TITLE, {}, curves, steps, ("MaskGIT steps", ""))


def axes(results: Sequence[Mapping[str, Any]]) -> tuple[list[int], list[float]]:
    """The steps and the temperatures that were measured, in order."""
    return sorted({r["steps"] for r in results}), sorted({r["temperature"] for r in results})


if __name__ == "__main__":
    main()
