"""Sampling: MaskGIT steps and temperature against quality and speed. Nothing is trained.

    python recipes/sampler.py WORLD DATASET  # a world of `djinn train`, evaluated on split test
    python recipes/sampler.py --smoke  # check that it runs

Every pair of --steps and --temperatures plays the same clips with the same seed; top-k and choice
temperature are those of the world. It may be stopped at any time: finished pairs are skipped.
Output in OUT: results.json, table.md and figure.png.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from study import Arm, Study, print_status, read_args, read_results, write_outputs, write_results
from study_report import draw_panels, lookup, markdown_table, require_matplotlib, wrap_text

from djinn.atomic import check_writable_file, check_writable_folder
from djinn.config import SamplerConfig
from djinn.data.dataset import Dataset
from djinn.errors import UserError

NAME, TITLE = "sampler", "MaskGIT steps and temperature"
STEPS, TEMPERATURES = (1, 2, 4, 8, 16, 25), (0.0, 0.5, 1.0, 2.0)
SPEED_FRAMES = 40
PAPER = (
    "The paper samples with 25 steps, at temperature 2 on Platformers (section 3) and 1 on CoinRun "
    "(Table 17), and plays at about 1 frame/s (section 5). It reports no other settings."
)
QUALITY = {"roll-out PSNR, dB": "rollout_psnr", "Δ4PSNR, dB": "delta_psnr.4"}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the recipe."""
    try:
        args = read(argv)
        require_matplotlib()
        results = run(args)
        write_outputs(NAME, page(results), lambda path: plot(results, path), args)
    except UserError as error:
        sys.exit(f"{NAME}: {error}")


