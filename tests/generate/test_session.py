import numpy as np
import pytest
import torch

import djinn
from djinn.config import SamplerConfig
from djinn.errors import UserError
from djinn.generate import Session, rollout
from djinn.generate.maskgit import fill_frame

MODES = [("add", 1), ("prepend", 1), ("add", 2)]


def random_prompt(batch=1, frames=1, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (batch, frames, 12, 10, 3), np.uint8)


def play(session, actions):
    return np.array([session.step(a) for a in actions])


@pytest.mark.parametrize(("action", "time_every"), MODES)
def test_session_equals_uncached_generation_inside_the_window(make_world, action, time_every):
    world = make_world(action=action, time_every=time_every, frames=7)
    sampler = SamplerConfig(steps=3)
    session = Session(world, random_prompt(2, 2), sampler=sampler, seed=4, prompt_actions=[3])
    actions = [0, 1, 4, 2, 2]
    frames = play(session, actions)

    generator = torch.Generator().manual_seed(4)
    tokens = world.encode(torch.from_numpy(random_prompt(2, 2)))
    played = [3]
    with torch.inference_mode():
        for i, a in enumerate(actions):
            played.append(a)
            vectors = world.action_vectors[torch.tensor(played)].expand(2, -1, -1)

            def predict(new, masked, unknown, tokens=tokens, vectors=vectors):
                clip = torch.cat([tokens, new[:, None]], 1)
                hidden = torch.cat([torch.zeros_like(tokens, dtype=torch.bool), masked[:, None]], 1)
                logits = world.dynamics(clip, hidden, vectors)[:, -1]
                return logits.gather(1, unknown[..., None].expand(-1, -1, logits.shape[2]))

            new = fill_frame(predict, 2, 9, sampler, generator, "cpu")
            tokens = torch.cat([tokens, new[:, None]], 1)
            assert np.abs(world.decode(tokens)[:, -1].numpy().astype(int) - frames[i]).max() <= 1
    assert torch.equal(session.tokens, tokens[:, -1])


def test_first_frame_is_the_reconstructed_prompt(make_world):
    world = make_world()
    session = Session(world, random_prompt(3, 2))
    reconstruction = world.decode(world.encode(torch.from_numpy(random_prompt(3, 2))))[:, -1].numpy()
    assert session.frame.shape == (3, 12, 10, 3)
    assert session.frame.dtype == np.uint8
    assert np.abs(session.frame.astype(int) - reconstruction).max() <= 1
    assert (session.batch, session.time) == (3, 2)


@pytest.mark.unchecked
def test_prompt_shapes(make_world):
    world = make_world()
    for shape, batch, time in [((12, 10, 3), 1, 1), ((3, 12, 10, 3), 1, 3), ((2, 3, 12, 10, 3), 2, 3)]:
        session = Session(world, np.zeros(shape, np.uint8), prompt_actions=[0] * (time - 1))
        assert (session.batch, session.time) == (batch, time)
        assert session.step(1).shape == (batch, 12, 10, 3)
    assert Session(world, torch.zeros(12, 10, 3, dtype=torch.uint8)).batch == 1
    for wrong in (
        np.zeros((12, 9, 3), np.uint8),
        np.zeros((12, 10, 3), np.float32),
        np.zeros((0, 12, 10, 3), np.uint8),
    ):
        with pytest.raises(UserError):
            Session(world, wrong)


@pytest.mark.filterwarnings("error")
def test_prompt_may_be_a_read_only_array(make_world):
    """Arrays of PIL images are read-only."""
    image = random_prompt()[0, 0]
    image.flags.writeable = False
    assert Session(make_world(), image).batch == 1


def test_prompt_actions_are_inferred_or_given(make_world):
    world = make_world()
    frames = random_prompt(1, 4)
    inferred = world.infer_actions(torch.from_numpy(frames))[0].tolist()
    a, b = Session(world, frames), Session(world, frames, prompt_actions=inferred)
    assert np.array_equal(play(a, [1, 2]), play(b, [1, 2]))
    with pytest.raises(UserError, match="a prompt of 4 frames needs 3 prompt actions"):
        Session(world, frames, prompt_actions=[0])
    with pytest.raises(UserError, match=r"needs 3 prompt actions: expected shape \(1, 3\), got \(1, 4\)"):
        Session(world, frames, prompt_actions=[0] * 4)
    with pytest.raises(UserError, match="action 5 is out of range"):
        Session(world, frames, prompt_actions=[0, 5, 0])


