"""PSNR and SSIM of frames against the real ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, UInt8
from torch import Tensor

from djinn.models.psnr import MSE_FLOOR, psnr_from_mse

PSNR_PROTOCOL = f"uint8 RGB, mean over frames of the PSNR of each frame, squared error at least {MSE_FLOOR:.4f}"
"""How PSNR is measured, for the protocol of a result."""
SSIM_WINDOW = 11
"""Side of the Gaussian window of SSIM in pixels."""
_SSIM_SIGMA = 1.5
_SSIM_C1 = (0.01 * 255) ** 2
_SSIM_C2 = (0.03 * 255) ** 2
_CHUNK = 8
"""Frames whose SSIM is computed together: few enough for the CPU cache."""


@dataclass(frozen=True)
class FrameMetrics:
    """Error and similarity of frames against the real ones, per clip and frame."""

    mse: Float[np.ndarray, "clips t"]
    """Mean squared error of each frame, in squared grey levels."""
    ssim: Float[np.ndarray, "clips t"]

    @property
    def psnr(self) -> Float[np.ndarray, "clips t"]:
        """PSNR of each frame in dB."""
        return psnr_from_mse(self.mse, max_value=255)

    @classmethod
    def compare(cls, real: UInt8[np.ndarray, "b #t h w 3"], frames: UInt8[np.ndarray, "b #t h w 3"]) -> FrameMetrics:
        """Compare frames with the real ones; `frames` is broadcast against `real`."""
        return cls(frame_mse(real, frames), frame_ssim(real, frames))

    @classmethod
    def concatenate(cls, parts: Sequence[FrameMetrics]) -> FrameMetrics:
        """Concatenate the metrics of several batches of clips."""
        return cls(np.concatenate([part.mse for part in parts]), np.concatenate([part.ssim for part in parts]))


def frame_mse(a: UInt8[np.ndarray, "*#s h w 3"], b: UInt8[np.ndarray, "*#s h w 3"]) -> Float[np.ndarray, "*t"]:
    """Return the mean squared error of each frame, in squared grey levels (0 to 255 squared).

    Args:
        a: Frames.
        b: Frames to compare with, broadcast against `a`.
    """
    assert a.dtype == b.dtype == np.uint8
    difference = a.astype(np.float32) - b
    return np.square(difference, out=difference).mean(axis=(-3, -2, -1), dtype=np.float64)


def psnr(a: UInt8[np.ndarray, "*#s h w 3"], b: UInt8[np.ndarray, "*#s h w 3"]) -> Float[np.ndarray, "*t"]:
    """Return the PSNR of each frame in dB. The PSNR of a video is the mean over its frames."""
    return psnr_from_mse(frame_mse(a, b), max_value=255)


def ssim_window(height: int, width: int) -> int:
    """Return the side of the SSIM window: 11 pixels, or the largest odd side that fits."""
    side = min(height, width, SSIM_WINDOW)
    return side - 1 + side % 2


def ssim_protocol(height: int, width: int) -> str:
    """Return how SSIM is measured on frames of a size, for the protocol of a result."""
    window = ssim_window(height, width)
    return (
        f"Wang et al. 2004: Gaussian window {window}x{window}, sigma 1.5, K1 0.01, K2 0.03, range 255, valid region, "
        "mean of the RGB channels, mean over frames"
    )


def frame_ssim(a: UInt8[np.ndarray, "*#s h w 3"], b: UInt8[np.ndarray, "*#s h w 3"]) -> Float[np.ndarray, "*t"]:
    """Return the structural similarity of each frame, at most 1.

    As in Wang et al. 2004: a normalized Gaussian window of 11x11 pixels with sigma 1.5, K1 = 0.01,
    K2 = 0.03, range 255, valid region (the window lies inside the frame). The SSIM of a frame is
    the mean over positions and the three color channels, that of a video the mean over its frames.

    Args:
        a: Frames.
        b: Frames to compare with, broadcast against `a`.
    """
    assert a.dtype == b.dtype == np.uint8
    shape = np.broadcast_shapes(a.shape, b.shape)
    first, second = (np.broadcast_to(x, shape).reshape(-1, *shape[-3:]) for x in (a, b))
    vertical, horizontal = (_smoothing_matrix(size, ssim_window(*shape[-3:-1])) for size in shape[-3:-1])
    out = np.empty(len(first))
    for start in range(0, len(first), _CHUNK):
        part = slice(start, start + _CHUNK)
        x, y = (torch.from_numpy(frames[part].copy()).movedim(-1, 1).double() for frames in (first, second))
        out[part] = _ssim(x, y, vertical, horizontal).numpy()
    return out.reshape(shape[:-3])


def _smoothing_matrix(size: int, window: int) -> Float64[Tensor, "out size"]:
    """Return the matrix that convolves a line of `size` pixels with the window, valid region."""
    weights = torch.exp(-((torch.arange(window, dtype=torch.float64) - window // 2) ** 2) / (2 * _SSIM_SIGMA**2))
    matrix = torch.zeros(size - window + 1, size, dtype=torch.float64)
    # a band along the diagonal
    matrix.as_strided((len(matrix), window), (size + 1, 1)).copy_(weights / weights.sum())
    return matrix


def _ssim(
    x: Float64[Tensor, "n 3 h w"], y: Float64[Tensor, "n 3 h w"], vertical: Tensor, horizontal: Tensor
) -> Float64[Tensor, "n"]:
    smoothed = [vertical @ image @ horizontal.T for image in (x, y, x * x, y * y, x * y)]
    mean_x, mean_y = smoothed[:2]
    var_x, var_y, cov = smoothed[2] - mean_x**2, smoothed[3] - mean_y**2, smoothed[4] - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + _SSIM_C1) / (mean_x**2 + mean_y**2 + _SSIM_C1)
    structure = (2 * cov + _SSIM_C2) / (var_x + var_y + _SSIM_C2)
    return (luminance * structure).mean((1, 2, 3))
