"""Time in attention: relative positions by rotation, and which frame sees which."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def rotary_table(times: Tensor, head_dim: int, base: float = 100.0) -> Float[Tensor, "2 t k"]:
    """Cosines and signed sines that turn a vector by its frame's time (see `rotate`).

    The slowest turn has a wavelength of about `2 * pi * base` frames, well beyond any window used. Angles are computed in
    float64, so that a session's ever-growing time costs no precision.
    """
    half = head_dim // 2
    place = torch.arange(half, dtype=torch.float64, device=times.device) / half
    speed = torch.exp(place * -math.log(base))  # a number to the power of a tensor takes a millisecond to dispatch
    angle = times.to(torch.float64)[:, None] * speed
    sine = angle.sin()
    return torch.stack([angle.cos().repeat(1, 2), torch.cat([-sine, sine], dim=1)]).float()


def rotate(x: Float[Tensor, "*s k"], rotary: Float[Tensor, "2 *#s k"]) -> Float[Tensor, "*s k"]:
    """Rotary position embedding (Su et al. 2021): dot products then depend on time differences alone.

    Dimension i turns together with dimension i + k/2.
    """
    return _Rotate.apply(x, rotary) if torch.is_grad_enabled() else _rotated(x, rotary)


def _rotated(x: Tensor, rotary: Tensor) -> Tensor:
    return torch.addcmul(x * rotary[0], x.roll(x.shape[-1] // 2, -1), rotary[1])


class _Rotate(torch.autograd.Function):
    """The gradient of a rotation is the rotation back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rotary: Tensor) -> Tensor:
        ctx.save_for_backward(rotary)
        return _rotated(x, rotary)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # pyrefly: ignore[bad-override]
        (rotary,) = ctx.saved_tensors
        return _rotated(gradient, torch.stack([rotary[0], -rotary[1]])), None


def as_bias(mask: Bool[Tensor, "t s"]) -> Float[Tensor, "t s"]:
    """What to add to attention's scores: 0 where a frame (row) sees another (column), minus infinity where it does not."""
    return torch.zeros(mask.shape, device=mask.device).masked_fill_(~mask, -torch.inf)
