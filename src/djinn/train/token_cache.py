"""Tokens of training clips on disk: the tokenizer is frozen, so each clip is encoded once."""

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

from djinn.atomic import replace_file

MAX_BYTES = 4 * 2**30
"""Size above which no cache is created."""


class TokenCache:
    """Memory-mapped tokens of the clips of a data set, filled as the clips are first used.

    One uint16 row per clip holds token + 1, and 0 if the clip was not encoded yet. A batch with any
    such clip is encoded as a whole, so that the content depends on the order of batches only and a
    resumed run reads the tokens of an uninterrupted one.

    Args:
        path: `.npy` file that `open_cache` created.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows = np.load(path, mmap_mode="r+")

    def tokens(self, indices: Tensor, encode: Callable[[], Int[Tensor, "b t n"]]) -> Int[Tensor, "b t n"]:
        """Return the tokens of the clips at `indices`, on the CPU.

        Args:
            indices: Indices of the clips.
            encode: Encodes these clips; called if any of them is missing.
        """
        clips = np.asarray(indices)
        rows = self._rows[clips]
        cached = rows.all(axis=(1, 2))
        if not cached.all():
            encoded = (encode().cpu().numpy() + 1).astype(np.uint16)
            rows[~cached] = encoded[~cached]
            self._rows[clips[~cached]] = rows[~cached]
        return torch.from_numpy(rows.astype(np.int64) - 1)

    def remove(self) -> None:
        """Delete the file and its folder."""
        del self._rows
        shutil.rmtree(self.path.parent, ignore_errors=True)


def open_cache(
    folder: Path,
    key: str,
    shape: tuple[int, int, int],
    codes: int,
    *,
    warn: Callable[[str], None],
    create: bool = True,
) -> TokenCache | None:
    """Open the cache of a run, or create it.

    A new file gets its full size at once, so that the disk cannot fill up later.

    Args:
        folder: `RUN/tokens`; caches with another key are deleted.
        key: Hash of what the tokens depend on: tokenizer weights, data set, clip length and stride.
        shape: Clips, frames per clip, tokens per frame.
        codes: Size of the codebook.
        warn: Called with the reason if there is no cache.
        create: False opens only a cache that another rank has created.

    Returns:
        The cache, or None if it does not fit; each batch is then encoded whenever it is used.
    """
    path = folder / f"train-{key}.npy"
    if not path.exists() and create:
        shutil.rmtree(folder, ignore_errors=True)
        reason = _reason_against(folder, shape, codes)
        if reason is None:
            try:
                _create(path, shape)
            except OSError as error:
                reason = str(error.strerror or error)
        if reason is not None:
            warn(f"the tokens of clips are not cached ({reason}): each batch is encoded whenever it is used")
    return TokenCache(path) if path.exists() else None


def _reason_against(folder: Path, shape: tuple[int, int, int], codes: int) -> str | None:
    """Return why a cache must not be created, or None; creates the folder."""
    size = 2 * math.prod(shape)
    if codes >= 2**16 - 1:
        return f"{codes} codes do not fit into 16 bits"
    if size > MAX_BYTES:
        return f"they would take {size / 2**30:.1f} GiB"
    folder.mkdir(parents=True, exist_ok=True)
    if size > shutil.disk_usage(folder).free // 2:
        return f"{size / 2**20:.0f} MiB would take more than half of the free disk space"
    return None


def _create(path: Path, shape: tuple[int, int, int]) -> None:
    with replace_file(path, path.with_suffix(".tmp")) as temporary:
        rows = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint16, shape=shape)
        del rows
        if hasattr(os, "posix_fallocate"):  # writing into a sparse file on a full disk raises SIGBUS
            with open(temporary, "r+b") as file:
                os.posix_fallocate(file.fileno(), 0, temporary.stat().st_size)


def fingerprint(module: nn.Module, *values: object) -> str:
    """Return a short hash of a module's weights and of further values."""
    digest = hashlib.sha256(repr(values).encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
