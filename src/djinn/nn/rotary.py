"""Temporal positions of attention: rotary tables and masks."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def rotary_table(times: Int[Tensor, "t"], head_dim: int, base: float = 100.0) -> Float[Tensor, "2 t k"]:
    """Return cosines and signed sines of the rotary position embedding (Su et al. 2021).

    After `djinn.nn.kernels.rotate`, dot products of queries and keys depend on differences of times
    only. The longest wavelength is about `2 * pi * base` frames, well beyond any window in use.
    Angles are computed in float64, because the time of a session grows without bound.

    Args:
        times: Time of each frame.
        head_dim: Width of an attention head, `k`.
        base: Ratio of the highest to the lowest frequency.
    """
    half = head_dim // 2
    exponent = torch.arange(half, dtype=torch.float64, device=times.device) / half
    frequency = torch.exp(exponent * -math.log(base))  # dispatching base ** tensor takes a millisecond
    angle = times.to(torch.float64)[:, None] * frequency
    sine = angle.sin()
    return torch.stack([angle.cos().repeat(1, 2), torch.cat([-sine, sine], dim=1)]).float()


def mask_to_bias(mask: Bool[Tensor, "t s"]) -> Float[Tensor, "t s"]:
    """Convert a mask (true: row attends to column) to an additive bias of 0 and -infinity."""
    return torch.zeros(mask.shape, device=mask.device).masked_fill_(~mask, -torch.inf)
