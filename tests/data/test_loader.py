import threading
import time

import numpy as np
import pytest
import torch

from djinn.data.loader import EpochSampler, Loader
from djinn.errors import UserError


class Numbers:
    """Clips of one pixel whose value is their number. Counts the batches read."""

    def __init__(self, count: int, fail_at: int | None = None) -> None:
        self.count, self.fail_at, self.reads = count, fail_at, 0

    def __len__(self) -> int:
        return self.count

    def batch(self, indices):
        self.reads += 1
        if self.reads == self.fail_at:
            raise OSError("disk failure")
        return np.asarray(indices, dtype=np.uint8).reshape(-1, 1, 1, 1, 1).repeat(3, axis=4)


def take(loader, count):
    with loader:
        return [next(loader).indices.tolist() for _ in range(count)]


def flat(batches):
    return [index for batch in batches for index in batch]


@pytest.mark.parametrize("prefetch", [False, True])
def test_order_depends_on_the_seed_only(prefetch):
    one = take(Loader(Numbers(20), 4, seed=3, prefetch=prefetch), 12)
    assert one == take(Loader(Numbers(20), 4, seed=3, prefetch=not prefetch), 12)
    assert one != take(Loader(Numbers(20), 4, seed=4, prefetch=prefetch), 12)


def test_order_is_the_same_in_all_versions():
    sampler = EpochSampler(10, 4, 7)
    assert [sampler(p).tolist() for p in (0, 1, 2)] == [[8, 4, 1, 6], [3, 2, 7, 5], [3, 9, 1, 6]]


def test_every_epoch_is_another_permutation_of_all_clips():
    batches = take(Loader(Numbers(20), 4), 10)
    first, second = flat(batches[:5]), flat(batches[5:])
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second


def test_clips_that_do_not_fill_a_batch_are_dropped():
    batches = take(Loader(Numbers(22), 4), 10)
    assert all(len(set(flat(batches[i : i + 5]))) == 20 for i in (0, 5))


def test_resumed_loader_continues_at_its_position():
    uninterrupted = take(Loader(Numbers(22), 4, seed=1), 17)
    loader = Loader(Numbers(22), 4, seed=1)
    first = take(loader, 8)
    assert loader.position == 8
    assert first + take(Loader(Numbers(22), 4, seed=1, position=loader.position), 9) == uninterrupted


@pytest.mark.parametrize("clips", [22, 3])
def test_ranks_read_parts_of_the_same_global_batches(clips):
    uninterrupted = take(Loader(Numbers(clips), 4, seed=1), 9)
    for ranks in (2, 4):
        parts = [take(Loader(Numbers(clips), 4, seed=1, rank=r, ranks=ranks), 9) for r in range(ranks)]
        assert [flat(batch) for batch in zip(*parts, strict=True)] == uninterrupted


def test_fewer_clips_than_a_batch_repeat_evenly():
    batches = take(Loader(Numbers(3), 8), 9)
    assert all(len(b) == 8 for b in batches)
    assert np.bincount(np.concatenate(batches)).tolist() == [24, 24, 24]
    assert all(np.bincount(b, minlength=3).min() >= 2 for b in batches)


def test_videos_match_the_indices():
    with Loader(Numbers(20), 4) as loader:
        batch = next(loader)
    assert batch.video.shape == (4, 1, 1, 1, 3) and batch.video.dtype == torch.uint8
    assert batch.indices.dtype == torch.int64 and len(batch) == 4
    assert batch.video[:, 0, 0, 0, 0].tolist() == batch.indices.tolist()


def threads():
    return [t for t in threading.enumerate() if t.name == "djinn-loader"]


def test_thread_ends_when_the_loader_is_closed_or_deleted():
    loader = Loader(Numbers(20), 4)
    next(loader)
    assert len(threads()) == 1
    loader.close()
    loader.close()
    assert not threads()
    with pytest.raises(RuntimeError, match="closed"):
        next(loader)
    loader = Loader(Numbers(20), 4)
    next(loader)
    del loader
    assert not threads()


def test_prefetching_is_bounded():
    clips = Numbers(20)
    with Loader(clips, 4):
        time.sleep(0.2)
        assert clips.reads <= 5


@pytest.mark.parametrize("prefetch", [False, True])
def test_error_is_raised_in_place_of_the_batch(prefetch):
    with Loader(Numbers(20, fail_at=3), 4, prefetch=prefetch) as loader:
        next(loader)
        next(loader)
        with pytest.raises(OSError, match="disk failure"):
            next(loader)
        assert loader.position == 2
    assert not threads()


def test_invalid_arguments_are_refused():
    with pytest.raises(UserError, match="batch 5 cannot be divided evenly among 2"):
        Loader(Numbers(20), 5, ranks=2)
    with pytest.raises(UserError):
        Loader(Numbers(0), 5)
    with pytest.raises(UserError):
        Loader(Numbers(5), 5, seed=-1)
