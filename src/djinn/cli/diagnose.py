"""`djinn diagnose`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from djinn.cli.parsing import DatasetFolder, Split, WorldName, parse
from djinn.diagnose.settings import DiagnosisSettings


@dataclass(frozen=True)
class DiagnoseOptions:
    """Find out whether a world is playable, and what to change if it is not.

    For example:
        djinn diagnose runs/mine data/mine --json diagnosis.json

    The result is one verdict, the measurements behind it, and a recommendation.
    """

    world: WorldName
    """World folder, run folder, or name of a shipped world."""
    dataset: DatasetFolder
    """Data set with frames of the world's size."""
    json: Path | None = None
    """Write the verdict and all measurements to this file."""
    split: Split | None = None
    """Split to measure on. The default is test, or val if the data set has no test split."""
    settings: Annotated[DiagnosisSettings, arg(name="")] = field(default_factory=DiagnosisSettings)
    """Settings of the diagnosis."""
    device: str | None = None
    """Device to compute on, for example cpu or cuda. The default is the GPU if there is one."""


def main(args: list[str]) -> None:
    """Run `djinn diagnose`."""
    options = parse(DiagnoseOptions, args, "djinn diagnose")
    from djinn.diagnose.run import run_diagnosis

    run_diagnosis(**vars(options))
