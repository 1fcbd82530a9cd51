import numpy as np
import pytest
import torch

from djinn.models.world import World


@pytest.fixture(scope="module")
def coinrun():
    return World.from_pretrained("coinrun", "cpu")


@pytest.fixture(scope="module")
def video(coinrun):
    """Return the shipped world's prompts, each as a clip that moves by one pixel a frame."""
    prompts = torch.from_numpy(np.stack(coinrun.prompts))
    return torch.stack([prompts.roll(shift, dims=2) for shift in range(4)], dim=1)


def test_tokens_are_the_same_under_autocast(coinrun, video):
    tokens = coinrun.encode(video)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(coinrun.encode(video), tokens)
        with torch.inference_mode():
            in_bf16 = coinrun.tokenizer(coinrun.to_float(video)).tokens
    assert (in_bf16 != tokens).float().mean() > 0.02  # without the fp32 encoder the tokens differ


def test_inferred_actions_are_the_same_under_autocast(coinrun, video):
    actions = coinrun.infer_actions(video)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(coinrun.infer_actions(video), actions)


def test_projections_to_codes_run_in_fp32_under_autocast(make_world):
    world = make_world()
    clip = torch.rand(1, 4, 12, 10, 3)
    dtypes = []

    def record(module, args, output):
        dtypes.append((args[0].dtype, output.dtype))

    world.tokenizer.to_code.register_forward_hook(record)
    world.latent_action.to_code.register_forward_hook(record)
    with torch.autocast("cpu", torch.bfloat16):
        world.tokenizer(clip)
        world.latent_action(clip)
    assert dtypes == [(torch.float32, torch.float32)] * 2
