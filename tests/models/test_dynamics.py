import pytest
import torch

from djinn.models.masking import add_token_noise, draw_token_noise, frame_mask, paper_mask
from djinn.nn import KVCache
from djinn.nn.cpu_parallel import torch_threads

MODES = [("add", 1), ("prepend", 1), ("add", 2), ("prepend", 2)]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_paper_mask_has_one_rate_per_clip_and_keeps_the_first_frame():
    mask = paper_mask(torch.Size((4_000, 3, 64)), generator(), torch.device("cpu"))
    assert not mask[:, 0].any()
    rate = mask[:, 1:].float().mean((1, 2))
    assert rate.mean().item() == pytest.approx(0.75, abs=0.01)
    assert rate.min() > 0.3
    assert 0.1 < rate.std() < 0.2  # one rate per clip: std 0.144 of U(0.5, 1), and sampling noise
    between_frames = (mask[:, 1].float().mean(1) - mask[:, 2].float().mean(1)).std()
    assert between_frames < 0.1


def test_frame_mask_has_one_rate_per_frame():
    mask = frame_mask((4_000, 3, 64), generator(), torch.device("cpu"))
    rate = mask.float().mean(2)
    assert rate.mean().item() == pytest.approx(2 / torch.pi, abs=0.01)
    assert abs(torch.corrcoef(rate.T)[0, 1]) < 0.05


def test_token_noise_has_the_configured_rate():
    tokens = torch.zeros(4_000, 2, 64, dtype=torch.int64)
    cpu = torch.device("cpu")
    assert add_token_noise(tokens, draw_token_noise(tokens.shape, 0.0, 16, None, cpu)) is tokens
    noise = draw_token_noise(tokens.shape, 0.2, 16, generator(), cpu)
    rate = (add_token_noise(tokens, noise) != 0).float().mean((1, 2))
    assert rate.mean().item() == pytest.approx(0.1 * 15 / 16, abs=0.01)
    assert rate.max() < 0.4


@pytest.mark.parametrize("masking", ["paper", "clean_past", "per_frame"])
@pytest.mark.parametrize("action", ["add", "prepend"])
def test_loss_is_reproducible_and_every_parameter_has_a_gradient(make_world, masking, action):
    model = make_world(masking=masking, action=action).dynamics
    tokens, actions = torch.randint(16, (2, 4, 9)), torch.randn(2, 3, 4, requires_grad=True)
    loss, logs = model.loss(tokens, actions, model.draw_masks(tokens.shape, generator(3)))
    repeated, _ = model.loss(tokens, actions, model.draw_masks(tokens.shape, generator(3)))
    assert torch.equal(loss, repeated)
    assert not torch.equal(loss, model.loss(tokens, actions, model.draw_masks(tokens.shape, generator(4)))[0])
    assert 0 < logs["accuracy"] < 1
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize("action", ["add", "prepend"])
def test_loss_is_the_mean_cross_entropy_of_masked_tokens(make_world, action):
    model = make_world(masking="paper", action=action).dynamics
    tokens, actions = torch.randint(16, (2, 4, 9)), torch.randn(2, 3, 4)
    loss, logs = model.loss(tokens, actions, model.draw_masks(tokens.shape, generator(3)))
    masked = paper_mask(tokens.shape, generator(3), tokens.device)
    log_probs = model(tokens, masked, actions).log_softmax(-1)
    expected = -log_probs.gather(-1, tokens[..., None]).squeeze(-1)[masked].mean()
    torch.testing.assert_close(loss, expected)
    assert logs["accuracy"] == (log_probs.argmax(-1) == tokens)[masked].float().mean()


@pytest.mark.parametrize("action", ["add", "prepend"])
def test_clean_past_logits_equal_those_of_separate_passes(make_world, action):
    """Each masked frame's logits equal those after its clean past, as in play."""
    model = make_world(masking="clean_past", token_noise=0.0, action=action, frames=6).dynamics
    tokens, actions = torch.randint(16, (2, 6, 9)), torch.randn(2, 5, 4)
    with torch.no_grad():
        x, masked, truth, times, mask = model._clean_past(tokens, actions, model.draw_masks(tokens.shape, generator(1)))
        logits = model.to_logits(model.transformer(x, times=times, mask=mask)[:, 5:, model.num_prefix_tokens :])
        assert not masked[:, :5].any() and masked[:, 5:].any()
        assert torch.equal(truth[:, 5:], tokens[:, 1:])
        expected = torch.empty(2, 5, 9, model.num_codes)
        for i in range(1, 6):
            hidden = torch.zeros(2, i + 1, 9, dtype=torch.bool)
            hidden[:, i] = masked[:, 4 + i]
            expected[:, i - 1] = model(tokens[:, : i + 1], hidden, actions[:, :i])[:, i]
        torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)


def test_paper_loss_equals_cross_entropy_over_the_mask(make_world):
    model = make_world(masking="paper").dynamics
    tokens, actions = torch.randint(16, (2, 4, 9)), torch.randn(2, 3, 4)
    with torch.no_grad():
        loss, logs = model.loss(tokens, actions, model.draw_masks(tokens.shape, generator(5)))
        masked = paper_mask(tokens.shape, generator(5), tokens.device)
        logits = model(tokens, masked, actions)
        expected = torch.nn.functional.cross_entropy(logits[masked], tokens[masked])
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(logs["accuracy"], (logits[masked].argmax(-1) == tokens[masked]).float().mean())


