import numpy as np
import pytest

from djinn.data.dataset import Dataset
from djinn.data.writer import DatasetWriter
from djinn.errors import UserError
from djinn.evaluate.clips import ClipOrigin, default_split, draw_clips, spread_over_sources


def noise(clips: int, frames: int) -> np.ndarray:
    return np.random.default_rng(0).integers(256, size=(clips, frames, 8, 8, 3), dtype=np.uint8)


def test_clips_of_new_sources_come_first():
    assert spread_over_sources(list("aabacb"), 3) == [0, 2, 4]
    assert spread_over_sources(list("aabacb"), 5) == [0, 1, 2, 4, 5]  # second clips before third
    assert spread_over_sources(list("aabacb"), 9) == [0, 1, 2, 3, 4, 5]
    assert spread_over_sources([], 3) == spread_over_sources(["a"], 0) == []


def test_origin_of_a_clip(tmp_path):
    video = noise(1, 30)[0]
    with DatasetWriter(tmp_path / "two", height=8, width=8, fps=10) as writer:
        for source, part in (("a.mp4", video[:12]), ("b.mp4", video[12:21]), ("a.mp4", video[21:])):
            writer.add_episode(part, source=source, split="test")
    dataset = Dataset.open(tmp_path / "two")
    sample = draw_clips(dataset, "test", 100, 4, seed=0)
    found = [sample.origin(i) for i in range(len(sample))]
    assert [origin.source for origin in found] == sample.sources
    assert len(set(found)) == len(sample) == 9 + 6 + 6
    episodes = {("a.mp4", 1): 0, ("b.mp4", None): 12, ("a.mp4", 2): 21}
    for origin, clip in zip(found, sample.clips.batch(sample.indices), strict=True):
        first = episodes[origin.source, origin.episode] + origin.start
        assert np.array_equal(clip, video[first : first + 4])
    apart = draw_clips(dataset, "test", 2, 4, seed=0)
    assert apart.clips.stride == 4
    assert {ClipOrigin("a.mp4", 1, 4), ClipOrigin("b.mp4", None, 4)} <= {
        draw_clips(dataset, "test", 7, 4, seed=0).origin(i) for i in range(7)
    }


def test_clips_do_not_overlap_while_there_are_enough(columns):
    assert draw_clips(columns, "test", 60, 8, seed=0).clips.stride == 8
    many = draw_clips(columns, "test", 150, 8, seed=0)
    assert many.clips.stride == 1
    assert len(many) == len(set(many.indices.tolist())) == 150
    assert len(draw_clips(columns, "test", 10**6, 8, seed=0)) == 20 * 33


@pytest.mark.parametrize(
    ("splits", "requested", "chosen"),
    [
        ((("train", 1), ("val", 1), ("test", 1)), None, "test"),
        ((("train", 1), ("val", 1)), None, "val"),
        ((("train", 1), ("val", 1)), "train", "train"),
        ((("train", 1),), None, "test"),  # refused later
    ],
)
def test_default_split(make_columns, splits, requested, chosen):
    assert default_split(make_columns("some", splits=splits, frames=8), requested) == chosen


def test_a_single_clip_is_refused(make_columns):
    single = make_columns("single", splits=(("test", 1),), frames=8)
    with pytest.raises(UserError, match="single clip of 8 frames, but at least 2 are needed: use shorter clips"):
        draw_clips(single, "test", 64, 8, seed=0)
