"""Moving histogram of the codes in use, for training metrics."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


class CodeHistogram:
    """Exponentially decayed counts of the codes of about the last `1 / (1 - decay)` steps.

    It serves metrics only, so checkpoints do not contain it.
    """

    def __init__(self, decay: float = 0.98) -> None:
        self.decay = decay
        self.counts: Tensor | None = None

    def add(self, counts: Float[Tensor, " codes"]) -> Float[Tensor, " codes"]:
        """Add the counts of one step and return the decayed counts."""
        counts = counts.detach().float()
        self.counts = counts.clone() if self.counts is None else self.counts.mul_(self.decay).add_(counts)
        return self.counts
