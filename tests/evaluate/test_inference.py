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
from djinn.evaluate.inference import evaluation_mode, infer_actions
from djinn.models.world import World, build


def noise(clips: int, frames: int) -> np.ndarray:
    return np.random.default_rng(0).integers(256, size=(clips, frames, 8, 8, 3), dtype=np.uint8)


def world_of_many_codes(window: int) -> World:
    """Build a very small untrained world whose many latent actions depend on the past."""
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
def test_actions_of_long_videos_are_inferred_with_past(window):
    world, video = world_of_many_codes(window), noise(24, 3 * window + 2)
    least = window // 2 - 1
    with evaluation_mode(world):
        actions = infer_actions(world, video)
        assert actions.shape == (24, video.shape[1] - 1)

        def agrees_with_past(i: int, past: int) -> bool:
            """Return whether transition i equals a plain call with `past` transitions before it."""
            clip = torch.from_numpy(video[:, i - past : i + 2])
            return bool((world.infer_actions(clip)[:, -1].numpy() == actions[:, i]).all())

        for i in range(actions.shape[1]):
            pasts = [past for past in range(min(i, window - 2) + 1) if agrees_with_past(i, past)]
            assert len(pasts) == 1, i  # the past makes a difference
            assert pasts[0] >= min(i, least), i


def test_actions_of_clips_within_the_window_equal_a_plain_call():
    world = world_of_many_codes(8)
    with evaluation_mode(world):
        for frames in (1, 2, 4, 5, 8):
            video = noise(3, frames)
            assert np.array_equal(infer_actions(world, video), world.infer_actions(torch.from_numpy(video)).numpy())


def test_evaluation_mode_restores_each_module():
    world = world_of_many_codes(4)
    world.train()
    world.tokenizer.eval()
    with evaluation_mode(world):
        assert not any(module.training for module in world.modules())
        assert torch.is_inference_mode_enabled()
    assert world.training and world.dynamics.training and not world.tokenizer.training
