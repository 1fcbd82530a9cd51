"""A game without borders, and scripted models that know its rule and can be given one fault.

Each of a few scenes is a picture that each action moves by two pixels in its direction; what leaves on one side comes in on
the other. The models stand where real ones do: real sessions play them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from djinn.config import LatentActionConfig, QuantizerConfig, TokenizerConfig, WorldConfig
from djinn.data.dataset import Dataset
from djinn.data.writer import DatasetWriter
from djinn.models.dynamics import DynamicsModel
from djinn.models.latent_action import LatentActionModel
from djinn.models.tokenizer import VideoTokenizer
from djinn.models.world import World

SIDE = 32
STEP = 2
PLACES = SIDE // STEP
SCENES = 8
BLANK = SCENES
MOVES = np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]])
"""`(x, y)` of each action's step."""
TOKENS = 32


def _scenes() -> np.ndarray:
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (SCENES, SIDE // 4, SIDE // 4, 3))
    blank = np.full((1, SIDE, SIDE, 3), 128)
    return np.concatenate([small.repeat(4, 1).repeat(4, 2), blank]).astype(np.uint8)


def _all_frames() -> np.ndarray:
    rows = np.arange(SIDE)
    down = np.stack([_SCENES[:, (rows - STEP * y) % SIDE] for y in range(PLACES)], axis=1)
    return np.stack([down[:, :, :, (rows - STEP * x) % SIDE] for x in range(PLACES)], axis=1)


_SCENES = _scenes()
FRAMES = _all_frames()
"""Every frame that there is, by scene, x and y."""
_STATES = {FRAMES[s, x, y].tobytes(): (s, x, y) for s in range(SCENES) for x in range(PLACES) for y in range(PLACES)}


def draw(states: np.ndarray) -> np.ndarray:
    """Frames of `(scene, x, y)`."""
    return FRAMES[states[..., 0], states[..., 1] % PLACES, states[..., 2] % PLACES]


def states_of(pixels: torch.Tensor) -> np.ndarray:
    """`(scene, x, y)` of frames in [0, 1]."""
    frames = (pixels * 255).round().to(torch.uint8).numpy()
    flat = [_STATES[frame.tobytes()] for frame in frames.reshape(-1, SIDE, SIDE, 3)]
    return np.array(flat).reshape(*frames.shape[:-3], 3)


def moved(states: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """States after an action each."""
    after = states.copy()
    after[..., 1:] = (after[..., 1:] + MOVES[actions]) % PLACES
    return after


def write(folder: Path, episodes: int = 24, frames: int = 40, still: bool = False) -> Dataset:
    """A data set of the game, played at random."""
    rng = np.random.default_rng(1)
    with DatasetWriter(folder, height=SIDE, width=SIDE, fps=10) as writer:
        for i in range(episodes):
            actions = rng.integers(0, 1 if still else len(MOVES), size=frames - 1)
            state = np.array([i % SCENES, *rng.integers(PLACES, size=2)])
            states = [state]
            for action in actions:
                states.append(state := moved(state, action))
            writer.add_episode(draw(np.stack(states)), source=f"{i}", split="test", actions=actions)
    return Dataset.open(folder)


class _Tokenizer(VideoTokenizer):
    def __init__(self, fault: str) -> None:
        nn.Module.__init__(self)
        self.coarse = fault == "coarse"

    def encode(self, video):
        states = states_of(video)
        if self.coarse:
            states[..., 1:] = states[..., 1:] // 8 * 8
        return torch.from_numpy(np.concatenate([states, np.zeros_like(states[..., :1])], axis=-1))

    def decode(self, tokens, cache=None, first=0):
        return torch.from_numpy(draw(tokens.numpy())).float() / 255


class _Codebook(nn.Module):
    def codes(self):
        return torch.eye(len(MOVES))


class _Actions(LatentActionModel):
    def __init__(self, fault: str) -> None:
        nn.Module.__init__(self)
        self.input, self.fault = "pixels", fault
        self.quantizer = _Codebook()

    def infer(self, clip):
        states = states_of(clip)
        step = (np.diff(states[..., 1:], axis=1) + 1) % PLACES - 1
        codes = (step[..., None, :] == MOVES).all(-1).argmax(-1)
        if self.fault == "collapsed":
            codes = np.zeros_like(codes)
        if self.fault == "pictures":
            codes = states[:, 1:, 0] % len(MOVES)
        if self.fault == "shuffled":
            codes = np.roll(codes, 1, axis=0)
        if self.fault == "early":
            codes = np.roll(codes, -1, axis=1)
        chosen = torch.from_numpy(codes)
        return chosen, self.quantizer.codes()[chosen]

    def predict(self, clip, actions):
        chosen = np.zeros_like(actions.numpy()) if self.fault == "deaf decoder" else actions.numpy()
        return torch.from_numpy(draw(moved(states_of(clip)[:, :-1], chosen))).float() / 255


class _Dynamics(DynamicsModel):
    def __init__(self, fault: str) -> None:
        nn.Module.__init__(self)
        self.fault = fault

    def forward(self, tokens, masked, actions, *, cache, first=0, query_positions=None):
        """Return the logits of the masked last frame, flat over batch and positions."""
        if masked is None:  # a prompt of several frames, of which only the last one matters
            return torch.zeros(0, TOKENS)
        if tokens.shape[1] == 2:  # the first pass of a frame also holds the frame before and the action that led to it
            self.before = tokens[:, 0].numpy()
            self.led = np.zeros(len(tokens), int) if first == 0 else actions[:, 0].argmax(-1).numpy()
        chosen = actions[:, -1].argmax(-1).numpy()
        scene, x, y = self.before[:, :3].T
        if self.fault == "deaf":
            chosen = np.zeros_like(chosen)
        if self.fault == "late":
            chosen = self.led
        if self.fault == "weak":
            chosen = np.where((scene + 3 * x + 5 * y) % 10 == 0, chosen, 0)
        after = np.concatenate([moved(self.before[:, :3], chosen), self.before[:, 3:]], axis=-1)
        if self.fault == "drift" and first > 12:
            after[:, 0] = BLANK
        logits = 50 * nn.functional.one_hot(torch.from_numpy(after), TOKENS).float()
        logits = logits[:, None].expand(-1, tokens.shape[1], -1, -1)
        return logits if query_positions is None else logits.flatten(0, 2)[query_positions]


class TorusWorld(World):
    """Knows the rule of the game, apart from one fault."""

    def __init__(self, fault: str = "") -> None:
        nn.Module.__init__(self)
        self.config = WorldConfig(
            height=SIDE,
            width=SIDE,
            context_frames=5,
            tokenizer=TokenizerConfig(patch=16, quantizer=QuantizerConfig(codes=TOKENS)),
            latent_action=LatentActionConfig(quantizer=QuantizerConfig(codes=len(MOVES), dim=len(MOVES))),
        )
        self.tokenizer, self.latent_action, self.dynamics = _Tokenizer(fault), _Actions(fault), _Dynamics(fault)
        vectors = torch.eye(len(MOVES))
        self.action_vectors = vectors[:1].expand_as(vectors) if fault == "equal vectors" else vectors
        if fault == "stale":
            self.action_vectors = vectors[[2, 3, 4, 0, 1]]
        self.action_names = [f"action {i}" for i in range(len(MOVES))]
