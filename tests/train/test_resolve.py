"""From the command line of `djinn train` to the config of a run."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from djinn.cli.train import parse_train
from djinn.config import UNLIMITED, StageConfig, TrainConfig, with_limits
from djinn.config.presets import PRESETS
from djinn.errors import UserError
from djinn.train.resolve import resolve_config

pytestmark = pytest.mark.unchecked  # a namespace stands for the data set


def resolved(*args: str, size=(64, 64), fps=10.0):
    options, config, given = parse_train(["data", "--out", "run", *args])
    dataset = SimpleNamespace(height=size[0], width=size[1], fps=fps)
    limits = {"stage": options.stage, "minutes": options.minutes, "steps": options.steps}
    return resolve_config(config, dataset, given=given, **limits)


def test_options_change_the_preset():
    config = resolved("--preset", "coinrun", "--world.dynamics.transformer.blocks", "4", "--tokenizer.lr=1e-3")
    assert config.world.dynamics.transformer.blocks == 4
    assert config.tokenizer.lr == 1e-3
    assert config.world.tokenizer == PRESETS["coinrun"].world.tokenizer


def test_preset_without_options_is_unchanged():
    assert resolved("--preset", "tiny") == PRESETS["tiny"]


def test_last_preset_takes_precedence():
    options, config, _ = parse_train(["data", "--out", "run", "--preset", "tiny", "--preset=coinrun"])
    assert options.preset == "coinrun" and config == PRESETS["coinrun"]


def test_frame_size_and_speed_are_those_of_the_data_set():
    config = resolved("--preset", "tiny", size=(90, 160), fps=15.0)
    assert (config.world.height, config.world.width, config.world.fps) == (90, 160, 15.0)
    with pytest.raises(UserError, match="the data set has frames of 160x90"):
        resolved("--preset", "tiny", "--world.height", "64", size=(90, 160))


def test_minutes_are_divided_and_replace_steps():
    config = resolved("--preset", "tiny", "--minutes", "20", "--tokenizer-share", "0.25")
    assert (config.tokenizer.minutes, config.dynamics.minutes) == (5.0, 15.0)
    assert config.tokenizer.steps == config.dynamics.steps == UNLIMITED
    config = resolved("--preset", "tiny", "--minutes", "20", "--steps", "100", "--dynamics.steps", "300")
    assert (config.tokenizer.steps, config.dynamics.steps) == (100, 300)


def test_limits_apply_to_the_selected_stage():
    config = resolved("--preset", "tiny", "--minutes", "8", "--stage", "dynamics")
    assert config.tokenizer == PRESETS["tiny"].tokenizer
    assert config.dynamics.minutes == 8.0


def test_settings_of_the_world_to_start_from_are_fixed():
    with pytest.raises(UserError, match=r"--world\.context_frames cannot be set with --init-from: .* of coinrun"):
        resolved("--preset", "finetune", "--world.context-frames", "4")
    with pytest.raises(UserError, match=r"--tokenizer\.lr has no effect with --init-from"):
        resolved("--preset", "finetune", "--tokenizer.lr", "1e-3")


def test_limits_apply_to_a_stage_that_a_config_adds():
    @dataclass(frozen=True)
    class PolicyConfig(TrainConfig):
        policy: StageConfig = field(default_factory=StageConfig)

    with pytest.raises(UserError, match="minutes must be a positive number, got -3"):
        with_limits(PolicyConfig(), "policy", minutes=-3)
    limited = with_limits(PolicyConfig(), "policy", minutes=3, steps=5)
    assert (limited.policy.minutes, limited.policy.steps) == (3, 5)
    assert (limited.tokenizer, limited.dynamics) == (PolicyConfig().tokenizer, PolicyConfig().dynamics)


@pytest.mark.parametrize(("option", "value"), [("--steps", "5"), ("--minutes", "3")])
def test_limits_of_a_stage_without_settings_are_refused(option: str, value: str):
    with pytest.raises(UserError, match=f"{option} has no effect on the stage 'motion'"):
        resolved("--preset", "tiny", "--stage", "motion", option, value)
    assert resolved("--preset", "tiny", "--stage", "motion") == PRESETS["tiny"]
