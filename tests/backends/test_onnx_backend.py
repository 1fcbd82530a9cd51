import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch

from djinn.backends.select import MIN_INT8_WIDTH, resolve_engine, select_backend
from djinn.config import SamplerConfig
from djinn.errors import UserError
from djinn.generate import Session, TorchBackend
from djinn.models.world import build

GREEDY = SamplerConfig(steps=3, temperature=0.0, choice_temperature=0.0)
MODES = [("add", 1), ("prepend", 1), ("add", 2), ("prepend", 2)]
ACTIONS = [0, 3, 1, 4, 2, 0, 0, 1, 2, 3, 4]


@pytest.fixture(autouse=True, scope="module")
def onnx():
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")


def random_prompt(batch=1, frames=1):
    return np.random.default_rng(0).integers(0, 256, (batch, frames, 12, 10, 3), np.uint8)


def session_with(world, engine, prompt=None, **arguments):
    prompt = random_prompt() if prompt is None else prompt
    return Session(world, prompt, backend=select_backend(world, engine), **arguments)


@pytest.mark.parametrize(("action", "time_every"), MODES)
@pytest.mark.parametrize("frames", [1, 3])
def test_onnx_and_torch_generate_the_same_tokens(make_world, action, time_every, frames):
    """Two games, more than twice the window; from one prompt frame and from several."""
    world = make_world(action=action, time_every=time_every, frames=4)
    arguments = {"sampler": GREEDY, "prompt_actions": [1] * (frames - 1)}
    sessions = [session_with(world, engine, random_prompt(2, frames), **arguments) for engine in ("torch", "onnx")]
    for a in ACTIONS:
        torch_frame, onnx_frame = (session.step([a, 4 - a]) for session in sessions)
        assert torch.equal(sessions[0].tokens, sessions[1].tokens)
        assert np.abs(torch_frame.astype(int) - onnx_frame).max() <= 1


@pytest.mark.parametrize(("action", "time_every"), MODES)
def test_logits_and_caches_equal_those_of_torch(make_world, action, time_every):
    """Passes of 1 to 3 frames, with masked tokens and selected positions, beyond the window."""
    world = make_world(action=action, time_every=time_every, frames=4)
    with torch.no_grad():
        for block in world.dynamics.transformer.blocks:
            block.space.qk_scale.uniform_(0.5, 2)
    backends = [select_backend(world, engine) for engine in ("torch", "onnx")]
    caches = [backend.new_cache() for backend in backends]
    generator = torch.Generator().manual_seed(1)
    with torch.inference_mode():
        for first, t in [(0, 3), (3, 1), (3, 1), (3, 2), (4, 2), (5, 2), (6, 1), (6, 2), (8, 1)]:
            tokens = torch.randint(16, (2, t, 9), generator=generator)
            masked = torch.rand(2, t, 9, generator=generator) < 0.5 if t < 3 else None
            actions = torch.randn(2, t - (first == 0), 4, generator=generator)
            positions = torch.rand(2, 9, generator=generator).argsort(1)[:, : 5 if t < 3 else 9]
            logits = [
                backend.extend(tokens, masked, actions, cache, first, positions)
                for backend, cache in zip(backends, caches, strict=True)
            ]
            assert torch.allclose(*logits, atol=1e-4)
    for torch_layer, onnx_layer in zip(caches[0].layers, caches[1].layers, strict=True):
        assert torch.allclose(torch_layer.keys, onnx_layer.keys, atol=1e-5)
        assert torch.allclose(torch_layer.values, onnx_layer.values, atol=1e-5)


def test_pass_without_positions_fills_the_cache(make_world):
    world = make_world()
    tokens, actions = torch.randint(16, (2, 3, 9)), torch.randn(2, 2, 4)
    caches = []
    for engine in ("torch", "onnx"):
        backend = select_backend(world, engine)
        caches.append(backend.new_cache())
        with torch.inference_mode():
            logits = backend.extend(tokens, None, actions, caches[-1], 0, torch.empty(2, 0, dtype=torch.int64))
        assert logits.shape == (2, 0, 16)
    assert torch.allclose(caches[0].layers[1].values, caches[1].layers[1].values, atol=1e-5)


def wide_world(config):
    """Make a world with random weights whose dynamics model is wide enough for int8."""
    transformer = dataclasses.replace(config.dynamics.transformer, d_model=MIN_INT8_WIDTH, heads=4, head_dim=64)
    return build(
        dataclasses.replace(config, dynamics=dataclasses.replace(config.dynamics, transformer=transformer))
    ).eval()


