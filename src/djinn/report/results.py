"""Result files of an evaluation: `report.html`, `results.json` and `rollouts.png`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from djinn.atomic import atomic_write
from djinn.evaluate.results import Evaluation
from djinn.image_grid import save_png
from djinn.report.html import METRICS_WITH_SECTION, ReportMedia, write_report
from djinn.report.image_grid import rollout_grid


def write_results(evaluation: Evaluation, folder: Path, *, progress: bool = True) -> None:
    """Write `report.html`, `results.json` and `rollouts.png` into a folder.

    Args:
        evaluation: The evaluation, with examples.
        folder: Folder to write into.
        progress: Show a progress bar.

    Raises:
        UserError: Matplotlib is missing, or a file cannot be written.
    """
    results = evaluation.summary()
    drift = None if evaluation.drift is None else evaluation.drift.frames
    other = {
        name: metric.lines(evaluation.action_names)
        for name, metric in evaluation.metrics().items()
        if name not in METRICS_WITH_SECTION
    }
    media = ReportMedia(evaluation.examples, evaluation.action_effects, drift, other)
    write_report(folder / "report.html", results, media, progress=progress)
    write_json(folder / "results.json", results)
    save_rollout_grid(evaluation, folder / "rollouts.png")


def save_rollout_grid(evaluation: Evaluation, path: Path) -> None:
    """Write the image grid of a few examples with their roll-outs as a PNG file.

    Raises:
        UserError: The file cannot be written.
    """
    examples = evaluation.grid_examples()
    if examples is not None:
        save_png(rollout_grid(examples), path)


def write_json(path: Path, results: dict[str, Any]) -> None:
    """Write results to a JSON file atomically.

    Raises:
        UserError: The file cannot be written.
    """
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
