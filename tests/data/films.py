import numpy as np


def numbered(count: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Plain frames whose brightness tells their number, at most 25 of them."""
    frames = np.empty((count, height, width, 3), dtype=np.uint8)
    frames[:] = (10 * np.arange(count, dtype=np.uint8))[:, None, None, None]
    return frames


def numbers(frames: np.ndarray) -> list[int]:
    """Which frames of `numbered` these are."""
    return np.round(frames.mean(axis=(1, 2, 3)) / 10).astype(int).tolist()
