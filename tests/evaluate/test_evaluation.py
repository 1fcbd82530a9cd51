import dataclasses
import json

import numpy as np
import pytest
import torch

from djinn.config import SamplerConfig, WorldConfig
from djinn.errors import UserError
from djinn.evaluate.clips import draw_clips, spread_over_sources
from djinn.evaluate.evaluation import evaluate
from djinn.evaluate.fidelity import psnr
from djinn.evaluate.results import GRID_EXAMPLES, Evaluation
from djinn.evaluate.settings import EvaluationSettings
from djinn.models.training_summary import TrainingSummary
from djinn.report.html import METRICS_WITH_SECTION
from djinn.report.text_report import format_report

PERFECT = 58.9


def measure(world, dataset, *, split="test", sampler=None, name=None, **settings):
    """Evaluate without progress bars."""
    options = EvaluationSettings(**settings)
    return evaluate(world, dataset, options, split=split, sampler=sampler, name=name, progress=False)


def test_a_perfect_world(scripted, columns):
    world = scripted(uses_actions=True)
    results = measure(world, columns, clips=24, horizon=6).summary()
    assert results["tokenizer_psnr"] > PERFECT
    assert results["rollout_psnr"] > PERFECT
    assert results["tokenizer_ssim"] == results["rollout_ssim"] == pytest.approx(1)
    rollout = results["rollout"]
    assert all(len(rollout[key][kind]) == 6 for key in ("inferred", "random", "repeat") for kind in ("psnr", "ssim"))
    assert np.mean(rollout["repeat"]["psnr"]) < 40
    assert np.mean(rollout["repeat"]["ssim"]) < 0.9
    for key in ("delta_psnr", "delta_psnr_empirical"):
        assert list(results[key]) == list(results[f"{key}_interval"]) == ["1", "2", "3", "4", "5", "6"]
        low, high = results[f"{key}_interval"]["4"]
        assert 20 < low < results[key]["4"] < high
    assert results["action_usage"]["num_used"] == 4
    table = results["code_table"]
    assert table["ground_truth_actions"] == ["stay", "one", "two", "three"]
    assert table["labels"] == ["one", "three", "stay", "two"]
    assert table["overall"]["accuracy"] == 1
    assert table["overall"]["mutual_information_bits"] == pytest.approx(table["overall"]["action_entropy_bits"])
    assert table["changed"]["transitions"] == table["overall"]["transitions"] - sum(table["counts"][2])
    assert results["tokens"]["full_frame"] == {"accuracy": 1, "cross_entropy": 0, "tokens": 24 * 4}
    assert results["action_effects"]["prompts"] == 12
    assert len(results["action_effects"]["codes"]) == 4
    assert results["drift"] is results["fvd"] is results["fvd_protocol"] is results["random_frechet"] is None
    assert world.training and world.latent_action.training  # restored


def test_a_world_that_ignores_its_actions(scripted, columns):
    results = measure(scripted(uses_actions=False), columns, clips=24, horizon=6).summary()
    for key in ("delta_psnr", "delta_psnr_empirical"):
        assert set(results[key].values()) == {0}
        assert set(map(tuple, results[f"{key}_interval"].values())) == {(0, 0)}
    assert results["rollout"]["inferred"] == results["rollout"]["repeat"] == results["rollout"]["random"]
    assert results["action_effects"]["consistency"] == 0
    assert results["tokens"]["full_frame"]["accuracy"] < 0.9


def test_empirical_actions_follow_the_inferred_distribution(scripted, make_columns):
    """If all actions are the same, empirical actions are always right and uniform ones rarely."""
    dataset = make_columns("same", actions=[1])
    evaluation = measure(scripted(uses_actions=True), dataset, clips=8, horizon=3, effect_prompts=0)
    results = evaluation.summary()
    assert results["action_usage"]["num_used"] == 1
    assert set(results["delta_psnr_empirical"].values()) == {0}
    assert min(results["delta_psnr"].values()) > 10
    assert results["action_effects"] is None
    assert results["action_usage"]["collapsed"]
    assert "WARNING: the latent actions have collapsed: almost all have one code" in format_report(evaluation)


def test_several_prompt_frames(scripted, columns):
    results = measure(scripted(uses_actions=True), columns, clips=5, horizon=3, prompt_frames=4).summary()
    assert results["rollout_psnr"] > PERFECT
    assert results["protocol"]["clip_frames"] == 7


def test_protocol_is_complete_and_results_are_plain_values(scripted, columns):
    settings = {"clips": 10, "horizon": 4, "seed": 3, "batch": 4, "drift_frames": 30, "random_frechet": True}
    settings |= {"sampler": SamplerConfig(steps=5, temperature=2.0), "name": "mine"}
    results = measure(scripted(uses_actions=True), columns, **settings).summary()
    protocol = results["protocol"]
    assert protocol["dataset_identity"] == columns.identity
    assert (protocol["world"], protocol["resolution"], protocol["fps"]) == ("mine", "8x8", 10)
    assert (protocol["clips"], protocol["split"], protocol["prompt_frames"]) == (10, "test", 1)
    assert protocol["sampler"] == {"steps": 5, "temperature": 2.0, "top_k": 0, "choice_temperature": 1.0}
    assert "7x7" in protocol["ssim"]  # the largest window that fits into the frames
    assert protocol["training"] is None
    assert results["random_frechet_protocol"]["clips"] == 10
    assert results["drift"]["frames"] == 30
    assert results["random_frechet"] == pytest.approx(0, abs=1e-9)
    assert json.loads(json.dumps(results)) == results
    assert measure(scripted(uses_actions=True), columns, **settings).summary() == results


