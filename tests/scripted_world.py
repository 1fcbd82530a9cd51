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


def draw(places):
    """Frames with one bright column each; `places` may have any shape."""
    frames = np.zeros((*places.shape, SIZE, SIZE, 3), np.uint8)
    np.put_along_axis(frames, places[..., None, None, None], 200, axis=-2)
    return frames


def places_of(frames):
    return np.asarray(frames)[..., 0, :, 0].argmax(-1)


@pytest.fixture
def make_columns(tmp_path):
    """Makes data sets of a bright column that each action k moves k places to the right; ids 4 and 5 stand still as 0."""

    def make(name, *, actions=range(6), splits=(("train", 4), ("test", 20)), frames=40) -> Dataset:
        rng = np.random.default_rng(0)
        about = {"action_names": ["stay", "one", "two", "three", "x (stay)", "y (stay)"]}
        with DatasetWriter(tmp_path / name, height=SIZE, width=SIZE, fps=10, metadata=about) as writer:
            for split, episodes in splits:
                for i in range(episodes):
                    taken = rng.choice(actions, size=frames - 1)
                    moves = np.where(taken < CODES, taken, 0)
                    places = (rng.integers(SIZE) + np.concatenate([[0], moves.cumsum()])) % SIZE
                    writer.add_episode(draw(places), source=f"{split}-{i}", split=split, actions=taken)
        return Dataset.open(tmp_path / name)

    return make


@pytest.fixture
def columns(make_columns) -> Dataset:
    """The data set of `make_columns` with all actions."""
    return make_columns("columns")


class ScriptedTokenizer(nn.Module):
    """One token a frame: the column's place."""

    def __init__(self, window: int) -> None:
        super().__init__()
        self.window = window

    def encode(self, video):
        assert not self.training
        assert video.shape[1] <= self.window
        return torch.from_numpy(places_of(video))[..., None]

    def decode(self, tokens, cache=None, first=0):
        return torch.from_numpy(draw(tokens[..., 0].numpy())).float() / 255


class ScriptedDynamics(nn.Module):
    """Is sure that the column moves as the action says, or that it stays where it is."""

    def __init__(self, moves: np.ndarray) -> None:
        super().__init__()
        self.moves = torch.from_numpy(moves)

    def forward(self, tokens, masked, actions, *, cache, first=0, query_positions=None):
        """Return the logits of the last frame, which has one token."""
        if tokens.shape[1] > 1:
            cache.before = tokens[:, -2, 0]
        place = getattr(cache, "before", tokens[:, -1, 0]) + self.moves[actions[:, -1].argmax(-1)]
        logits = 1e4 * F.one_hot(place % SIZE, SIZE).float()
        return logits[:, None, None] if query_positions is None else logits


class ScriptedWorld(World):
    """Knows the rule of `columns`; its codes are the moves in another order, and it may ignore what it is told."""

    ORDER = np.array([2, 0, 3, 1])  # the code of each move

    def __init__(self, obeys: bool) -> None:
        nn.Module.__init__(self)
        self.config = WorldConfig(
            height=SIZE,
            width=SIZE,
            context_frames=5,
            tokenizer=TokenizerConfig(patch=SIZE, quantizer=QuantizerConfig(codes=SIZE)),
            latent_action=LatentActionConfig(patch=SIZE, quantizer=QuantizerConfig(codes=CODES)),
        )
        self.tokenizer = ScriptedTokenizer(self.config.context_frames)
        self.dynamics = ScriptedDynamics(self.ORDER.argsort() * obeys)
        self.latent_action = nn.Dropout()
        self.action_vectors = torch.eye(CODES)
        self.action_names = ["a", "b", "c", "d"]

    def infer_actions(self, video):
        assert not self.training
        assert video.shape[1] <= self.config.context_frames
        return torch.from_numpy(self.ORDER[np.diff(places_of(video), axis=1) % SIZE])


@pytest.fixture
def scripted():
    """Makes scripted worlds."""
    return ScriptedWorld
