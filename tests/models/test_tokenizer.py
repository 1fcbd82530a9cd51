"""Tokenizers of the paper's Table 3: causality, cached decoding, play, saving and loading."""

import dataclasses

import numpy as np
import pytest
import torch

from djinn.config import TokenizerConfig, TransformerConfig
from djinn.errors import UserError
from djinn.generate import Session
from djinn.generate.maskgit import fill_frame
from djinn.models import World, build
from djinn.nn import KVCache

KINDS = ["st-vivit", "vit", "c-vivit"]
T = 5


@pytest.fixture(scope="module")
def make(make_config):
    def make(kind, *, seed=0, blocks=2, **settings) -> World:
        config = make_config(**settings)
        sizes = dataclasses.replace(config.tokenizer.encoder, blocks=blocks)
        tokenizer = dataclasses.replace(config.tokenizer, kind=kind, encoder=sizes, decoder=sizes)
        torch.manual_seed(seed)
        return build(dataclasses.replace(config, tokenizer=tokenizer)).eval()

    return make


def clip(frames=T, batch=2):
    return torch.rand(batch, frames, 12, 10, 3, generator=torch.Generator().manual_seed(1))


def changed(before, after):
    """Return for each frame of `(b, t, ...)` whether any value differs."""
    return ((before - after).abs().flatten(2).amax(2) > 1e-6).any(0).tolist()


def dependent(kind, t):
    """Return for each frame whether it depends on frame t."""
    return [i == t if kind == "vit" else i >= t for i in range(T)]


@pytest.mark.parametrize("kind", KINDS)
def test_encoder_is_causal(make, kind):
    tokenizer, video = make(kind).tokenizer, clip()
    with torch.no_grad():
        vectors, tokens = tokenizer.latents(video), tokenizer.encode(video)
        for t in range(T):
            other = video.clone()
            other[:, t] = 1 - other[:, t]
            assert changed(vectors, tokenizer.latents(other)) == dependent(kind, t)
            assert torch.equal(tokenizer.encode(other)[:, :t], tokens[:, :t])


@pytest.mark.parametrize("kind", KINDS)
def test_decoder_is_causal(make, kind):
    tokenizer, tokens = make(kind).tokenizer, torch.randint(16, (2, T, 9))
    with torch.no_grad():
        pixels = tokenizer.decode(tokens)
        for t in range(T):
            other = tokens.clone()
            other[:, t] = (other[:, t] + 1) % 16
            assert changed(pixels, tokenizer.decode(other)) == dependent(kind, t)


@pytest.mark.parametrize("kind", KINDS)
def test_reconstruction_has_no_gradient_from_later_frames(make, kind):
    tokenizer, video = make(kind).tokenizer, clip().requires_grad_()
    for t in range(T):
        (gradient,) = torch.autograd.grad(tokenizer(video).reconstruction[:, t].sum(), video)
        before = [i == t if kind == "vit" else i <= t for i in range(T)]
        assert (gradient.abs().amax((0, 2, 3, 4)) > 0).tolist() == before


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prompt", [1, 3])
def test_cached_decoding_equals_uncached(make, kind, prompt):
    tokenizer, tokens = make(kind, frames=T).tokenizer, torch.randint(16, (2, T, 9))
    cache = KVCache(T)
    with torch.no_grad():
        parts = [tokenizer.decode(tokens[:, :prompt], cache, 0)]
        parts += [tokenizer.decode(tokens[:, t : t + 1], cache, t) for t in range(prompt, T)]
        torch.testing.assert_close(torch.cat(parts, 1), tokenizer.decode(tokens), atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_one_cached_block_decodes_from_the_window_only(make, kind):
    """Keys of the first block depend on one frame only."""
    tokenizer, tokens, cache = make(kind, blocks=1).tokenizer, torch.randint(16, (1, 11, 9)), KVCache(4)
    with torch.no_grad():
        for t in range(11):
            new = tokenizer.decode(tokens[:, t : t + 1], cache, t)[:, 0]
            whole = tokenizer.decode(tokens[:, max(0, t - 3) : t + 1])[:, -1]
            torch.testing.assert_close(new, whole, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_has_a_gradient(make, kind):
    tokenizer, video = make(kind).tokenizer.train(), clip()
    out = tokenizer(video)
    ((out.reconstruction - video).square().mean() + out.loss).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in tokenizer.parameters())


def prompt(batch=1, frames=1):
    return np.random.default_rng(0).integers(0, 256, (batch, frames, 12, 10, 3), np.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_session_frames_equal_an_uncached_computation(make, kind):
    world = make(kind, frames=7)
    session = Session(world, prompt(2, 2), seed=4, prompt_actions=[3])
    actions = [0, 1, 4, 2, 2]
    frames = np.array([session.step(a) for a in actions])

    generator = torch.Generator().manual_seed(4)
    tokens, action_emb = world.encode(torch.from_numpy(prompt(2, 2))), [3]
    with torch.inference_mode():
        for i, a in enumerate(actions):
            action_emb.append(a)
            vectors = world.action_vectors[torch.tensor(action_emb)].expand(2, -1, -1)

            def predict(now, masked, unknown, tokens=tokens, vectors=vectors):
                hidden = torch.cat([torch.zeros_like(tokens, dtype=torch.bool), masked[:, None]], 1)
                logits = world.dynamics(torch.cat([tokens, now[:, None]], 1), hidden, vectors)[:, -1]
                return logits.gather(1, unknown[..., None].expand(-1, -1, logits.shape[2]))

            new = fill_frame(predict, 2, 9, world.config.sampler, generator, torch.device("cpu"))
            tokens = torch.cat([tokens, new[:, None]], 1)
            assert np.abs(world.decode(tokens)[:, -1].numpy().astype(int) - frames[i]).max() <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_undo_and_fork_past_the_window(make, kind):
    session = Session(make(kind, frames=4), prompt(), seed=3)
    for _ in range(9):
        session.step(1)
    fork = session.fork()
    future = [session.step(a) for a in (0, 1, 2)]
    assert all(np.array_equal(fork.step(a), frame) for a, frame in zip((0, 1, 2), future, strict=True))
    session.undo(3)
    assert all(np.array_equal(session.step(a), frame) for a, frame in zip((0, 1, 2), future, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_world_round_trips_through_its_folder(make, kind, tmp_path):
    world = make(kind)
    world.save_pretrained(tmp_path / "world", dtype="fp32")
    loaded = World.from_pretrained(tmp_path / "world", "cpu")
    assert loaded.config.tokenizer.kind == kind
    tokens = torch.randint(16, (2, 4, 9))
    assert torch.equal(loaded.decode(tokens), world.decode(tokens))
    other = KINDS[KINDS.index(kind) - 1]
    text = (tmp_path / "world" / "config.yaml").read_text()
    (tmp_path / "world" / "config.yaml").write_text(text.replace(f"kind: {kind}", f"kind: {other}"))
    with pytest.raises(UserError, match=r"tensor 'tokenizer\..*the file does not match the config\.yaml"):
        World.from_pretrained(tmp_path / "world", "cpu")


@pytest.mark.parametrize("kind", ["vit", "c-vivit"])
@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_time_every_is_refused_without_temporal_attention(kind, part):
    with pytest.raises(UserError, match=f"tokenizer {part} time_every is 2, but kind '{kind}'"):
        TokenizerConfig(kind=kind, **{part: TransformerConfig(time_every=2)})
