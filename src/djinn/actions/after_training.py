"""Steps after training: name the actions of a world and choose its prompt images."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from djinn.actions.name_world import keep_own
from djinn.actions.naming import name_actions
from djinn.actions.prompt_selection import CANDIDATES, most_responsive
from djinn.data.dataset import Dataset
from djinn.evaluate.clips import draw_clips, held_out_split
from djinn.models.action_names import default_name, read_actions, save_actions
from djinn.models.world import World
from djinn.models.world_folder import find_world


def after_training(
    run: Path, dataset: Path, *, init_from: str | None, exported: bool, announce: Callable[[str], None]
) -> None:
    """Name the actions of a run's world and choose its prompt images.

    A failure is one line on stderr, since the world is already trained and saved. Does nothing in
    processes other than the first of a distributed run.

    Args:
        run: The run folder.
        dataset: The data set that the world was trained on.
        init_from: The world that training started from.
        exported: Whether training has written a new world.
        announce: Called with `names` and with `prompts` when that step begins.
    """
    if not is_first_process():
        return
    if init_from is None:
        announce("names")
        name_run(run, dataset)
    else:
        print(f"the actions keep the names of {init_from}; to rename them by their effect: djinn name {run} {dataset}")
    announce("prompts")
    if exported:
        choose_prompts(run, dataset)
    else:
        print("the world is unchanged: its prompt images are kept", file=sys.stderr)


def name_run(run: Path, dataset: Path) -> None:
    """Name the actions of a run's world, unless all of them have been named already.

    Args:
        run: The run folder.
        dataset: The data set that the world was trained on.
    """
    command = f"djinn name {run} {dataset}"
    try:
        folder = find_world(run)
        world = World.from_pretrained(folder)
        before = read_actions(folder, world.num_actions)
        if all(action.is_custom or action.proposal is not None for action in before):
            return
        actions = keep_own(before, name_actions(world, Dataset.open(dataset)))
        save_actions(folder, actions)
    except Exception as error:
        print(f"the actions have no names yet ({error}): {command} retries", file=sys.stderr)
        return
    if all(action.name == default_name(action.code) for action in actions):
        print("no action has an effect that is clear enough for a name: they keep their numbers")
        return
    names = ", ".join(action.name for action in actions)
    print(f"actions named by their effect: {names}; {command} shows the measurements, djinn play renames them")


def choose_prompts(run: Path, dataset: Path) -> None:
    """Choose the prompt images from which the arrow keys of a run's world have most effect.

    Candidates are held-out frames where there are any.

    Args:
        run: The run folder.
        dataset: The data set that the world was trained on.
    """
    try:
        folder, data = find_world(run), Dataset.open(dataset)
        world = World.from_pretrained(folder)
        drawn = draw_clips(data, held_out_split(data, 1), CANDIDATES, 1, 0)
        candidates = drawn.clips.batch(np.sort(drawn.indices))[:, 0]
        chosen = most_responsive(world, candidates, read_actions(folder, world.num_actions))
        if chosen is not None:
            world.prompts = chosen
            world.save_pretrained(folder)
    except Exception as error:
        print(f"the prompt images could not be chosen ({error}): those of training are kept", file=sys.stderr)


def is_first_process() -> bool:
    """Return whether this is the process of a distributed run that writes."""
    return int(os.environ.get("RANK", "0")) == 0
