"""Counts of recipes/physics.py on known curves, and its trials in the game."""

from types import SimpleNamespace

import numpy as np
import pytest

from djinn.data.importers.coinrun import load_game
from djinn.errors import UserError


@pytest.fixture
def physics(recipe):
    return recipe("physics")


def test_jumps(physics):
    up, hill, plain = [float(t) for t in range(18)], [*range(0, 30, 3), *range(24, 0, -3)], [0.0] * 18
    assert physics.count_jumps([hill, up, plain]) == {
        "jumps that rise": "2 of 3",
        "median height": "22 px",
        "land": "1 of 2",
    }
    assert physics.count_jumps([plain])["land"] == "0 of 0"


def test_stops_and_moving_players(physics):
    running, stopped, standing = [2.0 * t for t in range(20)], [min(2.0 * t, 8.0) for t in range(20)], [0.0] * 20
    assert physics.count_stops([running, stopped, stopped]) == "2 of 3 (median distance 8 px)"
    assert physics.count_stops([]).startswith("0 of 0")
    assert physics.count_moving([running, stopped, standing], 1) == "2 of 3 (mean distance 15.3 px)"
    assert physics.count_moving([running, stopped, standing], -1) == "0 of 3 (mean distance -15.3 px)"
    assert physics.count_moving([], 1).startswith("0 of 0")
    assert (
        physics.compare_to_game({"game": [running, standing], "world": [running, standing]}, 1)
        == "2 of 2 (correlation of distances 1.00)"
    )
    assert (
        physics.compare_to_game({"game": [running, standing], "world": [standing, running]}, 1)
        == "0 of 2 (correlation of distances -1.00)"
    )
    assert (
        physics.compare_to_game({"game": [running], "world": [running]}, 1) == "1 of 1 (correlation of distances nan)"
    )


def test_player_motion_from_scene_motion(physics):
    """The camera follows the player: the scene moves left when the player runs right."""
    scene = np.random.default_rng(0).integers(256, size=(8, 12, 3)).repeat(12, 0).repeat(12, 1).astype(np.uint8)
    right = np.stack([scene[16:80, 20 + 2 * t : 84 + 2 * t] for t in range(6)])
    up = np.stack([scene[24 - 3 * t : 88 - 3 * t, 20:84] for t in range(6)])
    assert physics.player_motion(right[:1], right[1:], 0) == pytest.approx([2, 4, 6, 8, 10], abs=0.5)
    assert physics.player_motion(up[:1], up[1:], 1) == pytest.approx([3, 6, 9, 12, 15], abs=0.5)


def test_named_codes(physics):
    world = SimpleNamespace(action_names=["right + up", "stay", "up", "stay 2", "right", "left"])
    assert physics.named_codes(world) == {"right": 4, "left": 5, "up": 2, "stay": 1}
    with pytest.raises(UserError, match="called up or stay, only right, left: name them"):
        physics.named_codes(SimpleNamespace(action_names=["right", "left"]))


def test_trials(physics):
    """In the game a jump lands at its start height and a wall stops the player."""
    try:
        load_game()
    except UserError:
        pytest.skip("the game is not installed")
    jump = physics.jump_trial(10_000, "easy")
    assert len(jump.real) == len(jump.keys) == len(physics.JUMP)
    assert physics.count_jumps([physics.player_motion(jump.prompt, jump.real, 1)])["land"] == "1 of 1"
    walls = [trial for level in range(10_000, 10_012) if (trial := physics.wall_trial(level, "easy"))]
    assert walls
    for trial in walls:
        assert physics.count_stops([physics.player_motion(trial.prompt[-1:], trial.real, 0)]).startswith("1 of 1")
    held = [physics.held_trial(level, "easy", key) for level in range(10_000, 10_006) for key in ("right", "left")]
    assert len({trial.prompt[-1].tobytes() for trial in held if trial}) > 6  # two keys lead to other frames
    for trial in (*walls, *filter(None, held)):
        assert len(trial.real) == len(trial.keys) and len(trial.prompt) == physics.PROMPT_FRAMES
