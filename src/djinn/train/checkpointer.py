"""The private resume state of a run: written so that a good one always exists, read with suspicion."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, BinaryIO

import torch

from djinn.atomic import room_for
from djinn.config.yaml import from_dict, to_dict
from djinn.errors import UserError

FORMAT = "djinn-checkpoint-1"
FREE_KEYS = (
    "steps",
    "minutes",
    "log_every",
    "eval_every",
    "save_every",
    "loggers",
    "compile",
    "tokenizer_share",
    "sampler",
    "fps",
)
"""Config keys, wherever they stand, that a continued run may change: none of them changes what a step computes,
but for the rate, which goes by the share of `steps` or `minutes` that is done."""


def checkpoint_path(run: Path, stage: str) -> Path:
    """Where stage `stage` of the run in folder `run` keeps its state."""
    return run / ("world_stage" if stage == "world" else stage) / "checkpoint.pt"


class _Recorder:
    """A file to write to that remembers the error which torch.save turns into one of its own."""

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


def save_checkpoint(path: Path, state: dict[str, Any], last_step: int | None = None) -> None:
    """Writes `state` to `path`; what was there before stays until the new file is complete and on the disk.

    Args:
        path: the checkpoint; its folder is made.
        state: tensors, numbers, strings and containers of them, with `step`.
        last_step: step of the checkpoint that is there already, for the message.

    Raises:
        UserError: the disk is full; the old checkpoint is intact.
    """
    temporary = path.with_name(path.name + ".tmp")
    kept = "nothing was saved before" if last_step is None else f"the last checkpoint of step {last_step} is intact"
    try:
        with room_for(str(path), kept):
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, "wb") as file:
                _write(state, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _write(state: dict[str, Any], file: BinaryIO) -> None:
    recorder = _Recorder(file)
    try:
        torch.save({"format": FORMAT, **state}, recorder)  # pyrefly: ignore
    except Exception as error:
        raise recorder.error if recorder.error is not None else error from None


def sync_folder(folder: Path) -> None:
    """Makes renames in `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        pass  # some file systems cannot; the rename itself is done
    finally:
        os.close(handle)


def load_checkpoint(path: Path, stage: str) -> dict[str, Any]:
    """Reads a checkpoint of stage `stage` to the CPU, without unpickling code.

    Raises:
        UserError: the file is damaged, no checkpoint of Djinn, or of another stage.
    """
    remedy = f"move it away to train this stage from the start, or pass another --out (its folder is {path.parent})"
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"no checkpoint at {path}") from None
    except Exception:  # a damaged file breaks the unpickler in many ways: IndexError and TypeError among them
        raise UserError(f"checkpoint {path} is damaged or no checkpoint of Djinn: {remedy}") from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise UserError(f"{path} is not a checkpoint of this version of Djinn: {remedy}")
    if state.get("stage") != stage:
        raise UserError(f"{path} is a checkpoint of stage '{state.get('stage')}', not of '{stage}': {remedy}")
    return state


def differences(old: Any, new: Any, where: str = "") -> list[str]:
    """Keys in which two configs (as plain data) differ, as `key: old -> new`, but for `FREE_KEYS`."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        plain = [list(v) if isinstance(v, tuple) else v for v in (old, new)]
        return [] if plain[0] == plain[1] else [f"{where}: {plain[0]} -> {plain[1]}"]
    found = []
    for key in [*old, *(k for k in new if k not in old)]:
        if key not in FREE_KEYS:
            found += differences(old.get(key), new.get(key), f"{where}.{key}" if where else str(key))
    return found


def with_defaults(config: dict[str, Any], kinds: dict[str, type]) -> dict[str, Any]:
    """A stored config (as plain data) with the fields that Djinn has got since, at their defaults.

    Args:
        config: the config, part by part.
        kinds: the dataclass of each part that is one; the others, and what this Djinn cannot read, stay as they are.
    """

    def fill(kind: type, part: Any) -> Any:
        try:
            return to_dict(from_dict(kind, part))
        except UserError:
            return part

    return {key: fill(kinds[key], part) if key in kinds else part for key, part in config.items()}


def check_same(old: Any, new: Any, folder: Path) -> None:
    """Refuses to continue the run in `folder` with another config than it began with.

    Raises:
        UserError: naming the keys that differ.
    """
    found = differences(old, new)
    if found:
        shown = "; ".join(found[:6]) + (f"; and {len(found) - 6} more" if len(found) > 6 else "")
        raise UserError(
            f"the run in {folder} began with other settings ({shown}): "
            "continue it with those, or start a new run with another --out"
        )
