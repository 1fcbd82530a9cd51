"""Animations of videos: data URIs for a page, files for a README."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from djinn.errors import UserError
from djinn.evaluate.action_effects import ActionEffects
from djinn.image_grid import BACKGROUND, TEXT_COLOR, GridRow, draw_grid, save_png

Video = UInt8[np.ndarray, "t h w 3"]

FRAME_MS = 200
"""Duration of a frame in milliseconds, longer than in play so that changes can be followed."""
LAST_MS = 1_000
"""Duration of the last frame in milliseconds."""
_GAP = 2
_DIGITS = ("75557", "26227", "71747", "71317", "55711", "74717", "74757", "71222", "75757", "75717")
"""Five rows of three pixels for each digit, a row as the bits of an octal digit."""
_MAX_NAME = 14
"""Longest name above a column, in characters."""


def png_uri(frame: UInt8[np.ndarray, "h w 3"]) -> str:
    """Return a frame as a data URI (PNG)."""
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "PNG")
    return _uri("png", buffer)


def webp_uri(video: Video) -> str:
    """Return an endless animation as a data URI (lossless WebP) at the size of the video."""
    images = [Image.fromarray(frame) for frame in video]
    durations = [FRAME_MS] * (len(images) - 1) + [LAST_MS]
    buffer = io.BytesIO()
    images[0].save(
        buffer, "WEBP", save_all=True, append_images=images[1:], duration=durations, loop=0, lossless=True, method=4
    )
    return _uri("webp", buffer)


def _uri(kind: str, buffer: io.BytesIO) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def side_by_side(
    videos: Sequence[Video], numbers: Sequence[Sequence[int | None]] = ()
) -> UInt8[np.ndarray, "t hh ww 3"]:
    """Place videos of one shape side by side with a small gap, so that they play in sync.

    Args:
        videos: The videos from left to right.
        numbers: For each video the number below each of its frames, None for no number.
    """
    frames, height, width = videos[0].shape[:3]
    scale = max(1, width // 64)
    caption_height = 7 * scale if numbers else 0
    canvas = np.full((frames, height + caption_height, len(videos) * (width + _GAP) - _GAP, 3), BACKGROUND, np.uint8)
    for i, video in enumerate(videos):
        left = i * (width + _GAP)
        canvas[:, :height, left : left + width] = video
        for t, number in enumerate(numbers[i] if numbers else ()):
            if number is not None:
                pixels = np.pad(_number(number), [(1, 1), (1, 0)])
                pixels = pixels.repeat(scale, axis=0).repeat(scale, axis=1)[:, :width]
                canvas[t, height:, left : left + pixels.shape[1]][pixels] = TEXT_COLOR
    return canvas


def _number(number: int) -> Bool[np.ndarray, "5 w"]:
    glyphs = []
    for digit in str(number):
        # bit 3 is the gap
        rows = [[int(row) >> bit & 1 for bit in (2, 1, 0, 3)] for row in _DIGITS[int(digit)]]
        glyphs.append(np.array(rows, bool))
    return np.concatenate(glyphs, axis=1)


def stack_vertically(videos: Sequence[UInt8[np.ndarray, "t _h w 3"]]) -> UInt8[np.ndarray, "t hh w 3"]:
    """Stack videos of one width from top to bottom with a small gap."""
    gap = np.full((videos[0].shape[0], _GAP, videos[0].shape[2], 3), BACKGROUND, np.uint8)
    return np.concatenate([part for video in videos for part in (gap, video)][1:], axis=1)


def action_rows(frames: UInt8[np.ndarray, "codes p t h w 3"], prompts: int) -> list[list[Video]]:
    """Return the rows of an action grid: the still prompt, then the video of each code.

    Args:
        frames: Frames of each code from each prompt, as `ActionEffects.frames`.
        prompts: Largest number of rows.
    """
    rows = []
    for p in range(min(prompts, frames.shape[1])):
        prompt = np.broadcast_to(frames[0, p, :1], frames.shape[2:])
        rows.append([prompt, *frames[:, p]])
    return rows


def save_action_grid(
    effects: ActionEffects,
    path: str | Path,
    names: Sequence[str] | None = None,
    prompts: int = 6,
) -> None:
    """Write a grid with one prompt per row and one action per column (paper, Fig. 13, 15 and 17).

    Args:
        effects: Effect of each code from each prompt.
        path: `.gif` for an animation, `.png` for the last frames.
        names: Names of the codes, their numbers by default.
        prompts: Largest number of rows.

    Raises:
        UserError: The suffix is another one, or the file cannot be written.
    """
    from djinn.data.video import write_video  # metrics alone need no video library

    path, frames = Path(path), effects.frames
    if path.suffix.lower() not in (".gif", ".png"):
        raise UserError(f"an action grid must be a .gif or a .png file, got {path.name}")
    columns = ["prompt", *(names or [f"action {code}" for code in range(len(frames))])]
    columns = [name if len(name) <= _MAX_NAME else name[: _MAX_NAME - 1] + "…" for name in columns]
    rows = action_rows(frames, prompts)

    def grid_at(t: int) -> Image.Image:
        return draw_grid([GridRow(np.stack([video[t] for video in row])) for row in rows], columns)

    if path.suffix.lower() == ".png":
        save_png(grid_at(-1), path)
        return
    times = [*range(frames.shape[2]), *[frames.shape[2] - 1] * (LAST_MS // FRAME_MS - 1)]
    write_video(path, np.stack([np.asarray(grid_at(t)) for t in times]), 1_000 / FRAME_MS)
