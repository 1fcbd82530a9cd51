"""Arguments of sessions and roll-outs: what is accepted, and how everything else is refused."""

import re

import numpy as np
import pytest
import torch
from PIL import Image

from djinn.errors import UserError
from djinn.generate import Session, rollout
from djinn.models.world import World

pytestmark = pytest.mark.unchecked


@pytest.fixture
def world(make_world):
    world = make_world()
    world.action_names = ["stay", "left", "right", "jump", "action 4"]
    return world


def random_prompt(batch=1, frames=1):
    return np.random.default_rng(0).integers(0, 256, (batch, frames, 12, 10, 3), np.uint8)


def refused(text):
    return pytest.raises(UserError, match=re.escape(text))


@pytest.mark.parametrize(
    "action",
    [
        2,
        "right",
        "RIGHT",
        "2",
        np.int64(2),
        np.uint8(2),
        np.array(2),
        torch.tensor(2),
        torch.tensor(2, dtype=torch.int32),
    ],
)
def test_one_action_is_played_in_all_games(world, action):
    session, expected = Session(world, random_prompt(2)), Session(world, random_prompt(2))
    assert np.array_equal(session.step(action), expected.step([2, 2]))


@pytest.mark.parametrize(
    "actions",
    [[3, 1], (3, 1), ["jump", "left"], ["jump", 1], np.array([3, 1]), np.array(["jump", "left"]), torch.tensor([3, 1])],
)
def test_one_action_for_each_game(world, actions):
    session, expected = Session(world, random_prompt(2)), Session(world, random_prompt(2))
    assert np.array_equal(session.step(actions), expected.step([3, 1]))


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (1.5, "action 1.5 is neither a code nor a name: pass an integer from 0 to 4 or one of stay, left, right, jump"),
        (1.0, "action 1.0 is neither a code nor a name"),
        (float("nan"), "action nan is neither a code nor a name"),
        (None, "action None is neither a code nor a name"),
        (True, "action True is neither a code nor a name"),
        (b"left", "action b'left' is neither a code nor a name"),
        ({"a": 1}, "action {'a': 1} is neither a code nor a name"),
        (np.float32(1), "neither a code nor a name"),
        (np.array(True), "action True is neither a code nor a name"),
        (torch.tensor(1.0), "action 1.0 is neither a code nor a name"),
        (torch.tensor([True, False]), "action True is neither a code nor a name"),
        ([1, 2.5], "action 2.5 is neither a code nor a name"),
        ([1, None], "action None is neither a code nor a name"),
        (5, "action 5 is out of range: this world has 5 latent actions, 0 to 4"),
        (-1, "action -1 is out of range"),
        (2**70, f"action {2**70} is out of range: pass an integer from 0 to 4"),
        ("5", "action 5 is out of range"),
        ("rihgt", "unknown action 'rihgt'; did you mean 'right'?"),
        ([], "expected 1 action or 2, one for each game, got shape (0,)"),
        ([[1, 2]], "expected 1 action or 2, one for each game, got shape (1, 2)"),
        ([[1], [1, 2]], "actions must have one length in all games, got [[1], [1, 2]]"),
        ([0, [1]], "actions must have one length in all games, got [0, [1]]"),
    ],
)
def test_other_actions_are_refused(world, action, message):
    session = Session(world, random_prompt(2))
    with refused(message):
        session.step(action)
    assert (session.time, session.undoable) == (1, 0)


@pytest.mark.parametrize("seed", [3, np.int64(3), np.uint8(3), np.array(3), torch.tensor(3)])
def test_seed_may_be_any_integer_type(world, seed):
    session = Session(world, random_prompt(), seed=seed)
    assert session.seed == 3 and type(session.seed) is int
    session.reset(seed)
    assert session.seed == 3


@pytest.mark.parametrize(
    ("seed", "message"),
    [
        (-1, "seed must lie between 0 and 2**63 - 1, got -1"),
        (2**63, "seed must lie between 0 and 2**63 - 1"),
        (None, "seed must be an integer, got None"),
        (1.0, "seed must be an integer, got 1.0"),
        (True, "seed must be an integer, got True"),
        ("1", "seed must be an integer, got '1'"),
        (np.array([1]), "seed must be an integer, got array([1])"),
    ],
)
def test_other_seeds_are_refused(world, seed, message):
    with refused(message):
        Session(world, random_prompt(), seed=seed)
    with refused(message):
        rollout(world, random_prompt(), [1], seed=seed)
    if seed is not None:  # which keeps the seed of the session
        with refused(message):
            Session(world, random_prompt()).reset(seed)


@pytest.mark.parametrize("n", [-1, 1.0, None, True, "1"])
def test_number_of_steps_to_undo(world, n):
    session = Session(world, random_prompt())
    session.step(1)
    with refused(f"the number of steps to undo must be {'at least 0' if n == -1 else 'an integer'}, got {n!r}"):
        session.undo(n)
    assert session.time == 2
    session.undo(0)
    assert session.time == 2
    session.undo(np.int64(1))
    assert session.time == 1


@pytest.mark.parametrize("depth", [-1, 1.5, None])
def test_undo_depth(world, depth):
    with refused("undo_depth must be"):
        Session(world, random_prompt(), undo_depth=depth)


