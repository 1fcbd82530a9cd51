"""Peak signal-to-noise ratio, shared by training and evaluation."""

from __future__ import annotations

from typing import overload

import numpy as np
import torch
from jaxtyping import Float, Num
from torch import Tensor

MSE_FLOOR = 1 / 12
"""Floor of the mean squared error, in squared grey levels (0 to 255).

It is the variance of rounding to 8 bits. Identical frames thus have a PSNR of 58.9 dB instead of
infinity, and means over frames stay finite.
"""


@overload
def psnr_from_mse(mse: Float[Tensor, "*s"], max_value: float = 1.0) -> Float[Tensor, "*s"]: ...
@overload
def psnr_from_mse(mse: Float[np.ndarray, "*s"], max_value: float = 1.0) -> Float[np.ndarray, "*s"]: ...
def psnr_from_mse(
    mse: Float[Tensor, "*s"] | Float[np.ndarray, "*s"], max_value: float = 1.0
) -> Float[Tensor, "*s"] | Float[np.ndarray, "*s"]:
    """Return the PSNR in dB of mean squared errors.

    Args:
        mse: Mean squared errors. Values below `MSE_FLOOR` are raised to it.
        max_value: Largest pixel value, 1 for pixels in [0, 1] and 255 for grey levels.
    """
    floor = MSE_FLOOR * (max_value / 255) ** 2
    if isinstance(mse, Tensor):
        return -10 * torch.log10(mse.clamp_min(floor) / max_value**2)
    return -10 * np.log10(np.maximum(mse, floor) / max_value**2)


def frame_psnr(a: Num[Tensor, "b t h w 3"], b: Num[Tensor, "b t h w 3"]) -> Float[Tensor, "b t"]:
    """Return the PSNR of each frame in dB.

    Args:
        a: Frames, uint8 or float in [0, 1].
        b: Frames to compare with, uint8 or float in [0, 1].
    """
    a, b = (x.float() / 255 if x.dtype == torch.uint8 else x.float() for x in (a, b))
    return psnr_from_mse((a - b).square().mean(dim=(2, 3, 4)))
