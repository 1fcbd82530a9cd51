import threading
import time

import numpy as np
import pytest
import torch

from djinn.data.loader import Loader, EpochSampler
from djinn.errors import UserError


class Numbers:
    """Clips of one pixel that show their number; counts how often it was read."""

    def __init__(self, count: int, fail_at: int | None = None) -> None:
        self.count, self.fail_at, self.reads = count, fail_at, 0

    def __len__(self) -> int:
        return self.count

    def batch(self, indices):
        self.reads += 1
        if self.reads == self.fail_at:
            raise OSError("the disk went away")
        return np.asarray(indices, dtype=np.uint8).reshape(-1, 1, 1, 1, 1).repeat(3, axis=4)


def take(loader, count):
    with loader:
        return [next(loader).indices.tolist() for _ in range(count)]


def flat(batches):
    return [index for batch in batches for index in batch]


@pytest.mark.parametrize("prefetch", [False, True])
def test_same_seed_same_order_and_another_seed_another(prefetch):
    one = take(Loader(Numbers(20), 4, seed=3, prefetch=prefetch), 12)
    assert one == take(Loader(Numbers(20), 4, seed=3, prefetch=not prefetch), 12)
    assert one != take(Loader(Numbers(20), 4, seed=4, prefetch=prefetch), 12)


def test_the_order_is_fixed_for_ever():
    order = EpochSampler(10, 4, 7)
    assert [order(p).tolist() for p in (0, 1, 2)] == [[8, 4, 1, 6], [3, 2, 7, 5], [3, 9, 1, 6]]


def test_an_epoch_holds_every_clip_once_and_the_next_is_shuffled_anew():
    batches = take(Loader(Numbers(20), 4), 10)
    first, second = flat(batches[:5]), flat(batches[5:])
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second


def test_the_tail_is_dropped():
    batches = take(Loader(Numbers(22), 4), 10)
    assert all(len(set(flat(batches[i : i + 5]))) == 20 for i in (0, 5))


def test_resume_goes_on_where_it_stopped():
    whole = take(Loader(Numbers(22), 4, seed=1), 17)
    loader = Loader(Numbers(22), 4, seed=1)
    first = take(loader, 8)
    assert loader.position == 8
    assert first + take(Loader(Numbers(22), 4, seed=1, position=loader.position), 9) == whole


@pytest.mark.parametrize("clips", [22, 3])
def test_ranks_share_the_same_global_batches(clips):
    whole = take(Loader(Numbers(clips), 4, seed=1), 9)
    for ranks in (2, 4):
        parts = [take(Loader(Numbers(clips), 4, seed=1, rank=r, ranks=ranks), 9) for r in range(ranks)]
        assert [flat(batch) for batch in zip(*parts, strict=True)] == whole


def test_few_clips_repeat_evenly():
    batches = take(Loader(Numbers(3), 8), 9)
    assert all(len(b) == 8 for b in batches)
    assert np.bincount(np.concatenate(batches)).tolist() == [24, 24, 24]
    assert all(np.bincount(b, minlength=3).min() >= 2 for b in batches)


def test_video_belongs_to_the_indices():
    with Loader(Numbers(20), 4) as loader:
        batch = next(loader)
    assert batch.video.shape == (4, 1, 1, 1, 3) and batch.video.dtype == torch.uint8
    assert batch.indices.dtype == torch.int64 and len(batch) == 4
    assert batch.video[:, 0, 0, 0, 0].tolist() == batch.indices.tolist()


def threads():
    return [t for t in threading.enumerate() if t.name == "djinn-loader"]


def test_the_thread_ends_with_close_and_with_the_loader():
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


def test_reading_ahead_is_bounded():
    clips = Numbers(20)
    with Loader(clips, 4):
        time.sleep(0.2)
        assert clips.reads <= 5


@pytest.mark.parametrize("prefetch", [False, True])
def test_an_error_comes_where_its_batch_would_have(prefetch):
    with Loader(Numbers(20, fail_at=3), 4, prefetch=prefetch) as loader:
        next(loader)
        next(loader)
        with pytest.raises(OSError, match="the disk went away"):
            next(loader)
        assert loader.position == 2
    assert not threads()


def test_what_cannot_be_dealt():
    with pytest.raises(UserError, match="batch 5 cannot be dealt evenly to 2"):
        Loader(Numbers(20), 5, ranks=2)
    with pytest.raises(UserError):
        Loader(Numbers(0), 5)
    with pytest.raises(UserError):
        Loader(Numbers(5), 5, seed=-1)
