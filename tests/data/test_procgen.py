import multiprocessing
import sys
from dataclasses import replace

import numpy as np
import pytest

from djinn.data.importers.policies import POLICIES, Policy
from djinn.data.importers.procgen import MIN_EPISODE, CoinRun, load_game, play_level, record
from djinn.errors import UserError

try:
    load_game()
except UserError:
    pytest.skip("the extra 'coinrun' is not installed", allow_module_level=True)

EASY = CoinRun(mode="easy", policy="sticky", backgrounds=False, restrict_themes=True)


def test_a_recording_is_the_same_twice_and_follows_the_seed(tmp_path):
    one = record(tmp_path / "a", range(3), 300, EASY)
    assert one.identity == record(tmp_path / "b", range(3), 300, EASY).identity
    other = replace(EASY, seed=1)
    changed = record(tmp_path / "c", range(3), 300, other)
    assert not np.array_equal(one.read_actions(one.episodes[0])[:20], changed.read_actions(changed.episodes[0])[:20])


def test_processes_do_not_change_the_data(tmp_path):
    if multiprocessing.cpu_count() < 2:
        pytest.skip("one core only")
    one, two = (record(tmp_path / str(w), range(4), 256, EASY, workers=w) for w in (1, 2))
    assert one.identity == two.identity


def test_true_actions_move_the_next_frame(tmp_path):
    """Playing an episode's actions again from its level's start shows the same frames."""
    recordings = play_level(7, 120, EASY)
    frames, actions = recordings[0]
    assert len(actions) == len(frames) - 1 and frames.dtype == np.uint8 and frames.shape[1:] == (64, 64, 3)
    env = load_game().env(
        num=1,
        env_name="coinrun",
        distribution_mode="easy",
        start_level=7,
        num_levels=1,
        rand_seed=int(np.random.Generator(np.random.PCG64([0, 7])).integers(2**31 - 1)),
        num_threads=0,
        use_backgrounds=False,
        restrict_themes=True,
    )
    for t, frame in enumerate(frames):
        assert np.array_equal(env.observe()[1]["rgb"][0], frame)
        if t < len(actions):
            env.act(actions[t : t + 1])
    env.close()


def test_levels_share_the_frames_and_splits_go_by_level(tmp_path):
    dataset = record(tmp_path / "d", range(9_990, 10_002), 12 * 70, EASY)
    per_level = {}
    for e in dataset.episodes:
        assert e.length >= MIN_EPISODE
        per_level[e.source] = per_level.get(e.source, 0) + e.length
    assert len(per_level) == 12 and all(70 <= n < 70 + MIN_EPISODE for n in per_level.values())
    assert 12 * 70 <= dataset.frames < 12 * (70 + MIN_EPISODE)
    assert len({(e.source, e.split) for e in dataset.episodes}) == 12
    assert {e.split for e in dataset.episodes if e.source in ("level-10000", "level-10001")} == {"test"}
    assert dataset.has_actions and dataset.metadata["action_names"][7] == "right"


def test_few_frames_play_part_of_the_levels(tmp_path):
    dataset = record(tmp_path / "d", range(0, 1000), 200, EASY)
    assert sorted({e.source for e in dataset.episodes}) == ["level-0", "level-333", "level-666"]


def test_looks_differ():
    plain = play_level(3, 20, EASY)[0][0][0]
    assert (plain == 0).mean() > 0.05
    with_background = play_level(3, 20, CoinRun(mode="easy", policy="sticky"))[0][0][0]
    hard = play_level(3, 20, CoinRun(mode="hard", policy="sticky"))[0][0][0]
    assert not np.array_equal(plain, with_background) and not np.array_equal(with_background, hard)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("keys", "keyboard-jump"), ("turns", "keyboard-turn"), ("players", "keyboard-mix"), ("person", "held-moves")],
)
def test_renamed_policy_is_refused_with_its_new_name(name, nearest):
    with pytest.raises(UserError, match=f"unknown policy '{name}'; did you mean '{nearest}'"):
        CoinRun(policy=name)


def test_no_gym_is_left_behind():
    assert "gym" not in sys.modules or hasattr(sys.modules["gym"], "__file__")


@pytest.mark.parametrize("name", POLICIES)
def test_policies(name):
    actions = [Policy(name, np.random.default_rng(s)) for s in range(40)]
    drawn = np.array([[p.act() for _ in range(50)] for p in actions])
    counts = np.bincount(drawn.ravel(), minlength=15)
    repeats = (drawn[:, 1:] == drawn[:, :-1]).mean()
    assert (counts[9:].sum() > 0) == (name == "random")
    assert counts[1] > 0 and counts[7] > 0
    if name in ("random", "random9"):
        assert repeats < 0.2
    if name in ("sticky", "right"):
        assert repeats > 0.6
    if name in ("keyboard-jump", "keyboard-turn"):
        jumps = np.isin(drawn, (2, 5, 8))
        assert repeats > 0.6 and 0.01 < jumps.mean() < 0.15
        after = drawn[:, 1:][jumps[:, :-1]]
        assert counts[[0, 3, 6]].sum() == 0
        before = drawn[:, :-1][jumps[:, :-1]]
        assert ((after == before - 1) | (after == before)).all()  # a tap; the way is held in the air
    if name == "right":
        assert counts[6:9].sum() > 3 * counts[0:3].sum()


@pytest.mark.parametrize("name", ["keyboard-jump", "keyboard-turn"])
def test_who_looks_sees_that_it_stands_at_a_wall(name):
    """Where nothing moves it jumps or turns round before long; where something does it goes on as without eyes."""
    wall = np.zeros((64, 64, 3), np.uint8)
    noise = np.random.default_rng(0).integers(256, size=(300, 64, 64, 3)).astype(np.uint8)

    def longest(actions):
        """Frames in a row of the same walk."""
        ends = np.flatnonzero(np.diff(actions) != 0)
        spans = np.diff(np.concatenate([[-1], ends, [len(actions) - 1]]))
        walks = np.isin(actions[np.concatenate([ends, [len(actions) - 1]])], (1, 7))
        return spans[walks].max()

    stuck, free, blind = (Policy(name, np.random.default_rng(1)) for _ in range(3))
    at_wall = np.array([stuck.act(wall) for _ in range(300)])
    assert longest(at_wall) <= 8 and np.isin(at_wall, (2, 8)).mean() > 0.15
    turns = np.isin(at_wall[1:], (1, 7)) & (at_wall[1:] == 8 - at_wall[:-1])
    assert (turns.sum() > 15) == (name == "keyboard-turn")  # without a jump
    walked = [free.act(frame) for frame in noise]
    assert walked == [blind.act() for _ in noise] and longest(np.array(walked)) >= 9


@pytest.mark.parametrize(
    "levels, frames, workers",
    [(range(5, 5), 100, 1), (range(3), 5, 1), (range(3), 100, 0), (range(2**31 - 2, 2**31), 64, 1)],
)
def test_numbers_that_make_no_sense(tmp_path, levels, frames, workers):
    with pytest.raises(UserError):
        record(tmp_path / "d", levels, frames, EASY, workers=workers)
    assert not (tmp_path / "d").exists()
