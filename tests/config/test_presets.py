import pytest

from djinn.config.presets import PAPER_PARAMETERS, PRESETS, get_preset
from djinn.errors import UserError
from djinn.plan import count_parameters, format_plan

GENIE = [name for name in PRESETS if name.startswith("genie-")]


@pytest.fixture(scope="module")
def counts():
    return {name: count_parameters(config.world) for name, config in PRESETS.items()}


def test_all_sizes_of_the_paper_have_a_preset():
    assert set(GENIE) == set(PAPER_PARAMETERS) - {"tokenizer", "latent action model"}
    assert len(GENIE) == 9


@pytest.mark.parametrize("name", GENIE)
def test_parameter_counts_equal_those_of_the_paper(name, counts):
    for key in (name, "tokenizer", "latent action model"):
        parts, printed = PAPER_PARAMETERS[key]
        assert sum(counts[name][part] for part in parts) == pytest.approx(printed, rel=0.12)


def test_coinrun_layers_are_blocks(counts):
    assert counts["coinrun"]["tokenizer"] == pytest.approx(67e6, rel=0.03)
    assert counts["coinrun"]["latent_action"] == pytest.approx(67e6, rel=0.03)
    assert counts["coinrun"]["dynamics"] == pytest.approx(50e6, rel=0.03)


def test_paper_presets_have_the_settings_of_the_paper():
    for name in [*GENIE, "coinrun"]:
        world = PRESETS[name].world
        assert (world.context_frames, world.fps, world.sampler.steps) == (16, 10.0, 25)
        assert world.dynamics.masking == "paper"
        assert world.dynamics.action == "add"
        assert (world.tokenizer.quantizer.codes, world.tokenizer.quantizer.dim) == (1024, 32)
    coinrun = PRESETS["coinrun"]
    assert coinrun.world.num_actions == 6
    assert coinrun.world.sampler.temperature == 1.0
    assert (coinrun.tokenizer.batch, coinrun.dynamics.batch) == (48, 36)
    final = PRESETS["genie-10.1b"]
    assert final.world.num_actions == 8
    assert final.world.sampler.temperature == 2.0
    assert (final.dynamics.batch, final.dynamics.steps) == (512, 125_000)
    # the paper counts 942B tokens for its final model
    assert final.dynamics.batch * final.dynamics.steps * 16 * final.world.tokens_per_frame == pytest.approx(
        942e9, rel=1e-3
    )


def test_bench_has_the_size_of_the_speed_targets():
    world = PRESETS["bench"].world
    assert (world.tokens_per_frame, world.sampler.steps, world.context_frames) == (64, 8, 16)
    assert (world.dynamics.transformer.blocks, world.dynamics.transformer.d_model) == (6, 256)


@pytest.mark.parametrize(
    ("name", "words"), [("tinny", "did you mean 'tiny'"), ("xyz", "the presets are tiny, small, finetune")]
)
def test_unknown_preset_is_refused_with_a_suggestion(name, words):
    with pytest.raises(UserError, match=words):
        get_preset(name)


@pytest.mark.parametrize("name", ["tiny", "genie-10.1b"])
def test_plan_describes_a_preset(name):
    text = format_plan(name)
    assert f"preset {name}" in text
    assert ("(paper: 10.1B)" in text) == (name == "genie-10.1b")


def test_plan_omits_a_stage_that_is_not_trained():
    assert "tokenizer stage" in format_plan("tiny") and "tokenizer stage" not in format_plan("finetune")
