"""Evaluation of a world from its name and the folder of a data set: the work of `djinn eval`."""

from __future__ import annotations

from pathlib import Path

from djinn.atomic import check_writable_file, check_writable_folder
from djinn.data.dataset import Dataset
from djinn.evaluate.clips import default_split
from djinn.evaluate.evaluation import evaluate
from djinn.evaluate.results import Evaluation
from djinn.evaluate.settings import EvaluationSettings
from djinn.models.device import select_device
from djinn.models.world import World
from djinn.report.charts import require_plot
from djinn.report.results import write_json, write_results
from djinn.report.text_report import format_report


def run_evaluation(
    world: str,
    dataset: Path,
    settings: EvaluationSettings | None = None,
    *,
    split: str | None = None,
    json: Path | None = None,
    report: Path | None = None,
    device: str | None = None,
) -> Evaluation:
    """Evaluate a world, print the metrics, and write the requested files.

    Args:
        world: World folder, run folder, or name of a shipped world.
        dataset: Folder of a data set with frames of the size of the world.
        settings: Settings, by default those of `EvaluationSettings`.
        split: Split to measure on, by default `test`, or `val` where there is no `test`.
        json: File for all metrics.
        report: Folder for `report.html`, `results.json` and `rollouts.png`.
        device: Device to compute on, by default the GPU if there is one.

    Raises:
        UserError: The world or the data set is missing, they do not match, or a file cannot be
            written.
    """
    selected = select_device(device)
    settings = settings or EvaluationSettings()
    if json is not None:
        check_writable_file(json)
    if report is not None:
        check_writable_folder(report)
        require_plot()
        settings = settings.for_report()
    data = Dataset.open(dataset)
    loaded = World.from_pretrained(world, selected)
    evaluation = evaluate(loaded, data, settings, split=default_split(data, split), name=world)
    print(format_report(evaluation))
    if json is not None:
        write_json(json, evaluation.summary())
    if report is not None:
        write_results(evaluation, report)
        print(f"\nwrote {report / 'report.html'}, results.json and rollouts.png")
    return evaluation
