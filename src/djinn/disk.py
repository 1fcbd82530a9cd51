"""A full disk, in one sentence, wherever something is written."""

from __future__ import annotations

import errno
from collections.abc import Generator
from contextlib import contextmanager

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
