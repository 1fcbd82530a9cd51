import json

import numpy as np
import pytest
import torch

from djinn.errors import UserError
from djinn.evaluate.long_rollouts import CLIPS, draw_long, horizons, play_long
from djinn.report.evaluation import evaluate
from djinn.report.text_report import format_report

PERFECT = 58.9


def test_horizons():
    assert horizons(1) == [1]
    assert horizons(10) == [1, 10]
    assert horizons(99) == [1, 10, 25, 50, 99]
    assert horizons(120) == [1, 10, 25, 50, 100, 120]


def test_a_world_that_obeys_stays_with_the_video(scripted, columns):
    world = scripted(obeys=True)
    played = play_long(world, draw_long(columns, "test", 39, seed=0), progress=False)
    assert played.psnr.shape == (20, 39)  # one clip of each episode
    assert played.psnr.min() > PERFECT
    assert played.ssim.min() == pytest.approx(1)
    assert played.random_psnr.mean(0)[-1] < 40
    assert played.repeat_psnr.mean(0).max() < 40
    assert world.training and world.latent_action.training  # as it was before


def test_a_world_that_ignores_its_actions_repeats_the_prompt(scripted, columns):
    played = play_long(scripted(obeys=False), draw_long(columns, "test", 12, seed=0), progress=False)
    assert np.array_equal(played.psnr, played.repeat_psnr)
    assert np.array_equal(played.psnr, played.random_psnr)


def test_clips_are_many_apart_and_from_all_sources(make_columns):
    dataset = make_columns("many", splits=(("test", 40),))
    sample = draw_long(dataset, "test", 9, seed=0)
    assert len(sample) == CLIPS < len(sample.clips)
    assert set(sample.sources) == {f"test-{i}" for i in range(40)}
    assert len(set(sample.indices.tolist())) == CLIPS
    assert {sample.origin(i).start % 10 for i in range(CLIPS)} == {0}
    other = draw_long(dataset, "test", 9, seed=1)
    assert other.indices.tolist() != sample.indices.tolist()


def test_batches_do_not_matter_to_a_sure_world(scripted, columns):
    sample = draw_long(columns, "test", 7, seed=0)
    one, two = (play_long(scripted(obeys=True), sample, batch=batch, progress=False) for batch in (3, 64))
    for name in ("psnr", "ssim", "random_psnr", "repeat_psnr"):
        assert np.array_equal(getattr(one, name), getattr(two, name))


def test_no_episode_that_long(columns):
    with pytest.raises(UserError, match=r"--long 40 needs an episode of 41 frames.* has 40: use --long 39 or less"):
        draw_long(columns, "test", 40, seed=0)
    with pytest.raises(UserError, match="no split 'val'"):
        draw_long(columns, "val", 5, seed=0)


def test_as_a_part_of_the_evaluation(scripted, columns):
    settings = {"clips": 4, "horizon": 3, "effect_prompts": 0, "progress": False}
    result = evaluate(scripted(obeys=True), columns, **settings, long=30)
    found = result["long"]
    assert (found["frames"], found["clips"]) == (30, 20)
    for name in ("psnr", "ssim", "random_psnr", "repeat_psnr"):
        assert list(found[name]) == ["1", "10", "25", "30"]
        curve = found[f"{name}_curve"]
        assert len(curve) == 30
        assert [curve[int(t) - 1] for t in found[name]] == list(found[name].values())
    assert found["psnr"]["30"] > PERFECT > found["random_psnr"]["30"]
    assert "seed 0" in found["protocol"] and "20 source(s)" in found["protocol"]
    assert json.loads(json.dumps(result)) == result
    text = format_report(result)
    assert "20 clips of 30 made frames" in text
    assert f"{found['repeat_psnr']['25']:.2f}" in text
    without = evaluate(scripted(obeys=True), columns, **settings)
    assert without["long"] is None
    assert "long play" not in format_report(without)
    assert {**result, "long": None} == without  # it changes nothing else
    with pytest.raises(UserError, match="long must be at least 1, got 0"):
        evaluate(scripted(obeys=True), columns, **settings, long=0)
    with pytest.raises(UserError, match="--long 40"):
        evaluate(scripted(obeys=True), columns, **settings, long=40)


def test_the_random_generator_of_torch_is_left_alone(scripted, columns):
    before = torch.get_rng_state()
    play_long(scripted(obeys=True), draw_long(columns, "test", 5, seed=0), progress=False)
    assert torch.equal(before, torch.get_rng_state())
