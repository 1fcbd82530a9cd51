import json

import numpy as np
import pytest
import torch

from djinn.errors import UserError
from djinn.evaluate.evaluation import evaluate
from djinn.evaluate.long_rollouts import MAX_CLIPS, draw_long_clips, horizons, measure_long_rollouts
from djinn.evaluate.settings import EvaluationSettings
from djinn.report.text_report import format_report

PERFECT = 58.9


def test_horizons():
    assert horizons(1) == [1]
    assert horizons(10) == [1, 10]
    assert horizons(99) == [1, 10, 25, 50, 99]
    assert horizons(120) == [1, 10, 25, 50, 100, 120]


def test_a_perfect_world_follows_the_video(scripted, columns):
    world = scripted(uses_actions=True)
    result = measure_long_rollouts(world, draw_long_clips(columns, "test", 39, seed=0), progress=False)
    assert result.psnr.shape == (20, 39)  # one clip of each episode
    assert result.psnr.min() > PERFECT
    assert result.ssim.min() == pytest.approx(1)
    assert result.random_psnr.mean(0)[-1] < 40
    assert result.repeat_psnr.mean(0).max() < 40
    assert world.training and world.latent_action.training  # restored


def test_a_world_that_ignores_its_actions_repeats_the_prompt(scripted, columns):
    sample = draw_long_clips(columns, "test", 12, seed=0)
    result = measure_long_rollouts(scripted(uses_actions=False), sample, progress=False)
    assert np.array_equal(result.psnr, result.repeat_psnr)
    assert np.array_equal(result.psnr, result.random_psnr)


def test_clips_do_not_overlap_and_come_from_all_sources(make_columns):
    dataset = make_columns("many", splits=(("test", 40),))
    sample = draw_long_clips(dataset, "test", 9, seed=0)
    assert len(sample) == MAX_CLIPS < len(sample.clips)
    assert set(sample.sources) == {f"test-{i}" for i in range(40)}
    assert len(set(sample.indices.tolist())) == MAX_CLIPS
    assert {sample.origin(i).start % 10 for i in range(MAX_CLIPS)} == {0}
    other = draw_long_clips(dataset, "test", 9, seed=1)
    assert other.indices.tolist() != sample.indices.tolist()


def test_result_of_a_deterministic_world_does_not_depend_on_the_batch(scripted, columns):
    sample = draw_long_clips(columns, "test", 7, seed=0)
    world = scripted(uses_actions=True)
    one, two = (measure_long_rollouts(world, sample, batch=batch, progress=False) for batch in (3, 64))
    for name in ("psnr", "ssim", "random_psnr", "repeat_psnr"):
        assert np.array_equal(getattr(one, name), getattr(two, name))


def test_too_short_episodes_are_refused(columns):
    with pytest.raises(UserError, match=r"of 40 frames need an episode of 41 frames.* has 40: use 39 or less"):
        draw_long_clips(columns, "test", 40, seed=0)
    with pytest.raises(UserError, match="no split 'val'"):
        draw_long_clips(columns, "val", 5, seed=0)


def test_long_rollouts_as_part_of_an_evaluation(scripted, columns):
    world = scripted(uses_actions=True)

    def measure(**more):
        options = EvaluationSettings(clips=4, horizon=3, effect_prompts=0, **more)
        return evaluate(world, columns, options, progress=False)

    evaluation = measure(long_rollouts=30)
    results = evaluation.summary()
    found = results["long_rollouts"]
    assert (found["frames"], found["clips"]) == (30, 20)
    for name in ("psnr", "ssim", "random_psnr", "repeat_psnr"):
        assert list(found[name]) == ["1", "10", "25", "30"]
        curve = found[f"{name}_curve"]
        assert len(curve) == 30
        assert [curve[int(t) - 1] for t in found[name]] == list(found[name].values())
    assert found["psnr"]["30"] > PERFECT > found["random_psnr"]["30"]
    assert "seed 0" in found["protocol"] and "20 source(s)" in found["protocol"]
    assert json.loads(json.dumps(results)) == results
    text = format_report(evaluation)
    assert "20 clips of 30 generated frames" in text
    assert f"{found['repeat_psnr']['25']:.2f}" in text
    without = measure()
    assert without.summary()["long_rollouts"] is None
    assert "long roll-outs" not in format_report(without)
    assert {**results, "long_rollouts": None} == without.summary()  # nothing else changes
    with pytest.raises(UserError, match="long_rollouts must be at least 1, got 0"):
        measure(long_rollouts=0)
    with pytest.raises(UserError, match="long roll-outs of 40 frames"):
        measure(long_rollouts=40)


def test_the_global_random_generator_is_not_used(scripted, columns):
    before = torch.get_rng_state()
    sample = draw_long_clips(columns, "test", 5, seed=0)
    measure_long_rollouts(scripted(uses_actions=True), sample, progress=False)
    assert torch.equal(before, torch.get_rng_state())
