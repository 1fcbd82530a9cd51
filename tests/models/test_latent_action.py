"""Latent action model with token input: causality, loss, and training on a toy problem."""

import dataclasses
import math

import pytest
import torch

from djinn.config import LatentActionConfig
from djinn.errors import UserError
from djinn.generate import Session
from djinn.models import World, build

T = 5


@pytest.fixture(scope="module")
def make(make_config):
    """Return a factory of worlds with 12x10 pixels, 6x5 tokens, and patches of 2x2 tokens."""

    def make(*, seed=0, patch=4, input="tokens", **settings) -> World:
        config = make_config(**settings)
        config = dataclasses.replace(
            config,
            tokenizer=dataclasses.replace(config.tokenizer, patch=2),
            latent_action=dataclasses.replace(config.latent_action, patch=patch, input=input),
        )
        torch.manual_seed(seed)
        return build(config).eval()

    return make


@pytest.fixture
def tokens():
    return torch.randint(16, (2, T, 30), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def video():
    return torch.randint(256, (2, 4, 12, 10, 3), generator=torch.Generator().manual_seed(1)).to(torch.uint8)


def changed(before, after):
    """Return for each frame of `(b, t, ...)` whether any value differs."""
    return ((before - after).abs().flatten(2).amax(2) > 1e-6).any(0).tolist()


def with_other_tokens(tokens, t):
    other = tokens.clone()
    other[:, t] = (other[:, t] + 1) % 16
    return other


@pytest.mark.parametrize("patch", [2, 4, 6])
@pytest.mark.parametrize("frame_diff_input", [False, True])
@pytest.mark.parametrize("kind", ["ema", "fsq"])
def test_action_depends_on_frames_up_to_the_one_it_leads_to(make, tokens, patch, frame_diff_input, kind):
    model = make(patch=patch, frame_diff_input=frame_diff_input, kind=kind).latent_action
    latents = []
    model.to_code.register_forward_hook(lambda module, inputs, output: latents.append(output))
    with torch.no_grad():
        model.encode(tokens)
        for t in range(T):  # action i leads from frame i to frame i + 1
            model.encode(with_other_tokens(tokens, t))
            assert changed(latents[0], latents[-1]) == [i + 1 >= t for i in range(T - 1)]


@pytest.mark.parametrize("residual", [False, True])
def test_decoder_does_not_depend_on_the_predicted_frame(make, tokens, residual):
    model = make(residual=residual).latent_action
    actions = torch.zeros(2, T - 1, dtype=torch.int64)
    with torch.no_grad():
        logits = model.predict(tokens, actions)
        assert logits.shape == (2, T - 1, 30, 16)
        for t in range(T):  # prediction i is of frame i + 1
            assert changed(logits, model.predict(with_other_tokens(tokens, t), actions)) == [
                i >= t for i in range(T - 1)
            ]


def test_decoder_depends_on_past_and_current_actions(make, tokens):
    model = make().latent_action
    actions = torch.zeros(2, T - 1, dtype=torch.int64)
    with torch.no_grad():
        logits = model.predict(tokens, actions)
        for t in range(T - 1):
            other = actions.clone()
            other[:, t] = 3
            assert changed(logits, model.predict(tokens, other)) == [i >= t for i in range(T - 1)]


def test_forward_equals_infer_and_predict(make, tokens):
    model = make().latent_action
    out = model(tokens)
    indices, vectors = model.infer(tokens)
    assert torch.equal(indices, out.actions) and indices.shape == (2, T - 1)
    torch.testing.assert_close(vectors, model.quantizer.codes()[indices])
    torch.testing.assert_close(out.prediction, model.predict(tokens, indices))


def test_token_changes_only_its_own_patch(make):
    """Token (2, 3) is in patch (1, 1)."""
    model = make().latent_action
    one, other = torch.zeros(2, 1, 1, 6, 5, dtype=torch.int64)
    other[0, 0, 2, 3] = 7
    with torch.no_grad():
        patches = [model.encoder_patches(model._image(clip.flatten(2))) for clip in (one, other)]
    differ = (patches[0] - patches[1]).abs().amax(-1).view(3, 3) > 0
    assert differ.nonzero().tolist() == [[1, 1]]


@pytest.mark.parametrize("kind", ["ema", "fsq"])
def test_token_codebook_is_standardized(make, kind):
    world = make(kind=kind)
    model, quantizer = world.latent_action, world.tokenizer.quantizer
    assert model.token_codes.mean(0).tolist() == pytest.approx([0.5] * model.token_codes.shape[1], abs=1e-5)
    assert model.token_codes.std(0).tolist() == pytest.approx([0.5] * model.token_codes.shape[1], abs=1e-5)
    if kind == "ema":
        before = model.token_codes.clone()
        quantizer.codebook.mul_(0.001).add_(40)
        model.set_token_codebook(world.tokenizer)
        torch.testing.assert_close(model.token_codes, before, atol=0.02, rtol=0)
        quantizer.codebook[3] += 1  # far from all other codes
        model.set_token_codebook(world.tokenizer)
        assert model.token_codes[3].min() > 1


def test_residual_gives_the_last_token_even_odds(make, tokens):
    """With zero output, the last token has probability 1/2, or 1/16 without `residual`."""
    for residual, probability in ((True, 1 / 2), (False, 1 / 16)):
        model = make(residual=residual).latent_action
        torch.nn.init.zeros_(model.from_patches.to_pixels.weight)
        logits = model.predict(tokens, torch.zeros(2, T - 1, dtype=torch.int64))
        stays = logits.softmax(-1).gather(3, tokens[:, :-1, :, None])
        torch.testing.assert_close(stays, torch.full_like(stays, probability))
        still = tokens[:, :1].expand(-1, T, -1)
        assert model.prediction_loss(logits[:, :1], still[:, :2]).item() == pytest.approx(
            -math.log(probability), rel=1e-5
        )


def test_prediction_loss_is_cross_entropy_of_tokens_or_squared_error_of_pixels(make, tokens, video):
    logits = torch.randn(2, T - 1, 30, 16)
    nats = -logits.log_softmax(-1).gather(3, tokens[:, 1:, :, None]).mean()
    assert make().latent_action.prediction_loss(logits, tokens).item() == pytest.approx(nats.item(), rel=1e-5)
    pixels = make(input="pixels").latent_action
    clip, prediction = torch.rand(2, 4, 12, 10, 3), torch.rand(2, 3, 12, 10, 3)
    assert pixels.prediction_loss(prediction, clip).item() == pytest.approx(
        (prediction - clip[:, 1:]).square().mean().item(), rel=1e-5
    )


def test_tokenizer_has_no_gradient_from_the_latent_action_model(make, video):
    world = make(kind="gradient").train()
    clip = world.tokenizer.encode(video.float() / 255)
    out = world.latent_action(clip)
    (world.latent_action.prediction_loss(out.prediction, clip) + out.loss).backward()
    assert all(p.grad is None for p in world.tokenizer.parameters())
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in world.latent_action.parameters())


