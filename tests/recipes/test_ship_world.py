"""recipes/ship_world.py: the card of a world."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from djinn.errors import UserError


def test_a_card_says_what_the_world_was_trained_on(recipe):
    line = recipe("ship_world").compute_line
    minutes = {"tokenizer": 8.04, "world": 20.4}
    told = {"protocol": {"device": "cuda"}, "recipe": {"trained_on": {"tokenizer": ["GPU A"], "world": ["GPU A"]}}}
    assert (
        line(told, minutes)
        == "GPU A, 8.0 minutes for the tokenizer and 20 minutes for the latent actions and the dynamics"
    )
    assert line({"protocol": {"device": "cpu"}}, {}, "two CPU cores") == "two CPU cores"
    with pytest.raises(UserError, match="--compute"):
        line({"protocol": {"device": "cpu"}}, minutes)


def test_a_card_needs_all_that_it_tells(recipe):
    check = recipe("ship_world").check
    figures = {"code_table": {}, "delta_psnr": {"4": 1.0}}
    about = {"game": "procgen", "mode": "easy", "policy": "keyboard-jump", "levels_played": 5, "levels": [0, 5]}
    data = SimpleNamespace(path="data", metadata=about)
    check(figures, data, data)
    for wrong, message in (({"code_table": None}, "true actions"), ({"delta_psnr": {"1": 1.0}}, "--horizon 4")):
        with pytest.raises(UserError, match=message):
            check(figures | wrong, data, data)
    bare = SimpleNamespace(path="bare", metadata={"game": "procgen"})
    with pytest.raises(UserError, match="bare does not tell its mode, policy, levels_played"):
        check(figures, bare, data)
    with pytest.raises(UserError, match="bare does not tell its levels"):
        check(figures, data, bare)
