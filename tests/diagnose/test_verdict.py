import dataclasses
import json
import re

import numpy as np
import pytest
import torch
import yaml

import torus
from djinn.config import (
    DynamicsConfig,
    LatentActionConfig,
    QuantizerConfig,
    SamplerConfig,
    TokenizerConfig,
    TrainConfig,
    TransformerConfig,
    WorldConfig,
)
from djinn.config.yaml import from_dict, to_dict
from djinn.diagnose.checks import Check, identical_codes, response_checks, still_information, tokenizer_checks
from djinn.diagnose.interventions import ROLLOUTS, InterventionResults
from djinn.diagnose.recommendations import LONGER, recommendations_for
from djinn.diagnose.run import run_diagnosis
from djinn.diagnose.settings import DiagnosisSettings
from djinn.diagnose.verdict import (
    FAULTS,
    NOT_TRAINED,
    PLAYABLE,
    UNDERTRAINED,
    diagnose,
    fault_of,
    format_diagnosis,
    verdict_of,
)
from djinn.errors import UserError
from djinn.models.training_summary import TrainingSummary
from djinn.models.world import World, build

CLIPS = 32


@pytest.fixture(autouse=True, scope="module")
def quick():
    """Use fewer prompts and shorter drift roll-outs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("djinn.diagnose.verdict.DRIFT_FRAMES", 24)
        patch.setattr("djinn.diagnose.verdict.EFFECT_PROMPTS", 8)
        yield


@pytest.fixture(scope="module")
def game(tmp_path_factory):
    return torus.write(tmp_path_factory.mktemp("torus") / "data")


@pytest.fixture(scope="module")
def examine(game):
    """Return a function that diagnoses a world with a fault, once per fault."""
    diagnoses = {}

    def once(fault):
        if fault not in diagnoses:
            diagnoses[fault] = diagnose(torus.TorusWorld(fault), game, DiagnosisSettings(clips=CLIPS), progress=False)
        return diagnoses[fault]

    return once


def failed(diagnosis):
    return {check["check"] for check in diagnosis["evidence"] if not check["passed"]}


def test_a_good_world_is_playable(examine):
    found = examine("")
    assert found["verdict"] == PLAYABLE
    assert failed(found) == set()
    assert found["recommendations"] == []
    assert found["fault"] is None
    values = {check["check"]: check["value"] for check in found["evidence"]}
    assert values["tokenizer_change_kept"] == pytest.approx(1)
    assert values["still_codes"] == 0
    assert values["gain_over_shuffled"] > 20


@pytest.mark.parametrize(
    ("fault", "verdict", "check"),
    [
        ("coarse", "tokenizer too coarse", "tokenizer_change_kept"),
        ("collapsed", "codes collapsed", "code_perplexity"),
        ("identical vectors", "codes collapsed", "code_perplexity"),
        ("scene codes", "actions encode the scene, not motion", "still_codes"),
        ("dynamics ignores actions", "actions ignored", "dynamics_response"),
        ("decoder ignores actions", "actions ignored", "decoder_response"),
        ("late", "actions shifted in time", "time_shift"),
        ("early", "actions shifted in time", "time_shift"),
        ("shuffled", "actions mismatched", "gain_at_any_time"),
        ("stale", "actions mismatched", "gain_at_any_time"),
        ("weak", "weak control", "effect_consistency"),
        ("drift", "drift", "drift_flags"),
    ],
)
def test_a_planted_fault_is_found(examine, fault, verdict, check):
    found = examine(fault)
    assert found["verdict"] == found["fault"] == verdict
    assert check in failed(found)
    assert found["recommendations"]
    assert len(found["summary"]) > 40


def test_the_model_that_ignores_actions_is_named(examine):
    summary = examine("dynamics ignores actions")["summary"]
    assert summary.startswith("The output of the dynamics model does not depend")
    summary = examine("decoder ignores actions")["summary"]
    assert summary.startswith("The output of the latent action model's decoder does not depend")


def test_the_direction_of_a_shift_is_named(examine):
    assert "action of the next frame" in examine("late")["summary"]
    assert "action of the previous frame" in examine("early")["summary"]


def test_a_stale_codebook_is_distinguished_from_shuffled_clips(examine):
    assert "sync_actions" in examine("stale")["recommendations"][0]
    assert not any("sync_actions" in text for text in examine("shuffled")["recommendations"])


def test_diagnosis_is_plain_and_reproducible(game):
    settings = DiagnosisSettings(clips=16, seed=3)
    options = {"sampler": SamplerConfig(steps=2, temperature=0.5), "progress": False}
    found = diagnose(torus.TorusWorld(), game, settings, **options)
    assert json.loads(json.dumps(found)) == found
    assert set(found) == {"verdict", "fault", "summary", "training", "evidence", "recommendations", "protocol"}
    assert all(
        set(check) == {"check", "value", "bound", "threshold", "passed", "meaning"} for check in found["evidence"]
    )
    assert found["protocol"]["sampler"]["steps"] == 2
    assert found["protocol"]["dataset_identity"] == game.identity
    assert diagnose(torus.TorusWorld(), game, settings, **options) == found


def test_diagnosis_as_text(examine):
    text = format_diagnosis(examine("dynamics ignores actions"))
    assert text.startswith("verdict: actions ignored\n")
    assert "FAIL dynamics_response 0 (at least 0.05)" in text
    assert "ok   tokenizer_change_kept" in text
    assert "--world.dynamics.action prepend" in text
    assert max(map(len, text.splitlines())) < 200


def test_every_fault_is_indicated_by_existing_checks(examine):
    names = {check["check"] for check in examine("")["evidence"]}
    assert {name for indicators in FAULTS.values() for name in indicators} <= names


@pytest.mark.parametrize("kind", ["ema", "gradient"])
@pytest.mark.parametrize("masking", ["clean_past", "per_frame", "paper"])
def test_recommendations_are_valid_settings(make_world, kind, masking):
    world = make_world(kind=kind, masking=masking)
    actions = dataclasses.replace(world.config.latent_action, quantizer=QuantizerConfig(kind, 5, 4))
    world.config = dataclasses.replace(world.config, latent_action=actions)
    checks = {name for indicators in FAULTS.values() for name in indicators} | {"tokenizer_perplexity"}
    for fault in FAULTS:
        recommendations = recommendations_for(fault, checks, world)
        assert recommendations
        for text in recommendations:
            settings = to_dict(TrainConfig(world=world.config))
            named = re.findall(
                r"--([a-z][\w.-]*\w)(?: ([\d.]+|ema|prepend|clean_past)| \(for example ([\d.]+)\))?", text
            )
            for option, value, example in named:
                if "." not in option and option != "tokenizer-share":
                    assert option in ("minutes", "steps", "fps", "policy", "temperature")
                    continue
                *path, last = option.replace("-", "_").split(".")
                part = settings
                for key in path:
                    part = part[key]
                assert last in part, option
                if value or example:
                    part[last] = yaml.safe_load(value or example)
            config = from_dict(TrainConfig, settings)
            assert config != TrainConfig(world=world.config) or not any("." in n[0] and n[1] + n[2] for n in named), (
                text
            )


def test_root_causes_take_precedence():
    def checks(*failing):
        names = [name for indicators in FAULTS.values() for name in indicators]
        return [Check(name, 0.0, "at least", 0.0, name not in failing, "") for name in names]

    assert fault_of(checks()) is None
    assert fault_of(checks("drift_flags", "code_perplexity", "dynamics_response")) == "codes collapsed"
    assert fault_of(checks("gain_over_random", "time_shift", "gain_at_any_time")) == "actions shifted in time"


def test_codes_of_the_scene_are_present_in_still_frames():
    rng = np.random.default_rng(0)
    motion, scene = rng.integers(0, 4, (64, 7)), rng.integers(0, 4, (64, 8))
    assert still_information(motion, np.full((64, 8), 2)) == 0
    assert still_information(motion, scene) < 0.05
    assert still_information(scene[:, 1:], scene) == pytest.approx(1, abs=0.05)  # the frame after
    assert still_information(scene[:, :-1], (scene + 1) % 4) == pytest.approx(
        1, abs=0.05
    )  # the frame before, with permuted codes
    assert still_information(np.zeros((4, 7), int), np.zeros((4, 8), int)) == 0


def test_identical_vectors_are_one_code():
    vectors = np.eye(4, dtype=np.float32)
    vectors[3] = vectors[1] + 1e-4
    assert identical_codes(vectors).tolist() == [0, 1, 2, 1]
    assert identical_codes(np.zeros((3, 2), np.float32)).tolist() == [0, 0, 0]


def test_invalid_arguments_are_refused(game, tmp_path):
    world = torus.TorusWorld()
    with pytest.raises(UserError, match="no split 'val'"):
        diagnose(world, game, split="val", progress=False)
    with pytest.raises(UserError, match="clips must be at least 16"):
        diagnose(world, game, DiagnosisSettings(clips=5), progress=False)
    with pytest.raises(UserError, match="only 9 clips of 8 frames"):
        diagnose(world, torus.write(tmp_path / "few", episodes=3, frames=10), progress=False)
    with pytest.raises(UserError, match="has 8 frames; the longest has 6"):
        diagnose(world, torus.write(tmp_path / "short", frames=6), progress=False)
    with pytest.raises(UserError, match=r"no pixel changes .*import videos with motion"):
        diagnose(world, torus.write(tmp_path / "still", still=True), progress=False)
    world.config = WorldConfig(height=9, width=16)
    with pytest.raises(UserError, match="32x32, but those of the world are 16x9"):
        diagnose(world, game, progress=False)


def small_world() -> World:
    torch.manual_seed(0)
    size = TransformerConfig(blocks=1, d_model=16, heads=2, head_dim=8)
    return build(
        WorldConfig(
            height=torus.SIDE,
            width=torus.SIDE,
            context_frames=4,
            tokenizer=TokenizerConfig(16, size, size, QuantizerConfig(codes=16, dim=4)),
            latent_action=LatentActionConfig(16, size, size, QuantizerConfig(codes=3, dim=4)),
            dynamics=DynamicsConfig(size),
            sampler=SamplerConfig(steps=2),
        )
    )


def test_diagnosis_of_an_untrained_world_by_name(game, tmp_path, capsys):
    small_world().save_pretrained(tmp_path / "world")
    file = tmp_path / "out" / "diagnosis.json"
    found = run_diagnosis(str(tmp_path / "world"), game.path, DiagnosisSettings(clips=16), json=file, device="cpu")
    assert json.loads(file.read_text()) == found
    assert found["verdict"] == "tokenizer too coarse"
    assert found["protocol"]["world"] == str(tmp_path / "world")
    assert "verdict: tokenizer too coarse" in capsys.readouterr().out


def test_a_world_without_latent_action_model_is_refused(game):
    with pytest.raises(UserError, match=r"latent_action\.safetensors"):
        diagnose(World(small_world().config), game, progress=False)


@pytest.mark.parametrize(
    ("tokenizer", "dynamics", "verdict"),
    [
        (7, 7, NOT_TRAINED),
        (9_000, 200, NOT_TRAINED),
        (9_000, 1_500, UNDERTRAINED),
        (9_000, 9_000, "codes collapsed"),
        (None, None, "codes collapsed"),
    ],
)
def test_verdict_depends_on_the_training_steps(tokenizer, dynamics, verdict):
    training = TrainingSummary(tokenizer_steps=tokenizer, dynamics_steps=dynamics)
    assert verdict_of("codes collapsed", training) == verdict
    assert verdict_of(None, training) == PLAYABLE  # metrics outweigh the steps


def test_a_world_without_training_summary_gets_the_verdict_of_its_metrics(examine):
    assert verdict_of("codes collapsed", None) == "codes collapsed"
    found = examine("collapsed")
    assert found["training"] is None
    assert "training: not recorded" in format_diagnosis(found)


@pytest.mark.parametrize(("steps", "verdict"), [(7, NOT_TRAINED), (1_500, UNDERTRAINED)])
def test_training_comes_first_in_the_recommendations(game, steps, verdict):
    world = torus.TorusWorld("collapsed")
    world.training_summary = TrainingSummary(tokenizer_steps=steps, dynamics_steps=steps, val_gain=0.0)
    found = diagnose(world, game, DiagnosisSettings(clips=16), progress=False)
    assert (found["verdict"], found["fault"]) == (verdict, "codes collapsed")
    assert found["recommendations"][0] == LONGER
    assert (len(found["recommendations"]) == 1) == (verdict == NOT_TRAINED)
    assert found["summary"].startswith(f"The world has only {steps:,} tokenizer steps and {steps:,} dynamics steps")
    assert found["training"]["tokenizer_steps"] == steps
    assert json.loads(json.dumps(found)) == found
    assert f"verdict: {verdict}" in format_diagnosis(found)


def test_values_stay_in_their_ranges():
    """Values outside of [0, 1] are not shown as percentages."""
    results = interventions(change_lost=259.0, repeat=100.0, response=3118.0, prompt=100.0, decoder_repeat=0.0)
    kept = tokenizer_checks(results)[0]
    assert kept.value == 0 and not kept.passed
    assert "preserve: none (its error is 2.59 times the change)" in kept.meaning
    dynamics, decoder, _ = response_checks(results, seed=0)
    assert "31.2 times the real change" in dynamics.meaning and "%" not in dynamics.meaning
    assert decoder.value is None and decoder.passed
    assert "n/a (the real clips do not change)" in decoder.meaning
    assert "40 % of the real change" in response_checks(interventions(response=40.0), seed=0)[0].meaning


def interventions(*, change_lost=10.0, repeat=100.0, response=50.0, prompt=100.0, decoder_repeat=100.0):
    """Build results of interventions on 4 clips with constant errors."""

    def errors(value: float, steps: int = 4) -> np.ndarray:
        return np.full((4, steps), value)

    decoder = {"right": 10.0, "shuffled": 20.0, "response": 5.0, "repeat": decoder_repeat}
    return InterventionResults(
        codes=np.zeros((4, 7), int),
        still=np.zeros((4, 8), int),
        tokens=np.ones(16, int),
        tokenizer=errors(5.0, 8),
        repeat=errors(repeat, 7),
        change_lost=errors(change_lost, 7),
        rollouts={name: errors(10.0) for name in ROLLOUTS},
        prompt=errors(prompt),
        response=errors(response),
        first_to_prompt=np.full(4, 50.0),
        decoder={name: np.full(4, value) for name, value in decoder.items()},
    )