def test_prompt_longer_than_the_window(make_world):
    session = Session(make_world(frames=4), random_prompt(1, 11))
    assert session.step(0).shape == (1, 12, 10, 3)
    world, frames, actions = make_world(frames=4), random_prompt(1, 6), [4, 4, 0, 1, 2]
    whole = Session(world, frames, prompt_actions=actions)
    last = Session(world, frames[:, 2:], prompt_actions=actions[2:])
    assert np.array_equal(play(whole, [1, 2]), play(last, [1, 2]))
    with pytest.raises(UserError, match="a prompt of 6 frames needs 5 prompt actions"):
        Session(world, frames, prompt_actions=actions[2:])


def test_seed_determines_the_frames(make_world):
    world, actions = make_world(), [0, 1, 2, 3, 4, 0, 0, 1]
    first = play(Session(world, random_prompt(), seed=1), actions)
    assert np.array_equal(first, play(Session(world, random_prompt(), seed=1), actions))
    assert not np.array_equal(first, play(Session(world, random_prompt(), seed=2), actions))
    session = Session(world, random_prompt(), seed=1)
    play(session, [3, 3])
    start = session.reset()
    assert np.array_equal(start, Session(world, random_prompt()).frame)
    assert np.array_equal(first, play(session, actions))
    session.reset(seed=2)
    assert not np.array_equal(first, play(session, actions))


def test_forward_hooks_run_in_cached_generation(make_world):
    """FSDP2 and `torch.compile` act on a module through its `__call__`."""
    world, calls = make_world(), {}
    modules = {"dynamics": world.dynamics, "decoder": world.tokenizer.decoder}
    for name, blocks in (("dynamics", world.dynamics.transformer.blocks), ("decoder", world.tokenizer.decoder.blocks)):
        modules |= {f"{name} block {i}": block for i, block in enumerate(blocks)}
    for name, module in modules.items():
        module.register_forward_hook(lambda *_, name=name: calls.update({name: calls.get(name, 0) + 1}))
    session = Session(world, random_prompt(), sampler=SamplerConfig(steps=3))
    calls.clear()
    session.step(1)
    assert calls == {name: 3 if name.startswith("dynamics") else 1 for name in modules}


def test_seed_has_no_effect_on_a_deterministic_sampler(make_world):
    world, greedy = make_world(), SamplerConfig(steps=3, temperature=0.0, choice_temperature=0.0)
    assert greedy.is_deterministic and not world.config.sampler.is_deterministic
    futures = {play(Session(world, random_prompt(), sampler=greedy, seed=s), [1, 2, 3]).tobytes() for s in range(4)}
    assert len(futures) == 1


def test_actions_change_the_frames(make_world):
    world = make_world()
    greedy = SamplerConfig(steps=2, temperature=0.0, choice_temperature=0.0)
    futures = {play(Session(world, random_prompt(), sampler=greedy), [a] * 6).tobytes() for a in range(5)}
    assert len(futures) > 1


def test_sessions_continue_past_the_window(make_world):
    session = Session(make_world(frames=4), random_prompt(2), undo_depth=3)
    for t in range(20):
        assert session.time == t + 1
        assert session.step([t % 5, (t + 1) % 5]).shape == (2, 12, 10, 3)
    assert session.undoable == 3
    assert set(session.timings) == {"dynamics", "decode"}


