"""A stage without a video model: a linear model of noisy pixels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from djinn.data.loader import Loader
from djinn.train.ranks import Ranks
from djinn.train.stages import Metrics, Stage, StepBatch


class ToyClips:
    """40 clips of 2 frames of 4x4."""

    def __len__(self) -> int:
        return 40

    def batch(self, indices: np.ndarray) -> np.ndarray:
        return np.stack([np.random.default_rng(int(i)).integers(0, 256, (2, 4, 4, 3), dtype=np.uint8) for i in indices])


class Noise:
    """Random draws of the toy stage."""

    def __init__(self, values: Tensor) -> None:
        self.values = values

    def select(self, clips: slice) -> Tensor:
        return self.values[clips]


class ToyStage(Stage):
    """Predicts a frame from the one before it, to which noise is added."""

    name = "toy"

    def __init__(self, noise: float = 0.0) -> None:
        torch.manual_seed(0)
        self.module = nn.Sequential(nn.Linear(48, 48), nn.LayerNorm(48), nn.Linear(48, 48))
        self.noise = noise
        self.exports: list[Tensor] = []
        self.evaluated: list[Tensor] = []
        self.added_loss: Callable[[int], float] = lambda call: 0.0
        self.calls = 0

    def draw(self, clips: int, generator: torch.Generator) -> Noise:
        return Noise(torch.randn(clips, 48, generator=generator))

    def loss(self, batch: StepBatch) -> tuple[Tensor, Metrics]:
        video = batch.video.flatten(2).float() / 255
        past = video[:, 0] + self.noise * batch.draws
        loss = (self.module(past) - video[:, 1]).square().mean() + self.added_loss(self.calls)
        self.calls += 1
        return loss, {"half": loss.detach() / 2, "one": 1.0}

    def evaluate(self, folder: Path, step: int) -> dict[str, float]:
        torch.rand(3)  # must not change the random numbers of later steps
        self.evaluated.append(self.module[0].weight.detach().clone())
        return {"val_clips": 1.0, "val_metric": float(step)}

    def check_collapse(self, metrics: dict[str, float], step: int, progress: float) -> str | None:
        return "a toy warning" if metrics["val_metric"] >= 10 else None

    def export(self, folder: Path, step: int) -> None:
        self.exports.append(self.module[0].weight.detach().clone())


def loaders(batch: int, ranks: Ranks | None = None) -> Callable[[int], Loader]:
    """Return a factory of loaders of toy clips."""
    ranks = ranks or Ranks()
    return lambda position: Loader(
        ToyClips(), batch, position=position, rank=ranks.rank, ranks=ranks.count, prefetch=False
    )
