import pytest
import torch

from djinn.config import TransformerConfig
from djinn.nn import KVCache, STTransformer


def transformer(time_every=1, blocks=3):
    torch.manual_seed(0)
    return STTransformer(TransformerConfig(blocks, d_model=16, heads=3, head_dim=8, time_every=time_every)).eval()


def band(frames, window):
    time = torch.arange(frames)
    age = time[:, None] - time
    return (age >= 0) & (age < window)


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


def test_attention_width_and_ffn_width_follow_the_config():
    block = STTransformer(TransformerConfig(1, d_model=16, heads=3, head_dim=8, ffn_mult=2.5)).blocks[0]
    assert block.space.qkv.weight.shape == (3 * 24, 16)
    assert block.space.out.weight.shape == (16, 24)
    assert block.ffn_in.weight.shape == (40, 16)


def test_every_nth_block_has_a_temporal_attention():
    assert [block.time is not None for block in transformer(2, blocks=5).blocks] == [True, False, True, False, True]


@pytest.mark.parametrize("time_every", [1, 2])
def test_output_is_causal_in_time(time_every):
    model, x = transformer(time_every), torch.randn(2, 6, 5, 16)
    out = model(x)
    for t in range(1, 6):
        later = x.clone()
        later[:, t:] = torch.randn_like(later[:, t:])
        changed = model(later)
        torch.testing.assert_close(changed[:, :t], out[:, :t], atol=1e-6, rtol=0)
        assert (changed[:, t:] - out[:, t:]).abs().amax((0, 2, 3)).min() > 1e-3


def test_token_depends_on_its_frame_and_on_earlier_frames():
    model, x = transformer(blocks=1), torch.randn(1, 3, 4, 16)
    out = model(x)
    other = x.clone()
    other[0, 0, 1] += torch.randn(16)
    changed = (model(other) - out).abs().amax(-1)[0] > 1e-6
    assert changed.all()  # spatial attention changes all of frame 0, temporal attention all later frames


def test_positions_in_time_are_relative():
    model, x = transformer(), torch.randn(1, 5, 4, 16)
    torch.testing.assert_close(model(x), model(x, times=torch.arange(5) + 1_000_000), atol=1e-5, rtol=0)
    assert (model(x) - model(x, times=torch.arange(5) * 2)).abs().max() > 1e-3


@pytest.mark.parametrize("time_every", [1, 2])
@pytest.mark.parametrize("chunks", [[1] * 6, [3, 1, 2], [6], [2, 2, 2]])
def test_cached_equals_uncached_within_the_window(time_every, chunks):
    model, x = transformer(time_every), torch.randn(2, 6, 5, 16)
    cache, parts, first = KVCache(6), [], 0
    for frames in chunks:
        parts.append(model(x[:, first : first + frames], cache=cache, first=first))
        first += frames
    torch.testing.assert_close(torch.cat(parts, 1), model(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pair", [False, True])
def test_cached_equals_sliding_window_mask_past_the_window(pair):
    window, frames = 4, 4 * 3 + 3
    model, x = transformer(), torch.randn(2, frames, 5, 16)
    expected = model(x, mask=band(frames, window))
    cache = KVCache(window)
    for t in range(frames):
        if pair and t > 0:  # as in a session: the finished frame together with the new one
            out = model(x[:, t - 1 : t + 1], cache=cache, first=t - 1)
            torch.testing.assert_close(out[:, 0], expected[:, t - 1], atol=1e-5, rtol=1e-5)
        else:
            out = model(x[:, t : t + 1], cache=cache, first=t)
        torch.testing.assert_close(out[:, -1], expected[:, t], atol=1e-5, rtol=1e-5)
    assert cache.layers[0].keys.shape[3] == window + 1


def test_second_cached_pass_replaces_a_frame():
    model, x = transformer(), torch.randn(1, 9, 5, 16)
    expected = model(x, mask=band(9, 4))
    cache = KVCache(4)
    for t in range(9):
        for _ in range(3):
            model(torch.randn(1, 1, 5, 16), cache=cache, first=t)
        torch.testing.assert_close(
            model(x[:, t : t + 1], cache=cache, first=t)[:, 0], expected[:, t], atol=1e-5, rtol=1e-5
        )


def test_snapshot_and_restore_undo_several_frames_past_the_window():
    model, x = transformer(), torch.randn(1, 14, 5, 16)
    expected = model(x, mask=band(14, 4))
    cache, saved = KVCache(4), []
    for t in range(10):
        saved.append(cache.snapshot(t))
        model(x[:, t : t + 1], cache=cache, first=t)
    for t in range(9, 5, -1):
        cache.restore(t, saved[t])
    for t in range(6, 14):
        out = model(x[:, t : t + 1], cache=cache, first=t)
        torch.testing.assert_close(out[:, 0], expected[:, t], atol=1e-5, rtol=1e-5)


def test_clone_of_a_cache_is_independent():
    model, x = transformer(), torch.randn(1, 6, 5, 16)
    cache = KVCache(4)
    model(x[:, :3], cache=cache, first=0)
    copy = cache.clone()
    model(torch.randn(1, 1, 5, 16), cache=cache, first=3)
    out = model(x[:, 3:4], cache=copy, first=3)
    torch.testing.assert_close(out[:, 0], model(x[:, :4])[:, 3], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("time_every", [1, 2])
def test_query_positions_of_a_cached_pass_select_results_in_order(time_every):
    model, x, query_positions = transformer(time_every), torch.randn(2, 3, 5, 16), torch.tensor([13, 10, 26, 29])
    some, every = KVCache(3), KVCache(3)
    expected = model(x, cache=every).flatten(0, 2)[query_positions]
    torch.testing.assert_close(model(x, cache=some, query_positions=query_positions), expected)
    for ours, theirs in zip(some.layers, every.layers, strict=True):
        torch.testing.assert_close(ours.keys, theirs.keys)


def test_hooks_of_blocks_run_in_cached_passes():
    model, x = transformer(time_every=2), torch.randn(2, 3, 5, 16)
    calls = []
    for i, block in enumerate(model.blocks):
        block.register_forward_hook(lambda *_, i=i: calls.append(i))
    model(x, cache=KVCache(3))
    assert calls == [0, 1, 2]


@pytest.mark.parametrize("time_every", [1, 2])
def test_query_positions_of_whole_clips_select_results_and_gradients(time_every):
    model, x, query_positions = transformer(time_every), torch.randn(2, 3, 5, 16), torch.tensor([3, 0, 14, 29])
    gradients = []
    for run in (lambda: model(x, query_positions=query_positions), lambda: model(x).flatten(0, 2)[query_positions]):
        model.zero_grad()
        with torch.enable_grad():
            some = run().square().sum()
        some.backward()
        gradients.append([some, *(p.grad.clone() for p in model.parameters())])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
