"""Checkpoints of a stage, from which a stopped run resumes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import torch

from djinn.atomic import explain_full_disk, replace_file
from djinn.errors import UserError
from djinn.models.serialization import describe_non_finite, is_finite

FORMAT = "djinn-checkpoint-1"


class Checkpointer(Protocol):
    """Saves and loads the state of one stage. All ranks call each method."""

    @property
    def saved_step(self) -> int | None:
        """Step of the latest complete checkpoint that was saved or loaded, or None."""
        ...

    @property
    def saved_time(self) -> float:
        """Time of the latest complete checkpoint, in seconds since the epoch; 0 without one."""
        ...

    def exists(self) -> bool:
        """Return whether there is a checkpoint."""
        ...

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Save a checkpoint; the previous one is kept until this one is complete.

        Args:
            step: Optimizer steps done.
            state: Tensors, numbers, strings, and containers of them.

        Raises:
            UserError: The disk is full; the previous checkpoint is intact.
        """
        ...

    def load(self) -> dict[str, Any] | None:
        """Load the latest complete checkpoint to the CPU, or return None if there is none.

        Raises:
            UserError: The checkpoint is damaged or of another stage.
        """
        ...


class FileCheckpointer:
    """One file, `RUN/STAGE/checkpoint.pt`, written by the first rank and replaced atomically.

    Args:
        run: Run folder.
        stage: Name of the stage.
        writes: Whether this rank writes.
    """

    def __init__(self, run: Path, stage: str, writes: bool = True) -> None:
        self.path = checkpoint_path(run, stage)
        self.saved_step: int | None = None
        self._stage, self._writes = stage, writes

    @property
    def saved_time(self) -> float:
        """Modification time of the file, in seconds since the epoch; 0 without a file."""
        return self.path.stat().st_mtime if self.exists() else 0.0

    def exists(self) -> bool:
        """Return whether the file exists."""
        return self.path.exists()

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Replace the file; see `Checkpointer.save`."""
        if self._writes:
            save_checkpoint(self.path, {"stage": self._stage, "step": step, **state}, self.saved_step)
        self.saved_step = step

    def load(self) -> dict[str, Any] | None:
        """Load the file; see `Checkpointer.load`."""
        if not self.exists():
            return None
        state = load_checkpoint(self.path, self._stage)
        self.saved_step = state["step"]
        return state


def checkpoint_path(run: Path, stage: str) -> Path:
    """Return the checkpoint file of a stage in a run folder."""
    return run / stage / "checkpoint.pt"


def save_checkpoint(path: Path, state: dict[str, Any], last_step: int | None = None) -> None:
    """Write a checkpoint file; an existing one is kept until the new one is complete and on disk.

    Args:
        path: Checkpoint file; missing folders are created.
        state: Tensors, numbers, strings, and containers of them, with `stage` and `step`.
        last_step: Step of the existing checkpoint, for the error message.

    Raises:
        UserError: The disk is full; the existing checkpoint is intact.
    """
    intact = "no checkpoint was saved yet" if last_step is None else f"the checkpoint of step {last_step} is intact"
    with explain_full_disk(str(path), intact):
        path.parent.mkdir(parents=True, exist_ok=True)
        # a fixed name, so that the next save replaces what a killed process left behind
        with replace_file(path, path.with_name(path.name + ".tmp")) as temporary, open(temporary, "wb") as file:
            _write(state, file)
            file.flush()
            os.fsync(file.fileno())
        _sync_folder(path.parent)


def load_checkpoint(path: Path, stage: str) -> dict[str, Any]:
    """Load a checkpoint file of stage `stage` to the CPU, without unpickling code.

    Raises:
        UserError: The file is missing, damaged, or not a checkpoint of this stage, or a weight is
            not finite.
    """
    remedy = f"move it away to train this stage from the start, or pass another --out (its folder is {path.parent})"
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"no checkpoint at {path}") from None
    except Exception:  # a damaged file breaks the unpickler in many ways, IndexError and TypeError among them
        raise UserError(f"checkpoint {path} is damaged or not a checkpoint of Djinn: {remedy}") from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise UserError(f"{path} is not a checkpoint of this version of Djinn: {remedy}")
    if state.get("stage") != stage:
        raise UserError(f"{path} is a checkpoint of stage '{state.get('stage')}', not of '{stage}': {remedy}")
    for key, tensor in state.get("model", {}).items():
        if not is_finite(tensor):
            raise UserError(f"checkpoint {path}: {describe_non_finite(key, tensor)}: {remedy}")
    return state


class _ErrorRecorder:
    """A file that records the OSError of a write, which `torch.save` replaces by its own error."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


def _write(state: dict[str, Any], file: BinaryIO) -> None:
    recorder = _ErrorRecorder(file)
    try:
        torch.save({"format": FORMAT, **state}, recorder)  # pyrefly: ignore
    except Exception as error:
        raise recorder.error if recorder.error is not None else error from None


def _sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk, so that a rename survives a power failure."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        pass  # not supported by every file system; the rename itself is done
    finally:
        os.close(handle)
