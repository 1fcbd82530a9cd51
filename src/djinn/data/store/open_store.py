"""Selection of the store that reads a data set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from djinn.data.store.frame_store import FrameStore
from djinn.data.store.index import read_index
from djinn.data.store.npy_store import NpyStore
from djinn.errors import UserError

STORES: dict[str, Callable[[Path, dict[str, Any]], FrameStore]] = {"npy": NpyStore}
"""Stores by the value of the key `store` in `dataset.json`. `npy` is the default."""


def open_store(folder: Path) -> FrameStore:
    """Open the frames of a data set.

    Raises:
        UserError: `folder` is not a data set, a file is missing, damaged or cannot be read, or the
            store is unknown.
    """
    index = read_index(folder)
    kind = index.get("store", "npy")
    if kind not in STORES:
        raise UserError(f"{folder} uses the store '{kind}', and this Djinn reads {', '.join(STORES)}: update Djinn")
    return STORES[kind](folder, index)