@pytest.mark.parametrize("action", ["add", "prepend"])
def test_int8_logits_are_close_to_fp32(make_config, action):
    """Each engine extends its own cache, so that errors can accumulate over frames."""
    world = wide_world(make_config(action=action, frames=4))
    backends = [select_backend(world, engine) for engine in ("onnx", "int8")]
    caches, generator = [backend.new_cache() for backend in backends], torch.Generator().manual_seed(1)
    positions = torch.arange(9).expand(2, -1)
    with torch.inference_mode():
        for first in range(8):
            tokens = torch.randint(16, (2, 1, 9), generator=generator)
            actions = torch.randn(2, int(first > 0), 4, generator=generator)
            fp32, int8 = (
                backend.extend(tokens, None, actions, cache, first, positions)
                for backend, cache in zip(backends, caches, strict=True)
            )
            error = (int8 - fp32).square().mean().sqrt() / fp32.std()
            assert 1e-4 < error < 0.06
        pixels = [backend.decode(tokens, backend.new_cache(), 0) for backend in backends]
    assert torch.equal(*pixels)  # the decoder is not quantized


def test_auto_resolves_to_int8_for_wide_dynamics(make_world, make_config):
    assert resolve_engine(make_world()) == "onnx" and resolve_engine(make_world(), "int8") == "int8"
    world = wide_world(make_config())
    assert [resolve_engine(world, engine) for engine in ("auto", "onnx", "torch")] == ["int8", "onnx", "torch"]
    frames = [session_with(world, engine, seed=1).step(1) for engine in ("auto", "int8")]
    assert np.array_equal(*frames)


@pytest.mark.parametrize("engine", ["onnx", "int8"])
@pytest.mark.parametrize("steps_before", [0, 2, 9])
def test_undo_and_fork(make_world, steps_before, engine):
    session = session_with(make_world(frames=4), engine, random_prompt(2), seed=3)
    for _ in range(steps_before):
        session.step(1)
    frame, fork = session.frame, session.fork()
    future = [session.step(a) for a in ACTIONS]
    assert np.array_equal([fork.step(a) for a in ACTIONS], future)
    assert np.array_equal(session.undo(len(ACTIONS)), frame)
    assert np.array_equal([session.step(a) for a in ACTIONS], future)


@pytest.mark.parametrize("kind", ["fsq", "gradient"])
def test_other_quantizers(make_world, kind):
    world = make_world(kind=kind)
    frames = [session_with(world, engine, sampler=GREEDY).step(2) for engine in ("torch", "onnx")]
    assert np.abs(frames[0].astype(int) - frames[1]).max() <= 1


def test_backend_does_not_change_the_world(make_world):
    world = make_world()
    weights, modules = {k: v.clone() for k, v in world.state_dict().items()}, list(world.modules())
    backend = select_backend(world, "onnx")
    Session(world, random_prompt(), backend=backend).step(0)
    assert backend.world is world
    assert all(torch.equal(v, weights[k]) for k, v in world.state_dict().items())
    assert all(a is b for a, b in zip(world.modules(), modules, strict=True))


def test_backend_of_another_world_is_refused(make_world):
    with pytest.raises(UserError, match=r"backend belongs to another world: create it with select_backend\(world\)"):
        Session(make_world(), random_prompt(), backend=select_backend(make_world(), "onnx"))


def test_thread_count_may_change_between_backends(make_world):
    world, threads, frames = make_world(), torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            frames.append(session_with(world, "onnx", sampler=GREEDY).step(1))
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    assert np.array_equal(*frames)


def test_onnx_engines_are_refused_off_the_cpu(make_config):
    with torch.device("meta"):
        world = build(make_config())
    assert isinstance(select_backend(world), TorchBackend)
    for engine in ("onnx", "int8"):
        with pytest.raises(UserError, match=f"the engine '{engine}' runs on a CPU: omit --engine"):
            select_backend(world, engine)


def test_torch_is_used_without_onnx_runtime(make_world, monkeypatch):
    world = make_world()
    monkeypatch.setattr("djinn.backends.select.find_spec", lambda name: None)
    assert isinstance(select_backend(world), TorchBackend)
    for engine in ("onnx", "int8"):
        with pytest.raises(UserError, match=rf"the engine '{engine}' needs .*pip install 'djinn\[play\]'"):
            select_backend(world, engine)


def test_onnx_runtime_is_imported_only_by_its_backend():
    code = "import sys, djinn, djinn.backends.select; print('onnxruntime' in sys.modules, 'onnx' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "False"]
