"""Pictures to start from: those from which the arrow keys lead somewhere."""

import numpy as np
import pytest

from djinn.actions import prompt_selection as gallery
from djinn.actions.prompt_selection import choose_for_run, most_responsive
from djinn.data.writer import DatasetWriter
from djinn.evaluate import action_effects as effects
from djinn.models.action_names import ActionName, read_actions, save_actions
from djinn.models.world import World
from moving import Scroller, ScrollerSession, prompts

WALKS = [ActionName(0, "right", ("ArrowRight",)), ActionName(1, "left", ("ArrowLeft",)), ActionName(2, "stay")]


class Walled(ScrollerSession):
    """Pictures 1, 4 and 5 have a wall to the left, and none who stands there gets away from it."""

    def step(self, code: int) -> np.ndarray:
        before = list(self.places)
        made = super().step(code)
        for i, picture in enumerate(self.pictures):
            if any(picture is self.world.pictures[p[0].tobytes()] for p in prompts()[[1, 4, 5]]) and code == 1:
                self.places[i] = before[i]
                made[i] = picture[before[i][1] :, before[i][0] :][:64, :64]
        return made


def test_walls_are_no_place_to_start(monkeypatch):
    monkeypatch.setattr(effects, "Session", Walled)
    monkeypatch.setattr(effects, "AT_ONCE", 3)
    pictures = prompts()[:, 0]
    world = Scroller([(2, 0), (-2, 0), (0, 0)])
    chosen = most_responsive(world, pictures, WALKS, kept=4, progress=False)
    assert chosen is not None and np.array_equal(chosen, pictures[[0, 2, 3, 6]])
    all_of_them = most_responsive(world, pictures, WALKS, progress=False)
    assert all_of_them is not None and len(all_of_them) == 8


@pytest.mark.parametrize("actions", [WALKS[2:], [ActionName(2, "left", ("ArrowLeft",))]])
def test_without_keys_that_lead_anywhere_there_is_nothing_to_choose_by(monkeypatch, actions):
    monkeypatch.setattr(effects, "Session", ScrollerSession)
    world = Scroller([(2, 0), (-2, 0), (0, 0)])
    assert most_responsive(world, prompts()[:, 0], actions, progress=False) is None


def test_a_run_gets_pictures_of_its_own_data(make_world, tmp_path, monkeypatch, capsys):
    world = make_world()
    world.prompts = [np.zeros((12, 10, 3), np.uint8)]
    folder = tmp_path / "run" / "world"
    world.save_pretrained(folder, dtype="fp32")
    actions = [ActionName(0, "hop", ("ArrowUp",)), *(ActionName(i, f"action {i}") for i in range(1, 5))]
    save_actions(folder, actions)
    with DatasetWriter(tmp_path / "data", height=12, width=10, fps=10) as writer:
        for i, split in enumerate(("train", "val")):
            writer.add_episode(np.full((9, 12, 10, 3), 50 * (i + 1), np.uint8), source=split, split=split)
    monkeypatch.setattr(gallery, "most_responsive", lambda world, pictures, actions: list(pictures[:2]))
    choose_for_run(tmp_path / "run", tmp_path / "data")
    again = World.from_pretrained(folder, "cpu")
    assert [int(prompt.mean()) for prompt in again.prompts] == [100, 100]  # of what was held out
    assert read_actions(folder, 5) == actions
    choose_for_run(tmp_path / "run", tmp_path / "nowhere")
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1 and "were not chosen anew" in told[0]
    assert len(World.from_pretrained(folder, "cpu").prompts) == 2
