"""The examples of CONTRIBUTING.md run as written."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from djinn.cli import run
from djinn.config.presets import get_preset
from djinn.data.dataset import Dataset
from djinn.data.importers.registry import importers
from djinn.models.world import World
from djinn.train.run import train
from djinn.train.stages.registry import STAGES
from language_rules import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"`src/djinn/(\S+)\.py`:\n\n```python\n(.*?)```", TEXT, re.DOTALL))
"""Code of the example files by path."""
COMMANDS = re.findall(r"^djinn .*$", TEXT, re.MULTILINE)


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator:
    """Return a function that adds an example file to its package and imports it."""
    added = []

    def add(path: str) -> ModuleType:
        folder, name = path.rsplit("/", 1)
        package = import_module("djinn." + folder.replace("/", "."))
        target = tmp_path / "examples" / folder
        target.mkdir(parents=True)
        (target / f"{name}.py").write_text(FILES[path], encoding="utf-8")
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(target)])
        added.append(f"{package.__name__}.{name}")
        importers.cache_clear()
        return import_module(added[-1])

    monkeypatch.chdir(tmp_path)
    yield add
    for name in added:
        sys.modules.pop(name, None)
    importers.cache_clear()
    STAGES.pop("motion", None)


@pytest.fixture
def square(example, tmp_path: Path) -> Path:
    """Create the data set of the example importer with the command of the text."""
    example("data/importers/square")
    (command,) = [c for c in COMMANDS if c.startswith("djinn data import square")]
    run(shlex.split(command)[1:])
    return tmp_path / "data" / "square"


def test_text_has_one_example_per_extension_point():
    assert set(FILES) == {
        "data/importers/square",
        "train/stages/motion",
        "evaluate/flicker",
        "backends/bf16_backend",
    }


def test_source_example_creates_a_data_set(square: Path):
    dataset = Dataset.open(square)
    assert len(dataset.episodes) == 100 and dataset.has_actions
    assert set(dataset.splits) == {"train", "val", "test"}
    assert dataset.metadata["action_names"] == ["left", "right"]


def test_stage_example_trains_and_resumes(square: Path, example):
    example("train/stages/motion")
    (command,) = [c for c in COMMANDS if "--stage motion" in c]
    words = shlex.split(command)
    assert words[:4] == ["djinn", "train", "data/square", "--preset"]
    metrics = train("data/square", "runs/motion", get_preset(words[4]), "motion", device="cpu")
    assert metrics["step"] == 200 and metrics["val_loss"] < 1e-3
    assert train("data/square", "runs/motion", get_preset(words[4]), "motion", device="cpu") == metrics


def test_metric_example_measures_the_shipped_world(square: Path, example):
    from djinn.evaluate.clips import draw_clips

    module = example("evaluate/flicker")
    sample = draw_clips(Dataset.open(square), "train", count=2, frames=4, seed=0)
    flicker = module.measure_flicker(World.from_pretrained("coinrun", "cpu"), sample)
    assert flicker.summary()["real"] == pytest.approx(flicker.real) and flicker.real > 0
    assert flicker.lines([])[0].startswith("flicker:")


def test_backend_example_plays_the_shipped_world(example):
    example("backends/bf16_backend")
    (code,) = [block for block in re.findall(r"```python\n(import djinn\n.*?)```", TEXT, re.DOTALL)]
    names: dict = {}
    exec(code, names)
    assert names["frame"].shape == (1, 64, 64, 3) and names["frame"].dtype == np.uint8
