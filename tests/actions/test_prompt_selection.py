"""Pictures to start from: those from which the arrow keys lead somewhere."""

import numpy as np
import pytest

from djinn.actions.prompt_selection import most_responsive
from djinn.evaluate import action_effects as effects
from djinn.models.action_names import ActionName
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
