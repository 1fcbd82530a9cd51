import multiprocessing
import sys
from dataclasses import replace

import numpy as np
import pytest

from djinn.data.dataset import Dataset
from djinn.data.importers.coinrun import MIN_EPISODE_FRAMES, CoinRun, load_game, play_level
from djinn.data.importers.import_dataset import import_dataset
from djinn.data.importers.procgen import ProcgenOptions
from djinn.errors import UserError

try:
    load_game()
except UserError:
    pytest.skip("the extra 'coinrun' is not installed", allow_module_level=True)

EASY = CoinRun(mode="easy", policy="sticky", backgrounds=False, restrict_themes=True)


def record(out, levels: str, frames: int, game: CoinRun = EASY, **options) -> Dataset:
    return import_dataset(ProcgenOptions("coinrun", levels, frames, game, **options), out)


def test_recording_depends_on_the_options_only(tmp_path):
    one = record(tmp_path / "a", "0:3", 300)
    assert one.identity == record(tmp_path / "b", "0:3", 300).identity
    other = record(tmp_path / "c", "0:3", 300, replace(EASY, seed=1))
    assert not np.array_equal(one.read_actions(one.episodes[0])[:20], other.read_actions(other.episodes[0])[:20])


def test_number_of_processes_does_not_change_the_data(tmp_path):
    if multiprocessing.cpu_count() < 2:
        pytest.skip("needs two CPUs")
    one, two = (record(tmp_path / str(w), "0:4", 256, workers=w) for w in (1, 2))
    assert one.identity == two.identity


def test_ground_truth_action_leads_to_the_next_frame():
    """Replaying the actions of an episode from the start of its level reproduces its frames."""
    frames, actions = next(play_level(7, 120, EASY))
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


def test_frames_are_spread_over_levels_and_splits_follow_levels(tmp_path):
    dataset = record(tmp_path / "d", "9990:10002", 12 * 70)
    per_level = {}
    for e in dataset.episodes:
        assert e.length >= MIN_EPISODE_FRAMES
        per_level[e.source] = per_level.get(e.source, 0) + e.length
    assert len(per_level) == 12 and all(70 <= n < 70 + MIN_EPISODE_FRAMES for n in per_level.values())
    assert 12 * 70 <= dataset.frames < 12 * (70 + MIN_EPISODE_FRAMES)
    assert len({(e.source, e.split) for e in dataset.episodes}) == 12
    assert {e.split for e in dataset.episodes if e.source in ("level-10000", "level-10001")} == {"test"}
    assert dataset.has_actions and dataset.metadata["action_names"][7] == "right"
    assert dataset.metadata["kind"] == "procgen:coinrun" and dataset.metadata["levels"] == [9990, 10002]


def test_few_frames_are_recorded_from_part_of_the_levels(tmp_path):
    dataset = record(tmp_path / "d", "0:1000", 200)
    assert sorted({e.source for e in dataset.episodes}) == ["level-0", "level-333", "level-666"]


def test_mode_and_backgrounds_change_the_frames():
    plain = next(play_level(3, 20, EASY))[0][0]
    assert (plain == 0).mean() > 0.05
    with_background = next(play_level(3, 20, CoinRun(mode="easy", policy="sticky")))[0][0]
    hard = next(play_level(3, 20, CoinRun(mode="hard", policy="sticky")))[0][0]
    assert not np.array_equal(plain, with_background) and not np.array_equal(with_background, hard)


def test_stub_of_gym_is_removed():
    assert "gym" not in sys.modules or hasattr(sys.modules["gym"], "__file__")
