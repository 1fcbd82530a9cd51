"""The pictures that a world's page offers to start from: those from which its arrow keys lead somewhere.

At a wall none walks, and in the air none jumps: from a picture taken at random a key may do nothing, and rightly so.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from djinn.actions.naming import ARROWS, WAYS
from djinn.evaluate.action_effects import hold_actions, median_shift
from djinn.evaluate.motion import grey
from djinn.models.action_names import ActionName
from djinn.models.world import World

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
