"""A stage without any Genie in it: a linear model of noisy pixels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from djinn.data.loader import Loader, LoaderBatch
from djinn.train.parallel import Ranks


class ToyClips:
    """40 clips of 2 frames of 4x4."""

    def __len__(self) -> int:
        return 40

    def batch(self, indices: np.ndarray) -> np.ndarray:
        return np.stack([np.random.default_rng(int(i)).integers(0, 256, (2, 4, 4, 3), dtype=np.uint8) for i in indices])


class ToyStage:
    """Predicts a frame from the one before it; `noise` makes the loss depend on the stage's generator."""

    name = "toy"

    def __init__(self, noise: float = 0.0) -> None:
        torch.manual_seed(0)
        self.module = nn.Sequential(nn.Linear(48, 48), nn.LayerNorm(48), nn.Linear(48, 48))
        self.noise = noise
        self.exports: list[Tensor] = []
        self.evaluated: list[Tensor] = []
        self.at_step: Callable[[int], float] = lambda step: 0.0
        self.calls = 0

    @property
    def parts(self) -> list[nn.Module]:
        return [self.module]

    def loss(self, batch: LoaderBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor | float]]:
        video = batch.video.flatten(2).float() / 255
        past = video[:, 0] + self.noise * torch.randn(video[:, 0].shape, generator=generator)
        loss = (self.module(past) - video[:, 1]).square().mean() + self.at_step(self.calls)
        self.calls += 1
        return loss, {"half": loss.detach() / 2, "one": 1.0}

    def evaluate(self, folder: Path, step: int) -> dict[str, float]:
        torch.rand(3)  # must not disturb training
        self.evaluated.append(self.module[0].weight.detach().clone())
        return {"val_clips": 1.0, "val_figure": float(step)}

    def diagnose(self, figures: dict[str, float], step: int, share: float) -> str | None:
        return "it went wrong: do this" if figures["val_figure"] >= 10 else None

    def export(self, folder: Path) -> None:
        self.exports.append(self.module[0].weight.detach().clone())


def loaders(batch: int, ranks: Ranks | None = None) -> Callable[[int], Loader]:
    """Loaders of toy clips."""
    ranks = ranks or Ranks()
    return lambda position: Loader(
        ToyClips(), batch, position=position, rank=ranks.rank, ranks=ranks.count, prefetch=False
    )