def test_steps_and_temperature_override_the_sampler(scripted, columns):
    sampler = SamplerConfig(steps=5, temperature=2.0, top_k=3)
    evaluation = measure(
        scripted(uses_actions=True), columns, clips=2, effect_prompts=0, sampler=sampler, steps=2, temperature=0.0
    )
    used = evaluation.protocol["sampler"]
    assert (used["steps"], used["temperature"], used["top_k"]) == (2, 0, 3)


def test_the_training_of_the_world_is_in_the_protocol(scripted, columns):
    world = scripted(uses_actions=True)
    world.training_summary = TrainingSummary(tokenizer_steps=7, dynamics_steps=9, val_gain=0.0)
    evaluation = measure(world, columns, clips=4, effect_prompts=0)
    assert evaluation.protocol["training"]["tokenizer_steps"] == 7
    assert f"training: {world.training_summary.describe()}" in format_report(evaluation)
    world.training_summary = None
    assert "training: not recorded" in format_report(measure(world, columns, clips=4, effect_prompts=0))


def test_fvd_with_a_user_network(scripted, columns, tmp_path, monkeypatch):
    (tmp_path / "moments.py").write_text("def of(video):\n    return video.diff(dim=2).abs().mean((3, 4)).flatten(1)\n")
    monkeypatch.chdir(tmp_path)
    settings = {"clips": 30, "horizon": 3, "effect_prompts": 0, "fvd_detector": "moments:of"}
    good, bad = (measure(scripted(uses_actions=uses), columns, **settings) for uses in (True, False))
    results = good.summary()
    assert results["fvd"] == pytest.approx(0, abs=1e-6)
    assert bad.summary()["fvd"] > 1
    protocol = results["fvd_protocol"]
    assert (protocol["detector"], protocol["clips"], protocol["features"]) == ("moments:of", 30, 9)
    assert (protocol["clip_frames"], protocol["frame_stride"], protocol["clip_stride"]) == (4, 1, 4)
    assert protocol["resolution"] == "8x8"
    text = format_report(bad)
    assert "FVD" in text
    assert "30 clips are few" in text
    assert "FVD" not in format_report(measure(scripted(uses_actions=True), columns, clips=4, effect_prompts=0))


def test_examples_are_the_first_clips_of_different_sources(scripted, columns):
    settings = {"horizon": 3, "effect_prompts": 0, "batch": 7}
    evaluation = measure(scripted(uses_actions=False), columns, **settings, clips=120, examples=20)
    examples = evaluation.protocol["examples"]
    assert len({clip["source"] for clip in examples}) == len(examples) == 20
    assert {clip["episode"] for clip in examples} == {None}
    sample = draw_clips(columns, "test", 120, 4, seed=0)
    first = list(dict.fromkeys(sample.sources))  # in the order of the draw
    assert [clip["source"] for clip in examples] == first
    clips = evaluation.examples
    assert clips is not None
    episodes = {e.source: columns.read(e) for e in columns.episodes}
    for i, clip in enumerate(examples):
        assert np.array_equal(clips.real[i], episodes[clip["source"]][clip["start"] :][:4])
        assert clip["psnr"] == pytest.approx(psnr(clips.real[i, 1:], clips.inferred[i, 1:]).mean())
    few = measure(scripted(uses_actions=False), columns, **settings, clips=3, examples=5)
    assert len(few.protocol["examples"]) == 3  # there are no more clips
    one = measure(scripted(uses_actions=False), columns, **settings, clips=60, examples=1)
    assert one.protocol["examples"] == examples[:1]
    assert one.examples is not None and len(one.examples.real) == 1
    none = measure(scripted(uses_actions=False), columns, **settings, clips=2)
    assert none.protocol["examples"] == [] and none.examples is None and none.grid_examples() is None


def test_grid_examples_do_not_depend_on_the_number_of_examples(scripted, make_columns):
    few = make_columns("few", splits=(("test", 2),))
    samples = (draw_clips(few, "test", 12, 4, seed).sources for seed in range(20))
    seed = next(  # a seed with which the first four of 20 examples would be other clips
        i
        for i, sources in enumerate(samples)
        if spread_over_sources(sources, 4) != spread_over_sources(sources, 20)[:4]
    )
    settings = {"horizon": 3, "clips": 12, "batch": 5, "seed": seed, "effect_prompts": 0}
    grids = [
        measure(scripted(uses_actions=False), few, **settings, examples=count).grid_examples()
        for count in (GRID_EXAMPLES, 20)
    ]
    assert all(grid is not None and len(grid.real) == GRID_EXAMPLES for grid in grids)
    assert np.array_equal(grids[0].real, grids[1].real)
    assert np.array_equal(grids[0].random, grids[1].random)


