"""Writer of data sets, episode by episode. Incomplete data sets are deleted."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from djinn.atomic import check_writable_folder, is_disk_full
from djinn.data.splits import SPLITS
from djinn.data.store.index import EpisodeRecord, IndexFile, write_index
from djinn.data.store.npy_writer import SHARD_BYTES, NpyShardWriter
from djinn.errors import UserError


class DatasetWriter:
    """Writes a data set into a temporary folder that is renamed when the data set is complete.

    Use it as a context manager. A normal exit completes the data set, an exception deletes it::

        with DatasetWriter(out, height=64, width=64, fps=10) as writer:
            writer.add_episode(frames, source="level-3", split="train", actions=actions)

    Frames go to disk at once, so memory holds one episode at a time.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        height: int,
        width: int,
        fps: float,
        metadata: dict[str, Any] | None = None,
        shard_bytes: int = SHARD_BYTES,
    ) -> None:
        """Check that the data set can be written. Nothing is created before the first episode.

        Args:
            path: Folder to create. It must not exist, or be empty.
            height: Frame height in pixels.
            width: Frame width in pixels.
            fps: Frames per second.
            metadata: How the data set is created, as JSON values; shown by `djinn data info`.
            shard_bytes: Maximum size of a shard.

        Raises:
            UserError: `path` exists and is not an empty folder, or cannot be written.
        """
        self.path = Path(path)
        if self.path.name in ("", ".."):
            raise UserError(f"{path} has no name of its own: give the name of a new folder, such as data/mine")
        self.height, self.width, self.fps = height, width, fps
        self.metadata = metadata or {}
        self.episodes: list[EpisodeRecord] = []
        """Episodes written so far. Splits may be changed until `finish`."""
        self._shard_bytes = shard_bytes
        self._shards: NpyShardWriter | None = None
        self._has_actions: bool | None = None
        self._folder = self.path.with_name(f"{_temporary_prefix(self.path)}{os.getpid()}")
        _refuse_existing(self.path)
        check_writable_folder(self.path.parent)
        with _disk_errors(self.path):
            self._folder.exists()  # raises if its name is too long

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()
        else:
            self.abandon()

    @property
    def frames(self) -> int:
        """Number of frames written so far."""
        return sum(episode.length for episode in self.episodes)

    def add_episode(
        self,
        frames: UInt8[np.ndarray, "f h w 3"],
        *,
        source: str,
        split: str,
        actions: Int[np.ndarray, " f-1"] | None = None,
    ) -> None:
        """Add an unbroken run of frames.

        Args:
            frames: At least 2 frames of the data set's size `(F, H, W, 3)`. A run that is longer
                than a shard becomes several episodes.
            source: Origin of the frames, such as a file name or a level.
            split: `train`, `val` or `test`.
            actions: Ground-truth actions `(F - 1,)`; action t moves frame t to frame t + 1. They
                are given for all episodes or for none.

        Raises:
            UserError: Shapes, split or actions are invalid, or the disk is full.
        """
        self._check(frames, split, actions)
        stored_actions = None
        if actions is not None:
            stored_actions = np.full(len(frames), -1, dtype=np.int16)
            stored_actions[:-1] = actions
        with _disk_errors(self.path):
            shards = self._shards or self._create()
            for start in range(0, len(frames), shards.max_frames):
                run = slice(start, min(start + shards.max_frames, len(frames)))
                self._add_run(
                    shards, frames[run], None if stored_actions is None else stored_actions[run], source, split
                )

    def finish(self) -> None:
        """Write the index and rename the folder to its final name.

        Raises:
            UserError: No episode was added, the disk is full, or `path` was created meanwhile.
        """
        try:
            if not self.episodes or self._shards is None:
                raise UserError(f"nothing to write to {self.path}: the sources have no episode of 2 frames or more")
            with _disk_errors(self.path):
                index = IndexFile(
                    height=self.height,
                    width=self.width,
                    fps=self.fps,
                    metadata=self.metadata,
                    shards=self._shards.close(),
                    episodes=tuple(self.episodes),
                )
                write_index(self._folder, index)
                _refuse_existing(self.path)
                self._folder.replace(self.path)
        except BaseException:
            self.abandon()
            raise

    def abandon(self) -> None:
        """Delete all files written so far."""
        if self._shards is not None:
            self._shards.discard()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _check(self, frames: np.ndarray, split: str, actions: np.ndarray | None) -> None:
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != (self.height, self.width, 3):
            raise UserError(
                f"an episode must be uint8 (F, {self.height}, {self.width}, 3), got {frames.dtype} {frames.shape}"
            )
        if len(frames) < 2:
            raise UserError(f"an episode needs at least 2 frames, got {len(frames)}")
        if split not in SPLITS:
            raise UserError(f"split must be one of {', '.join(SPLITS)}, got '{split}'")
        if actions is not None and actions.shape != (len(frames) - 1,):
            raise UserError(f"{len(frames)} frames need {len(frames) - 1} actions, got {actions.shape}")
        if self._has_actions is None:
            self._has_actions = actions is not None
        if self._has_actions != (actions is not None):
            raise UserError("give ground-truth actions for all episodes of a data set or for none")

    def _create(self) -> NpyShardWriter:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(self.path)
        self._folder.mkdir()
        self._shards = NpyShardWriter(self._folder, self.height, self.width, self._shard_bytes)
        return self._shards

    def _add_run(
        self, shards: NpyShardWriter, frames: np.ndarray, actions: np.ndarray | None, source: str, split: str
    ) -> None:
        if len(frames) < 2:
            return
        if actions is not None:
            actions = actions.copy()
            actions[-1] = -1  # at a cut between shards, the last action leads to no frame of this episode
        shard, start = shards.append(frames, actions)
        self.episodes.append(EpisodeRecord(shard, start, len(frames), split, source))


def _temporary_prefix(path: Path) -> str:
    """Return the prefix of this machine's temporary folders for `path`; the process id follows."""
    return f"{path.name}.importing-{socket.gethostname()}-"


def _remove_abandoned(path: Path) -> None:
    """Delete the temporary folders that killed processes of this machine left behind."""
    prefix = _temporary_prefix(path)
    for folder in path.parent.iterdir():
        process = folder.name.removeprefix(prefix)
        if process == folder.name or not process.isdecimal():
            continue
        if int(process) == os.getpid() or not _is_running(int(process)):
            shutil.rmtree(folder, ignore_errors=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _refuse_existing(path: Path) -> None:
    with _disk_errors(path):
        if path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
            return
        exists = path.exists() or path.is_symlink()
    if exists:
        raise UserError(f"{path} exists already: give another folder with --out, or delete it first")


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            message = f"the disk is full: data set {path} was not written; free some space or import less"
        else:
            reason = (error.strerror or str(error)).lower()
            message = f"cannot write data set {path} ({reason}): choose another folder"
        raise UserError(message) from error
