import dataclasses

import pytest
import torch

from djinn.config import TransformerConfig
from djinn.nn import FullSpaceTimeTransformer, KVCache, SpatialTransformer, STTransformer
from djinn.nn.kernels import rotate
from djinn.nn.rotary import mask_to_bias, rotary_table
from djinn.nn.tokenizer_baselines import FullSpaceTimeAttention

SIZE = TransformerConfig(blocks=2, d_model=16, heads=3, head_dim=8)
B, T, N = 2, 5, 4


def make(kind, **sizes):
    torch.manual_seed(0)
    return kind(dataclasses.replace(SIZE, **sizes)).eval()


@pytest.fixture
def x():
    return torch.randn(B, T, N, 16, generator=torch.Generator().manual_seed(1))


def test_full_space_time_attention_equals_a_loop_over_tokens(x):
    torch.manual_seed(0)
    layer = FullSpaceTimeAttention(16, 3, 8)
    rotary = rotary_table(torch.arange(T), 8)
    bias = mask_to_bias(torch.ones(T, T, dtype=torch.bool).tril()).repeat(N, N)
    with torch.no_grad():
        layer.qk_scale.mul_(1.5)
        got = layer(x, rotary, bias)
        qk, v = layer.project(x)
        q, k = (rotate(y.transpose(1, 3), rotary).transpose(1, 3) for y in qk.unbind(3))  # b t n h k
        for t in range(T):
            for n in range(N):
                seen_k, seen_v = k[:, : t + 1].flatten(1, 2), v[:, : t + 1].flatten(1, 2)
                scores = torch.einsum("bhk,bshk->bhs", q[:, t, n], seen_k) * 8**0.5
                mixed = torch.einsum("bhs,bshk->bhk", scores.softmax(-1), seen_v)
                torch.testing.assert_close(got[:, t, n], layer.out(mixed.flatten(1)), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", [SpatialTransformer, FullSpaceTimeTransformer])
@pytest.mark.parametrize("chunks", [[1] * 5, [3, 1, 1], [2, 2, 1], [5]])
def test_cached_equals_uncached(kind, chunks, x):
    model, cache, first, outputs = make(kind), KVCache(T), 0, []
    with torch.no_grad():
        for size in chunks:
            outputs.append(model(x[:, first : first + size], cache=cache, first=first))
            first += size
        torch.testing.assert_close(torch.cat(outputs, 1), model(x), atol=1e-4, rtol=0)


def test_one_cached_block_equals_an_uncached_pass_over_the_window():
    """Keys of the first block depend on one frame only, so older frames have no effect."""
    model, cache = make(FullSpaceTimeTransformer, blocks=1), KVCache(3)
    x = torch.randn(1, 11, N, 16)
    with torch.no_grad():
        for t in range(11):
            new = model(x[:, t : t + 1], cache=cache, first=t)
            repeated = model(x[:, t : t + 1], cache=cache, first=t)
            torch.testing.assert_close(new, repeated)
            torch.testing.assert_close(new[:, -1], model(x[:, max(0, t - 2) : t + 1])[:, -1], atol=1e-4, rtol=0)


def test_snapshot_and_restore_undo_cached_frames():
    model, cache = make(FullSpaceTimeTransformer), KVCache(3)
    x = torch.randn(1, 9, N, 16)
    with torch.no_grad():
        for t in range(7):
            model(x[:, t : t + 1], cache=cache, first=t)
        saved, branch = cache.snapshot(7), cache.clone()
        future = [model(x[:, t : t + 1], cache=cache, first=t) for t in (7, 8)]
        torch.testing.assert_close(model(x[:, 7:8], cache=branch, first=7), future[0])
        cache.restore(8, [])
        cache.restore(7, saved)
        torch.testing.assert_close(model(x[:, 7:8], cache=cache, first=7), future[0])


@pytest.mark.parametrize("kind", [STTransformer, SpatialTransformer, FullSpaceTimeTransformer])
def test_initial_scale_is_independent_of_depth(kind, x):
    stds = []
    for blocks in (1, 16):
        model = make(kind, blocks=blocks, d_model=64, heads=4, head_dim=16)
        model.norm = torch.nn.Identity()
        with torch.no_grad():
            stds.append(model(x.repeat(1, 1, 1, 4)).std().item())
    assert stds[1] == pytest.approx(stds[0], rel=0.5)


@pytest.mark.parametrize("kind", [SpatialTransformer, FullSpaceTimeTransformer])
def test_every_parameter_has_a_gradient(kind, x):
    model = make(kind)
    model(x)[..., 0].square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())
