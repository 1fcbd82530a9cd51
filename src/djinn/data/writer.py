"""Writes a data set episode by episode, whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import socket
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
from jaxtyping import Int, UInt8

from djinn.atomic import is_full
from djinn.data.dataset import FORMAT, INDEX, SPLITS, VERSION
from djinn.errors import UserError

SHARD_BYTES = 512 * 2**20
_HEADER_BYTES = 128


class DatasetWriter:
    """Writes a data set into a folder that appears only when it is complete.

    Use it as a context manager: leaving it normally finishes the data set, an exception removes what was written::

        with DatasetWriter(out, height=64, width=64, fps=10) as writer:
            writer.add_episode(frames, source="level-3", split="train", actions=actions)

    Frames go to disk at once, so that memory holds one episode at a time.
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
        """Prepares writing; `path` is not touched before all is written.

        Args:
            path: folder to make; it must not exist, or be empty.
            height: rows of a frame.
            width: columns of a frame.
            fps: frames per second.
            metadata: anything to tell about the data, for people and for `djinn data info`; plain JSON values.
            shard_bytes: a shard is closed before it would grow beyond this.

        Raises:
            UserError: something is at `path` already, or it cannot be written.
        """
        self.path = Path(path)
        if self.path.name in ("", ".."):
            raise UserError(f"{path} has no name of its own: name a folder to make, for instance data/mine")
        self.height, self.width, self.fps = height, width, fps
        self.metadata = metadata or {}
        self.frames = 0
        self.episodes: list[dict[str, Any]] = []
        self._shard_frames = max(1, shard_bytes // (height * width * 3))
        self._shards: list[dict[str, Any]] = []
        self._frames_file: _ArrayFile | None = None
        self._actions_file: _ArrayFile | None = None
        self._with_actions: bool | None = None
        _refuse_existing(self.path)
        self._folder = self.path.with_name(f"{_unfinished(self.path)}{os.getpid()}")
        with _disk_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _remove_left_behind(self.path)
            self._folder.mkdir()

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()
        else:
            self.abandon()

    def add_episode(
        self,
        frames: UInt8[np.ndarray, "f h w 3"],
        *,
        source: str,
        split: str,
        actions: Int[np.ndarray, " f-1"] | None = None,
    ) -> None:
        """Adds an unbroken run of frames.

        Args:
            frames: at least 2 frames of the data set's size; longer than a shard is cut into several episodes.
            source: where it comes from.
            split: `train`, `val` or `test`.
            actions: true action t moves frame t to t + 1; for all episodes or for none.

        Raises:
            UserError: shapes, split or actions do not fit, or the disk is full.
        """
        self._check(frames, split, actions)
        beside = np.full(len(frames), -1, dtype=np.int16)
        if actions is not None:
            beside[:-1] = actions
        with _disk_errors(self.path):
            for start in range(0, len(frames), self._shard_frames):
                piece = slice(start, min(start + self._shard_frames, len(frames)))
                self._add_piece(frames[piece], beside[piece].copy(), source, split)

    def finish(self) -> None:
        """Writes the index and gives the folder its name.

        Raises:
            UserError: no episode was added, the disk is full, or `path` was made by someone else meanwhile.
        """
        try:
            if not self.episodes:
                raise UserError(f"nothing to write to {self.path}: no episode was found")
            with _disk_errors(self.path):
                self._close_shard()
                index = {
                    "format": FORMAT,
                    "version": VERSION,
                    "height": self.height,
                    "width": self.width,
                    "fps": self.fps,
                    "about": self.metadata,
                    "shards": self._shards,
                    "episodes": self.episodes,
                }
                (self._folder / INDEX).write_text(_readable(index), encoding="utf-8")
                _refuse_existing(self.path)
                self._folder.replace(self.path)
        except BaseException:
            self.abandon()
            raise

    def abandon(self) -> None:
        """Removes what was written so far."""
        for file in (self._frames_file, self._actions_file):
            if file is not None:
                file.discard()
        self._frames_file = self._actions_file = None
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
        if self._with_actions is None:
            self._with_actions = actions is not None
        if self._with_actions != (actions is not None):
            raise UserError("give true actions for all episodes of a data set or for none")

    def _add_piece(self, frames: np.ndarray, actions: np.ndarray, source: str, split: str) -> None:
        if len(frames) < 2:
            return
        actions[-1] = -1
        if self._frames_file is not None and self._frames_file.length + len(frames) > self._shard_frames:
            self._close_shard()
        if self._frames_file is None:
            number = len(self._shards)
            shape = (self.height, self.width, 3)
            self._frames_file = _ArrayFile(self._folder / f"frames-{number:05d}.npy", np.dtype(np.uint8), shape)
            if self._with_actions:
                self._actions_file = _ArrayFile(self._folder / f"actions-{number:05d}.npy", np.dtype(np.int16), ())
        start = self._frames_file.length
        self._frames_file.append(frames)
        if self._actions_file is not None:
            self._actions_file.append(actions)
        self.frames += len(frames)
        self.episodes.append(
            {"shard": len(self._shards), "start": start, "length": len(frames), "split": split, "source": source}
        )

    def _close_shard(self) -> None:
        if self._frames_file is None:
            return
        file = self._frames_file
        file.close()
        entry = {"file": file.path.name, "frames": file.length, "crc32": f"{file.crc:08x}"}
        if self._actions_file is not None:
            self._actions_file.close()
            entry["actions"] = self._actions_file.path.name
        self._shards.append(entry)
        self._frames_file = self._actions_file = None


class _ArrayFile:
    """A `.npy` file that grows along its first axis; its header gets the length when it is closed."""

    def __init__(self, path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> None:
        self.path, self.dtype, self.shape = path, dtype, shape
        self.length = 0
        self.crc = 0
        self._file: IO[bytes] = path.open("wb")
        self._write_header()

    def append(self, rows: np.ndarray) -> None:
        data = np.ascontiguousarray(rows, dtype=self.dtype)
        view = data.reshape(-1).view(np.uint8).data
        self._file.write(view)
        self.crc = zlib.crc32(view, self.crc)
        self.length += len(rows)

    def close(self) -> None:
        self._file.seek(0)
        self._write_header()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def discard(self) -> None:
        """Closes the file whatever its state; its folder is about to go."""
        try:
            self._file.close()
        except OSError:
            return

    def _write_header(self) -> None:
        description = {"descr": self.dtype.str, "fortran_order": False, "shape": (self.length, *self.shape)}
        text = repr(description).encode("latin1")
        prefix = b"\x93NUMPY\x01\x00" + (_HEADER_BYTES - 10).to_bytes(2, "little")
        assert len(prefix) + len(text) < _HEADER_BYTES
        self._file.write(prefix + text.ljust(_HEADER_BYTES - 11) + b"\n")


def _readable(index: dict[str, Any]) -> str:
    """JSON with one line per shard and episode."""
    lines = []
    for key, value in index.items():
        if key in ("shards", "episodes"):
            rows = ",\n".join("  " + json.dumps(row, ensure_ascii=False) for row in value)
            lines.append(f"{json.dumps(key)}: [\n{rows}\n]")
        else:
            lines.append(f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _unfinished(path: Path) -> str:
    """How the names of folders begin in which this machine's processes write, before they take the name `path`."""
    return f"{path.name}.importing-{socket.gethostname()}-"


def _remove_left_behind(path: Path) -> None:
    """Removes what a process of this machine left unfinished at `path` when it was killed."""
    for folder in path.parent.iterdir():
        process = folder.name.removeprefix(_unfinished(path))
        if process != folder.name and process.isdecimal() and (int(process) == os.getpid() or not _runs(int(process))):
            shutil.rmtree(folder, ignore_errors=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _refuse_existing(path: Path) -> None:
    if path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
        return
    if path.exists() or path.is_symlink():
        raise UserError(f"{path} exists already: name another folder with --out, or delete it first")


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if is_full(error):
            message = f"the disk is full: data set {path} was not written; free some space or import less"
        else:
            message = f"cannot write data set {path}: {error.strerror or error}"
        raise UserError(message) from error
