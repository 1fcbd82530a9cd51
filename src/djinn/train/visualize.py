"""Image grids that show what a stage has learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from djinn.image_grid import GridRow, draw_grid, save_png


def save_grid(folder: Path, stage: str, step: int, clips: Sequence[Mapping[str, UInt8[np.ndarray, "t h w 3"]]]) -> Path:
    """Write `RUN/pictures/STAGE-STEP.png` and the same image as `STAGE-latest.png`.

    Args:
        folder: the run folder.
        stage: name of the stage.
        step: optimizer steps done.
        clips: labelled videos of each clip, for instance the real frames and their reconstruction.
    """
    rows = [
        GridRow(frames, label, starts_group=i == 0)
        for videos in clips
        for i, (label, frames) in enumerate(videos.items())
    ]
    image = draw_grid(rows)
    path = folder / "pictures" / f"{stage}-{step:07d}.png"
    save_png(image, path)
    save_png(image, path.with_name(f"{stage}-latest.png"))
    return path