def read(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line.

    Raises:
        UserError: A value is invalid.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("world", nargs="?", help="world folder, run folder or name of a shipped world")
    add("dataset", nargs="?", type=Path, help="data set with the split test")
    add("--out", type=Path, default=Path("runs") / NAME, help="output folder (%(default)s)")
    add("--steps", type=int, nargs="+", default=STEPS, help="MaskGIT steps per frame (%(default)s)")
    add("--temperatures", type=float, nargs="+", default=TEMPERATURES, help="sampling temperatures (%(default)s)")
    add("--clips", type=int, default=64, help="number of evaluation clips (%(default)s)")
    add("--horizon", type=int, default=7, help="frames to generate from each prompt (%(default)s)")
    add("--device", help="cpu or cuda; by default cuda if available")
    add("--publish", type=Path, metavar="PAGE", help="also write table and plot into PAGE, for example docs/studies.md")
    add("--smoke", action="store_true", help="run for about a minute to check that everything works")
    args = parser.parse_args(argv)
    if args.smoke:
        args.out, args.clips, args.horizon = args.out / "smoke", 4, 4
        args.steps, args.temperatures = (1, 4), (0.0, 1.0)
    elif args.dataset is None:
        raise UserError("pass a trained world and a data set: python recipes/sampler.py WORLD DATASET")
    for name, minimum in (("clips", 1), ("horizon", 4)):
        if getattr(args, name) < minimum:
            raise UserError(f"--{name} must be at least {minimum}, got {getattr(args, name)}")
    check_writable_folder(args.out)
    if args.publish is not None:
        check_writable_file(args.publish)
    return args


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Evaluate all pairs of steps and temperature that are not finished.

    Args:
        args: Options from `read`.

    Returns:
        One result per pair: `steps`, `temperature`, `frames_per_second`, and the metrics of
        `djinn.evaluate.evaluation.evaluate`.

    Raises:
        UserError: World or data set are missing or do not match, or `--out` holds other results.
    """
    from djinn.backends.select import select_backend
    from djinn.benchmark.machine import describe_machine
    from djinn.benchmark.play import play
    from djinn.evaluate.evaluation import evaluate
    from djinn.evaluate.settings import EvaluationSettings
    from djinn.models.world import World
    from djinn.train.token_cache import fingerprint

    name, folder = smoke_world(args) if args.smoke else (args.world, args.dataset)
    data = Dataset.open(folder)
    world = World.from_pretrained(name, args.device)
    settings = {
        "study": NAME,
        "world": fingerprint(world),
        "data": data.identity,
        "clips": args.clips,
        "horizon": args.horizon,
        "machine": describe_machine(world.device)["gpu"] or describe_machine(world.device)["cpu"],
    }
    path = args.out / "results.json"
    results = read_results(path, settings)
    backend = select_backend(world)
    for steps, temperature in itertools.product(args.steps, args.temperatures):
        label = f"{steps} steps at temperature {temperature:g}"
        if any((r["steps"], r["temperature"]) == (steps, temperature) for r in results):
            print_status(f"{label}: already finished")
            continue
        print_status(label)
        sampler: SamplerConfig = dataclasses.replace(world.config.sampler, steps=steps, temperature=temperature)
        speed = play(backend, sampler, SPEED_FRAMES, lambda text: None)["play_fps"]["p50"]
        sizes = EvaluationSettings(clips=args.clips, horizon=args.horizon, code_clips=16, effect_prompts=0)
        metrics = evaluate(world, data, sizes, sampler=sampler).summary()
        results.append({"steps": steps, "temperature": temperature, "frames_per_second": speed, **metrics})
        write_results(path, settings, results)
    return [r for r in results if r["steps"] in args.steps and r["temperature"] in args.temperatures]


def smoke_world(args: argparse.Namespace) -> tuple[Path, Path]:
    """Train a world for a few steps in `--out`; return the run folder and the data set."""
    study = Study("smoke", "", (Arm("world", {}),), "")
    device = ["--device", args.device] if args.device else []
    study_args = read_args(study, None, ["--smoke", "--out", str(args.out), *device])
    study.run(study_args)
    return study_args.out / "world" / "seed0", study_args.out / "data"


def page(results: Sequence[Mapping[str, Any]]) -> str:
    """Return the protocol, the table and the plot in Markdown."""
    protocol = results[0]["protocol"]
    steps, temperatures = axes(results)
    cells = {(r["steps"], r["temperature"]): r for r in results}
    headings = [f"{name.split(',')[0]} at {t:g}" for name in QUALITY for t in temperatures]
    rows = [["steps", "frames/s", *headings]]
    for n in steps:
        speed = [cells[n, t]["frames_per_second"] for t in temperatures]
        quality = [f"{lookup(cells[n, t], key):.2f}" for key in QUALITY.values() for t in temperatures]
        rows.append([str(n), f"{sum(speed) / len(speed):.1f}", *quality])
    sampler = protocol["sampler"]
    description = (
        f"Measured on {protocol['clips']} clips of split `{protocol['split']}` of "
        f"`{Path(protocol['dataset']).name}` ({protocol['dataset_identity']}), "
        f"{protocol['prompt_frames']} prompt frame and {protocol['horizon']} generated, "
        f"choice temperature {sampler['choice_temperature']:g}, top-k {sampler['top_k'] or 'off'}. "
        f"PSNR and Δ4PSNR in dB by temperature; frames/s of one game on {protocol['device']}, "
        "mean over temperatures."
    )
    return f"{wrap_text(description)}\n\n{markdown_table(rows)}\n{wrap_text(PAPER)}\n\n![{TITLE}](figure.png)\n"


def plot(results: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Plot quality and speed over the number of steps, one line per temperature."""
    steps, temperatures = axes(results)
    cells = {(r["steps"], r["temperature"]): r for r in results}
    curves = {
        heading: {f"temperature {t:g}": [lookup(cells[n, t], key) for n in steps] for t in temperatures}
        for heading, key in {**QUALITY, "frames/s": "frames_per_second"}.items()
    }
    draw_panels(path, TITLE, {}, curves, steps, ("MaskGIT steps", ""))


def axes(results: Sequence[Mapping[str, Any]]) -> tuple[list[int], list[float]]:
    """Return the evaluated steps and temperatures, in order."""
    return sorted({r["steps"] for r in results}), sorted({r["temperature"] for r in results})


if __name__ == "__main__":
    main()
