"""Motion between frames: global shift by phase correlation, and block matching.

Motion is in pixels, +x to the right and +y down. It is the motion of the image content: where the
camera follows the player, walking to the right moves the content to the left.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int, UInt8

LOW_PASS = (1.0, 0.12)
"""Widths of the Gaussian low-pass filters in cycles per pixel: one for sharp frames, one for
blurred frames.
"""
MATCH = 0.6
"""A block has moved if its error at the best match is at most this share of its error without
motion.
"""
PEAKS = 8
"""Peaks of each phase correlation that are evaluated."""
STILL_COST = 0.15
"""Penalty in grey levels per pixel of motion, so that flat regions do not move."""


def grey(frames: UInt8[np.ndarray, "*s h w 3"]) -> Float[np.ndarray, "*s h w"]:
    """Return the luminance in grey levels."""
    return frames.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)


def global_shift(before: Float[np.ndarray, "n h w"], after: Float[np.ndarray, "n h w"]) -> Float[np.ndarray, "n 2"]:
    """Estimate the shift of whole frames by phase correlation, in pixels.

    Repetitive patterns and static content cause additional peaks, so several of the highest peaks
    are evaluated: the result is the shift with the smallest difference in the overlap. A parabola
    through the errors around it gives subpixel precision. Shifts are limited to a quarter of the
    shorter side.

    Args:
        before: Grey frames.
        after: The frames that follow them.

    Returns:
        `(dx, dy)` of each pair, 0 where a frame is flat.
    """
    reach = max(1, min(before.shape[1:]) // 4)
    candidates = np.concatenate([_peaks(before, after, reach, width) for width in LOW_PASS], axis=1)
    cost = _mismatch(before, after, candidates) + STILL_COST * np.hypot(*np.moveaxis(candidates, -1, 0))
    best = np.take_along_axis(candidates, cost.argmin(axis=1)[:, None, None], axis=1)
    around = best + np.array([[0, 0], [-1, 0], [1, 0], [0, -1], [0, 1]])
    middle, *sides = np.square(_mismatch(before, after, around)).T

    def refined(low: np.ndarray, high: np.ndarray) -> np.ndarray:
        bend = low - 2 * middle + high
        return np.where(bend > 1e-6, 0.5 * (low - high) / np.maximum(bend, 1e-6), 0).clip(-0.5, 0.5)

    return best[:, 0] + np.stack([refined(*sides[:2]), refined(*sides[2:])], axis=-1)


def _peaks(before: np.ndarray, after: np.ndarray, reach: int, low_pass: float) -> Int[np.ndarray, "n k 2"]:
    """Return the zero shift and those of the highest peaks of the phase correlation."""
    height, width = before.shape[1:]
    window = np.hanning(height + 2)[1:-1, None] * np.hanning(width + 2)[1:-1]
    spectra = [np.fft.rfft2((x - x.mean(axis=(1, 2), keepdims=True)) * window) for x in (before, after)]
    cross = spectra[0].conj() * spectra[1]
    size = np.abs(cross)
    phase = cross / (size + 1e-3 * size.mean(axis=(1, 2), keepdims=True) + 1e-9)
    distance = np.square(np.fft.fftfreq(height))[:, None] + np.square(np.fft.rfftfreq(width))
    peaks = np.fft.irfft2(phase * np.exp(distance / (-2 * low_pass**2)), s=(height, width))
    side = 2 * reach + 1
    near = np.roll(peaks, (reach, reach), axis=(1, 2))[:, :side, :side]
    edged = np.pad(near, ((0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    highest = np.max([edged[:, y : y + side, x : x + side] for y in range(3) for x in range(3)], axis=0)
    order = np.where(near >= highest, near, -np.inf).reshape(len(near), -1).argsort(axis=1)[:, : -PEAKS - 1 : -1]
    rows, columns = np.divmod(order, side)
    shifts = np.stack([columns - reach, rows - reach], axis=-1)
    return np.concatenate([np.zeros_like(shifts[:, :1]), shifts], axis=1)


def _mismatch(before: np.ndarray, after: np.ndarray, shifts: Int[np.ndarray, "n k 2"]) -> Float[np.ndarray, "n k"]:
    """Return the mean absolute difference in the overlap of frames and shifted successors."""
    height, width = before.shape[1:]
    cost = np.empty(shifts.shape[:2], np.float32)
    for dx, dy in np.unique(shifts.reshape(-1, 2), axis=0):
        pair, candidate = np.nonzero((shifts == (dx, dy)).all(axis=-1))
        here = np.s_[pair, max(0, -dy) : height - max(0, dy), max(0, -dx) : width - max(0, dx)]
        there = np.s_[pair, max(0, dy) : height - max(0, -dy), max(0, dx) : width - max(0, -dx)]
        cost[pair, candidate] = np.abs(after[there] - before[here]).mean(axis=(1, 2))
    return cost


def block_flow(
    before: Float[np.ndarray, "n h w"], after: Float[np.ndarray, "n h w"], *, block: int = 16, reach: int = 6
) -> Float[np.ndarray, "n rows columns 2"]:
    """Estimate the motion of each block by exhaustive block matching, in whole pixels.

    Args:
        before: Grey frames.
        after: The frames that follow them.
        block: Side of a block in pixels, at most the shorter side of a frame. The remainder at the
            borders is left out.
        reach: Largest motion along each axis.

    Returns:
        `(dx, dy)` of each block, 0 for blocks that match hardly better elsewhere than in place.
    """
    count, height, width = before.shape
    block = min(block, height, width)
    rows, columns = height // block, width // block
    top, left = (height - rows * block) // 2, (width - columns * block) // 2
    area = np.s_[top : top + rows * block, left : left + columns * block]

    def sums(pixels: np.ndarray) -> np.ndarray:
        return pixels.reshape(-1, rows, block, columns, block).sum(axis=(2, 4))

    inside = np.pad(np.ones((height, width), np.float32), reach)
    padded = np.pad(after, ((0, 0), (reach, reach), (reach, reach)))
    best = in_place = np.full((count, rows, columns), np.inf, np.float32)
    flow = np.zeros((count, rows, columns, 2), np.float32)
    span = range(-reach, reach + 1)
    for dx, dy in sorted(((x, y) for x in span for y in span), key=lambda d: d[0] ** 2 + d[1] ** 2):
        there = np.s_[reach + dy : reach + dy + height, reach + dx : reach + dx + width]
        visible = inside[there][area]
        overlap = sums(visible)
        cost = sums(np.abs(padded[:, *there][:, *area] - before[:, *area]) * visible) / np.maximum(overlap, 1)
        cost = np.where(overlap >= block**2 / 2, cost + STILL_COST * np.hypot(dx, dy), np.inf)
        if (dx, dy) == (0, 0):  # comes first
            in_place = cost
        better = cost < np.minimum(best, MATCH * in_place)
        best = np.where(better, cost, best)
        flow[better] = dx, dy
    return flow
