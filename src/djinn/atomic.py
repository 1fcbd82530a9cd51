"""Atomic file writes, checks of input and output paths, and messages for file system errors."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from djinn.errors import UserError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
"""Error numbers of a full disk and of an exceeded quota."""


def is_disk_full(error: BaseException) -> bool:
    """Return whether an error reports a full disk; safetensors raises its own exception for it."""
    return error.errno in DISK_FULL if isinstance(error, OSError) else "No space left" in str(error)


@contextmanager
def explain_full_disk(what: str, intact: str) -> Generator[None]:
    """Raise a `UserError` when the disk fills up inside the block.

    Args:
        what: What is being saved, for the message.
        intact: What is still intact, for the message.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, UserError) or not is_disk_full(error):
            raise
        raise UserError(
            f"no space left while saving {what}; {intact}; free some space and rerun the command"
        ) from error


@contextmanager
def replace_file(path: Path, temporary: Path) -> Generator[Path]:
    """Yield `temporary`, which replaces `path` on success and is deleted on failure.

    Errors of the file system pass through; `atomic_write` turns them into a `UserError`.

    Args:
        path: File to create or replace.
        temporary: Path in the same folder.
    """
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_write(path: Path) -> Generator[Path]:
    """Yield a temporary path beside `path` that replaces it on success and is deleted on failure.

    Missing folders are created.

    Raises:
        UserError: The file cannot be written, for example because the disk is full.
    """
    try:
        _refuse_non_file(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_file(path, _temporary(path)) as temporary:
            yield temporary
    except OSError as error:
        remedy = ": free some space and rerun the command" if is_disk_full(error) else ""
        raise UserError(f"cannot write {path} ({_reason(error)}){remedy}") from error


def check_writable_file(path: str | Path) -> Path:
    """Check that a file can be written, before the work whose result goes into it.

    The check creates a temporary file and the missing folders, and removes both.

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

    The check creates a temporary file and the missing folders, and removes both.

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


def check_readable_file(path: str | Path, kind: str = "file") -> Path:
    """Check that `path` is a regular file that can be opened for reading.

    Args:
        path: The file.
        kind: What the file should be, for the message of a missing one.

    Returns:
        `path` as a `Path`.

    Raises:
        UserError: The file does not exist, is not a regular file, or cannot be read. The message
            states which of them.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise UserError(f"{path} is a folder: give a {kind}")
        if not stat.S_ISREG(mode):  # opening a pipe would block
            raise UserError(f"{path} is not a regular file: copy its content to a file and give that file")
        with path.open("rb"):
            return path
    except OSError as error:
        raise read_error(path, error, kind) from None


def read_error(path: str | Path, error: OSError, kind: str = "file") -> UserError:
    """Return the `UserError` that states why a file or folder cannot be read.

    Args:
        path: The file or folder.
        error: What the operating system reported.
        kind: What `path` should be, for the message of a missing one.
    """
    path = Path(path)
    if isinstance(error, FileNotFoundError):
        if path.is_symlink():
            return UserError(f"{path} is a link to {os.readlink(path)}, which does not exist: fix the link")
        return UserError(f"there is no {kind} at {path}: check the name")
    if isinstance(error, PermissionError):
        return UserError(f"no permission to read {path}: change the permissions of it or of the folders above it")
    return UserError(f"cannot read {path} ({_reason(error)}): check the name and the disk")
