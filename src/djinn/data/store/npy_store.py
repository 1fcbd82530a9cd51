"""Store of uncompressed frames in memory-mapped `.npy` files, called shards."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from pathlib import Path
from tokenize import TokenError
from typing import Any
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Int16, UInt8

from djinn.atomic import check_readable_file, read_error
from djinn.data.store.frame_store import DatasetIndex, EpisodeInfo
from djinn.data.store.index import parse_index
from djinn.errors import UserError

_REMEDY = "copy it or re-import the data"


class NpyStore:
    """Frames in memory-mapped shards; implements `FrameStore`.

    Frames are read from disk when they are accessed. See `djinn.data.store.index` for the format.
    """

    def __init__(self, folder: Path, index: dict[str, Any]) -> None:
        """Open the shards and check their sizes.

        Args:
            folder: Folder of the data set.
            index: Its validated index.

        Raises:
            UserError: A shard is missing, cannot be read, or is damaged.
        """
        content = parse_index(index)
        self._folder = folder
        self._json = index
        frame_shape = (content.height, content.width, 3)
        self._frames = [
            _open_array(folder / shard.file, np.dtype(np.uint8), (shard.frames, *frame_shape))
            for shard in content.shards
        ]
        self._actions = [
            _open_array(folder / shard.actions, np.dtype(np.int16), (shard.frames,))
            for shard in content.shards
            if shard.actions is not None
        ]
        self._locations = [(episode.shard, episode.start, episode.length) for episode in content.episodes]
        self.index = DatasetIndex(
            height=content.height,
            width=content.width,
            fps=content.fps,
            has_actions=bool(self._actions),
            metadata=content.metadata,
            episodes=tuple(
                EpisodeInfo(i, episode.length, episode.split, episode.source)
                for i, episode in enumerate(content.episodes)
            ),
        )

    @cached_property
    def identity(self) -> str:
        """Hash of the index, which contains the checksums of all frames."""
        return hashlib.sha256(json.dumps(self._json, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def size_in_bytes(self) -> int:
        """Size of all files in the folder."""
        return sum(file.stat().st_size for file in self._folder.iterdir() if file.is_file())

    def read(self, episode: int, start: int, length: int) -> UInt8[np.ndarray, "length h w 3"]:
        """Return frames as a read-only view of the shard, see `FrameStore.read`."""
        shard, first, total = self._locations[episode]
        assert start >= 0 and start + length <= total
        return self._frames[shard][first + start : first + start + length]

    def read_actions(self, episode: int, start: int, length: int) -> Int16[np.ndarray, " length"]:
        """Return ground-truth actions as a read-only view; see `FrameStore.read_actions`."""
        shard, first, total = self._locations[episode]
        assert start >= 0 and start + length < total
        return self._actions[shard][first + start : first + start + length]


def _open_array(file: Path, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    if not file.exists() and not file.is_symlink():
        raise UserError(f"data set {file.parent} lacks its shard {file.name}: {_REMEDY}")
    check_readable_file(file)
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise read_error(file, error) from None
    except (ValueError, EOFError, BadZipFile, TokenError):  # what numpy raises for other files
        raise UserError(f"shard {file} is damaged or cut short: {_REMEDY}") from None
    if not isinstance(array, np.ndarray) or array.dtype != dtype or array.shape != shape:
        raise UserError(f"shard {file} does not hold the {shape} {dtype} values that its index states: {_REMEDY}")
    return array
