"""`djinn eval`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from djinn.cli.parsing import DatasetFolder, Split, WorldName, parse
from djinn.errors import UserError


@dataclass(frozen=True)
class EvaluateOptions:
    """Evaluate a world on held-out clips: quality of the frames, and effect of the actions.

    For example:
        djinn eval runs/mine data/mine --report report
        djinn eval runs/mine data/mine --clips 2048 --horizon 15 --fvd-detector i3d_torchscript.pt

    FVD needs the I3D network in common use, i3d_torchscript.pt of StyleGAN-V, which Djinn does not
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
    clips: int = 64
    """Number of clips."""
    horizon: int = 7
    """Frames to generate from each prompt."""
    prompt_frames: int = 1
    """Real frames at the start of each roll-out."""
    steps: int | None = None
    """MaskGIT steps per frame. The default is the world's own."""
    temperature: float | None = None
    """Temperature of the token draws. 0 always takes the most likely token. The default is the
    world's own."""
    seed: int = 0
    """Seed of the choice of clips, the random actions, the draws and the bootstrap."""
    batch: int = 16
    """Clips per batch."""
    drift_frames: int | None = None
    """Also measure drift in 4 roll-outs of this many frames. The default is 200 with --report, else
    none."""
    long: int | None = None
    """Also generate this many frames (for example 100) with the actions inferred from the real
    video, in as many episodes as are long enough, and give PSNR and SSIM at frames 1, 10, 25, 50,
    ..."""
    shown: int | None = None
    """Number of clips in the report, spread over the sources of the data set. The default is 20."""
    fvd_detector: str | None = None
    """Also compute FVD with this TorchScript file or MODULE:FUNCTION. The file is executed: use
    only files that you trust."""
    random_frechet: bool = False
    """Also compute the Frechet distance of a network with random weights, which needs no file. It
    is not FVD."""
    device: str | None = None
    """Device to compute on, for example cpu or cuda. The default is the GPU if there is one."""

    def __post_init__(self) -> None:
        if self.json is not None and self.report is not None and self.json.resolve() == self.report.resolve():
            raise UserError(f"--json and --report are both {self.json}: the first is a file, the second a folder")


def main(args: list[str]) -> None:
    """Run `djinn eval`."""
    options = parse(EvaluateOptions, args, "djinn eval")
    from djinn.report.commands import run

    run(**vars(options))
