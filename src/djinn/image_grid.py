"""Image grids of videos: one row per video, one column per frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from djinn.atomic import atomic_write

TEXT_COLOR = (230, 230, 230)
BACKGROUND = (24, 24, 28)
_GAP = 4
"""Pixels between frames."""
_LINE = 13
"""Height of a line of text in pixels."""


@dataclass(frozen=True)
class GridRow:
    """One row of an image grid."""

    frames: UInt8[np.ndarray, "t h w 3"]
    label: str = ""
    """Text to the left of the row."""
    captions: Sequence[str] = ()
    """Text below each frame."""
    starts_group: bool = False
    """Separate this row from the one above by a wider gap."""


def draw_grid(rows: Sequence[GridRow], columns: Sequence[str] = (), *, tile: int = 96) -> Image.Image:
    """Draw videos of one frame size, time from left to right.

    Small frames are enlarged by an integer factor with nearest-neighbor interpolation.

    Args:
        rows: The videos, from top to bottom.
        columns: Headings above the frames of the first row.
        tile: Approximate width of an enlarged frame in pixels.
    """
    height, width = rows[0].frames.shape[1:3]
    scale = max(1, round(tile / width))
    height, width = height * scale, width * scale
    font = ImageFont.load_default(_LINE - 2)
    label_width = max(int(font.getlength(row.label)) for row in rows)
    left = _GAP + (label_width + _GAP if label_width else 0)
    tops = []
    y = _GAP + (_LINE if columns else 0)
    for i, row in enumerate(rows):
        y += 3 * _GAP if row.starts_group and i > 0 else 0
        tops.append(y)
        y += height + _GAP + (_LINE if row.captions else 0)
    num_columns = max(len(row.frames) for row in rows)
    image = Image.new("RGB", (left + num_columns * (width + _GAP), y), BACKGROUND)
    draw = ImageDraw.Draw(image)
    for i, text in enumerate(columns):
        draw.text((left + i * (width + _GAP), _GAP // 2), text, TEXT_COLOR, font)
    for row, top in zip(rows, tops, strict=True):
        draw.text((_GAP, top + height // 2 - _LINE // 2), row.label, TEXT_COLOR, font)
        for i, frame in enumerate(row.frames):
            x = left + i * (width + _GAP)
            image.paste(Image.fromarray(frame).resize((width, height), Image.Resampling.NEAREST), (x, top))
        for i, text in enumerate(row.captions):
            draw.text((left + i * (width + _GAP), top + height), text, TEXT_COLOR, font)
    return image


def save_png(image: Image.Image, path: Path) -> None:
    """Write a PNG file atomically.

    Raises:
        UserError: The file cannot be written.
    """
    with atomic_write(path) as temporary:
        image.save(temporary, format="PNG")
