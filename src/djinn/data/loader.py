"""Batches of clips, in an order determined by the seed and the position.

The whole state is one integer, the number of global batches read. A resumed training run reads the
same batches as an uninterrupted one, on any number of ranks.
"""

from __future__ import annotations

import queue
import threading
import weakref
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from djinn.errors import UserError

_PREFETCHED_BATCHES = 3


class ClipSource(Protocol):
    """Clips by number, such as `djinn.data.dataset.Clips`."""

    def __len__(self) -> int:
        """Return the number of clips."""
        ...

    def batch(self, indices: Int64[np.ndarray, " b"]) -> UInt8[np.ndarray, "b t h w 3"]:
        """Read clips `(B, T, H, W, 3)`."""
        ...


@dataclass(frozen=True)
class LoaderBatch:
    """One rank's clips of one step."""

    indices: Int64[Tensor, " b"]
    """Numbers of the clips `(B,)` in their `Clips`, for ground-truth actions and cached tokens."""
    video: UInt8[Tensor, "b t h w 3"]
    """Frames `(B, T, H, W, 3)`."""

    def __len__(self) -> int:
        return len(self.indices)


class EpochSampler:
    """Maps the position of a global batch to the clips in it.

    Each epoch is a new permutation of all clips. The last clips of an epoch that do not fill a
    batch are dropped. If there are fewer clips than a batch holds, batches are consecutive pieces
    of the concatenated epochs, so that clips repeat within a batch as evenly as possible.

    Args:
        clips: Number of clips.
        batch: Clips in a global batch.
        seed: Seed of the permutations.
    """

    def __init__(self, clips: int, batch: int, seed: int) -> None:
        self.clips, self.batch, self.seed = clips, batch, seed
        self.batches_per_epoch = max(1, clips // batch)
        self._cached_epoch: tuple[int, np.ndarray] | None = None

    def __call__(self, position: int) -> Int64[np.ndarray, " batch"]:
        """Return the clips of the global batch at `position`."""
        if self.clips < self.batch:
            offsets = np.arange(position * self.batch, (position + 1) * self.batch, dtype=np.int64)
            epochs, within = np.divmod(offsets, self.clips)
            return np.array([self._permutation(int(e))[i] for e, i in zip(epochs, within, strict=True)], dtype=np.int64)
        epoch, batch = divmod(position, self.batches_per_epoch)
        return self._permutation(epoch)[batch * self.batch : (batch + 1) * self.batch]

    def _permutation(self, epoch: int) -> np.ndarray:
        """Return the clips of an epoch in order.

        Raw Philox numbers are sorted, because they are the same in all versions of numpy.
        """
        if self._cached_epoch is None or self._cached_epoch[0] != epoch:
            key = np.array([self.seed, epoch], dtype=np.uint64)
            numbers = np.random.Philox(key=key).random_raw(self.clips)
            self._cached_epoch = epoch, np.argsort(numbers, kind="stable").astype(np.int64)
        return self._cached_epoch[1]


class Loader:
    """Infinite iterator over batches of clips, with a background thread that reads ahead.

    Use it as a context manager, or call `close` to end the thread. An error in the thread is raised
    in place of the batch that could not be read.
    """

    def __init__(
        self,
        clips: ClipSource,
        batch: int,
        *,
        seed: int = 0,
        position: int = 0,
        rank: int = 0,
        ranks: int = 1,
        prefetch: bool = True,
        pin_memory: bool = False,
    ) -> None:
        """Start reading at a position.

        Args:
            clips: Source of the clips.
            batch: Clips in a global batch, over all ranks.
            seed: Seed of the order, at least 0.
            position: Number of global batches read before.
            rank: Part of each global batch to read.
            ranks: Number of parts of a global batch.
            prefetch: Read a few batches ahead in a background thread.
            pin_memory: Return videos in page-locked memory, for asynchronous copies to a GPU.

        Raises:
            UserError: The batch cannot be divided evenly among the ranks, or a number is out of
                range.
        """
        if len(clips) < 1 or batch < 1:
            raise UserError(f"a loader needs at least 1 clip and batches of at least 1, got {len(clips)} and {batch}")
        if batch % ranks:
            raise UserError(
                f"batch {batch} cannot be divided evenly among {ranks} processes: use a multiple of {ranks}"
            )
        if seed < 0 or position < 0 or not 0 <= rank < ranks:
            raise UserError(f"seed {seed}, position {position} or rank {rank} of {ranks} is out of range")
        self._position = position
        self._read_batch = _BatchReader(clips, EpochSampler(len(clips), batch, seed), rank, ranks, pin_memory)
        self._prefetcher = _Prefetcher(self._read_batch, position) if prefetch else None
        self._closed = False
        if self._prefetcher is not None:
            self._finalizer = weakref.finalize(self, self._prefetcher.close)

    @property
    def position(self) -> int:
        """Number of global batches read so far, including those before this loader."""
        return self._position

    def __iter__(self) -> Loader:
        return self

    def __next__(self) -> LoaderBatch:
        if self._closed:
            raise RuntimeError("the loader is closed")
        batch = self._prefetcher.get() if self._prefetcher is not None else self._read_batch(self._position)
        self._position += 1
        return batch

    def close(self) -> None:
        """End the background thread. Further calls have no effect."""
        self._closed = True
        if self._prefetcher is not None:
            self._finalizer()

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class _BatchReader:
    """Reads one rank's part of the global batch at a position."""

    def __init__(self, clips: ClipSource, sampler: EpochSampler, rank: int, ranks: int, pin_memory: bool) -> None:
        local_batch_size = sampler.batch // ranks
        self._clips, self._sampler = clips, sampler
        self._part = slice(rank * local_batch_size, (rank + 1) * local_batch_size)
        self._pin_memory = pin_memory

    def __call__(self, position: int) -> LoaderBatch:
        indices = self._sampler(position)[self._part].copy()
        video = torch.from_numpy(self._clips.batch(indices))
        return LoaderBatch(torch.from_numpy(indices), video.pin_memory() if self._pin_memory else video)


class _Prefetcher:
    """Background thread that keeps a few batches in a queue."""

    def __init__(self, read_batch: _BatchReader, position: int) -> None:
        self._queue: queue.Queue[LoaderBatch | BaseException] = queue.Queue(_PREFETCHED_BATCHES)
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(
            target=_fill_queue, args=(read_batch, position, self._queue, self._stop), name="djinn-loader", daemon=True
        )
        self._thread.start()

    def get(self) -> LoaderBatch:
        if self._error is None:
            item = self._queue.get()
            if not isinstance(item, BaseException):
                return item
            self._error = item
        raise self._error

    def close(self) -> None:
        self._stop.set()
        while True:
            try:
                self._queue.get_nowait()
            except queue.Empty:
                break
        self._thread.join()


def _fill_queue(read_batch: _BatchReader, position: int, items: queue.Queue, stop: threading.Event) -> None:
    """Put batches into the queue until `stop` is set. An error is put into it."""
    while not stop.is_set():
        try:
            item: LoaderBatch | BaseException = read_batch(position)
        except BaseException as error:
            item = error
        _put(items, item, stop)
        if isinstance(item, BaseException):
            return
        position += 1


def _put(items: queue.Queue, item: object, stop: threading.Event) -> None:
    """Put an item into a bounded queue, unless `stop` is set before there is space."""
    while not stop.is_set():
        try:
            return items.put(item, timeout=0.05)
        except queue.Full:
            continue
