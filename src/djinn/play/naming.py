"""Rename an action from the page, for all players, and save the name."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from djinn.errors import UserError
from djinn.models.action_names import default_name, read_actions, save_actions

if TYPE_CHECKING:
    from djinn.models.world import World

MAX_NAME_LENGTH = 32
MAX_BODY_BYTES = 1_000


def parse_name(body: bytes) -> str:
    """Parse the body of a rename request, `{"name": TEXT}`, and strip surrounding spaces.

    Raises:
        UserError: The body is not such an object, or the name is too long, not printable, or
            ambiguous in a list of actions.
    """
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict) or not isinstance(data.get("name"), str) or len(data) != 1:
        raise UserError('The request body must be {"name": TEXT}.')
    name = data["name"].strip()
    if len(name) > MAX_NAME_LENGTH:
        raise UserError(f"This name is too long: the limit is {MAX_NAME_LENGTH} characters.")
    if not name.isprintable():
        raise UserError("This name has characters that cannot be displayed: use letters, digits and punctuation.")
    if "," in name or re.fullmatch("[0-9]+", name):
        raise UserError("A name must not contain a comma or consist of digits: lists of actions have those.")
    return name


def rename(world: World, folder: Path | None, code: int, name: str) -> str | None:
    """Rename an action in memory and save the name, to where `save_actions` writes it.

    Args:
        world: The world that is played.
        folder: The world's folder, None if it has none.
        code: Code of the action.
        name: New name; an empty one restores the default name.

    Returns:
        A warning for the player if the name was not saved, else None.
    """
    name = name or default_name(code)
    world.action_names[code] = name
    unsaved = "The name is kept until the server stops"
    if folder is None:
        return f"{unsaved}: this world has no folder."
    try:
        actions = read_actions(folder, len(world.action_names))
        actions[code] = actions[code].renamed(name)
        save_actions(folder, actions)
    except UserError as error:
        return f"{unsaved}: {error}."
    return None
