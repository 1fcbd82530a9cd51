import numpy as np
import pytest
import torch

from djinn.config import (
    DynamicsConfig,
    LatentActionConfig,
    QuantizerConfig,
    TokenizerConfig,
    TransformerConfig,
    WorldConfig,
)
from djinn.data.dataset import Dataset
from djinn.data.writer import DatasetWriter
from djinn.evaluate.clips import Origin, draw_clips, infer_actions, measuring, spread_over_sources
from djinn.models.world import World, build


def noise(clips: int, frames: int) -> np.ndarray:
    return np.random.default_rng(0).integers(256, size=(clips, frames, 8, 8, 3), dtype=np.uint8)


def reads_videos(window: int) -> World:
    """A very small untrained world with a real latent action model of many codes, which tell one past from another."""
    torch.manual_seed(0)
    size = TransformerConfig(blocks=2, d_model=16, heads=2, head_dim=8)
    return build(
        WorldConfig(
            height=8,
            width=8,
            context_frames=window,
            tokenizer=TokenizerConfig(4, size, size, QuantizerConfig(codes=16, dim=4)),
            latent_action=LatentActionConfig(4, size, size, QuantizerConfig(codes=64, dim=8)),
            dynamics=DynamicsConfig(size),
        )
    )


@pytest.mark.parametrize("window", [2, 3, 7, 8])
def test_actions_of_long_videos_are_read_with_past(window):
    world, video = reads_videos(window), noise(24, 3 * window + 2)
    enough = window // 2 - 1
    with measuring(world):
        actions = infer_actions(world, video)
        assert actions.shape == (24, video.shape[1] - 1)

        def with_past(i: int, past: int) -> bool:
            """Whether transition i is as a plain call on it and so many transitions before it has it."""
            seen = torch.from_numpy(video[:, i - past : i + 2])
            return bool((world.infer_actions(seen)[:, -1].numpy() == actions[:, i]).all())

        for i in range(actions.shape[1]):
            pasts = [past for past in range(min(i, window - 2) + 1) if with_past(i, past)]
            assert len(pasts) == 1, i  # the past makes a difference
            assert pasts[0] >= min(i, enough), i


def test_actions_of_clips_within_the_window_are_those_of_a_plain_call():
    world = reads_videos(8)
    with measuring(world):
        for frames in (1, 2, 4, 5, 8):
            video = noise(3, frames)
            assert np.array_equal(infer_actions(world, video), world.infer_actions(torch.from_numpy(video)).numpy())


def test_clips_from_other_sources_come_first():
    assert spread_over_sources(list("aabacb"), 3) == [0, 2, 4]
    assert spread_over_sources(list("aabacb"), 5) == [0, 1, 2, 4, 5]  # a second one of each before a third
    assert spread_over_sources(list("aabacb"), 9) == [0, 1, 2, 3, 4, 5]
    assert spread_over_sources([], 3) == spread_over_sources(["a"], 0) == []


def test_a_clip_knows_where_it_comes_from(tmp_path):
    video = noise(1, 30)[0]
    with DatasetWriter(tmp_path / "two", height=8, width=8, fps=10) as writer:
        for source, part in (("a.mp4", video[:12]), ("b.mp4", video[12:21]), ("a.mp4", video[21:])):
            writer.add_episode(part, source=source, split="test")
    dataset = Dataset.open(tmp_path / "two")
    sample = draw_clips(dataset, "test", 100, 4, seed=0)
    found = [sample.origin(i) for i in range(len(sample))]
    assert [where.source for where in found] == sample.sources
    assert len(set(found)) == len(sample) == 9 + 6 + 6
    episodes = {("a.mp4", 1): 0, ("b.mp4", None): 12, ("a.mp4", 2): 21}
    for where, clip in zip(found, sample.clips.batch(sample.indices), strict=True):
        first = episodes[where.source, where.episode] + where.start
        assert np.array_equal(clip, video[first : first + 4])
    apart = draw_clips(dataset, "test", 2, 4, seed=0)
    assert apart.clips.stride == 4
    assert {Origin("a.mp4", 1, 4), Origin("b.mp4", None, 4)} <= {
        draw_clips(dataset, "test", 7, 4, seed=0).origin(i) for i in range(7)
    }
