import pytest
import yaml

from djinn.errors import UserError
from djinn.models.training_summary import (
    CLEAR_GAIN,
    NO_GAIN,
    TrainingSummary,
    load_training_summary,
    save_training_summary,
)
from djinn.models.world import World
from djinn.models.world_folder import SHIPPED

SUMMARY = TrainingSummary(dynamics_steps=700, val_gain=0.4, val_rollout_psnr=21.5, actions_used=6, val_clips=16)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, "unknown"),
        ({"dynamics_steps": 7}, "unknown"),
        ({"val_gain": NO_GAIN - 0.01}, "none"),
        ({"val_gain": NO_GAIN}, "weak"),
        ({"val_gain": CLEAR_GAIN - 0.01}, "weak"),
        ({"val_gain": CLEAR_GAIN}, "clear"),
        ({"val_gain4": 9.0}, "clear"),
        ({"val_gain": 0.1, "val_gain4": 9.0}, "none"),
        ({"val_gain": 9.0, "actions_used": 1}, "none"),
        ({"actions_used": 0}, "none"),
    ],
)
def test_controllability_follows_gain_and_code_usage(values, expected):
    assert TrainingSummary(**values).controllability == expected


def test_description_states_effect_gain_codes_and_steps():
    assert SUMMARY.describe() == (
        "the latent actions have a weak effect (inferred actions gain +0.40 dB PSNR over random ones, "
        "6 codes in use, after 700 training steps)"
    )
    assert "was not evaluated" in TrainingSummary().describe()
    assert "have no effect yet" in TrainingSummary(val_gain=0.0).describe()


def test_description_of_an_untrained_world_begins_with_its_steps():
    summary = TrainingSummary(tokenizer_steps=7, dynamics_steps=20, val_gain=0.02)
    assert summary.describe().startswith(
        "the world is barely trained (tokenizer: 7 steps, dynamics: 20 steps); the latent actions have no effect yet"
    )
    assert TrainingSummary(tokenizer_steps=500, dynamics_steps=None, val_gain=2.0).untrained_stages == {}


def test_summary_round_trips_through_yaml(tmp_path):
    assert load_training_summary(tmp_path) is None
    save_training_summary(SUMMARY, tmp_path)
    assert load_training_summary(tmp_path) == SUMMARY
    assert "tokenizer_steps" not in yaml.safe_load((tmp_path / "training.yaml").read_text())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("val_gian: 1.0", "unknown config key 'val_gian'"),
        ("dynamics_steps: many", "'dynamics_steps' must be of type int"),
        ("dynamics_steps: -1", "dynamics_steps must not be negative, got -1"),
        ("val_gain: .nan", "val_gain must be finite, got nan"),
        ("[", "not valid YAML"),
        ("3", "must be a mapping"),
    ],
)
def test_invalid_training_yaml_is_refused(text, message, tmp_path):
    (tmp_path / "training.yaml").write_text(text)
    with pytest.raises(UserError, match=rf"training\.yaml.*{message}"):
        load_training_summary(tmp_path)


def test_summary_is_saved_and_loaded_with_a_world(make_world, tmp_path):
    world = make_world()
    assert world.training_summary is None
    world.training_summary = SUMMARY
    world.save_pretrained(tmp_path / "world")
    assert World.from_pretrained(tmp_path / "world", "cpu").training_summary == SUMMARY
    make_world(seed=1).save_pretrained(tmp_path / "world")  # the older world's summary must not stay
    assert World.from_pretrained(tmp_path / "world", "cpu").training_summary is None


def test_shipped_world_has_a_summary():
    summary = load_training_summary(SHIPPED / "coinrun")
    assert summary is not None and summary.controllability == "clear"


@pytest.mark.parametrize(
    ("tokenizer", "dynamics", "level"),
    [
        (None, None, "unknown"),
        (7, 8_000, "untrained"),
        (8_000, 0, "untrained"),
        (None, 499, "untrained"),
        (500, 500, "undertrained"),
        (None, 2_999, "undertrained"),
        (3_000, 3_000, "trained"),
    ],
)
def test_level_follows_the_stage_with_the_fewest_steps(tokenizer: int | None, dynamics: int | None, level: str) -> None:
    assert TrainingSummary(tokenizer_steps=tokenizer, dynamics_steps=dynamics).level == level
