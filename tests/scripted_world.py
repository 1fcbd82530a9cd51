"""A scripted game with one token per frame, and a world that uses or ignores actions."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from djinn.config import LatentActionConfig, QuantizerConfig, TokenizerConfig, WorldConfig
from djinn.data.dataset import Dataset
from djinn.data.writer import DatasetWriter
from djinn.models.world import World

SIZE = 8
CODES = 4


def draw(positions):
    """Return frames with one bright column each, for positions of any shape."""
    frames = np.zeros((*positions.shape, SIZE, SIZE, 3), np.uint8)
    np.put_along_axis(frames, positions[..., None, None, None], 200, axis=-2)
    return frames


def positions_of(frames):
    return np.asarray(frames)[..., 0, :, 0].argmax(-1)


@pytest.fixture
def make_columns(tmp_path):
    """Write data sets of a column that action k moves k positions; ids 4 and 5 equal 0."""

    def make(name, *, actions=range(6), splits=(("train", 4), ("test", 20)), frames=40) -> Dataset:
        rng = np.random.default_rng(0)
        metadata = {"action_names": ["stay", "one", "two", "three", "x (stay)", "y (stay)"]}
        with DatasetWriter(tmp_path / name, height=SIZE, width=SIZE, fps=10, metadata=metadata) as writer:
            for split, episodes in splits:
                for i in range(episodes):
                    actions_taken = rng.choice(actions, size=frames - 1)
                    steps = np.where(actions_taken < CODES, actions_taken, 0)
                    positions = (rng.integers(SIZE) + np.concatenate([[0], steps.cumsum()])) % SIZE
                    writer.add_episode(draw(positions), source=f"{split}-{i}", split=split, actions=actions_taken)
        return Dataset.open(tmp_path / name)

    return make


@pytest.fixture
def columns(make_columns) -> Dataset:
    """The data set of `make_columns` with all actions."""
    return make_columns("columns")


class ScriptedTokenizer(nn.Module):
    """Tokenizer with one token per frame, the position of the column."""

    def __init__(self, window: int) -> None:
        super().__init__()
        self.window = window

    def encode(self, video):
        assert not self.training
        assert video.shape[1] <= self.window
        return torch.from_numpy(positions_of(video))[..., None]

    def decode(self, tokens, cache=None, first=0):
        return torch.from_numpy(draw(tokens[..., 0].numpy())).float() / 255


class ScriptedDynamics(nn.Module):
    """Dynamics that moves the column by `steps[code]` positions with certainty."""

    def __init__(self, steps: np.ndarray) -> None:
        super().__init__()
        self.steps = torch.from_numpy(steps)

    def forward(self, tokens, masked, actions, *, cache, first=0, query_positions=None):
        """Return the logits of the last frame, which has one token."""
        if tokens.shape[1] > 1:
            cache.previous = tokens[:, -2, 0]
        position = getattr(cache, "previous", tokens[:, -1, 0]) + self.steps[actions[:, -1].argmax(-1)]
        logits = 1e4 * F.one_hot(position % SIZE, SIZE).float()
        return logits[:, None, None] if query_positions is None else logits[: len(query_positions)]


class ScriptedWorld(World):
    """World that implements the rule of `columns` with permuted codes, or ignores its actions."""

    ORDER = np.array([2, 0, 3, 1])  # code of each action of the game

    def __init__(self, uses_actions: bool) -> None:
        nn.Module.__init__(self)
        self.config = WorldConfig(
            height=SIZE,
            width=SIZE,
            context_frames=5,
            tokenizer=TokenizerConfig(patch=SIZE, quantizer=QuantizerConfig(codes=SIZE)),
            latent_action=LatentActionConfig(patch=SIZE, quantizer=QuantizerConfig(codes=CODES)),
        )
        self.tokenizer = ScriptedTokenizer(self.config.context_frames)
        self.dynamics = ScriptedDynamics(self.ORDER.argsort() * uses_actions)
        self.latent_action = nn.Dropout()
        self.action_vectors = torch.eye(CODES)
        self.training_summary = None
        self.action_names = ["a", "b", "c", "d"]

    def infer_actions(self, video):
        assert not self.training
        assert video.shape[1] <= self.config.context_frames
        return torch.from_numpy(self.ORDER[np.diff(positions_of(video), axis=1) % SIZE])


@pytest.fixture
def scripted():
    """Return the class of the scripted world."""
    return ScriptedWorld
