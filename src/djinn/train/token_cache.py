"""Tokens of training clips, kept on disk: the tokenizer is frozen in the world stage, so each clip is encoded once."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn

LARGEST = 4 * 2**30
"""Bytes above which nothing is kept and every batch is encoded anew."""


class TokenCache:
    """Tokens of every clip of a data set, filled as clips come up: one row of uint16 per clip, 0 where nothing is yet.

    Rows hold token + 1. A batch with any clip that is not kept yet is encoded as a whole, so that a row depends on
    nothing but the order of batches, and a continued run reads the same as one that was never stopped.

    Args:
        path: the `.npy` file, made by `open_cache`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows = np.load(path, mmap_mode="r+")

    def tokens(self, indices: Tensor, encode: Callable[[], Int[Tensor, "b t n"]]) -> Int[Tensor, "b t n"]:
        """Tokens of the clips at `indices`, on the CPU if they were kept.

        Args:
            indices: numbers of the clips.
            encode: gives the tokens of all of them.
        """
        at = np.asarray(indices)
        rows = self._rows[at]
        known = rows.all(axis=(1, 2))
        if not known.all():
            fresh = (encode().cpu().numpy() + 1).astype(np.uint16)
            rows[~known] = fresh[~known]
            self._rows[at[~known]] = rows[~known]
        return torch.from_numpy(rows.astype(np.int64) - 1)

    def remove(self) -> None:
        """Deletes the file."""
        del self._rows
        shutil.rmtree(self.path.parent, ignore_errors=True)


def open_cache(
    folder: Path,
    key: str,
    shape: tuple[int, int, int],
    codes: int,
    *,
    say: Callable[[str], None],
    make: bool = True,
) -> TokenCache | None:
    """Opens the cache of a run, or makes it, with room for all of it at once so that the disk cannot fill up later.

    Args:
        folder: `RUN/tokens`; caches with another key in it are removed.
        key: says what the tokens depend on: tokenizer weights, data set, clip length and stride.
        shape: number of clips, frames in a clip, tokens in a frame.
        codes: size of the codebook.
        say: is told why there is no cache.
        make: False only opens one that another rank has made.

    Returns:
        The cache, or None where it would be too large: tokens are then made anew for each batch.
    """
    path = folder / f"train-{key}.npy"
    size = 2 * math.prod(shape)
    if not path.exists() and make:
        shutil.rmtree(folder, ignore_errors=True)
        reason = None
        if codes >= 2**16 - 1:
            reason = f"{codes} codes do not fit into 16 bits"
        elif size > LARGEST:
            reason = f"they would take {size / 2**30:.1f} GiB"
        else:
            folder.mkdir(parents=True, exist_ok=True)
            if size > shutil.disk_usage(folder).free // 2:
                reason = f"{size / 2**20:.0f} MiB would take more than half of the free disk"
        if reason is None:
            try:
                _make(path, shape)
            except OSError as error:
                reason = str(error.strerror or error)
        if reason is not None:
            say(f"tokens of clips are not kept ({reason}): each batch is encoded anew")
    return TokenCache(path) if path.exists() else None


def _make(path: Path, shape: tuple[int, int, int]) -> None:
    temporary = path.with_suffix(".tmp")
    try:
        rows = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint16, shape=shape)
        del rows
        if hasattr(os, "posix_fallocate"):  # a file with holes would end the program when the disk is full
            with open(temporary, "r+b") as file:
                os.posix_fallocate(file.fileno(), 0, temporary.stat().st_size)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def fingerprint(module: nn.Module, *more: object) -> str:
    """A short hash of a module's weights and of whatever else matters."""
    digest = hashlib.sha256(repr(more).encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
