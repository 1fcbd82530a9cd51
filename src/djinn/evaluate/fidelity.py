"""How close frames are to the real ones: PSNR."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8

MSE_FLOOR = 1 / 12
"""Smallest mean squared error, in squared grey levels: that of rounding to a byte. Equal frames thus have 58.9 dB, not
infinity, and a mean over frames stays finite."""


def frame_mse(a: UInt8[np.ndarray, "*#s h w 3"], b: UInt8[np.ndarray, "*#s h w 3"]) -> Float[np.ndarray, "*t"]:
    """Mean squared error of each frame, in squared grey levels (0 to 255 squared).

    Args:
        a: frames.
        b: frames to compare with; broadcast against `a`.
    """
    assert a.dtype == b.dtype == np.uint8
    difference = a.astype(np.float32) - b
    return np.square(difference, out=difference).mean(axis=(-3, -2, -1), dtype=np.float64)


def psnr_of(mse: Float[np.ndarray, "*s"]) -> Float[np.ndarray, "*s"]:
    """Peak signal-to-noise ratio in dB of mean squared errors in squared grey levels, at least `MSE_FLOOR`."""
    return 10 * np.log10(255**2 / np.maximum(mse, MSE_FLOOR))


def psnr(a: UInt8[np.ndarray, "*#s h w 3"], b: UInt8[np.ndarray, "*#s h w 3"]) -> Float[np.ndarray, "*t"]:
    """PSNR of each frame in dB; the figure of a video is the mean of its frames'."""
    return psnr_of(frame_mse(a, b))