@pytest.mark.parametrize("input", ["pixels", "tokens"])
def test_world_infers_actions_and_predicts_frames(make, video, input):
    world = make(input=input)
    model = world.latent_action
    clip = world.encode(video) if input == "tokens" else video.float() / 255
    actions = world.infer_actions(video)
    assert torch.equal(actions, model.infer(clip)[0])
    frames = world.predict_next(video, actions)
    assert frames.shape == (2, 3, 12, 10, 3) and frames.min() >= 0 and frames.max() <= 1
    with torch.no_grad():
        prediction = model.predict(clip, actions)
        for i in range(3):  # each after the true frames before it
            if input == "tokens":
                after = torch.cat([clip[:, : i + 1], prediction.argmax(-1)[:, i : i + 1]], 1)
                torch.testing.assert_close(frames[:, i], world.tokenizer.decode(after)[:, -1], atol=1e-4, rtol=0)
            else:
                torch.testing.assert_close(frames[:, i], prediction[:, i])
    session = Session(world, video[:1])  # infers the actions of its prompt
    assert session.step(1).shape == (1, 12, 10, 3)
    world.latent_action = None
    for refused in (lambda: world.infer_actions(video), lambda: world.predict_next(video, actions)):
        with pytest.raises(UserError, match=r"no latent_action\.safetensors"):
            refused()