@pytest.mark.parametrize(("action", "time_every"), MODES)
@pytest.mark.parametrize("steps_before", [0, 2, 9])
def test_undone_steps_can_be_repeated(make_world, action, time_every, steps_before):
    """Inside the window, at its edge, and past it."""
    session = Session(make_world(action=action, time_every=time_every, frames=4), random_prompt(2), seed=3)
    play(session, [1] * steps_before)
    frame = session.frame
    future = play(session, [0, 1, 2, 3, 4, 0])
    assert np.array_equal(session.undo(6), frame)
    assert session.time == steps_before + 1
    assert np.array_equal(play(session, [0, 1, 2, 3, 4, 0]), future)
    session.undo(2)
    other = play(session, [2, 2])
    session.undo(2)
    assert np.array_equal(play(session, [4, 0]), future[4:])
    assert other.shape == (2, 2, 12, 10, 3)


def test_undo_stops_at_the_prompt(make_world):
    session = Session(make_world(), random_prompt())
    frame = session.frame
    session.step(0)
    assert np.array_equal(session.undo(100), frame)
    assert np.array_equal(session.undo(), frame)
    assert session.time == 1


def test_failed_step_leaves_the_session_unchanged(make_world, monkeypatch):
    world = make_world(frames=4)
    session, other = Session(world, random_prompt(), seed=5), Session(world, random_prompt(), seed=5)
    for game in (session, other):
        play(game, [1, 2])
    with monkeypatch.context() as patch:
        patch.setattr(world.tokenizer, "decode", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            session.step(3)
    assert session.undoable == 2
    assert np.array_equal(play(session, [3, 4]), play(other, [3, 4]))
    session.undo(2)
    assert session.time == 3


@pytest.mark.parametrize("steps_before", [0, 9])
def test_fork_is_independent(make_world, steps_before):
    world = make_world(frames=4)
    session = Session(world, random_prompt(2), seed=5)
    play(session, [1] * steps_before)
    fork, third = session.fork(), session.fork()
    future = play(session, [0, 1, 2, 3, 4])
    assert fork.time == steps_before + 1
    play(third, [4, 4, 4])
    assert np.array_equal(play(fork, [0, 1, 2, 3, 4]), future)
    fork.undo(5)
    assert np.array_equal(session.frame, future[-1])
    assert np.array_equal(play(fork, [0, 1, 2, 3, 4]), future)


def test_refused_actions_leave_the_session_unchanged(make_world):
    session = Session(make_world(), random_prompt(2))
    session.step(0)
    frame = session.frame
    for wrong in (5, -1, [0, 7], [0], [0, 1, 2]):
        with pytest.raises(UserError):
            session.step(wrong)
    assert np.array_equal(session.frame, frame)
    assert session.time == 2
    assert session.undoable == 1
    with pytest.raises(ValueError, match="this world has 5 latent actions, 0 to 4"):
        session.step(99)


def test_sampler_may_change_between_steps(make_world):
    session = Session(make_world(), random_prompt())
    session.step(0)
    session.sampler = SamplerConfig(steps=1, temperature=0.0)
    a, b = session.fork(), session.fork()
    assert np.array_equal(a.step(1), b.step(1))
    session.sampler = SamplerConfig(steps=50)
    assert session.step(1).shape == (1, 12, 10, 3)


def test_games_of_a_batch_are_independent(make_world):
    world = make_world(frames=4)
    greedy = SamplerConfig(steps=2, temperature=0.0, choice_temperature=0.0)
    both = play(Session(world, random_prompt(2), sampler=greedy), [[0, 3]] * 10)
    alone = play(Session(world, random_prompt(2)[1:], sampler=greedy), [3] * 10)
    assert np.abs(both[:, 1].astype(int) - alone[:, 0]).max() <= 1


def test_rollout_equals_a_session(make_world):
    world = make_world()
    actions = torch.tensor([[0, 1, 2], [3, 4, 0]])
    video = rollout(world, torch.from_numpy(random_prompt(2, 2)), actions, seed=6)
    assert video.shape == (2, 5, 12, 10, 3)
    assert np.array_equal(video[:, :2].numpy(), random_prompt(2, 2))
    frames = play(Session(world, random_prompt(2, 2), seed=6), [[0, 3], [1, 4], [2, 0]])
    assert np.array_equal(video[:, 2:].numpy(), frames.swapaxes(0, 1))
    assert djinn.Session is Session
