"""Selection of prompt images from which the arrow keys of a world have the most effect.

At a wall the player cannot walk, and in the air it cannot jump: from a random frame a key may
correctly have no effect.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from djinn.actions.keys import ARROWS
from djinn.actions.motion_labels import DIRECTIONS
from djinn.evaluate.action_effects import hold_actions, median_shift
from djinn.evaluate.motion import grey
from djinn.models.action_names import ActionName
from djinn.models.world import World

CANDIDATES = 80
"""Frames to choose from."""
NUM_PROMPTS = 12
"""Prompt images of a world."""
PLAYER_DIRECTIONS = {key: DIRECTIONS[word] for word, key in ARROWS}
"""Axis and sign of the player's motion for each key. The frame moves the other way where the camera
follows.
"""
MAX_SPEED = (1.0, 3.0)
"""Horizontal and vertical speed in pixels per frame at which the score saturates."""


def most_responsive(
    world: World,
    images: UInt8[np.ndarray, "p h w 3"],
    actions: Sequence[ActionName],
    *,
    count: int = NUM_PROMPTS,
    frames: int = 4,
    progress: bool = True,
) -> list[UInt8[np.ndarray, "h w 3"]] | None:
    """Choose the images from which all arrow keys of a world cause the most motion.

    Args:
        world: The world.
        images: Candidates.
        actions: Names and keys of its actions.
        count: Number of images to choose.
        frames: Number of frames for which each key is held.
        progress: Show a progress bar.

    Returns:
        The chosen images in their order, None if no action has an arrow key or none moves the
        frame.
    """
    codes = {key: action.code for action in actions for key in action.keys if key in PLAYER_DIRECTIONS}
    if not codes:
        return None
    generated = hold_actions(world, images[:, None], list(codes.values()), frames=frames, progress=progress)
    response = np.ones(len(images))
    for key, videos in zip(codes, generated, strict=True):
        axis, sign = PLAYER_DIRECTIONS[key]
        response *= (-sign * median_shift(grey(videos))[:, axis]).clip(0, MAX_SPEED[axis])
    if not response.any():
        return None
    best = np.sort(np.argsort(-response, kind="stable")[:count])
    return [images[i] for i in best]
