import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch

from djinn.backends.select import WIDE, choose, prepare_for_inference
from djinn.config import SamplerConfig
from djinn.errors import UserError
from djinn.generate import Session
from djinn.models.world import build
from djinn.nn import KVCache

GREEDY = SamplerConfig(steps=3, temperature=0.0, choice_temperature=0.0)
MODES = [("add", 1), ("prepend", 1), ("add", 2), ("prepend", 2)]
ACTIONS = [0, 3, 1, 4, 2, 0, 0, 1, 2, 3, 4]


@pytest.fixture(autouse=True, scope="module")
def onnx():
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")


def prompt(batch=1, frames=1):
    return np.random.default_rng(0).integers(0, 256, (batch, frames, 12, 10, 3), np.uint8)


@pytest.mark.parametrize(("action", "time_every"), MODES)
@pytest.mark.parametrize("frames", [1, 3])
def test_a_game_is_the_same_through_both_engines(make_world, action, time_every, frames):
    """Two games side by side, more than twice round the ring; from one frame, and from several at once."""
    world = make_world(action=action, time_every=time_every, frames=4)
    given = {"sampler": GREEDY, "prompt_actions": [1] * (frames - 1)}
    games = [Session(engine, prompt(2, frames), **given) for engine in (world, prepare_for_inference(world, "onnx"))]
    for a in ACTIONS:
        torch_frame, onnx_frame = (game.step([a, 4 - a]) for game in games)
        assert torch.equal(games[0].tokens, games[1].tokens)
        assert np.abs(torch_frame.astype(int) - onnx_frame).max() <= 1


@pytest.mark.parametrize(("action", "time_every"), MODES)
def test_logits_and_caches_are_those_of_torch(make_world, action, time_every):
    """One frame and two at a time, of which some tokens are masked and some are asked for, past the window's end."""
    world = make_world(action=action, time_every=time_every, frames=4)
    with torch.no_grad():
        for block in world.dynamics.transformer.blocks:
            block.space.qk_scale.uniform_(0.5, 2)
    played, caches = prepare_for_inference(world, "onnx"), (KVCache(4), KVCache(4))
    generator = torch.Generator().manual_seed(1)
    with torch.inference_mode():
        for first, t in [(0, 3), (3, 1), (3, 1), (3, 2), (4, 2), (5, 2), (6, 1), (6, 2), (8, 1)]:
            tokens = torch.randint(16, (2, t, 9), generator=generator)
            masked = torch.rand(2, t, 9, generator=generator) < 0.5 if t < 3 else None
            actions = torch.randn(2, t - (first == 0), 4, generator=generator)
            query_positions = torch.randperm(2 * t * 9, generator=generator)[:10]
            logits = [
                engine.dynamics(tokens, masked, actions, cache=cache, first=first, query_positions=query_positions)
                for engine, cache in zip((world, played), caches, strict=True)
            ]
            assert torch.allclose(*logits, atol=1e-4)
    for ours, theirs in zip(caches[0].layers, caches[1].layers, strict=True):
        assert torch.allclose(ours.keys, theirs.keys, atol=1e-5)
        assert torch.allclose(ours.values, theirs.values, atol=1e-5)


def wide_world(config):
    """Random weights, with a dynamics in which eight bits pay."""
    transformer = dataclasses.replace(config.dynamics.transformer, d_model=WIDE, heads=4, head_dim=64)
    return build(
        dataclasses.replace(config, dynamics=dataclasses.replace(config.dynamics, transformer=transformer))
    ).eval()


