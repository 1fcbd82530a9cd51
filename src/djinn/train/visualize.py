"""Picture grids that show what a stage has learned."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

GAP = 4
SMALL = 96


def save_grid(folder: Path, stage: str, step: int, groups: Sequence[Sequence[UInt8[np.ndarray, "t h w 3"]]]) -> Path:
    """Writes `RUN/pictures/STAGE-STEP.png` and the same as `STAGE-latest.png`.

    Args:
        folder: the run folder.
        stage: whose pictures these are.
        step: when.
        groups: what belongs together, one below the other: each a list of rows, each row t frames from left to right.
    """
    _, height, width, _ = groups[0][0].shape
    scale = 2 if height < SMALL else 1
    rows = sum(len(group) for group in groups)
    columns = max(len(row) for group in groups for row in group)
    sheet = np.full(
        (rows * (height * scale + 1) + (len(groups) - 1) * GAP, columns * (width * scale + 1), 3), 255, dtype=np.uint8
    )
    top = 0
    for group in groups:
        for row in group:
            for column, frame in enumerate(row):
                left = column * (width * scale + 1)
                large = frame.repeat(scale, 0).repeat(scale, 1)
                sheet[top : top + height * scale, left : left + width * scale] = large
            top += height * scale + 1
        top += GAP
    path = folder / "pictures" / f"{stage}-{step:07d}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    Image.fromarray(sheet).save(temporary, format="PNG")
    os.replace(temporary, path)
    shutil.copyfile(path, temporary)
    os.replace(temporary, path.with_name(f"{stage}-latest.png"))
    return path
