"""Interface between the trainer and a stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor, nn

Metrics = dict[str, Tensor | float]
"""Scalars to log, by name."""
ForwardContext = Callable[[], AbstractContextManager[Any]]
"""Returns the context of forward passes, for example autocast. Backward passes run outside it."""


class Draws(Protocol):
    """Random draws of one optimizer step, for all clips of the global batch."""

    def select(self, clips: slice) -> Any:
        """Return the draws of some clips."""
        ...


@dataclass(frozen=True)
class StepBatch:
    """Clips of one forward and backward pass, on the device, with the random draws for them."""

    indices: Int64[Tensor, " b"]
    """Indices of the clips in the data set, the keys of cached tokens."""
    video: UInt8[Tensor, "b t h w 3"]
    draws: Any = None
    """Result of `Draws.select`, or None for a stage without random draws."""

    def __len__(self) -> int:
        return len(self.indices)


class Stage(Protocol):
    """One training loop's model, loss, evaluation and export.

    A subclass has to define `module`, `loss` and `evaluate`; the other methods have defaults.
    """

    name: str
    """Name as registered, used for the checkpoint folder, for images and in metrics."""
    module: nn.Module
    """Parameters and buffers that are trained and saved."""

    @property
    def clip_groups(self) -> list[nn.Module]:
        """Modules whose gradient norms are clipped separately."""
        return [self.module]

    def draw(self, clips: int, generator: torch.Generator) -> Draws | None:
        """Draw the random numbers of one optimizer step.

        Every rank draws those of the global batch and selects its own, so that they depend neither
        on the number of ranks nor on accumulation.

        Args:
            clips: Clips in the global batch.
            generator: Seeded by seed and step, on the device.
        """
        return None

    def loss(self, batch: StepBatch) -> tuple[Tensor, Metrics]:
        """Return the loss of one pass and metrics to log.

        The loss must be a mean over clips: the mean of the losses of equal parts of a batch must be
        the loss of the batch. If clips depend on each other, override `accumulate`.
        """
        ...

    def accumulate(self, batches: Sequence[StepBatch], forward_context: ForwardContext) -> tuple[Tensor, Metrics]:
        """Accumulate the gradients of the mean loss of several passes.

        Args:
            batches: Equal parts of this rank's clips.
            forward_context: Context of the forward passes.

        Returns:
            Mean loss, detached, and mean metrics.
        """
        passes = []
        for batch in batches:
            with forward_context():
                loss, metrics = self.loss(batch)
            (loss / len(batches)).backward()
            passes.append({**metrics, "loss": loss.detach()})
        means = mean_metrics(passes)
        return torch.as_tensor(means.pop("loss")), means

    def evaluate(self, folder: Path, step: int) -> dict[str, float]:
        """Return metrics on held-out clips, among them `val_clips`, and write images.

        Args:
            folder: Run folder.
            step: Optimizer steps done.
        """
        ...

    def check_collapse(self, metrics: dict[str, float], step: int, progress: float) -> str | None:
        """Return a warning with a remedy if an evaluation shows that training fails, else None.

        Args:
            metrics: Result of `evaluate`.
            step: Optimizer steps done.
            progress: Share of training done, in [0, 1].
        """
        return None

    def export(self, folder: Path, step: int) -> None:
        """Write files for users into the run folder, after each checkpoint.

        Args:
            folder: Run folder.
            step: Optimizer steps done.
        """

    def exported_files(self, folder: Path) -> list[Path]:
        """Return the safetensors files of `export`, which a finished run must have."""
        return []

    def identity(self) -> dict[str, str]:
        """Return a value that checkpoints must match, for example a hash of frozen weights."""
        return {}

    def close(self) -> None:
        """Release resources after the last step."""


def mean_metrics(passes: Sequence[Metrics]) -> Metrics:
    """Average the metrics of several passes."""
    return {name: sum(p[name] for p in passes) / len(passes) for name in passes[0]}
