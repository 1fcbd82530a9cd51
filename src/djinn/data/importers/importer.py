"""Interface of the importers, and shared helpers."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from jaxtyping import Int16, UInt8
from tqdm import tqdm

from djinn.errors import UserError

MIN_SIDE, MAX_SIDE = 8, 4096
"""Limits of the height and width of a frame in pixels."""
_RUN_BYTES = 128 * 2**20
"""Size at which a run of frames is stored as one episode and another one begins."""
_MIN_RUN_FRAMES = 256


@dataclass(frozen=True)
class Episode:
    """An unbroken run of frames from a source."""

    frames: UInt8[np.ndarray, "f h w 3"]
    """At least 2 frames `(F, H, W, 3)`."""
    source: str
    """Origin of the frames, such as a file name or a level. All episodes of a source are in one
    split."""
    actions: Int16[np.ndarray, " steps"] | None = None
    """Ground-truth actions `(F - 1,)`, where they are known; action t leads to frame t + 1."""
    split: str | None = None
    """`train`, `val` or `test`. None assigns the split by a hash of the source's name."""


class ImportOptions(Protocol):
    """Attributes of the options of every importer."""

    @property
    def fps(self) -> float:
        """Frames per second of the data set."""
        ...

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of a frame in pixels."""
        ...


Options = TypeVar("Options", bound=ImportOptions)


@dataclass(frozen=True)
class Importer(Generic[Options]):
    """A kind of source."""

    kind: str
    """Name of the sub-command of `djinn data import`."""
    description: str
    """One line for `djinn data import --help`."""
    options: type[Options]
    """Frozen dataclass. Its fields become options of the command line and their docstrings the help
    text. `__post_init__` validates them and raises `UserError`."""
    episodes: Callable[[Options], Generator[Episode]]
    """Generator that reads the sources. It shows a `frame_progress` bar, and raises `UserError` if
    a source cannot be read."""
    metadata: Callable[[Options, int], dict[str, Any]]
    """Describe how the data set was created, as JSON values. The second argument is the number of
    sources that contributed frames."""


def frame_progress(description: str, total: int | None) -> tqdm:
    """Return a progress bar that counts frames, with rate and remaining time.

    Args:
        description: Label of the bar, such as `reading videos`.
        total: Number of frames to come, where it is known.
    """
    return tqdm(total=total, desc=description, unit=" frames", unit_scale=True, mininterval=0.5)


def warn(message: str) -> None:
    """Print a warning without breaking a progress bar."""
    tqdm.write(f"djinn: {message}", file=sys.stderr)


def stack_runs(
    frames: Iterable[UInt8[np.ndarray, "h w 3"]], size: tuple[int, int]
) -> Iterator[UInt8[np.ndarray, "f h w 3"]]:
    """Stack frames into runs that fit into memory.

    A last run of a single frame is dropped. If `frames` raises a `UserError`, the frames before it
    are yielded first.

    Args:
        frames: Frames in the order of time.
        size: Height and width of a frame.
    """
    max_frames = max(_MIN_RUN_FRAMES, _RUN_BYTES // (size[0] * size[1] * 3))
    run: list[np.ndarray] = []
    error: UserError | None = None
    try:
        for frame in frames:
            run.append(frame)
            if len(run) == max_frames:
                yield np.stack(run)
                run = []
    except UserError as caught:
        error = caught
    if len(run) > 1:
        yield np.stack(run)
    if error is not None:
        raise error


def parse_size(text: str) -> tuple[int, int]:
    """Parse a frame size such as `160x90`, width first.

    Returns:
        Height and width in pixels.

    Raises:
        UserError: The text is not two numbers, or a side is out of range.
    """
    match = re.fullmatch(r"(\d{1,9})[xX](\d{1,9})", text.strip())
    if not match:
        raise UserError(f"size must be WIDTHxHEIGHT, for example 64x64 or 160x90, got '{text}'")
    width, height = int(match[1]), int(match[2])
    if min(width, height) < MIN_SIDE or max(width, height) > MAX_SIDE:
        raise UserError(
            f"size must be at least {MIN_SIDE}x{MIN_SIDE} and at most {MAX_SIDE}x{MAX_SIDE}, got '{text}': "
            "the presets are made for 64x64 and 160x90"
        )
    return height, width
