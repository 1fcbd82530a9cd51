"""Contact sheet: an overview of the frames of a data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from djinn.atomic import check_writable_file
from djinn.data.dataset import Dataset
from djinn.errors import UserError
from djinn.image_grid import GridRow, draw_grid, save_png

_TILE = 128
"""Approximate width of a frame in pixels."""


def contact_sheet(dataset: Dataset, rows: int = 10, columns: int = 8) -> Image.Image:
    """Draw evenly spaced episodes, one per row, at evenly spaced times from left to right."""
    count = min(rows, len(dataset.episodes))
    grid = []
    for i in range(count):
        episode = dataset.episodes[i * len(dataset.episodes) // count]
        times = np.linspace(0, episode.length - 1, columns).round().astype(int)
        grid.append(GridRow(dataset.read(episode)[times]))
    return draw_grid(grid, tile=_TILE)


def write_contact_sheet(dataset: Dataset, path: str | Path) -> None:
    """Write the contact sheet as a PNG file.

    Raises:
        UserError: The name does not end in .png, or the file cannot be written.
    """
    save_png(contact_sheet(dataset), check_contact_sheet(path))


def check_contact_sheet(path: str | Path) -> Path:
    """Check that a contact sheet can be written to `path`.

    Raises:
        UserError: The name does not end in .png, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise UserError(f"a contact sheet must be a .png file, got {path}: give a name that ends in .png")
    return check_writable_file(path)
