"""Naming of actions and choice of prompt images at the end of `djinn train`."""

from pathlib import Path

import numpy as np
import pytest

from djinn.actions import after_training as module
from djinn.actions.after_training import after_training, choose_prompts, name_run
from djinn.data.dataset import Dataset
from djinn.data.writer import DatasetWriter
from djinn.models.action_names import ActionName, proposed, read_actions, save_actions
from djinn.models.world import World


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data set of grey frames: of brightness 50 in `train`, 100 in `val`."""
    with DatasetWriter(tmp_path / "data", height=12, width=10, fps=10) as writer:
        for i, split in enumerate(("train", "val")):
            writer.add_episode(np.full((9, 12, 10, 3), 50 * (i + 1), np.uint8), source=split, split=split)
    return Dataset.open(tmp_path / "data").path


@pytest.fixture
def run(make_world, tmp_path: Path) -> Path:
    """A run folder with a world of 5 actions and one black prompt image."""
    world = make_world()
    world.prompts = [np.zeros((12, 10, 3), np.uint8)]
    world.save_pretrained(tmp_path / "run" / "world", dtype="fp32")
    return tmp_path / "run"


def test_actions_are_named_once(run, data, capsys, monkeypatch):
    unclear = [proposed(i, f"action {i}", [], "") for i in range(5)]
    for proposals, message in (
        (unclear, "they keep their numbers"),
        ([proposed(0, "up", [], ""), *unclear[1:]], "actions named by their effect: up, action 1"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(module, "name_actions", lambda *_, result=proposals: result)
            (run / "world" / "actions.yaml").unlink()
            name_run(run, data)
        assert message in capsys.readouterr().out
        assert read_actions(run / "world", 5) == proposals
    name_run(run, data)
    assert capsys.readouterr().out == ""  # all actions have names now


def test_prompts_are_held_out_frames(run, data, monkeypatch):
    actions = [ActionName(0, "hop", ("ArrowUp",)), *(ActionName(i, f"action {i}") for i in range(1, 5))]
    save_actions(run / "world", actions)
    monkeypatch.setattr(module, "most_responsive", lambda world, candidates, actions: list(candidates[:2]))
    choose_prompts(run, data)
    world = World.from_pretrained(run, "cpu")
    assert [int(prompt.mean()) for prompt in world.prompts] == [100, 100]
    assert read_actions(run / "world", 5) == actions


def test_failures_are_one_line_and_change_nothing(run, tmp_path, capsys):
    before = {path: path.read_bytes() for path in (run / "world").rglob("*") if path.is_file()}
    for step, message in ((name_run, "have no names yet"), (choose_prompts, "could not be chosen")):
        step(run, tmp_path / "nowhere")
        output = capsys.readouterr()
        assert output.out == "" and output.err.count("\n") == 1
        assert message in output.err
    assert before == {path: path.read_bytes() for path in (run / "world").rglob("*") if path.is_file()}


def test_steps_follow_each_other(run, data, monkeypatch):
    calls = []
    monkeypatch.setattr(module, "name_run", lambda *_: calls.append("name_run"))
    monkeypatch.setattr(module, "choose_prompts", lambda *_: calls.append("choose_prompts"))
    after_training(run, data, init_from=None, exported=True, announce=calls.append)
    assert calls == ["names", "name_run", "prompts", "choose_prompts"]
    calls.clear()
    after_training(run, data, init_from="coinrun", exported=False, announce=calls.append)
    assert calls == ["prompts"]
    calls.clear()
    monkeypatch.setenv("RANK", "1")
    after_training(run, data, init_from=None, exported=True, announce=calls.append)
    assert calls == []
