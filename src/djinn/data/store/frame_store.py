"""Protocol of the stores that hold a data set's frames and ground-truth actions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from jaxtyping import Int16, UInt8


@dataclass(frozen=True)
class EpisodeInfo:
    """Description of a stored episode, an unbroken run of frames."""

    index: int
    """Number of the episode in its data set, from 0."""
    length: int
    """Number of frames."""
    split: str
    """`train`, `val` or `test`."""
    source: str
    """Origin of the frames, such as a file name or a level."""


@dataclass(frozen=True)
class DatasetIndex:
    """Description of a data set without its frames."""

    height: int
    """Frame height in pixels."""
    width: int
    """Frame width in pixels."""
    fps: float
    """Frames per second."""
    has_actions: bool
    """Whether the ground-truth actions are stored."""
    metadata: dict[str, Any]
    """How the data set was created: JSON values, for people and for reports."""
    episodes: tuple[EpisodeInfo, ...]


class FrameStore(Protocol):
    """Read-only storage of the episodes of a data set."""

    @property
    def index(self) -> DatasetIndex:
        """Description of the data set."""
        ...

    @property
    def identity(self) -> str:
        """Checksum of the index and of all frames: equal only for equal data."""
        ...

    @property
    def size_in_bytes(self) -> int:
        """Size on disk."""
        ...

    def read(self, episode: int, start: int, length: int) -> UInt8[np.ndarray, "length h w 3"]:
        """Return frames of an episode `(length, H, W, 3)`, possibly as a read-only view.

        Args:
            episode: Number of the episode.
            start: First frame, from 0 within the episode.
            length: Number of frames. The run must lie within the episode.
        """
        ...

    def read_actions(self, episode: int, start: int, length: int) -> Int16[np.ndarray, " length"]:
        """Return ground-truth actions of an episode `(length,)`.

        Action t moves frame t to frame t + 1, so an episode has one action fewer than frames. Only
        for data sets whose index has `has_actions`.

        Args:
            episode: Number of the episode.
            start: First action, from 0 within the episode.
            length: Number of actions.
        """
        ...
