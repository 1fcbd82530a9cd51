"""The pictures that a world's page offers to start from: those from which its arrow keys lead somewhere.

At a wall none walks, and in the air none jumps: from a picture taken at random a key may do nothing, and rightly so.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from djinn.actions.name_world import is_first_process
from djinn.actions.naming import ARROWS, WAYS
from djinn.data.dataset import Dataset
from djinn.evaluate.action_effects import hold_actions, median_shift
from djinn.evaluate.clips import draw_clips, held_out_split
from djinn.evaluate.motion import grey
from djinn.models.action_names import ActionName, read_actions
from djinn.models.world import World
from djinn.models.world_folder import find_world

TRIED, KEPT = 80, 12
MOVES = {key: WAYS[word] for word, key in ARROWS}
"""Axis and sign in which the player moves under a key, and the picture the other way where the camera follows."""
ENOUGH = (1.0, 3.0)
"""Pixels a frame, to the side and up or down, beyond which more is not better."""


def most_responsive(
    world: World,
    pictures: UInt8[np.ndarray, "p h w 3"],
    actions: Sequence[ActionName],
    *,
    kept: int = KEPT,
    frames: int = 4,
    progress: bool = True,
) -> list[UInt8[np.ndarray, "h w 3"]] | None:
    """Chooses the pictures from which all arrow keys of a world lead farthest.

    Args:
        world: the world.
        pictures: to choose from.
        actions: names and keys of its actions.
        kept: how many to choose.
        frames: how long each key is held.
        progress: show a progress bar.

    Returns:
        The pictures in their order; None where no action has an arrow key, or none moves the whole picture.
    """
    codes = {key: action.code for action in actions for key in action.keys if key in MOVES}
    if not codes:
        return None
    made = hold_actions(world, pictures[:, None], list(codes.values()), frames=frames, progress=progress)
    far = np.ones(len(pictures))
    for key, films in zip(codes, made, strict=True):
        axis, sign = MOVES[key]
        far *= (-sign * median_shift(grey(films))[:, axis]).clip(0, ENOUGH[axis])
    if not far.any():
        return None
    best = np.sort(np.argsort(-far, kind="stable")[:kept])
    return [pictures[i] for i in best]


def choose_for_run(run: Path, dataset: Path) -> None:
    """Gives a run's world pictures of its data set to start from, once its actions have keys.

    What goes wrong here is one line on stderr: the world is trained and saved, and has pictures.

    Args:
        run: the run folder.
        dataset: the data set that it was trained on; what is held out in it is taken where there is something.
    """
    if not is_first_process():
        return
    try:
        folder, data = find_world(run), Dataset.open(dataset)
        world = World.from_pretrained(folder)
        drawn = draw_clips(data, held_out_split(data, 1), TRIED, 1, 0)
        pictures = drawn.clips.batch(np.sort(drawn.indices))[:, 0]
        chosen = most_responsive(world, pictures, read_actions(folder, world.num_actions))
        if chosen is not None:
            world.prompts = chosen
            world.save_pretrained(folder)
    except Exception as error:
        print(f"the pictures to start from were not chosen anew ({error})", file=sys.stderr)
