"""Batches of clips in an order that depends on the seed and the position only.

The whole state is one integer, the number of global batches taken. A run that stops and goes on at its position sees
the batches it would have seen, with any number of ranks.
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

_AHEAD = 3


class ClipSource(Protocol):
    """What a loader reads from; `djinn.data.dataset.Clips` is one."""

    def __len__(self) -> int:
        """Number of clips."""
        ...

    def batch(self, indices: Int64[np.ndarray, " b"]) -> UInt8[np.ndarray, "b t h w 3"]:
        """Reads clips."""
        ...


@dataclass(frozen=True)
class LoaderBatch:
    """Clips of one step, the part of one rank."""

    indices: Int64[Tensor, " b"]
    """Numbers of the clips in their `Clips`, as a key to true actions and cached tokens."""
    video: UInt8[Tensor, "b t h w 3"]

    def __len__(self) -> int:
        return len(self.indices)


class EpochSampler:
    """Which clips are in which global batch.

    Every epoch is a new permutation of all clips; what does not fill a batch at its end is left out of that epoch. With
    fewer clips than a batch holds, batches are cut from one endless row of epochs instead, so that clips repeat in a
    batch as evenly as can be.
    """

    def __init__(self, clips: int, batch: int, seed: int) -> None:
        self.clips, self.batch, self.seed = clips, batch, seed
        self.batches_per_epoch = max(1, clips // batch)
        self._known: tuple[int, np.ndarray] | None = None

    def __call__(self, position: int) -> Int64[np.ndarray, " batch"]:
        """Clips of the global batch at `position`."""
        if self.clips < self.batch:
            places = np.arange(position * self.batch, (position + 1) * self.batch, dtype=np.int64)
            epochs, inside = np.divmod(places, self.clips)
            return np.array([self._epoch(int(e))[i] for e, i in zip(epochs, inside, strict=True)], dtype=np.int64)
        epoch, inside = divmod(position, self.batches_per_epoch)
        return self._epoch(epoch)[inside * self.batch : (inside + 1) * self.batch]

    def _epoch(self, epoch: int) -> np.ndarray:
        """A permutation by sorting raw Philox numbers, which no version of numpy will change."""
        if self._known is None or self._known[0] != epoch:
            key = np.array([self.seed, epoch], dtype=np.uint64)
            numbers = np.random.Philox(key=key).random_raw(self.clips)
            self._known = epoch, np.argsort(numbers, kind="stable").astype(np.int64)
        return self._known[1]


class Loader:
    """Endless iterator over batches of clips; read ahead in a thread that ends with `close`.

    Use it as a context manager, or call `close`. An error while reading is raised where the batch would have come.
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
        """Starts at a position.

        Args:
            clips: where clips come from.
            batch: clips in a global batch, over all ranks.
            seed: another seed gives another order; 0 or more.
            position: global batches taken before.
            rank: which part of each global batch to read.
            ranks: into how many parts a global batch is cut.
            prefetch: read a few batches ahead in a background thread.
            pin_memory: put videos into page-locked memory, from which a GPU copies without waiting.

        Raises:
            UserError: the batch cannot be dealt evenly to the ranks, or a number is out of range.
        """
        if len(clips) < 1 or batch < 1:
            raise UserError(f"a loader needs at least 1 clip and batches of at least 1, got {len(clips)} and {batch}")
        if batch % ranks:
            raise UserError(f"batch {batch} cannot be dealt evenly to {ranks} processes: use a multiple of {ranks}")
        if seed < 0 or position < 0 or not 0 <= rank < ranks:
            raise UserError(f"seed {seed}, position {position} or rank {rank} of {ranks} is out of range")
        self._position = position
        self._order = EpochSampler(len(clips), batch, seed)
        self._reader = _Reader(clips, self._order, rank, ranks, pin_memory)
        self._ahead = _ReadAhead(self._reader, position) if prefetch else None
        self._closed = False
        if self._ahead is not None:
            self._finalizer = weakref.finalize(self, self._ahead.close)

    @property
    def position(self) -> int:
        """Global batches taken so far, those before this loader included: the whole state."""
        return self._position

    def __iter__(self) -> Loader:
        return self

    def __next__(self) -> LoaderBatch:
        if self._closed:
            raise RuntimeError("the loader is closed")
        batch = self._ahead.get() if self._ahead is not None else self._reader(self._position)
        self._position += 1
        return batch

    def close(self) -> None:
        """Ends the background thread; may be called twice."""
        self._closed = True
        if self._ahead is not None:
            self._finalizer()

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class _Reader:
    """Reads one rank's part of the batch at a position."""

    def __init__(self, clips: ClipSource, order: EpochSampler, rank: int, ranks: int, pin_memory: bool) -> None:
        share = order.batch // ranks
        self._clips, self._order = clips, order
        self._part = slice(rank * share, (rank + 1) * share)
        self._pin_memory = pin_memory

    def __call__(self, position: int) -> LoaderBatch:
        indices = self._order(position)[self._part].copy()
        video = torch.from_numpy(self._clips.batch(indices))
        return LoaderBatch(torch.from_numpy(indices), video.pin_memory() if self._pin_memory else video)


class _ReadAhead:
    """A thread that keeps a few batches ready."""

    def __init__(self, read: _Reader, position: int) -> None:
        self._queue: queue.Queue[LoaderBatch | BaseException] = queue.Queue(_AHEAD)
        self._stop = threading.Event()
        self._failed: BaseException | None = None
        self._thread = threading.Thread(
            target=_run, args=(read, position, self._queue, self._stop), name="djinn-loader", daemon=True
        )
        self._thread.start()

    def get(self) -> LoaderBatch:
        if self._failed is None:
            item = self._queue.get()
            if not isinstance(item, BaseException):
                return item
            self._failed = item
        raise self._failed

    def close(self) -> None:
        self._stop.set()
        while True:
            try:
                self._queue.get_nowait()
            except queue.Empty:
                break
        self._thread.join()


def _run(read: _Reader, position: int, out: queue.Queue, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            item: LoaderBatch | BaseException = read(position)
        except BaseException as error:
            item = error
        _put(out, item, stop)
        if isinstance(item, BaseException):
            return
        position += 1


def _put(out: queue.Queue, item: object, stop: threading.Event) -> None:
    """Puts an item into the queue unless told to stop meanwhile."""
    while not stop.is_set():
        try:
            return out.put(item, timeout=0.05)
        except queue.Full:
            continue
