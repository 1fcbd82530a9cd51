import numpy as np
import pytest
import torch
from torch import nn

from djinn.config import LatentActionConfig, QuantizerConfig, WorldConfig
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
def columns(tmp_path) -> Dataset:
    """A bright column that each action k moves k places to the right; ids 4 and 5 stand still as id 0 does."""
    rng = np.random.default_rng(0)
    names = ["stay", "one", "two", "three", "x (stay)", "y (stay)"]
    with DatasetWriter(tmp_path / "columns", height=SIZE, width=SIZE, fps=10, about={"action_names": names}) as writer:
        for split, episodes in (("train", 4), ("test", 20)):
            for i in range(episodes):
                actions = rng.integers(0, 6, size=39)
                moves = np.where(actions < CODES, actions, 0)
                places = (rng.integers(SIZE) + np.concatenate([[0], moves.cumsum()])) % SIZE
                writer.add_episode(draw(places), source=f"{split}-{i}", split=split, actions=actions)
    return Dataset.open(tmp_path / "columns")


class ScriptedWorld(World):
    """Knows the rule of `columns`; its codes are the moves in another order, and it may ignore what it is told."""

    ORDER = np.array([2, 0, 3, 1])  # the code of each move

    def __init__(self, obeys: bool) -> None:
        nn.Module.__init__(self)
        self.obeys = obeys
        latent_action = LatentActionConfig(quantizer=QuantizerConfig(codes=CODES))
        self.config = WorldConfig(height=SIZE, width=SIZE, frames=5, latent_action=latent_action)
        self.latent_action = nn.Dropout()
        self.action_vectors = torch.zeros(CODES, 1)
        self.action_names = ["a", "b", "c", "d"]

    def encode(self, video):
        assert not self.training
        assert video.shape[1] <= self.config.frames
        return torch.from_numpy(places_of(video))

    def decode(self, tokens):
        return torch.from_numpy(draw(tokens.numpy()))

    def infer_actions(self, video):
        assert not self.training
        assert video.shape[1] <= self.config.frames
        return torch.from_numpy(self.ORDER[np.diff(places_of(video), axis=1) % SIZE])

    def play(self, prompt, actions):
        moves = self.ORDER.argsort()[actions.numpy()] * self.obeys
        places = (places_of(prompt[:, -1])[:, None] + moves.cumsum(1)) % SIZE
        return torch.cat([prompt, torch.from_numpy(draw(places))], dim=1)


@pytest.fixture
def scripted(monkeypatch):
    """Makes scripted worlds, and lets roll-outs play them."""

    def rollout(world, prompt, actions, *, sampler, seed, prompt_actions):
        assert prompt_actions.shape == (prompt.shape[0], prompt.shape[1] - 1)
        return world.play(prompt, actions)

    monkeypatch.setattr("djinn.evaluate.clips.rollout", rollout)
    return ScriptedWorld
