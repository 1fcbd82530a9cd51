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
from djinn.diagnose.checks import Check, same_codes, still_share
from djinn.diagnose.recommendations import remedies_for
from djinn.diagnose.verdict import FAULTS, PLAYABLE, diagnose, format_diagnosis, verdict_of
from djinn.errors import UserError
from djinn.models.world import World, build
from djinn.report.commands import run_diagnose

CLIPS = 32


@pytest.fixture(autouse=True, scope="module")
def quick():
    """Shorter long games from fewer pictures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("djinn.diagnose.verdict.DRIFT_FRAMES", 24)
        patch.setattr("djinn.diagnose.verdict.EFFECT_PROMPTS", 8)
        yield


@pytest.fixture(scope="module")
def game(tmp_path_factory):
    return torus.write(tmp_path_factory.mktemp("torus") / "data")


@pytest.fixture(scope="module")
def examine(game):
    """Diagnoses a world with a fault, each once."""
    found = {}

    def once(fault):
        if fault not in found:
            found[fault] = diagnose(torus.TorusWorld(fault), game, clips=CLIPS, progress=False)
        return found[fault]

    return once


def failed(diagnosis):
    return {check["check"] for check in diagnosis["evidence"] if not check["passed"]}


def test_a_good_world_is_playable(examine):
    found = examine("")
    assert found["verdict"] == PLAYABLE
    assert failed(found) == set()
    assert found["remedies"] == []
    values = {check["check"]: check["value"] for check in found["evidence"]}
    assert values["tokenizer_change_kept"] == pytest.approx(1)
    assert values["still_codes"] == 0
    assert values["gain_over_shuffled"] > 20


@pytest.mark.parametrize(
    ("fault", "verdict", "telling"),
    [
        ("coarse", "tokenizer too coarse", "tokenizer_change_kept"),
        ("collapsed", "codes collapsed", "code_perplexity"),
        ("equal vectors", "codes collapsed", "code_perplexity"),
        ("pictures", "actions describe pictures, not motion", "still_codes"),
        ("deaf", "actions ignored", "dynamics_response"),
        ("deaf decoder", "actions ignored", "decoder_response"),
        ("late", "actions shifted in time", "time_shift"),
        ("early", "actions shifted in time", "time_shift"),
        ("shuffled", "actions mismatched", "gain_at_any_time"),
        ("stale", "actions mismatched", "gain_at_any_time"),
        ("weak", "weak control", "effect_consistency"),
        ("drift", "drift", "drift_flags"),
    ],
)
def test_a_planted_fault_is_found(examine, fault, verdict, telling):
    found = examine(fault)
    assert found["verdict"] == verdict
    assert telling in failed(found)
    assert found["remedies"]
    assert len(found["summary"]) > 40


def test_who_ignores_the_actions_is_named(examine):
    assert examine("deaf")["summary"].startswith("The dynamics model makes the same")
    assert examine("deaf decoder")["summary"].startswith("The latent action model's decoder makes the same")


def test_the_direction_of_a_shift_is_named(examine):
    assert "action of the next frame" in examine("late")["summary"]
    assert "action of the previous frame" in examine("early")["summary"]


def test_a_stale_codebook_is_told_from_shuffled_clips(examine):
    assert "sync_actions" in examine("stale")["remedies"][0]
    assert not any("sync_actions" in remedy for remedy in examine("shuffled")["remedies"])


def test_the_diagnosis_is_plain_and_repeats(game):
    settings = {"clips": 16, "sampler": SamplerConfig(steps=2, temperature=0.5), "seed": 3, "progress": False}
    found = diagnose(torus.TorusWorld(), game, **settings)
    assert json.loads(json.dumps(found)) == found
    assert set(found) == {"verdict", "summary", "evidence", "remedies", "protocol"}
    assert all(
        set(check) == {"check", "value", "bound", "threshold", "passed", "meaning"} for check in found["evidence"]
    )
    assert found["protocol"]["sampler"]["steps"] == 2
    assert found["protocol"]["dataset_identity"] == game.identity
    assert diagnose(torus.TorusWorld(), game, **settings) == found


def test_the_diagnosis_is_readable(examine):
    text = format_diagnosis(examine("deaf"))
    assert text.startswith("verdict: actions ignored\n")
    assert "FAIL dynamics_response 0 (at least 0.05)" in text
    assert "ok   tokenizer_change_kept" in text
    assert "--world.dynamics.action prepend" in text
    assert max(map(len, text.splitlines())) < 200


def test_every_fault_is_told_by_checks_that_exist_and_has_remedies(examine):
    names = {check["check"] for check in examine("")["evidence"]}
    assert {name for telling in FAULTS.values() for name in telling} <= names


@pytest.mark.parametrize("kind", ["ema", "gradient"])
@pytest.mark.parametrize("masking", ["clean_past", "per_frame", "paper"])
def test_remedies_are_settings_that_a_run_can_have(make_world, kind, masking):
    world = make_world(kind=kind, masking=masking)
    actions = dataclasses.replace(world.config.latent_action, quantizer=QuantizerConfig(kind, 5, 4))
    world.config = dataclasses.replace(world.config, latent_action=actions)
    checks = {name for telling in FAULTS.values() for name in telling} | {"tokenizer_perplexity"}
    for verdict in FAULTS:
        remedies = remedies_for(verdict, checks, world)
        assert remedies
        for remedy in remedies:
            settings = to_dict(TrainConfig(world=world.config))
            named = re.findall(
                r"--([a-z][\w.-]*\w)(?: ([\d.]+|ema|prepend|clean_past)| \(for instance ([\d.]+)\))?", remedy
            )
            for option, value, instance in named:
                if "." not in option and option != "tokenizer-share":
                    assert option in ("minutes", "steps", "fps", "policy", "temperature")
                    continue
                *path, last = option.replace("-", "_").split(".")
                part = settings
                for key in path:
                    part = part[key]
                assert last in part, option
                if value or instance:
                    part[last] = yaml.safe_load(value or instance)
            config = from_dict(TrainConfig, settings)
            assert config != TrainConfig(world=world.config) or not any("." in n[0] and n[1] + n[2] for n in named), (
                remedy
            )


def test_root_causes_come_first():
    def checks(*failing):
        names = [name for telling in FAULTS.values() for name in telling]
        return [Check(name, 0.0, "at least", 0.0, name not in failing, "") for name in names]

    assert verdict_of(checks()) == PLAYABLE
    assert verdict_of(checks("drift_flags", "code_perplexity", "dynamics_response")) == "codes collapsed"
    assert verdict_of(checks("gain_over_random", "time_shift", "gain_at_any_time")) == "actions shifted in time"


def test_codes_that_tell_the_picture_tell_it_when_nothing_moves():
    rng = np.random.default_rng(0)
    motion, picture = rng.integers(0, 4, (64, 7)), rng.integers(0, 4, (64, 8))
    assert still_share(motion, np.full((64, 8), 2)) == 0
    assert still_share(motion, picture) < 0.05
    assert still_share(picture[:, 1:], picture) == pytest.approx(1, abs=0.05)  # of the frame after
    assert still_share(picture[:, :-1], (picture + 1) % 4) == pytest.approx(1, abs=0.05)  # before, under other names
    assert still_share(np.zeros((4, 7), int), np.zeros((4, 8), int)) == 0


def test_equal_vectors_are_one_code():
    vectors = np.eye(4, dtype=np.float32)
    vectors[3] = vectors[1] + 1e-4
    assert same_codes(vectors).tolist() == [0, 1, 2, 1]
    assert same_codes(np.zeros((3, 2), np.float32)).tolist() == [0, 0, 0]


def test_user_errors(game, tmp_path):
    world = torus.TorusWorld()
    with pytest.raises(UserError, match="no split 'val'"):
        diagnose(world, game, split="val", progress=False)
    with pytest.raises(UserError, match="clips must be at least 16"):
        diagnose(world, game, clips=5, progress=False)
    with pytest.raises(UserError, match="only 9 clips of 8 frames"):
        diagnose(world, torus.write(tmp_path / "few", episodes=3, frames=10), progress=False)
    with pytest.raises(UserError, match="has 8 frames; the longest has 6"):
        diagnose(world, torus.write(tmp_path / "short", frames=6), progress=False)
    with pytest.raises(UserError, match="no pixel changes"):
        diagnose(world, torus.write(tmp_path / "still", still=True), progress=False)
    world.config = WorldConfig(height=9, width=16)
    with pytest.raises(UserError, match="32x32, but the world makes 16x9"):
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


def test_an_untrained_world_by_the_command(game, tmp_path, capsys):
    small_world().save_pretrained(tmp_path / "world")
    file = tmp_path / "out" / "diagnosis.json"
    found = run_diagnose(str(tmp_path / "world"), game.path, json=file, clips=16, device="cpu")
    assert json.loads(file.read_text()) == found
    assert found["verdict"] == "tokenizer too coarse"
    assert found["protocol"]["world"] == str(tmp_path / "world")
    assert "verdict: tokenizer too coarse" in capsys.readouterr().out


def test_a_world_without_its_latent_action_model_is_refused(game):
    with pytest.raises(UserError, match=r"latent_action\.safetensors"):
        diagnose(World(small_world().config), game, progress=False)
