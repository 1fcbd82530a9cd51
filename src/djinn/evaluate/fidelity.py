"""How close frames are to the real ones: PSNR and SSIM."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Float64, UInt8
from torch import Tensor

from djinn.models.psnr import psnr_from_mse

SSIM_WINDOW = 11
"""Side of SSIM's Gaussian window in pixels."""
_SSIM_SIGMA = 1.5
_SSIM_C1 = (0.01 * 255) ** 2
_SSIM_C2 = (0.03 * 255) ** 2
_AT_ONCE = 8
"""Frames whose SSIM is computed together: few enough to stay in a processor's cache."""


def frame_mse(a: UInt8[np.ndarray, "*#s h w 3"], b: UInt8[np.ndarray, "*#s h w 3"]) -> Float[np.ndarray, "*t"]:
    """Mean squared error of each frame, in squared grey levels (0 to 255 squared).

    Args:
        a: frames.
        b: frames to compare with; broadcast against `a`.
    """
    assert a.dtype == b.dtype == np.uint8
    difference = a.astype(np.float32) - b
    return np.square(difference, out=difference).mean(axis=(-3, -2, -1), dtype=np.float64)


def psnr(a: UInt8[np.ndarray, "*#s h w 3"], b: UInt8[np.ndarray, "*#s h w 3"]) -> Float[np.ndarray, "*t"]:
    """PSNR of each frame in dB; the figure of a video is the mean of its frames'."""
    return psnr_from_mse(frame_mse(a, b), max_value=255)


def ssim_window(height: int, width: int) -> int:
    """Side of the window that frames of a size get: 11 pixels, or the largest odd number that fits in smaller frames."""
    side = min(height, width, SSIM_WINDOW)
    return side - 1 + side % 2


def frame_ssim(a: UInt8[np.ndarray, "*#s h w 3"], b: UInt8[np.ndarray, "*#s h w 3"]) -> Float[np.ndarray, "*t"]:
    """Structural similarity of each frame, at most 1; the figure of a video is the mean of its frames'.

    As in Wang et al. 2004: a Gaussian window of 11x11 pixels and sigma 1.5 whose weights sum to one, K1 = 0.01,
    K2 = 0.03, range 255, and only positions where the window lies inside the frame (the valid region). Each of the three
    colour channels is measured by itself, and the mean over positions and channels is a frame's figure.

    Args:
        a: frames.
        b: frames to compare with; broadcast against `a`.
    """
    assert a.dtype == b.dtype == np.uint8
    shape = np.broadcast_shapes(a.shape, b.shape)
    first, second = (np.broadcast_to(x, shape).reshape(-1, *shape[-3:]) for x in (a, b))
    down, across = (_smoothing(size, ssim_window(*shape[-3:-1])) for size in shape[-3:-1])
    out = np.empty(len(first))
    for start in range(0, len(first), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        x, y = (torch.from_numpy(frames[part].copy()).movedim(-1, 1).double() for frames in (first, second))
        out[part] = _ssim(x, y, down, across).numpy()
    return out.reshape(shape[:-3])


def _smoothing(size: int, window: int) -> Float64[Tensor, "out size"]:
    """The matrix that smooths a line of `size` pixels, for the positions where the window lies inside it."""
    weights = torch.exp(-((torch.arange(window, dtype=torch.float64) - window // 2) ** 2) / (2 * _SSIM_SIGMA**2))
    matrix = torch.zeros(size - window + 1, size, dtype=torch.float64)
    matrix.as_strided((len(matrix), window), (size + 1, 1)).copy_(weights / weights.sum())  # a band along the diagonal
    return matrix


def _ssim(
    x: Float64[Tensor, "n 3 h w"], y: Float64[Tensor, "n 3 h w"], down: Tensor, across: Tensor
) -> Float64[Tensor, "n"]:
    smooth = [down @ image @ across.T for image in (x, y, x * x, y * y, x * y)]
    mean_x, mean_y = smooth[:2]
    var_x, var_y, cov = smooth[2] - mean_x**2, smooth[3] - mean_y**2, smooth[4] - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + _SSIM_C1) / (mean_x**2 + mean_y**2 + _SSIM_C1)
    structure = (2 * cov + _SSIM_C2) / (var_x + var_y + _SSIM_C2)
    return (luminance * structure).mean((1, 2, 3))
