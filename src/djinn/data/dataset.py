"""The store that training reads: uncompressed frames in memory-mapped shards beside one JSON index.

A data set is a folder::

    dataset.json          the index: frame size, fps, shards, episodes, and how the data was made
    frames-00000.npy      uint8 (F, H, W, 3), about 512 MB each
    actions-00000.npy     int16 (F,), only where true actions are known

An episode is an unbroken run of frames inside one shard. Action t moves frame t to frame t + 1, and -1 stands at an
episode's last frame. True actions are kept for measuring only; training batches do not hold them.
Splits are properties of episodes, given by level or by file, so that neighbouring clips are never in two splits.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tokenize import TokenError
from typing import Any
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Int16, Int64, UInt8

from djinn.errors import UserError

FORMAT = "djinn-dataset"
VERSION = 1
INDEX = "dataset.json"
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Episode:
    """An unbroken run of frames."""

    shard: int
    start: int
    """First frame, counted inside the shard."""
    length: int
    split: str
    source: str
    """Where it comes from, for instance a file name or a level."""


@dataclass(frozen=True)
class _Shard:
    frames: np.ndarray
    actions: np.ndarray | None


class Dataset:
    """A folder of episodes, open for reading. Make one with `Dataset.open`."""

    def __init__(self, path: Path, index: dict[str, Any], shards: list[_Shard]) -> None:
        self.path = path
        self._index = index
        self._shards = shards
        self.height: int = index["height"]
        self.width: int = index["width"]
        self.fps = float(index["fps"])
        self.metadata: dict[str, Any] = index["about"]
        self.episodes = tuple(Episode(**e) for e in index["episodes"])

    @classmethod
    def open(cls, path: str | Path) -> Dataset:
        """Opens a data set and checks that its shards are whole; frames are read only when asked for.

        Args:
            path: the folder that holds `dataset.json`.

        Raises:
            UserError: there is no such folder, it is not a data set, or a shard is missing or cut short.
        """
        path = Path(path)
        index = _read_index(path)
        wrong = _wrong(index)
        if wrong is not None:
            raise UserError(f"the index {path / INDEX} is damaged ({wrong}): import the data again")
        shape = (index["height"], index["width"], 3)
        dataset = cls(path, index, [_open_shard(path, entry, shape) for entry in index["shards"]])
        if any(e.start + e.length > len(dataset._shards[e.shard].frames) for e in dataset.episodes):
            raise UserError(f"the index {path / INDEX} names frames that no shard has: import the data again")
        return dataset

    @property
    def frames(self) -> int:
        """Number of frames in all episodes."""
        return sum(e.length for e in self.episodes)

    @property
    def splits(self) -> dict[str, int]:
        """Number of episodes in each split that has any."""
        counts = {name: sum(e.split == name for e in self.episodes) for name in SPLITS}
        return {name: count for name, count in counts.items() if count}

    @property
    def has_actions(self) -> bool:
        """Whether true actions are kept beside the frames."""
        return bool(self._shards) and self._shards[0].actions is not None

    @cached_property
    def identity(self) -> str:
        """A short hash of the index, checksums of all frames included: equal for equal data only."""
        return hashlib.sha256(json.dumps(self._index, sort_keys=True).encode()).hexdigest()[:16]

    def read(self, episode: Episode) -> UInt8[np.ndarray, "f h w 3"]:
        """All frames of an episode as a read-only view on the disk."""
        return self._shards[episode.shard].frames[episode.start : episode.start + episode.length]

    def read_actions(self, episode: Episode) -> Int16[np.ndarray, " steps"] | None:
        """The true actions of an episode, or None where they are not known."""
        actions = self._shards[episode.shard].actions
        return None if actions is None else actions[episode.start : episode.start + episode.length - 1]

    def clips(self, split: str, frames: int, stride: int = 1) -> Clips:
        """All clips of a length in one split.

        Args:
            split: `train`, `val` or `test`.
            frames: frames in a clip.
            stride: frames from the start of a clip to the start of the next one in the same episode.

        Raises:
            UserError: the split is empty, or none of its episodes is long enough.
        """
        if frames < 1 or stride < 1:
            raise UserError(f"clips need at least 1 frame and a stride of at least 1, got {frames} and {stride}")
        if split not in self.splits:
            has = ", ".join(self.splits) or "none"
            raise UserError(
                f"data set {self.path} has no split '{split}' (it has: {has}): name another one, or import more files or levels"
            )
        episodes = [e for e in self.episodes if e.split == split]
        longest = max(e.length for e in episodes)
        if longest < frames:
            raise UserError(
                f"no episode of split '{split}' in {self.path} has {frames} frames; the longest has {longest}: "
                "use shorter clips or import longer videos"
            )
        return Clips(self, [e for e in episodes if e.length >= frames], frames, stride)


class Clips:
    """Clips of equal length, numbered from 0; none crosses an episode's end. Made by `Dataset.clips`."""

    def __init__(self, dataset: Dataset, episodes: list[Episode], frames: int, stride: int) -> None:
        self.dataset = dataset
        self.frames = frames
        self.stride = stride
        self.episodes = episodes
        counts = np.array([(e.length - frames) // stride + 1 for e in episodes], dtype=np.int64)
        self._ends = np.cumsum(counts)
        self._firsts = self._ends - counts
        self._shard = np.array([e.shard for e in episodes], dtype=np.int64)
        self._start = np.array([e.start for e in episodes], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def batch(self, indices: Int64[np.ndarray, " b"]) -> UInt8[np.ndarray, "b t h w 3"]:
        """Reads clips.

        Raises:
            IndexError: an index is not in `[0, len(self))`.
        """
        shape = (len(indices), self.frames, self.dataset.height, self.dataset.width, 3)
        out = np.empty(shape, dtype=np.uint8)
        for row, (shard, start) in enumerate(self._places(indices)):
            out[row] = self.dataset._shards[shard].frames[start : start + self.frames]
        return out

    def actions(self, indices: Int64[np.ndarray, " b"]) -> Int64[np.ndarray, "b steps"] | None:
        """True actions of clips, for measuring only, or None where the data set has none."""
        if not self.dataset.has_actions:
            return None
        out = np.empty((len(indices), self.frames - 1), dtype=np.int64)
        for row, (shard, start) in enumerate(self._places(indices)):
            actions = self.dataset._shards[shard].actions
            assert actions is not None
            out[row] = actions[start : start + self.frames - 1]
        return out

    def episode_of(self, indices: Int64[np.ndarray, " b"]) -> Int64[np.ndarray, " b"]:
        """Index in `self.episodes` of each clip's episode."""
        return np.searchsorted(self._ends, self._checked(indices), side="right")

    def starts(self, indices: Int64[np.ndarray, " b"]) -> Int64[np.ndarray, " b"]:
        """Each clip's first frame, counted from 0 inside its episode."""
        return self._within(indices, self.episode_of(indices))

    def _within(self, indices: np.ndarray, episode: np.ndarray) -> np.ndarray:
        return (indices - self._firsts[episode]) * self.stride

    def _checked(self, indices: np.ndarray) -> np.ndarray:
        indices = np.asarray(indices, dtype=np.int64)
        if indices.size and (indices.min() < 0 or indices.max() >= len(self)):
            raise IndexError(f"clip indices must be in [0, {len(self)}), got {indices.min()} to {indices.max()}")
        return indices

    def _places(self, indices: np.ndarray) -> Iterator[tuple[int, int]]:
        """Shard and first frame of each clip."""
        episode = self.episode_of(indices)
        start = self._start[episode] + self._within(indices, episode)
        return zip(self._shard[episode].tolist(), start.tolist(), strict=True)


def _read_index(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise UserError(f"no data set at {path}: make one with `djinn data import SOURCE --out {path}`")
    if not (path / INDEX).is_file():
        raise UserError(f"{path} is not a data set (it has no {INDEX}): make one with `djinn data import`")
    try:
        index = json.loads((path / INDEX).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise UserError(f"the index {path / INDEX} is damaged: import the data again") from None
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise UserError(f"{path / INDEX} is not the index of a Djinn data set")
    if index.get("version") != VERSION:
        raise UserError(
            f"{path} is a data set of version {index.get('version')} and this Djinn reads version {VERSION}: "
            "import the data again"
        )
    return index


def _wrong(index: dict[str, Any]) -> str | None:
    """What is wrong in an index, for people exchange data sets; None if nothing."""
    for name, kind in (("height", int), ("width", int), ("shards", list), ("episodes", list), ("about", dict)):
        if type(index.get(name)) is not kind:
            return f"'{name}' is missing or not what it should be"
    fps = index.get("fps")
    if not isinstance(fps, int | float) or not 0 < fps < math.inf:
        return f"'fps' is {fps!r}"
    for i, entry in enumerate(index["shards"]):
        if not isinstance(entry, dict) or type(entry.get("frames")) is not int or not _is_name(entry.get("file")):
            return f"shard {i} is not described by a file of the folder and its number of frames"
        if entry.get("actions") is not None and not _is_name(entry["actions"]):
            return f"the actions of shard {i} are not in a file of the folder"
    shards, fields = range(len(index["shards"])), {field.name: field.type for field in dataclasses.fields(Episode)}
    for i, entry in enumerate(index["episodes"]):
        if not isinstance(entry, dict) or {key: type(value).__name__ for key, value in entry.items()} != fields:
            return f"episode {i} is not described by {', '.join(fields)}"
        if entry["shard"] not in shards or entry["start"] < 0 or entry["length"] < 1 or entry["split"] not in SPLITS:
            return f"episode {i} cannot be where it is said to be"
    return None if index["episodes"] else "it has no episodes"


def _is_name(value: Any) -> bool:
    """A file's name without a folder: nothing outside a data set is read."""
    return isinstance(value, str) and value not in ("", ".", "..") and not set(value) & set("/\\\0")


def _open_shard(path: Path, entry: dict[str, Any], frame: tuple[int, int, int]) -> _Shard:
    count = entry["frames"]
    frames = _open_array(path / entry["file"], np.dtype(np.uint8), (count, *frame))
    actions = entry.get("actions")
    return _Shard(frames, None if actions is None else _open_array(path / actions, np.dtype(np.int16), (count,)))


def _open_array(file: Path, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    again = "copy it or import the data again"
    if not file.is_file():
        raise UserError(f"data set {file.parent} lacks its shard {file.name}: {again}")
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError, BadZipFile, TokenError):  # numpy's own ways to fail on other files
        raise UserError(f"shard {file} is damaged or cut short: {again}") from None
    if not isinstance(array, np.ndarray) or array.dtype != dtype or array.shape != shape:
        raise UserError(f"shard {file} does not hold the {shape} {dtype} values that its index names: {again}")
    return array
