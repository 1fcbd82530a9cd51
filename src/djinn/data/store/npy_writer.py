"""Writer of the shards that `NpyStore` reads."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import IO

import numpy as np
from jaxtyping import Int16, UInt8

from djinn.data.store.index import ShardRecord

SHARD_BYTES = 512 * 2**20
"""Maximum size of a shard."""
_HEADER_BYTES = 128


class NpyShardWriter:
    """Appends runs of frames to shards, which go to disk at once.

    Args:
        folder: Existing folder for the shards.
        height: Frame height in pixels.
        width: Frame width in pixels.
        shard_bytes: Maximum size of a shard.
    """

    def __init__(self, folder: Path, height: int, width: int, shard_bytes: int = SHARD_BYTES) -> None:
        self.max_frames = max(1, shard_bytes // (height * width * 3))
        """Capacity of a shard in frames, and the maximum length of a run."""
        self._folder = folder
        self._frame_shape = (height, width, 3)
        self._shards: list[ShardRecord] = []
        self._frames: _NpyFile | None = None
        self._actions: _NpyFile | None = None

    def append(self, frames: UInt8[np.ndarray, "f h w 3"], actions: Int16[np.ndarray, " f"] | None) -> tuple[int, int]:
        """Append a run of frames, in a new shard if the current one lacks the space.

        Args:
            frames: At most `max_frames` frames.
            actions: One value per frame; for all runs or for none.

        Returns:
            Number of the shard, and the first frame of the run within it.
        """
        if self._frames is not None and self._frames.length + len(frames) > self.max_frames:
            self._close_shard()
        if self._frames is None:
            name = f"{len(self._shards):05d}.npy"
            self._frames = _NpyFile(self._folder / f"frames-{name}", np.dtype(np.uint8), self._frame_shape)
            if actions is not None:
                self._actions = _NpyFile(self._folder / f"actions-{name}", np.dtype(np.int16), ())
        start = self._frames.length
        self._frames.append(frames)
        if self._actions is not None:
            assert actions is not None
            self._actions.append(actions)
        return len(self._shards), start

    def close(self) -> tuple[ShardRecord, ...]:
        """Close the last shard and return the records of all shards."""
        self._close_shard()
        return tuple(self._shards)

    def discard(self) -> None:
        """Close the open files without completing them; the caller deletes the folder."""
        for file in (self._frames, self._actions):
            if file is not None:
                file.discard()
        self._frames = self._actions = None

    def _close_shard(self) -> None:
        if self._frames is None:
            return
        self._frames.close()
        if self._actions is not None:
            self._actions.close()
        self._shards.append(
            ShardRecord(
                file=self._frames.path.name,
                frames=self._frames.length,
                crc32=f"{self._frames.crc:08x}",
                actions=None if self._actions is None else self._actions.path.name,
            )
        )
        self._frames = self._actions = None


class _NpyFile:
    """A `.npy` file that grows along its first axis. `close` writes the final length."""

    def __init__(self, path: Path, dtype: np.dtype, row_shape: tuple[int, ...]) -> None:
        self.path, self.dtype, self.row_shape = path, dtype, row_shape
        self.length = 0
        self.crc = 0
        self._file: IO[bytes] = path.open("wb")
        self._write_header()

    def append(self, rows: np.ndarray) -> None:
        """Write rows at the end of the file."""
        data = np.ascontiguousarray(rows, dtype=self.dtype)
        view = data.reshape(-1).view(np.uint8).data
        self._file.write(view)
        self.crc = zlib.crc32(view, self.crc)
        self.length += len(rows)

    def close(self) -> None:
        """Write the final header and flush the file to disk."""
        self._file.seek(0)
        self._write_header()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def discard(self) -> None:
        """Close the file and ignore errors."""
        try:
            self._file.close()
        except OSError:
            return

    def _write_header(self) -> None:
        description = {"descr": self.dtype.str, "fortran_order": False, "shape": (self.length, *self.row_shape)}
        text = repr(description).encode("latin1")
        prefix = b"\x93NUMPY\x01\x00" + (_HEADER_BYTES - 10).to_bytes(2, "little")
        assert len(prefix) + len(text) < _HEADER_BYTES
        self._file.write(prefix + text.ljust(_HEADER_BYTES - 11) + b"\n")