def test_pil_images_are_prompts(world):
    """An image is cropped and resized to the world's size; several images are several frames."""
    images = [Image.fromarray(np.full((48, 40, 3), value, np.uint8)) for value in (10, 200)]
    frames = np.stack([np.full((12, 10, 3), value, np.uint8) for value in (10, 200)])
    for prompt, expected, actions in (
        (images[0], frames[0], []),
        (images[:1], frames[:1], []),
        (images, frames, [1]),
        (tuple(images), frames, [1]),
    ):
        session, reference = (Session(world, p, prompt_actions=actions) for p in (prompt, expected))
        assert session.time == reference.time
        assert np.array_equal(session.frame, reference.frame)
    for mode in ("L", "RGBA", "P", "I;16"):
        assert Session(world, Image.new(mode, (33, 17))).frame.shape == (1, 12, 10, 3)


def test_sequences_of_frames_are_prompts(world):
    frames = random_prompt(1, 3)[0]
    reference = Session(world, frames, prompt_actions=[1, 2])
    for prompt in (list(frames), [torch.from_numpy(f) for f in frames], [Image.fromarray(f) for f in frames]):
        assert np.array_equal(Session(world, prompt, prompt_actions=["left", "right"]).frame, reference.frame)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (None, "a prompt cannot be of type NoneType: pass a PIL image or uint8 frames (H, W, 3)"),
        ("start.png", "a prompt cannot be of type str: pass PIL.Image.open('start.png')"),
        (b"", "a prompt cannot be of type bytes"),
        (3, "a prompt cannot be of type int"),
        ([[1, 2], [3, 4]], "a prompt cannot be of type list"),
        (["a.png"], "a prompt cannot be of type str: pass PIL.Image.open('a.png')"),
        ([None], "a prompt cannot be of type NoneType"),
        ([], "the prompt contains no frame"),
        (np.zeros((0, 12, 10, 3), np.uint8), "the prompt contains no frame"),
        (np.zeros((0, 1, 12, 10, 3), np.uint8), "the prompt contains no frame"),
        (np.zeros((12, 9, 3), np.uint8), "expected uint8 video of shape (B, T, 12, 10, 3)"),
        (np.zeros((12, 10, 3), np.float32), "expected uint8 video of shape (B, T, 12, 10, 3), got torch.float32"),
        (np.array([[None]]), "a prompt must have uint8 frames, got dtype object"),
        (np.zeros((12, 10), np.uint8), "expected uint8 video of shape (B, T, 12, 10, 3)"),
        (
            [np.zeros((12, 10, 3), np.uint8), np.zeros((12, 9, 3), np.uint8)],
            "the frames of a prompt must have the same shape, got [(12, 9, 3), (12, 10, 3)]",
        ),
    ],
)
def test_other_prompts_are_refused(world, prompt, message):
    with refused(message):
        Session(world, prompt)
    with refused(message):
        rollout(world, prompt, [1])


@pytest.mark.parametrize("actions", ["left", [1.5, 1], [None, 1], [True, 1], np.array([0.5, 1])])
def test_other_prompt_actions_are_refused(world, actions):
    with pytest.raises(UserError, match=r"neither a code nor a name|needs 2 prompt actions"):
        Session(world, random_prompt(1, 3), prompt_actions=actions)


@pytest.mark.parametrize(
    "actions",
    [[3, 1], ["jump", "left"], np.array([3, 1]), torch.tensor([3, 1]), [[3, 1], [3, 1]], [["jump", "left"], [3, 1]]],
)
def test_rollout_takes_actions_for_all_games_or_each(world, actions):
    expected = rollout(world, torch.from_numpy(random_prompt(2)), torch.tensor([[3, 1], [3, 1]]))
    assert torch.equal(rollout(world, random_prompt(2), actions), expected)


def test_rollout_takes_an_image(world):
    image = Image.fromarray(random_prompt()[0, 0])
    assert rollout(world, image, ["left"] * 3).shape == (1, 4, 12, 10, 3)
    assert rollout(world, image, []).shape == (1, 1, 12, 10, 3)


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (1, "expected actions of shape (K) or (2, K), got ()"),
        ("left", "expected actions of shape (K) or (2, K), got ()"),
        ([[1, 2]], "expected actions of shape (K) or (2, K), got (1, 2)"),
        ([1, 2.5], "action 2.5 is neither a code nor a name"),
        (None, "action None is neither a code nor a name"),
        ([7], "action 7 is out of range"),
    ],
)
def test_other_actions_of_a_rollout_are_refused(world, actions, message):
    with refused(message):
        rollout(world, random_prompt(2), actions)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"world": "coinrun"}, "world must be a World, got 'coinrun': pass djinn.World.from_pretrained"),
        ({"world": None}, "world must be a World, got None"),
        ({"backend": "onnx"}, "backend must be a Backend, got 'onnx': pass select_backend"),
        ({"sampler": 4}, "sampler must be a SamplerConfig, got 4: pass SamplerConfig"),
    ],
)
def test_other_types_are_refused(world, arguments, message):
    with refused(message):
        Session(**{"world": world, "prompt": random_prompt()} | arguments)


def test_wrong_number_of_actions_for_one_game(world):
    with refused("expected 1 action, got shape (2,)"):
        Session(world, random_prompt()).step([1, 2])


@pytest.mark.unchecked
@pytest.mark.parametrize("name", [None, 5, b"coinrun"])
def test_world_of_another_type_is_refused(name):
    with refused("a world is given as a path or a name"):
        World.from_pretrained(name)
