"""Model card of recipes/ship_world.py."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from djinn.errors import UserError


def test_card_names_the_training_machine(recipe):
    line = recipe("ship_world").compute_line
    minutes = {"tokenizer": 8.04, "dynamics": 20.4}
    metrics = {
        "protocol": {"device": "cuda"},
        "recipe": {"trained_on": {"tokenizer": ["GPU A"], "dynamics": ["GPU A"]}},
    }
    assert (
        line(metrics, minutes)
        == "GPU A, 8.0 minutes for the tokenizer and 20 minutes for the latent actions and the dynamics"
    )
    assert line({"protocol": {"device": "cpu"}}, {}, "two CPU cores") == "two CPU cores"
    with pytest.raises(UserError, match="--compute"):
        line({"protocol": {"device": "cpu"}}, minutes)


def test_card_requires_complete_inputs(recipe):
    check = recipe("ship_world").check
    metrics = {"code_table": {}, "delta_psnr": {"4": 1.0}}
    metadata = {"game": "procgen", "mode": "easy", "policy": "keyboard-jump", "levels_played": 5, "levels": [0, 5]}
    data = SimpleNamespace(path="data", metadata=metadata)
    check(metrics, data, data)
    for wrong, message in (({"code_table": None}, "ground-truth actions"), ({"delta_psnr": {"1": 1.0}}, "--horizon 4")):
        with pytest.raises(UserError, match=message):
            check(metrics | wrong, data, data)
    bare = SimpleNamespace(path="bare", metadata={"game": "procgen"})
    with pytest.raises(UserError, match="bare lacks the metadata mode, policy, levels_played"):
        check(metrics, bare, data)
    with pytest.raises(UserError, match="bare lacks the metadata levels"):
        check(metrics, data, bare)
