"""The few figures that are watched while training."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Num
from torch import Tensor

from djinn.models.code_usage import min_used_share


def psnr_of(mse: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of mean squared errors of pixels in [0, 1], at most 100."""
    return -10 * torch.log10(mse.clamp_min(1e-10))


def psnr(a: Tensor, b: Tensor) -> Float[Tensor, "b t"]:
    """PSNR in dB of each frame of `(b, t, h, w, 3)`: uint8, or float in [0, 1]."""
    a, b = (x.float() / 255 if x.dtype == torch.uint8 else x.float() for x in (a, b))
    return psnr_of((a - b).square().mean(dim=(2, 3, 4)))


class CodeUse(NamedTuple):
    """How evenly codes are used; all are tensors without dimensions."""

    top: Tensor
    """Share of the code that is used most."""
    used: Tensor
    """Number of codes with at least the share `min_used_share`."""
    bits: Tensor
    """Entropy in bits."""


def code_use(counts: Num[Tensor, " codes"]) -> CodeUse:
    """Use of codes from how often each was chosen."""
    share = counts.float() / counts.sum().clamp_min(1e-9)
    bits = (share * -share.clamp_min(1e-12).log2()).sum()
    return CodeUse(share.max(), (share >= min_used_share(len(share))).sum(), bits)


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