def test_invalid_arguments_are_refused(scripted, columns):
    world = scripted(uses_actions=True)
    with pytest.raises(UserError, match="no split 'val'"):
        measure(world, columns, split="val")
    with pytest.raises(UserError, match="61 frames; the longest has 40"):
        measure(world, columns, horizon=60)
    for name in ("clips", "horizon", "prompt_frames", "batch", "code_clips", "long_rollouts"):
        with pytest.raises(UserError, match=f"{name} must be at least 1, got 0"):
            EvaluationSettings(**{name: 0})
    for wrong, least in (({"effect_prompts": 1}, 2), ({"drift_frames": 5}, 24), ({"examples": -1}, 1)):
        with pytest.raises(UserError, match=f"must be 0 or at least {least}"):
            EvaluationSettings(**wrong)
    with pytest.raises(UserError, match="at least 2 clips: raise --clips"):
        measure(world, columns, clips=1, random_frechet=True)
    with pytest.raises(UserError, match=r"no detector nowhere\.pt"):
        measure(world, columns, fvd_detector="nowhere.pt")
    with pytest.raises(UserError, match=r"latent_action\.safetensors"):
        blind = scripted(uses_actions=True)
        blind.latent_action = None
        measure(blind, columns)
    world.config = WorldConfig(height=9, width=16)
    with pytest.raises(UserError, match="8x8, but those of the world are 16x9"):
        measure(world, columns)


def test_fewer_clips_than_requested_are_noted(scripted, make_columns):
    single = make_columns("single", splits=(("test", 1),), frames=8)
    evaluation = measure(scripted(uses_actions=True), single, horizon=3, effect_prompts=2)
    assert (evaluation.protocol["clips"], evaluation.protocol["clips_requested"]) == (5, 64)
    assert "64 clips were requested" in format_report(evaluation)


def test_text_report(scripted, columns):
    settings = {"clips": 8, "horizon": 5, "random_frechet": True, "drift_frames": 30}
    text = format_report(measure(scripted(uses_actions=True), columns, **settings))
    for part in (
        "tokenizer PSNR",
        "roll-out PSNR",
        "SSIM 1.000",
        "delta-4 PSNR",
        "drawn as often as inferred",
        "accuracy 100.0 %",
        "not FVD",
        "4 of 4 codes in use",
        "stay",
        "100.0 %",
        "consistency",
        "roll-outs of 30 frames",
        "seed 0",
    ):
        assert part in text
    assert max(map(len, text.splitlines())) <= 160


def test_tables_number_actions_from_0_with_their_names(scripted, columns):
    text = format_report(measure(scripted(uses_actions=True), columns, clips=8, horizon=5))
    rows = [line.split() for line in text.splitlines()]
    for code, name in enumerate(["a", "b", "c", "d"]):
        # usage, ground-truth actions, effects
        assert sum(row[:2] == [str(code), name] for row in rows) == 3


def test_a_collapsed_world_has_a_warning_instead_of_metrics(scripted, columns, monkeypatch):
    """A world with one token and one action predicts everything perfectly."""
    world = scripted(uses_actions=True)
    zeros = torch.zeros
    monkeypatch.setattr(world.tokenizer, "encode", lambda video: zeros(*video.shape[:2], 1, dtype=torch.int64))
    monkeypatch.setattr(
        world, "infer_actions", lambda video: torch.full((video.shape[0], video.shape[1] - 1), 2), raising=False
    )
    evaluation = measure(world, columns, clips=8, horizon=5, effect_prompts=0)
    assert evaluation.tokens.summary()["full_frame"]["accuracy"] == 1
    text = format_report(evaluation)
    head = text.partition("tokenizer PSNR")[0]
    assert "WARNING: the tokenizer has collapsed" in head
    assert "WARNING: the latent actions have collapsed" in head
    assert "accuracy" not in text.replace("token accuracy has no meaning", "").replace("code-to-action accuracy", "")
    assert "0.00 nats" not in text


def test_every_field_that_is_a_metric_is_in_text_and_json(scripted, columns):
    @dataclasses.dataclass(frozen=True)
    class Flicker:
        value: float

        def summary(self):
            return {"value": self.value}

        def lines(self, names):
            return [f"flicker {self.value} of {len(names)} actions"]

    @dataclasses.dataclass(frozen=True)
    class Extended(Evaluation):
        flicker: Flicker | None = None

    evaluation = measure(scripted(uses_actions=True), columns, clips=4, horizon=3, effect_prompts=0)
    values = {field.name: getattr(evaluation, field.name) for field in dataclasses.fields(evaluation)}
    extended = Extended(**values, flicker=Flicker(1.5))
    assert extended.summary()["flicker"] == {"value": 1.5}
    assert "flicker 1.5 of 4 actions" in format_report(extended)
    assert set(extended.metrics()) - METRICS_WITH_SECTION == {"flicker"}
    assert set(evaluation.metrics()) <= METRICS_WITH_SECTION
    assert Extended(**values).summary()["flicker"] is None
