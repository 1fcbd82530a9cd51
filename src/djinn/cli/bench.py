"""`djinn bench`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from djinn.cli.parsing import Engine, WorldName, parse


@dataclass(frozen=True)
class BenchOptions:
    """Benchmark a world on this machine: speed of play and of training, and memory.

    For example:
        djinn bench coinrun
        djinn bench preset:bench --json

    Play is timed from the action to the decoded frame, training per optimizer step on random clips.
    """

    world: WorldName
    """World folder, run folder, name of a shipped world, or preset:NAME for random weights of a
    preset's size."""
    json: bool = False
    """Print one JSON object instead of a table."""
    long: bool = False
    """Also play 2,000 frames and compare time per frame and memory at the start and at the end."""
    train: bool = True
    """Do not benchmark training."""
    frames: int = 60
    """Frames to play after the warm-up."""
    steps: int | None = None
    """MaskGIT steps per frame. The default is the world's own."""
    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile in training. auto: on CUDA only."""
    engine: Engine = "auto"
    """Engine that computes the frames in play, as in djinn play."""
    device: str | None = None
    """Device to compute on, for example cpu or cuda. The default is the GPU if there is one."""


def main(args: list[str]) -> None:
    """Run `djinn bench`."""
    options = parse(BenchOptions, args, "djinn bench")
    from djinn.benchmark.run import bench

    bench(**vars(options))