@pytest.mark.parametrize("residual", [False, True])
def test_ignored_border_is_copied_and_not_in_the_loss(make, video, residual):
    model = make(input="pixels", residual=residual, ignored_border=2).train().latent_action
    clip = video.float() / 255
    out = model(clip)
    inside = torch.zeros(12, 10, dtype=torch.bool)
    inside[2:-2, 2:-2] = True
    before = clip[:, :-1]
    assert torch.equal(out.prediction[:, :, ~inside], before[:, :, ~inside])
    assert not torch.isclose(out.prediction[:, :, inside], before[:, :, inside]).all()
    expected = (out.prediction[:, :, inside] - clip[:, 1:, inside]).square().mean()
    torch.testing.assert_close(model.prediction_loss(out.prediction, clip), expected)
    other = clip.clone()
    other[:, 1:, ~inside] = 1 - other[:, 1:, ~inside]
    torch.testing.assert_close(model.prediction_loss(out.prediction, other), expected)


def test_invalid_ignored_border_is_refused(make_config):
    config = make_config()
    for invalid, message in (
        ({"ignored_border": -1}, "0 or more"),
        ({"ignored_border": 1, "input": "tokens"}, "set ignored_border to 0"),
    ):
        with pytest.raises(UserError, match=message):
            dataclasses.replace(config.latent_action, **invalid)
    with pytest.raises(UserError, match="covers all of frames of 10x12: set it below 5"):
        dataclasses.replace(config, latent_action=dataclasses.replace(config.latent_action, ignored_border=5))


def test_warp_displaces_the_last_frame_and_starts_without_motion(make, video):
    static, moving = (make(input="pixels", residual=True, warp=warp).latent_action for warp in (False, True))
    moving.load_state_dict(static.state_dict(), strict=False)
    clip, actions = video.float() / 255, torch.randint(5, (2, 3))
    with torch.no_grad():
        torch.testing.assert_close(moving.predict(clip, actions), static.predict(clip, actions), atol=1e-5, rtol=0)
        moving.to_flow.to_pixels.bias[0::2] = 3.0
        moving.from_patches.to_pixels.weight.zero_()
        warped = moving.predict(clip, actions)
    torch.testing.assert_close(warped[..., :-3, :], clip[:, :-1, :, 3:].clamp(0.02, 0.98), atol=1e-4, rtol=0)


def test_warp_is_refused_without_residual_or_pixels(make_config):
    for invalid in ({"residual": False}, {"residual": True, "input": "tokens"}):
        with pytest.raises(UserError, match="needs residual true and input 'pixels'"):
            make_config(warp=True, **invalid)


def test_world_round_trips_through_its_folder(make, video, tmp_path):
    world = make(frame_diff_input=True, residual=True)
    world.save_pretrained(tmp_path / "world", dtype="fp32")
    loaded = World.from_pretrained(tmp_path / "world", "cpu")
    assert loaded.latent_action is not None and loaded.latent_action.reads_tokens
    assert torch.equal(loaded.infer_actions(video), world.infer_actions(video))
    torch.testing.assert_close(
        loaded.predict_next(video, world.infer_actions(video)), world.predict_next(video, world.infer_actions(video))
    )


def test_patch_that_is_no_multiple_of_the_tokenizer_patch_is_refused(make_config):
    config = make_config()
    for patch in (2, 6):
        invalid = dataclasses.replace(config.latent_action, input="tokens", patch=patch)
        with pytest.raises(
            UserError, match=f"multiple of the tokenizer's, 4, but got {patch}: set latent_action patch"
        ):
            dataclasses.replace(config, latent_action=invalid)
        dataclasses.replace(config, latent_action=dataclasses.replace(invalid, input="pixels"))
    with pytest.raises(UserError, match="latent_action patch must be at least 1"):
        LatentActionConfig(patch=0)


def test_actions_carry_what_cannot_be_predicted_from_the_past(make):
    """All tokens of a frame are equal to one of two codes, drawn independently for each frame."""
    model = make().train().latent_action
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    draw = torch.Generator().manual_seed(0)

    def clips():
        return (3 + 8 * torch.randint(2, (16, T, 1), generator=draw)).expand(-1, -1, 30)

    for _ in range(60):
        tokens = clips()
        out = model(tokens)
        optimizer.zero_grad()
        (model.prediction_loss(out.prediction, tokens) + out.loss).backward()
        optimizer.step()
    model.eval()
    tokens = clips()
    with torch.no_grad():
        out = model(tokens)
        assert model.prediction_loss(out.prediction, tokens) < 0.1  # log 2 without information
        shuffled = model.predict(tokens, out.actions.roll(1, 0))
        assert model.prediction_loss(shuffled, tokens) > 0.5
        sides = [set(out.actions[tokens[:, 1:, 0] == token].tolist()) for token in (3, 11)]
    assert sides[0] and sides[1] and not sides[0] & sides[1]
