"""Data sets of video episodes, and clips of equal length cut from them.

Splits belong to episodes and are assigned by level or by file, so neighboring clips are never in
two splits. Ground-truth actions are for evaluation only; training batches do not contain them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int16, Int64, UInt8

from djinn.data.splits import SPLITS
from djinn.data.store import EpisodeInfo, FrameStore, open_store
from djinn.errors import UserError


class Dataset:
    """Episodes of video frames, open for reading. Create it with `Dataset.open`.

    Args:
        path: Folder of the data set.
        store: Where the frames are read from.
    """

    def __init__(self, path: Path, store: FrameStore) -> None:
        self.path = path
        self.store = store
        self.height = store.index.height
        self.width = store.index.width
        self.fps = store.index.fps
        self.metadata: dict[str, Any] = store.index.metadata
        self.episodes = store.index.episodes

    @classmethod
    def open(cls, path: str | Path) -> Dataset:
        """Open a data set. Its files are checked, but frames are read only when they are accessed.

        Args:
            path: Folder that `djinn data import` or `DatasetWriter` created.

        Returns:
            The data set; frames are uint8 `(H, W, 3)`.

        Raises:
            UserError: There is no such folder, it is not a data set, or a file of it is missing,
                damaged or cannot be read.
        """
        path = Path(path)
        return cls(path, open_store(path))

    @property
    def frames(self) -> int:
        """Number of frames in all episodes."""
        return sum(episode.length for episode in self.episodes)

    @property
    def splits(self) -> dict[str, int]:
        """Number of episodes of each split that is not empty."""
        counts = {name: sum(episode.split == name for episode in self.episodes) for name in SPLITS}
        return {name: count for name, count in counts.items() if count}

    @property
    def has_actions(self) -> bool:
        """Whether the ground-truth actions are stored."""
        return self.store.index.has_actions

    @property
    def identity(self) -> str:
        """Short checksum of index and frames, equal only for equal data."""
        return self.store.identity

    def read(self, episode: EpisodeInfo) -> UInt8[np.ndarray, "f h w 3"]:
        """Return all frames of an episode `(F, H, W, 3)` as a read-only memory map."""
        return self.store.read(episode.index, 0, episode.length)

    def read_actions(self, episode: EpisodeInfo) -> Int16[np.ndarray, " steps"] | None:
        """Return the ground-truth actions of an episode `(F - 1,)`, None if they are not stored."""
        return self.store.read_actions(episode.index, 0, episode.length - 1) if self.has_actions else None

    def clips(self, split: str, frames: int, stride: int = 1) -> Clips:
        """Return all clips of one length in a split.

        Args:
            split: `train`, `val` or `test`.
            frames: Number of frames in a clip.
            stride: Number of frames between the starts of two neighboring clips of an episode.

        Returns:
            The clips, in the order of the episodes.

        Raises:
            UserError: The split is empty, or none of its episodes is long enough.
        """
        if frames < 1 or stride < 1:
            raise UserError(f"clips need at least 1 frame and a stride of at least 1, got {frames} and {stride}")
        if split not in self.splits:
            existing = ", ".join(self.splits) or "none"
            raise UserError(
                f"data set {self.path} has no split '{split}' (it has: {existing}): use another split, "
                "or import more files or levels"
            )
        episodes = [episode for episode in self.episodes if episode.split == split]
        longest = max(episode.length for episode in episodes)
        if longest < frames:
            raise UserError(
                f"no episode of split '{split}' in {self.path} has {frames} frames; the longest has {longest}: "
                "use shorter clips or import longer videos"
            )
        return Clips(self, [episode for episode in episodes if episode.length >= frames], frames, stride)


class Clips:
    """Clips of equal length, numbered from 0, none of which crosses the end of an episode.

    Created by `Dataset.clips`.

    Args:
        dataset: The data set.
        episodes: Episodes to cut clips from, each of at least `frames` frames.
        frames: Number of frames in a clip.
        stride: Number of frames between the starts of two neighboring clips.
    """

    def __init__(self, dataset: Dataset, episodes: list[EpisodeInfo], frames: int, stride: int) -> None:
        self.dataset = dataset
        self.frames = frames
        self.stride = stride
        self.episodes = episodes
        counts = np.array([(episode.length - frames) // stride + 1 for episode in episodes], dtype=np.int64)
        self._ends = np.cumsum(counts)
        self._firsts = self._ends - counts
        self._episode_numbers = np.array([episode.index for episode in episodes], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def batch(self, indices: Int64[np.ndarray, " b"]) -> UInt8[np.ndarray, "b t h w 3"]:
        """Read clips.

        Args:
            indices: Numbers of the clips `(B,)`.

        Returns:
            Frames `(B, T, H, W, 3)`.

        Raises:
            IndexError: An index is outside `[0, len(self))`.
        """
        shape = (len(indices), self.frames, self.dataset.height, self.dataset.width, 3)
        video = np.empty(shape, dtype=np.uint8)
        for row, (episode, start) in enumerate(self._locate(indices)):
            video[row] = self.dataset.store.read(episode, start, self.frames)
        return video

    def actions(self, indices: Int64[np.ndarray, " b"]) -> Int64[np.ndarray, "b steps"] | None:
        """Read the ground-truth actions of clips, for evaluation only.

        Args:
            indices: Numbers of the clips `(B,)`.

        Returns:
            Actions `(B, T - 1)`, or None if the data set does not store them.
        """
        if not self.dataset.has_actions:
            return None
        actions = np.empty((len(indices), self.frames - 1), dtype=np.int64)
        for row, (episode, start) in enumerate(self._locate(indices)):
            actions[row] = self.dataset.store.read_actions(episode, start, self.frames - 1)
        return actions

    def episode_of(self, indices: Int64[np.ndarray, " b"]) -> Int64[np.ndarray, " b"]:
        """Return the index in `self.episodes` of the episode of each clip `(B,)`."""
        return np.searchsorted(self._ends, self._check(indices), side="right")

    def starts(self, indices: Int64[np.ndarray, " b"]) -> Int64[np.ndarray, " b"]:
        """Return the first frame of each clip within its episode `(B,)`."""
        return self._start_in_episode(indices, self.episode_of(indices))

    def _start_in_episode(self, indices: np.ndarray, episode: np.ndarray) -> np.ndarray:
        return (indices - self._firsts[episode]) * self.stride

    def _check(self, indices: np.ndarray) -> np.ndarray:
        indices = np.asarray(indices, dtype=np.int64)
        if indices.size and (indices.min() < 0 or indices.max() >= len(self)):
            raise IndexError(f"clip indices must be in [0, {len(self)}), got {indices.min()} to {indices.max()}")
        return indices

    def _locate(self, indices: np.ndarray) -> list[tuple[int, int]]:
        """Return the number of the episode in the data set and the first frame of each clip."""
        episode = self.episode_of(indices)
        start = self._start_in_episode(indices, episode)
        return list(zip(self._episode_numbers[episode].tolist(), start.tolist(), strict=True))
