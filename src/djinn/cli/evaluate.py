"""`djinn eval`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from djinn.cli.parsing import DatasetFolder, Split, WorldName, parse
from djinn.errors import UserError
from djinn.evaluate.settings import EvaluationSettings


@dataclass(frozen=True)
class EvaluateOptions:
    """Evaluate a world on held-out clips: quality of the frames, and effect of the actions.

    For example:
        djinn eval runs/mine data/mine --report report
        djinn eval runs/mine data/mine --clips 2048 --horizon 15 --fvd-detector i3d_torchscript.pt

    FVD needs the commonly used I3D network, i3d_torchscript.pt of StyleGAN-V, which Djinn does not
    download, or a Python function from float videos (clip, channel, time, height, width) with
    values from 0 to 255 to features.
    """

    world: WorldName
    """World folder, run folder, or name of a shipped world."""
    dataset: DatasetFolder
    """Data set with frames of the world's size."""
    json: Path | None = None
    """Write all metrics to this file."""
    report: Path | None = None
    """Write report.html, results.json and rollouts.png into this folder."""
    split: Split | None = None
    """Split to evaluate on. The default is test, or val if the data set has no test split."""
    settings: Annotated[EvaluationSettings, arg(name="")] = field(default_factory=EvaluationSettings)
    """Settings of the evaluation."""
    device: str | None = None
    """Device to compute on, for example cpu or cuda. The default is the GPU if there is one."""

    def __post_init__(self) -> None:
        if self.json is not None and self.report is not None and self.json.resolve() == self.report.resolve():
            raise UserError(f"--json and --report are both {self.json}: the first is a file, the second a folder")
        if self.report is None and self.settings.examples:
            raise UserError(
                f"--examples {self.settings.examples} is the number of clips in a report: add --report FOLDER, or "
                "leave --examples out"
            )


def main(args: list[str]) -> None:
    """Run `djinn eval`."""
    options = parse(EvaluateOptions, args, "djinn eval")
    from djinn.report.run import run_evaluation

    run_evaluation(
        options.world,
        options.dataset,
        options.settings,
        split=options.split,
        json=options.json,
        report=options.report,
        device=options.device,
    )
