"""A scripted game on a torus, and a world that implements its rule with an optional fault.

Each of a few scenes is an image that every action shifts by two pixels, with wrap-around. The
scripted models have the interfaces of real ones, so that real sessions can play them.
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
POSITIONS = SIDE // STEP
SCENES = 8
BLANK = SCENES
MOVES = np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]])
"""Shift `(x, y)` of each action, in steps."""
TOKENS = 32


def _scenes() -> np.ndarray:
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (SCENES, SIDE // 4, SIDE // 4, 3))
    blank = np.full((1, SIDE, SIDE, 3), 128)
    return np.concatenate([small.repeat(4, 1).repeat(4, 2), blank]).astype(np.uint8)


def _all_frames() -> np.ndarray:
    rows = np.arange(SIDE)
    down = np.stack([_SCENES[:, (rows - STEP * y) % SIDE] for y in range(POSITIONS)], axis=1)
    return np.stack([down[:, :, :, (rows - STEP * x) % SIDE] for x in range(POSITIONS)], axis=1)


_SCENES = _scenes()
FRAMES = _all_frames()
"""All frames of the game, by scene, x and y."""
_STATES = {
    FRAMES[s, x, y].tobytes(): (s, x, y) for s in range(SCENES) for x in range(POSITIONS) for y in range(POSITIONS)
}


def draw(states: np.ndarray) -> np.ndarray:
    """Return the frames of states `(scene, x, y)`."""
    return FRAMES[states[..., 0], states[..., 1] % POSITIONS, states[..., 2] % POSITIONS]


def states_of(pixels: torch.Tensor) -> np.ndarray:
    """Return the states `(scene, x, y)` of frames in [0, 1]."""
    frames = (pixels * 255).round().to(torch.uint8).numpy()
    flat = [_STATES[frame.tobytes()] for frame in frames.reshape(-1, SIDE, SIDE, 3)]
    return np.array(flat).reshape(*frames.shape[:-3], 3)


def moved(states: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """Return the states after one action each."""
    after = states.copy()
    after[..., 1:] = (after[..., 1:] + MOVES[actions]) % POSITIONS
    return after


def write(folder: Path, episodes: int = 24, frames: int = 40, still: bool = False) -> Dataset:
    """Write a data set of the game with random actions, or with `still` frames."""
    rng = np.random.default_rng(1)
    with DatasetWriter(folder, height=SIDE, width=SIDE, fps=10) as writer:
        for i in range(episodes):
            actions = rng.integers(0, 1 if still else len(MOVES), size=frames - 1)
            state = np.array([i % SCENES, *rng.integers(POSITIONS, size=2)])
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
        step = (np.diff(states[..., 1:], axis=1) + 1) % POSITIONS - 1
        codes = (step[..., None, :] == MOVES).all(-1).argmax(-1)
        if self.fault == "collapsed":
            codes = np.zeros_like(codes)
        if self.fault == "scene codes":
            codes = states[:, 1:, 0] % len(MOVES)
        if self.fault == "shuffled":
            codes = np.roll(codes, 1, axis=0)
        if self.fault == "early":
            codes = np.roll(codes, -1, axis=1)
        chosen = torch.from_numpy(codes)
        return chosen, self.quantizer.codes()[chosen]

    def predict(self, clip, actions):
        chosen = np.zeros_like(actions.numpy()) if self.fault == "decoder ignores actions" else actions.numpy()
        return torch.from_numpy(draw(moved(states_of(clip)[:, :-1], chosen))).float() / 255


class _Dynamics(DynamicsModel):
    def __init__(self, fault: str) -> None:
        nn.Module.__init__(self)
        self.fault = fault

    def forward(self, tokens, masked, actions, *, cache, first=0, query_positions=None):
        """Return the logits of the masked last frame, flat over batch and positions."""
        if masked is None:  # a prompt of several frames, of which only the last one matters
            return torch.zeros(0, TOKENS)
        if tokens.shape[1] == 2:  # the first pass of a frame also holds the previous frame
            self.previous = tokens[:, 0].numpy()
            self.previous_action = np.zeros(len(tokens), int) if first == 0 else actions[:, 0].argmax(-1).numpy()
        chosen = actions[:, -1].argmax(-1).numpy()
        scene, x, y = self.previous[:, :3].T
        if self.fault == "dynamics ignores actions":
            chosen = np.zeros_like(chosen)
        if self.fault == "late":
            chosen = self.previous_action
        if self.fault == "weak":
            chosen = np.where((scene + 3 * x + 5 * y) % 10 == 0, chosen, 0)
        after = np.concatenate([moved(self.previous[:, :3], chosen), self.previous[:, 3:]], axis=-1)
        if self.fault == "drift" and first > 12:
            after[:, 0] = BLANK
        logits = 50 * nn.functional.one_hot(torch.from_numpy(after), TOKENS).float()
        logits = logits[:, None].expand(-1, tokens.shape[1], -1, -1)
        return logits if query_positions is None else logits.flatten(0, 2)[query_positions]


class TorusWorld(World):
    """World that implements the rule of the game with one fault, or none."""

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
        self.action_vectors = vectors[:1].expand_as(vectors) if fault == "identical vectors" else vectors
        if fault == "stale":
            self.action_vectors = vectors[[2, 3, 4, 0, 1]]
        self.training_summary = None
        self.action_names = [f"action {i}" for i in range(len(MOVES))]
