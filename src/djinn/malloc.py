"""Memory of the process on Linux."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of `mallopt` in <malloc.h>."""


def keep_freed_memory() -> bool:
    """Tells the C library to keep what is freed for the next tensor, instead of giving it back to the system.

    By default glibc maps every large tensor anew and the system clears each of its pages at the first touch; training on
    a CPU spends an eighth of its time so. Peak memory stays the same; it is given back when the process ends.

    Returns:
        Whether it could be done: False without glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        return False
    return bool(libc.mallopt(_MMAP_THRESHOLD, 1 << 30)) and bool(libc.mallopt(_TRIM_THRESHOLD, (1 << 31) - 1))
