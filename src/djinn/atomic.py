"""Atomic file writes, checks of output paths before long work, and a clear error on a full disk."""

from __future__ import annotations

import errno
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from djinn.errors import UserError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
"""Error numbers of a full disk and of an exceeded quota."""


def is_full(error: BaseException) -> bool:
    """Return whether an error reports a full disk; safetensors raises its own exception for it."""
    return error.errno in DISK_FULL if isinstance(error, OSError) else "No space left" in str(error)


@contextmanager
def room_for(what: str, kept: str) -> Generator[None]:
    """Raise a `UserError` when the disk fills up inside the block.

    Args:
        what: what is being saved, for the message.
        kept: what is still intact, for the message.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, UserError) or not is_full(error):
            raise
        raise UserError(f"no space left while saving {what}; {kept}; free some space and start again") from error


@contextmanager
def atomic_write(path: Path) -> Generator[Path]:
    """Yield a temporary path beside `path` that replaces it on success and is deleted on failure.

    Missing folders are created.

    Raises:
        UserError: The file cannot be written, for example because the disk is full.
    """
    temporary = _temporary(path)
    try:
        _refuse_non_file(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {path}: {_reason(error)}") from error


def check_writable_file(path: str | Path) -> Path:
    """Check that a file can be written, before the work whose result goes into it.

    The check creates a temporary file and the missing folders, and removes them again.

    Returns:
        `path` as a `Path`.

    Raises:
        UserError: `path` is a folder or a device, or its folder does not accept files.
    """
    path = Path(path)
    try:
        _refuse_non_file(path)
        _try_to_create(_temporary(path))
    except UserError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a null byte
        raise UserError(f"cannot write {path} ({_reason(error)}): choose another file name") from None
    return path


def check_writable_folder(path: str | Path) -> Path:
    """Check that files can be written into a folder, which need not exist yet.

    The check creates a temporary file and the missing folders, and removes them again.

    Returns:
        `path` as a `Path`.

    Raises:
        UserError: `path` is a file, or does not accept files.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_dir():
            raise UserError(f"{path} is a file: give the name of a folder")
        _try_to_create(path / f".{os.getpid()}.tmp")
    except UserError:
        raise
    except (OSError, ValueError) as error:
        raise UserError(f"cannot write to the folder {path} ({_reason(error)}): choose another one") from None
    return path


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}") if path.name else path


def _refuse_non_file(path: Path) -> None:
    if path.is_dir():
        raise UserError(f"{path} is a folder: give the name of a file")
    if path.exists() and not path.is_file():  # for example /dev/null, which a rename would replace
        raise UserError(f"{path} is not a regular file: give the name of a file")


def _try_to_create(file: Path) -> None:
    """Create a file and its missing folders, then remove all of them."""
    missing = [folder for folder in file.parents if not folder.exists()]
    created: list[Path] = []
    try:
        for folder in reversed(missing):
            folder.mkdir(exist_ok=True)
            created.append(folder)
        file.touch()
        file.unlink()
    finally:
        for folder in reversed(created):
            try:
                folder.rmdir()
            except OSError:  # another process has put something into it
                break


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()
