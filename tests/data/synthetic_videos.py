import numpy as np


def numbered(count: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Return at most 25 uniform frames whose brightness encodes their number."""
    frames = np.empty((count, height, width, 3), dtype=np.uint8)
    frames[:] = (10 * np.arange(count, dtype=np.uint8))[:, None, None, None]
    return frames


def numbers(frames: np.ndarray) -> list[int]:
    """Return the numbers of frames of `numbered`."""
    return np.round(frames.mean(axis=(1, 2, 3)) / 10).astype(int).tolist()
