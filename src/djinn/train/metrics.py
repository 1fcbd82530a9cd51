"""The few figures that are watched while training."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor


class Histogram:
    """A moving count of the codes of the last batches, about `1 / (1 - decay)` of them.

    It is for the log only: a checkpoint does not keep it.
    """

    def __init__(self, decay: float = 0.98) -> None:
        self.decay = decay
        self.counts: Tensor | None = None

    def add(self, counts: Float[Tensor, " codes"]) -> Float[Tensor, " codes"]:
        """Takes in one batch's counts and gives the moving ones."""
        counts = counts.detach().float()
        self.counts = counts.clone() if self.counts is None else self.counts.mul_(self.decay).add_(counts)
        return self.counts


def most_bits(codes: int) -> float:
    """Largest entropy that codes can have."""
    return math.log2(codes)
