import dataclasses

import numpy as np
import pytest
import torch

from djinn.config import DynamicsConfig, TransformerConfig
from djinn.errors import UserError
from djinn.generate import Session
from djinn.generate.int8 import for_play
from djinn.models.world import build


@pytest.fixture
def wide(make_config):
    torch.manual_seed(0)
    size = TransformerConfig(blocks=2, d_model=256, heads=4, head_dim=32)
    return build(dataclasses.replace(make_config(), dynamics=DynamicsConfig(size))).eval()


def test_only_wide_worlds_play_in_int8_of_themselves(make_world, wide):
    small = make_world()
    assert for_play(small) is small and for_play(wide, "off") is wide
    assert for_play(wide) is not wide and for_play(small, "on") is not small


def test_int8_logits_are_close_and_the_world_stays_as_it_was(wide):
    before = {k: v.clone() for k, v in wide.state_dict().items()}
    played = for_play(wide)
    tokens, actions = torch.randint(16, (2, 4, 9)), torch.randn(2, 3, 4)
    masked = torch.rand(2, 4, 9) < 0.5
    with torch.inference_mode():
        exact, fast = wide.dynamics(tokens, masked, actions), played.dynamics(tokens, masked, actions)
    assert 0 < (exact - fast).norm() / exact.norm() < 0.05
    assert played.tokenizer is wide.tokenizer
    assert all(torch.equal(v, before[k]) for k, v in wide.state_dict().items())


def test_an_int8_world_plays(wide):
    prompt = np.zeros((12, 10, 3), np.uint8)
    games = [Session(for_play(wide), prompt, seed=3) for _ in range(2)]
    for action in (0, 3, 1, 4, 2, 0):
        assert (games[0].step(action) == games[1].step(action)).all()


def test_int8_is_refused_elsewhere_than_on_a_cpu(make_config):
    with torch.device("meta"):
        world = build(make_config())
    with pytest.raises(UserError, match="--int8"):
        for_play(world, "on")