@pytest.mark.parametrize("action", ["add", "prepend"])
def test_eight_bits_are_near_and_not_the_same(make_config, action):
    """Logits over some frames with caches of their own, so that what is off would add up."""
    world = wide_world(make_config(action=action, frames=4))
    played = [prepare_for_inference(world, engine) for engine in ("onnx", "int8")]
    caches, generator = [KVCache(4) for _ in played], torch.Generator().manual_seed(1)
    with torch.inference_mode():
        for first in range(8):
            tokens = torch.randint(16, (2, 1, 9), generator=generator)
            actions = torch.randn(2, int(first > 0), 4, generator=generator)
            every = torch.arange(2 * 9)
            exact, near = (
                engine.dynamics(tokens, None, actions, cache=cache, first=first, query_positions=every)
                for engine, cache in zip(played, caches, strict=True)
            )
            off = (near - exact).square().mean().sqrt() / exact.std()
            assert 1e-4 < off < 0.06
        pixels = [engine.tokenizer.decode(tokens, KVCache(4), 0) for engine in played]
    assert torch.equal(*pixels)  # only the dynamics is rounded


def test_eight_bits_are_for_wide_dynamics(make_world, make_config):
    assert choose(make_world()) == "onnx" and choose(make_world(), "int8") == "int8"
    world = wide_world(make_config())
    assert choose(world) == "int8" and choose(world, "onnx") == "onnx" and choose(world, "torch") == "torch"
    frames = [Session(prepare_for_inference(world, engine), prompt(), seed=1).step(1) for engine in ("auto", "int8")]
    assert np.array_equal(*frames)


@pytest.mark.parametrize("engine", ["onnx", "int8"])
@pytest.mark.parametrize("before", [0, 2, 9])
def test_undo_and_fork(make_world, before, engine):
    session = Session(prepare_for_inference(make_world(frames=4), engine), prompt(2), seed=3)
    for _ in range(before):
        session.step(1)
    frame, fork = session.frame, session.fork()
    future = [session.step(a) for a in ACTIONS]
    assert np.array_equal([fork.step(a) for a in ACTIONS], future)
    assert np.array_equal(session.undo(len(ACTIONS)), frame)
    assert np.array_equal([session.step(a) for a in ACTIONS], future)


@pytest.mark.parametrize("kind", ["fsq", "gradient"])
def test_other_codebooks(make_world, kind):
    world = make_world(kind=kind)
    frames = [
        Session(engine, prompt(), sampler=GREEDY).step(2) for engine in (world, prepare_for_inference(world, "onnx"))
    ]
    assert np.abs(frames[0].astype(int) - frames[1]).max() <= 1


def test_the_world_stays_as_it_was(make_world):
    world = make_world()
    before = {k: v.clone() for k, v in world.state_dict().items()}
    played = prepare_for_inference(world)
    assert played is not world
    assert prepare_for_inference(world, "torch") is world
    Session(played, prompt()).step(0)
    assert all(torch.equal(v, before[k]) for k, v in world.state_dict().items())
    assert torch.equal(played.encode(torch.from_numpy(prompt())), world.encode(torch.from_numpy(prompt())))


def test_threads_are_another_number_when_the_next_world_is_opened(make_world):
    world, threads, frames = make_world(), torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            frames.append(Session(prepare_for_inference(world, "onnx"), prompt(), sampler=GREEDY).step(1))
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    assert np.array_equal(*frames)


def test_onnx_is_refused_elsewhere_than_on_a_cpu(make_config):
    with torch.device("meta"):
        world = build(make_config())
    assert prepare_for_inference(world) is world
    for engine in ("onnx", "int8"):
        with pytest.raises(UserError, match=f"the engine '{engine}' plays on a CPU: leave --engine out"):
            prepare_for_inference(world, engine)


def test_without_onnx_runtime_torch_plays(make_world, monkeypatch):
    world = make_world()
    monkeypatch.setattr("djinn.backends.select.find_spec", lambda name: None)
    assert prepare_for_inference(world) is world
    for engine in ("onnx", "int8"):
        with pytest.raises(UserError, match=rf"the engine '{engine}' needs .*pip install 'djinn\[play\]'"):
            prepare_for_inference(world, engine)


def test_onnx_is_imported_only_where_it_plays():
    code = "import sys, djinn, djinn.backends.select; print('onnxruntime' in sys.modules, 'onnx' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "False"]
