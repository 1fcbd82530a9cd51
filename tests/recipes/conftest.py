from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from djinn.data.dataset import Dataset
from djinn.data.importers.policies import ACTION_NAMES
from djinn.data.importers.procgen import parse_levels, split_levels
from djinn.data.writer import DatasetWriter

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture
def recipe(monkeypatch):
    """Import a file of `recipes/` as Python does when it runs it."""
    monkeypatch.syspath_prepend(str(RECIPES))
    return importlib.import_module


@pytest.fixture
def coinrun(recipe) -> ModuleType:
    return recipe("coinrun")


@pytest.fixture
def gpu(monkeypatch) -> None:
    """Pretend that a GPU is available."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "a large GPU")


@pytest.fixture
def no_gpu(monkeypatch) -> None:
    """Pretend that no GPU is available."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def drawn_game(monkeypatch, no_gpu) -> None:
    """Replace CoinRun by a moving square, on a background whose grey depends on the policy."""

    def record(options, out):
        game = options.coinrun
        chosen = list(parse_levels(options.levels))[: max(12, options.frames // 80)]
        metadata = {"game": "squares", "mode": game.mode, "policy": game.policy, "action_names": list(ACTION_NAMES)}
        with DatasetWriter(out, height=64, width=64, fps=options.fps, metadata=metadata) as writer:
            for level, split in zip(chosen, split_levels(chosen), strict=True):
                random = np.random.default_rng([level, len(game.policy)])
                moves, x = random.integers(2, size=23), 24
                video = np.full((24, 64, 64, 3), 16 * len(game.policy), np.uint8)
                for t in range(24):
                    video[t, 24:40, x : x + 16] = (250, 220, 40)
                    x = int(np.clip(x + 8 * (2 * moves[t] - 1), 0, 48)) if t < 23 else x
                actions = np.where(moves, ACTION_NAMES.index("right"), ACTION_NAMES.index("left"))
                writer.add_episode(video, source=f"level-{level}", split=split, actions=actions)
        return Dataset.open(out)

    monkeypatch.setattr("djinn.data.importers.import_dataset.import_dataset", record)
