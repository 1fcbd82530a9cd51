"""Pictures of videos: a row for each, a column for each frame, with labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from djinn.atomic import atomic_write
from djinn.evaluate.clips import Examples

_TILE = 96
_GAP = 4
_TEXT = 13
INK = (230, 230, 230)
PAPER = (24, 24, 28)


@dataclass(frozen=True)
class Row:
    """One video of a picture."""

    label: str
    video: UInt8[np.ndarray, "t h w 3"]
    captions: Sequence[str] = ()
    """Written below each frame; none where it is empty."""
    gap: bool = False
    """Leave room above, where another clip begins."""


def grid(rows: Sequence[Row], columns: Sequence[str] = ()) -> Image.Image:
    """Lays out videos of one frame size, time from left to right.

    Small frames are enlarged by a whole number, so that their pixels stay crisp.

    Args:
        rows: the videos.
        columns: written above each frame of the first row.
    """
    font = ImageFont.load_default(_TEXT - 2)
    height, width = rows[0].video.shape[1:3]
    scale = max(1, round(_TILE / width))
    height, width = height * scale, width * scale
    left = max(int(font.getlength(row.label)) for row in rows) + 2 * _GAP
    tops = []
    y = _GAP + (_TEXT if columns else 0)
    for row in rows:
        y += 3 * _GAP if row.gap else 0
        tops.append(y)
        y += height + _GAP + (_TEXT if row.captions else 0)
    frames = max(len(row.video) for row in rows)
    picture = Image.new("RGB", (left + frames * (width + _GAP), y), PAPER)
    draw = ImageDraw.Draw(picture)
    for i, text in enumerate(columns):
        draw.text((left + i * (width + _GAP), _GAP // 2), text, INK, font)
    for row, top in zip(rows, tops, strict=True):
        draw.text((_GAP, top + height // 2 - _TEXT // 2), row.label, INK, font)
        for i, frame in enumerate(row.video):
            x = left + i * (width + _GAP)
            picture.paste(Image.fromarray(frame).resize((width, height), Image.Resampling.NEAREST), (x, top))
        for i, text in enumerate(row.captions):
            draw.text((left + i * (width + _GAP), top + height), text, INK, font)
    return picture


def rollout_picture(shown: Examples) -> Image.Image:
    """Real clips over their roll-outs with inferred and with random actions; below a frame the action that led to it."""
    rows = []
    for i in range(len(shown.real)):
        rows.append(Row("real", shown.real[i], gap=i > 0))
        for label, video, actions in (
            ("inferred", shown.inferred[i], shown.inferred_actions[i]),
            ("random", shown.random[i], shown.random_actions[i]),
        ):
            rows.append(Row(label, video, ["prompt", *(f"action {a}" for a in actions)]))
    return grid(rows, [f"frame {t}" for t in range(shown.real.shape[1])])


def save_png(picture: Image.Image, path: Path) -> None:
    """Writes a picture, replacing the file only when all of it is written.

    Raises:
        UserError: the file cannot be written.
    """
    with atomic_write(path) as temporary:
        picture.save(temporary, format="PNG")