@pytest.mark.parametrize(("action", "time_every"), MODES)
def test_cached_dynamics_equals_uncached(make_world, action, time_every):
    """As in a session: a prompt, then masked passes, the first with the finished frame."""
    model = make_world(action=action, time_every=time_every, frames=6).dynamics
    tokens, action_emb = torch.randint(16, (2, 6, 9)), torch.randn(2, 6, 4)
    masked = torch.rand(2, 6, 9) < 0.5
    with torch.no_grad():
        cache = KVCache(6)
        clean = torch.zeros_like(masked)
        prompt = model(tokens[:, :2], None, action_emb[:, 1:2], cache=cache)
        torch.testing.assert_close(prompt, model(tokens, clean, action_emb[:, 1:])[:, :2], atol=1e-4, rtol=1e-4)
        for t in range(3, 6):
            hidden = clean[:, : t + 1].clone()
            hidden[:, t] = masked[:, t]
            expected = model(tokens[:, : t + 1], hidden, action_emb[:, 1 : t + 1])[:, t]
            pair = slice(t - 1, t + 1)
            both = model(tokens[:, pair], hidden[:, pair], action_emb[:, pair], cache=cache, first=t - 1)
            torch.testing.assert_close(both[:, 1], expected, atol=1e-4, rtol=1e-4)
            hidden[:, t] = ~masked[:, t]
            expected = model(tokens[:, : t + 1], hidden, action_emb[:, 1 : t + 1])[:, t]
            inputs = tokens[:, t : t + 1], hidden[:, t:], action_emb[:, t : t + 1]
            repeated = model(*inputs, cache=cache, first=t)
            torch.testing.assert_close(repeated[:, 0], expected, atol=1e-4, rtol=1e-4)
            some = torch.tensor([8, 2, 0, 9 + 4, 9 + 5, 9 + 1])
            part = model(*inputs, cache=cache, first=t, query_positions=some)
            torch.testing.assert_close(part, expected.flatten(0, 1)[some], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("action", "time_every"), MODES)
def test_query_positions_select_logits(make_world, action, time_every):
    model = make_world(action=action, time_every=time_every).dynamics
    tokens, actions = torch.randint(16, (2, 4, 9)), torch.randn(2, 3, 4)
    query_positions = torch.tensor([70, 0, 8, 9, 35, 36, 50])
    with torch.no_grad():
        expected = model(tokens, tokens > 7, actions).flatten(0, 2)[query_positions]
        for cache in (None, KVCache(4)):
            logits = model(tokens, tokens > 7, actions, cache=cache, query_positions=query_positions)
            torch.testing.assert_close(logits, expected)


@pytest.mark.parametrize("action", ["add", "prepend"])
def test_cached_dynamics_past_the_window(make_world, action):
    """Logits equal those of an uncached pass in which each frame attends to the last 4 frames."""
    model = make_world(action=action, frames=4).dynamics
    tokens, action_emb = torch.randint(16, (2, 14, 9)), torch.randn(2, 14, 4)
    time = torch.arange(14)
    age = time[:, None] - time
    with torch.no_grad():
        x = model._embed(tokens, None, model.embed_actions(action_emb[:, 1:]))
        expected = model.to_logits(model.transformer(x, mask=(age >= 0) & (age < 4))[:, :, model.num_prefix_tokens :])
        cache = KVCache(4)
        for t in range(14):
            first = max(t - 1, 0)
            actions = action_emb[:, max(first, 1) : t + 1]
            out = model(tokens[:, first : t + 1], None, actions, cache=cache, first=first)
            torch.testing.assert_close(out[:, -1], expected[:, t], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("time_every", [1, 2])
def test_cached_decoder_equals_uncached(make_world, time_every):
    tokenizer = make_world(time_every=time_every, frames=6).tokenizer
    tokens = torch.randint(16, (2, 6, 9))
    with torch.no_grad():
        whole = tokenizer.decode(tokens)
        cache = KVCache(6)
        parts = [tokenizer.decode(tokens[:, :2], cache, 0)]
        parts += [tokenizer.decode(tokens[:, t : t + 1], cache, t) for t in range(2, 6)]
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("masking", ["paper", "clean_past", "per_frame"])
@pytest.mark.parametrize("action", ["add", "prepend"])
def test_loss_and_gradients_are_equal_in_threads(make_world, monkeypatch, masking, action):
    model = make_world(masking=masking, action=action).dynamics
    tokens, actions = torch.randint(16, (3, 4, 9)), torch.randn(3, 3, 4, requires_grad=True)
    monkeypatch.setattr("djinn.nn.cpu_parallel.MIN_ELEMENTS", 1)
    results = []
    for count in (1, 2):
        model.zero_grad()
        actions.grad = None
        with torch_threads(count):
            loss, logs = model.loss(tokens, actions, model.draw_masks(tokens.shape, generator(3)))
            loss.backward()
        results.append([loss.detach(), logs["accuracy"], actions.grad, *(p.grad for p in model.parameters())])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)
