"""Image grids of an evaluation in training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from djinn.image_grid import GridRow, draw_grid, save_png


def save_grid(folder: Path, stage: str, step: int, clips: Sequence[Mapping[str, UInt8[np.ndarray, "t h w 3"]]]) -> Path:
    """Write `RUN/images/STAGE-STEP.png` and the same image as `STAGE-latest.png`.

    Args:
        folder: Run folder.
        stage: Name of the stage.
        step: Optimizer steps done.
        clips: Labelled videos of each clip, for example the real frames and their reconstruction.
    """
    rows = [
        GridRow(frames, label, starts_group=i == 0)
        for videos in clips
        for i, (label, frames) in enumerate(videos.items())
    ]
    image = draw_grid(rows)
    path = folder / "images" / f"{stage}-{step:07d}.png"
    save_png(image, path)
    save_png(image, path.with_name(f"{stage}-latest.png"))
    return path
