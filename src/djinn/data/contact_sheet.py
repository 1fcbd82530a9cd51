"""A picture of what is in a data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from djinn.atomic import atomic_write
from djinn.data.dataset import Dataset
from djinn.data.video import enlarge
from djinn.errors import UserError


def contact_sheet(dataset: Dataset, rows: int = 10, columns: int = 8) -> UInt8[np.ndarray, "h w 3"]:
    """Frames of evenly chosen episodes, one episode a row, evenly spaced in time from left to right."""
    episodes = dataset.episodes
    chosen = [episodes[i * len(episodes) // min(rows, len(episodes))] for i in range(min(rows, len(episodes)))]
    lines = []
    for episode in chosen:
        times = np.linspace(0, episode.length - 1, columns).round().astype(int)
        frames = enlarge(dataset.read(episode)[times], 128)
        lines.append(np.concatenate(list(np.pad(frames, [(0, 0), (0, 2), (0, 2), (0, 0)])), axis=1))
    return np.concatenate(lines, axis=0)


def write_contact_sheet(dataset: Dataset, path: str | Path) -> None:
    """Writes `contact_sheet` as a PNG file.

    Raises:
        UserError: the name does not end in .png, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise UserError(f"a picture must be a .png file, got {path.name}")
    with atomic_write(path) as temporary:
        Image.fromarray(contact_sheet(dataset)).save(temporary)
