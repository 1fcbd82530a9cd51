"""`djinn sample`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from djinn.cli.parsing import WorldName, parse


@dataclass(frozen=True)
class SampleOptions:
    """Generate a video from an image and a list of actions.

    For example:
        djinn sample coinrun --actions 'right*10,up' --out video.mp4
        djinn sample runs/mine --image start.png --actions '0*5,3*10' --out video.gif

    Without --image, the video starts from one of the world's own prompt images.
    """

    world: WorldName
    """World folder, run folder, or name of a shipped world."""
    actions: str
    """Actions separated by commas, each a name or a code, one per frame to generate. *COUNT repeats
    an action: right*10,3*5,jump."""
    out: Path
    """Video to write: .mp4, .gif, or .png for all frames side by side."""
    image: Path | None = None
    """Image to start from: a PNG, JPEG or WebP file, which is cropped and resized to the world's
    frames."""
    prompt: int | None = None
    """Number of the world's own prompt image to start from, instead of --image. The default is
    0."""
    seed: int | None = None
    """Random seed, 0 by default. At temperature 0, which is the setting of coinrun,
    nothing is drawn and the seed has no effect: pass --temperature 1 to generate different
    videos."""
    steps: int | None = None
    """MaskGIT steps per frame. More steps are slower and often better. The default is the world's
    own."""
    temperature: float | None = None
    """Sampling temperature. 0 always takes the most likely token. The default is the
    world's own."""
    fps: float | None = None
    """Frames per second of the video. The default is the world's own."""
    device: str | None = None
    """Device to compute on, for example cpu or cuda. The default is the GPU if there is one."""


def main(args: list[str]) -> None:
    """Run `djinn sample`."""
    options = parse(SampleOptions, args, "djinn sample")
    from djinn.sample import sample

    sample(**vars(options))
