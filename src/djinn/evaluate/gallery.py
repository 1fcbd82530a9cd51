"""The pictures that a world's page offers to start from: those from which its arrow keys lead somewhere.

At a wall none walks, and in the air none jumps: from a picture taken at random a key may do nothing, and rightly so.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from tqdm import tqdm

from djinn.data.dataset import Dataset
from djinn.evaluate.clips import draw_clips, held_out_split, measuring
from djinn.evaluate.motion import global_shift, grey
from djinn.generate.session import Session
from djinn.models.actions import ActionName, read_actions
from djinn.models.world import World, find_world

TRIED, KEPT = 80, 12
AT_ONCE = 16
"""Pictures played from side by side."""
WAYS = {"ArrowLeft": (0, 1, 1.0), "ArrowRight": (0, -1, 1.0), "ArrowUp": (1, 1, 3.0), "ArrowDown": (1, -1, 3.0)}
"""Axis and sign in which the picture moves under a key where the camera follows, and pixels a frame beyond which more is not
better."""


def liveliest(
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
    codes = {key: action.code for action in actions for key in action.keys if key in WAYS}
    if not codes:
        return None
    far = np.ones(len(pictures))
    total = len(codes) * frames * len(pictures)
    with (
        measuring(world),
        tqdm(total=total, desc="choosing pictures to start from", unit=" frames", disable=not progress) as bar,
    ):
        for start in range(0, len(pictures), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            session = Session(world, pictures[part, None], undo_depth=0)
            for key, code in codes.items():
                axis, sign, enough = WAYS[key]
                session.reset()
                made = [pictures[part]]
                for _ in range(frames):
                    made.append(session.step(code))
                    bar.update(len(made[0]))
                far[part] *= (sign * _shift(np.stack(made))[:, axis]).clip(0, enough)
    if not far.any():
        return None
    best = np.sort(np.argsort(-far, kind="stable")[:kept])
    return [pictures[i] for i in best]


def _shift(made: UInt8[np.ndarray, "t p h w 3"]) -> Float[np.ndarray, "p 2"]:
    """How far each whole picture moves, in pixels a frame: the median over frames."""
    lit = grey(made)
    return np.median([global_shift(*pair) for pair in itertools.pairwise(lit)], axis=0)


def choose_for_run(run: Path, dataset: Path) -> None:
    """Gives a run's world pictures of its data set to start from, once its actions have keys.

    What goes wrong here is one line on stderr: the world is trained and saved, and has pictures.

    Args:
        run: the run folder.
        dataset: the data set that it was trained on; what is held out in it is taken where there is something.
    """
    if int(os.environ.get("RANK", "0")) != 0:  # of several processes the first writes
        return
    try:
        folder, data = find_world(run), Dataset.open(dataset)
        world = World.from_pretrained(folder)
        drawn = draw_clips(data, held_out_split(data, 1), TRIED, 1, 0)
        pictures = drawn.clips.batch(np.sort(drawn.indices))[:, 0]
        chosen = liveliest(world, pictures, read_actions(folder, world.num_actions))
        if chosen is not None:
            world.prompts = chosen
            world.save_pretrained(folder)
    except Exception as error:
        print(f"the pictures to start from were not chosen anew ({error})", file=sys.stderr)
