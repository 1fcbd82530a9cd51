import numpy as np
import pytest

from djinn.data.importers.policies import POLICIES, Policy


@pytest.mark.parametrize("name", POLICIES)
def test_distribution_of_actions(name):
    policies = [Policy(name, np.random.default_rng(s)) for s in range(40)]
    actions = np.array([[p.act() for _ in range(50)] for p in policies])
    counts = np.bincount(actions.ravel(), minlength=15)
    repeats = (actions[:, 1:] == actions[:, :-1]).mean()
    assert (counts[9:].sum() > 0) == (name == "random")
    assert counts[1] > 0 and counts[7] > 0
    if name in ("random", "random9"):
        assert repeats < 0.2
    if name in ("sticky", "right"):
        assert repeats > 0.6
    if name in ("keyboard-jump", "keyboard-turn"):
        jumps = np.isin(actions, (2, 5, 8))
        assert repeats > 0.6 and 0.01 < jumps.mean() < 0.15
        after = actions[:, 1:][jumps[:, :-1]]
        assert counts[[0, 3, 6]].sum() == 0
        before = actions[:, :-1][jumps[:, :-1]]
        assert ((after == before - 1) | (after == before)).all()  # the direction is held after the tap
    if name == "right":
        assert counts[6:9].sum() > 3 * counts[0:3].sum()


@pytest.mark.parametrize("name", ["keyboard-jump", "keyboard-turn"])
def test_keyboard_policies_react_to_still_frames(name):
    """On still frames they jump or turn round; on changing frames they act as without frames."""
    wall = np.zeros((64, 64, 3), np.uint8)
    noise = np.random.default_rng(0).integers(256, size=(300, 64, 64, 3)).astype(np.uint8)

    def longest_walk(actions):
        """Return the longest run of the same walking action."""
        ends = np.flatnonzero(np.diff(actions) != 0)
        lengths = np.diff(np.concatenate([[-1], ends, [len(actions) - 1]]))
        is_walk = np.isin(actions[np.concatenate([ends, [len(actions) - 1]])], (1, 7))
        return lengths[is_walk].max()

    blocked, moving, without_frames = (Policy(name, np.random.default_rng(1)) for _ in range(3))
    at_wall = np.array([blocked.act(wall) for _ in range(300)])
    assert longest_walk(at_wall) <= 8 and np.isin(at_wall, (2, 8)).mean() > 0.15
    turns = np.isin(at_wall[1:], (1, 7)) & (at_wall[1:] == 8 - at_wall[:-1])
    assert (turns.sum() > 15) == (name == "keyboard-turn")  # turns without a jump
    actions = [moving.act(frame) for frame in noise]
    assert actions == [without_frames.act() for _ in noise] and longest_walk(np.array(actions)) >= 9
