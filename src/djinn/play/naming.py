"""Renaming an action from the page: for all who play, and in the world's folder where it can be written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from djinn.errors import UserError
from djinn.models.action_names import default_name, read_actions, save_actions

if TYPE_CHECKING:
    from djinn.models.world import World

LONGEST_NAME = 32
MOST_BYTES = 1_000


def read_name(body: bytes) -> str:
    """The name in a request, `{"name": TEXT}`, with the spaces around it taken off.

    Raises:
        UserError: it is no such object, or the name is too long or has characters that cannot be shown.
    """
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict) or not isinstance(data.get("name"), str) or len(data) != 1:
        raise UserError('A name is given as {"name": TEXT}.')
    name = data["name"].strip()
    if len(name) > LONGEST_NAME:
        raise UserError(f"This name is too long: at most {LONGEST_NAME} characters fit on a button.")
    if not name.isprintable():
        raise UserError("This name has characters that cannot be shown: use letters, digits and signs.")
    return name


def rename(world: World, folder: Path | None, code: int, name: str) -> str | None:
    """Gives an action another name, in memory and on disk (`djinn.models.action_names.save_actions`).

    Args:
        world: the world that is played.
        folder: its folder; None where it has none.
        code: which action.
        name: its new name; an empty one takes the name away.

    Returns:
        A sentence for the player where the name could not be written down, else None.
    """
    name = name or default_name(code)
    world.action_names[code] = name
    lost = "The name lasts until the server stops"
    if folder is None:
        return f"{lost}: this world is in no folder."
    try:
        actions = read_actions(folder, len(world.action_names))
        actions[code] = actions[code].renamed(name)
        save_actions(folder, actions)
    except UserError as error:
        return f"{lost}: {error}."
    return None
