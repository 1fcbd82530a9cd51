"""Outputs of all three models depend on current and past inputs only, and on all of these."""

import pytest
import torch

T = 5


def changed(before, after):
    """Return for each frame of `(b, t, ...)` whether any value differs."""
    return ((before - after).abs().flatten(2).amax(2) > 1e-6).any(0).tolist()


@pytest.fixture
def video():
    return torch.rand(2, T, 12, 10, 3, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("time_every", [1, 2])
def test_tokenizer_encoder_is_causal(make_world, video, time_every):
    tokenizer = make_world(time_every=time_every).tokenizer
    with torch.no_grad():
        vectors, tokens = tokenizer.latents(video), tokenizer.encode(video)
        for t in range(T):
            other = video.clone()
            other[:, t] = 1 - other[:, t]
            assert changed(vectors, tokenizer.latents(other)) == [False] * t + [True] * (T - t)
            assert torch.equal(tokenizer.encode(other)[:, :t], tokens[:, :t])


def test_tokenizer_decoder_is_causal(make_world):
    tokenizer = make_world().tokenizer
    tokens = torch.randint(16, (2, T, 9))
    with torch.no_grad():
        pixels = tokenizer.decode(tokens)
        for t in range(T):
            other = tokens.clone()
            other[:, t] = (other[:, t] + 1) % 16
            assert changed(pixels, tokenizer.decode(other)) == [False] * t + [True] * (T - t)


def test_tokenizer_reconstruction_has_no_gradient_from_later_frames(make_world, video):
    tokenizer = make_world().tokenizer
    video.requires_grad_()
    for t in range(T):
        (gradient,) = torch.autograd.grad(tokenizer(video).reconstruction[:, t].sum(), video)
        seen = gradient.abs().amax((0, 2, 3, 4)) > 0
        assert seen.tolist() == [True] * (t + 1) + [False] * (T - 1 - t)


@pytest.mark.parametrize("frame_diff_input", [False, True])
def test_latent_action_depends_on_frames_up_to_the_one_it_leads_to(make_world, video, frame_diff_input):
    model = make_world(frame_diff_input=frame_diff_input).latent_action
    video.requires_grad_()
    for i in range(T - 1):
        (gradient,) = torch.autograd.grad(model(video).vectors[:, i].sum(), video)
        seen = gradient.abs().amax((0, 2, 3, 4)) > 0
        assert seen.tolist() == [True] * (i + 2) + [False] * (T - 2 - i)


@pytest.mark.parametrize(("residual", "warp"), [(False, False), (True, False), (True, True)])
def test_latent_action_decoder_does_not_depend_on_the_predicted_frame(make_world, video, residual, warp):
    model = make_world(residual=residual, warp=warp).latent_action
    if warp:
        torch.nn.init.normal_(model.to_flow.to_pixels.weight)
    actions = torch.randint(5, (2, T - 1))
    video.requires_grad_()
    for i in range(T - 1):  # prediction i is of frame i + 1
        (gradient,) = torch.autograd.grad(model.predict(video, actions)[:, i].sum(), video)
        seen = gradient.abs().amax((0, 2, 3, 4)) > 0
        assert seen.tolist() == [True] * (i + 1) + [False] * (T - 1 - i)


def test_latent_action_decoder_depends_on_past_and_current_actions(make_world, video):
    model = make_world().latent_action
    actions = torch.zeros(2, T - 1, dtype=torch.int64)
    with torch.no_grad():
        prediction = model.predict(video, actions)
        for i in range(T - 1):
            other = actions.clone()
            other[:, i] = 3
            assert changed(prediction, model.predict(video, other)) == [False] * i + [True] * (T - 1 - i)


def test_latent_action_outputs_have_the_right_shape_and_range(make_world, video):
    model = make_world().latent_action
    out = model(video)
    assert out.prediction.shape == (2, T - 1, 12, 10, 3)
    assert out.prediction.min() >= 0 and out.prediction.max() <= 1
    assert out.actions.shape == (2, T - 1)
    indices, vectors = model.infer(video)
    assert torch.equal(indices, out.actions)
    torch.testing.assert_close(vectors, model.quantizer.codes()[indices])


@pytest.mark.parametrize("action", ["add", "prepend"])
@pytest.mark.parametrize("time_every", [1, 2])
def test_dynamics_model_is_causal(make_world, action, time_every):
    model = make_world(action=action, time_every=time_every).dynamics
    tokens, masked, actions = torch.randint(16, (2, T, 9)), torch.rand(2, T, 9) < 0.5, torch.randn(2, T - 1, 4)
    with torch.no_grad():
        logits = model(tokens, masked, actions)
        assert logits.shape == (2, T, 9, 16)
        for t in range(T):
            from_t = [False] * t + [True] * (T - t)
            clean = masked.clone()
            clean[:, t] = False
            known = model(tokens, clean, actions)
            other = tokens.clone()
            other[:, t] = (other[:, t] + 1) % 16
            assert changed(known, model(other, clean, actions)) == from_t
            hidden = masked.clone()
            hidden[:, t] = True
            assert changed(known, model(tokens, hidden, actions)) == from_t
            assert not any(changed(model(tokens, hidden, actions), model(other, hidden, actions)))
            if t > 0:  # action t - 1 is the one that leads to frame t
                other_actions = actions.clone()
                other_actions[:, t - 1] += 1
                assert changed(logits, model(tokens, masked, other_actions)) == from_t
