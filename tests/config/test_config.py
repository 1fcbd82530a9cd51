import dataclasses

import pytest

from djinn.config import (
    DynamicsConfig,
    QuantizerConfig,
    SamplerConfig,
    StageConfig,
    TokenizerConfig,
    TrainConfig,
    TransformerConfig,
    WorldConfig,
)
from djinn.config.presets import PRESETS
from djinn.errors import UserError


@pytest.mark.parametrize(
    "make",
    [
        lambda: TransformerConfig(blocks=0),
        lambda: TransformerConfig(head_dim=7),
        lambda: TransformerConfig(ffn_mult=0),
        lambda: QuantizerConfig(codes=1),
        lambda: QuantizerConfig(decay=1),
        lambda: QuantizerConfig(levels=(4, 4)),
        lambda: QuantizerConfig("fsq"),
        lambda: QuantizerConfig("fsq", codes=15, dim=2, levels=(4, 4)),
        lambda: TokenizerConfig(patch=0),
        lambda: DynamicsConfig(token_noise=1),
        lambda: DynamicsConfig(masking="paper", token_noise=0.2),
        lambda: QuantizerConfig(dead_code_threshold=1.0),
        lambda: QuantizerConfig(commitment=-0.1),
        lambda: WorldConfig(fps=0.0),
        lambda: WorldConfig(fps=float("nan")),
        lambda: WorldConfig(fps=float("inf")),
        lambda: TrainConfig(seed=-1),
        lambda: StageConfig(warmup=-1),
        lambda: StageConfig(grad_clip=-1.0),
        lambda: StageConfig(weight_decay=-1e-4),
        lambda: StageConfig(schedule="wsd", decay=1.5),
        lambda: StageConfig(betas=(0.9, 1.0)),
        lambda: SamplerConfig(steps=0),
        lambda: SamplerConfig(temperature=-1),
        lambda: WorldConfig(context_frames=1),
        lambda: WorldConfig(height=0),
        lambda: StageConfig(batch=0),
        lambda: StageConfig(batch=10, grad_accum_steps=3),
        lambda: StageConfig(minutes=0),
        lambda: StageConfig(lr=1e-3, min_lr=1e-2),
        lambda: TrainConfig(tokenizer_share=1),
    ],
)
def test_invalid_values_are_refused(make):
    with pytest.raises(UserError):
        make()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"standardize": True}, "set standardize to False"),
        ({"l2": True, "commitment": 0.01, "decay": 0.9}, "set l2 to False, commitment to 0.25"),
        ({"dead_code_threshold": 0.2}, "set dead_code_threshold to 0.1"),
    ],
)
def test_options_of_a_learned_codebook_are_refused_with_fsq(settings, message):
    with pytest.raises(UserError, match=f"quantizer kind 'fsq' has a fixed grid without learned codes: {message}"):
        QuantizerConfig("fsq", 16, 2, levels=(4, 4), **settings)


def test_restarts_are_refused_without_moving_averages():
    with pytest.raises(
        UserError, match=r"dead_code_threshold is for kind 'ema' only, but kind is 'gradient': set .* to 0\.1"
    ):
        QuantizerConfig("gradient", dead_code_threshold=0.3)
    assert QuantizerConfig("gradient", dead_code_threshold=0.0).kind == "gradient"


def test_frames_are_padded_to_whole_patches():
    world = PRESETS["genie-10.1b"].world
    assert (world.height, world.width, world.tokenizer.patch) == (90, 160, 4)
    assert world.tokenizer_grid == (23, 40)
    assert world.tokens_per_frame == 920


def test_configs_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        WorldConfig().height = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("sampler", "deterministic"),
    [
        (SamplerConfig(temperature=0, choice_temperature=0), True),
        (SamplerConfig(temperature=0, choice_temperature=1), False),
        (SamplerConfig(temperature=0, choice_temperature=1, steps=1), True),
        (SamplerConfig(temperature=1, choice_temperature=0), False),
        (SamplerConfig(temperature=1, choice_temperature=0, top_k=1), True),
    ],
)
def test_sampler_without_random_draws_is_deterministic(sampler, deterministic):
    assert sampler.is_deterministic is deterministic
