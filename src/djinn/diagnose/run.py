"""Diagnosis of a world from its name and the folder of a data set: the work of `djinn diagnose`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from djinn.atomic import check_writable_file
from djinn.data.dataset import Dataset
from djinn.diagnose.settings import DiagnosisSettings
from djinn.diagnose.verdict import diagnose, format_diagnosis
from djinn.evaluate.clips import default_split
from djinn.models.device import select_device
from djinn.models.world import World
from djinn.report.results import write_json


def run_diagnosis(
    world: str,
    dataset: Path,
    settings: DiagnosisSettings | None = None,
    *,
    json: Path | None = None,
    split: str | None = None,
    device: str | None = None,
) -> dict[str, Any]:
    """Diagnose a world, print the verdict with its evidence, and write the requested file.

    Args:
        world: World folder, run folder, or name of a shipped world.
        dataset: Folder of a data set with frames of the size of the world.
        settings: Settings, by default those of `DiagnosisSettings`.
        json: File for the diagnosis.
        split: Split to measure on, by default `test`, or `val` where there is no `test`.
        device: Device to compute on, by default the GPU if there is one.

    Returns:
        The diagnosis, as returned by `djinn.diagnose.verdict.diagnose`.

    Raises:
        UserError: The world or the data set is missing, they do not match, or the file cannot be
            written.
    """
    selected = select_device(device)
    if json is not None:
        check_writable_file(json)
    data = Dataset.open(dataset)
    loaded = World.from_pretrained(world, selected)
    diagnosis = diagnose(loaded, data, settings, split=default_split(data, split), name=world)
    print(format_diagnosis(diagnosis))
    if json is not None:
        write_json(json, diagnosis)
    return diagnosis
