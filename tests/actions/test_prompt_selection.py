"""Choice of prompt images from which the arrow keys have an effect."""

import numpy as np
import pytest

from djinn.actions.prompt_selection import most_responsive
from djinn.evaluate import action_effects as effects
from djinn.models.action_names import ActionName
from moving import Scroller, ScrollerSession, prompts

ACTIONS = [ActionName(0, "right", ("ArrowRight",)), ActionName(1, "left", ("ArrowLeft",)), ActionName(2, "stay")]


class Walled(ScrollerSession):
    """Session in which images 1, 4 and 5 have a wall to the left."""

    def step(self, code: int) -> np.ndarray:
        before = list(self.positions)
        frames = super().step(code)
        for i, image in enumerate(self.textures):
            if any(image is self.world.textures[p[0].tobytes()] for p in prompts()[[1, 4, 5]]) and code == 1:
                self.positions[i] = before[i]
                frames[i] = image[before[i][1] :, before[i][0] :][:64, :64]
        return frames


def test_prompts_at_a_wall_are_not_chosen(monkeypatch):
    monkeypatch.setattr(effects, "Session", Walled)
    monkeypatch.setattr(effects, "BATCH", 3)
    images = prompts()[:, 0]
    world = Scroller([(2, 0), (-2, 0), (0, 0)])
    chosen = most_responsive(world, images, ACTIONS, count=4, progress=False)
    assert chosen is not None and np.array_equal(chosen, images[[0, 2, 3, 6]])
    everything = most_responsive(world, images, ACTIONS, progress=False)
    assert everything is not None and len(everything) == 8


@pytest.mark.parametrize("actions", [ACTIONS[2:], [ActionName(2, "left", ("ArrowLeft",))]])
def test_without_effective_keys_no_choice_is_made(monkeypatch, actions):
    monkeypatch.setattr(effects, "Session", ScrollerSession)
    world = Scroller([(2, 0), (-2, 0), (0, 0)])
    assert most_responsive(world, prompts()[:, 0], actions, progress=False) is None
