"""Files that are whole or not there, and a full disk in one sentence, wherever something is written."""

from __future__ import annotations

import errno
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from djinn.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT)
"""What a disk, or its owner's quota, says when it is full."""


def is_full(error: BaseException) -> bool:
    """Whether an error says that the disk is full; safetensors has an exception of its own for it."""
    return error.errno in FULL if isinstance(error, OSError) else "No space left" in str(error)


@contextmanager
def room_for(what: str, kept: str) -> Generator[None]:
    """Turns a full disk inside it into one sentence: no space left while saving `what`; `kept`."""
    try:
        yield
    except Exception as error:
        if isinstance(error, UserError) or not is_full(error):
            raise
        raise UserError(f"no space left while saving {what}; {kept}; free some space and start again") from error


@contextmanager
def atomic_write(path: Path) -> Generator[Path]:
    """Gives a temporary name beside `path`, which takes the place of `path` when all went well and is removed if not.

    Raises:
        UserError: the file cannot be written, for instance because the disk is full.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
