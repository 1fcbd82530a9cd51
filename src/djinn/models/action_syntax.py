"""Parser of action lists such as `right*10,3*5,jump`.

Grammar: entries separated by commas, each `NAME_OR_CODE` or `NAME_OR_CODE*COUNT`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from djinn.errors import UserError
from djinn.models.action_names import default_name

MAX_ACTIONS = 100_000
"""Largest number of actions in one list."""


def parse_actions(text: str, names: Sequence[str]) -> list[int]:
    """Parse a list of actions.

    Args:
        text: For example `right*10,3*5,jump`: 10 times `right`, 5 times action 3, once `jump`.
        names: Name of each action of the world, in order of their codes. Case does not matter.

    Returns:
        Code of each action, in `[0, len(names))`.

    Raises:
        UserError: An entry is not an action of the world, a count is not a positive integer, or the
            list is longer than `MAX_ACTIONS`.
    """
    actions: list[int] = []
    for entry in text.split(","):
        code, count = _parse_entry(entry.strip(), names)
        if len(actions) + count > MAX_ACTIONS:
            raise UserError(f"the list has more than {MAX_ACTIONS:,} actions: shorten it")
        actions += [code] * count
    return actions


def action_code(text: str, names: Sequence[str]) -> int:
    """Return the code of one action.

    Args:
        text: A name, in any case, or a code.
        names: Name of each action of the world, in order of their codes.

    Raises:
        UserError: The world has no such action, or several actions with this name.
    """
    code = _find(text.strip(), names)
    if code is None:
        raise UserError(_unknown(text.strip(), names))
    return code


def _parse_entry(entry: str, names: Sequence[str]) -> tuple[int, int]:
    """Return the code and the count of one entry of a list."""
    if not entry:
        raise UserError("an entry of the action list is empty: write for example 0*10,1,1")
    code = _find(entry, names)  # the whole entry first, since a name may contain '*'
    if code is not None:
        return code, 1
    action, star, count = (part.strip() for part in entry.rpartition("*"))
    if star:
        if not action:
            raise UserError(f"'{entry}' repeats no action: write for example 0{entry}")
        code = action_code(action, names)
        if re.fullmatch(r"0*[1-9][0-9]{9,}", count):
            raise UserError(f"the list has more than {MAX_ACTIONS:,} actions: shorten it")
        if not re.fullmatch(r"0*[1-9][0-9]{0,8}", count):
            raise UserError(f"the count in '{entry}' must be an integer of 1 or more, for example '{action}*5'")
        return code, int(count)
    repeated = re.fullmatch(r"(.*\S)\s*x\s*(\d+)", entry)
    if repeated and _find(repeated[1], names) is not None:
        raise UserError(
            f"'{entry}' is not an action: to repeat action {repeated[1]}, write {repeated[1]}*{repeated[2]}"
        )
    raise UserError(_unknown(entry, names))


def _find(text: str, names: Sequence[str]) -> int | None:
    """Return the code that a name or a number stands for, None where there is no such name."""
    if re.fullmatch("[0-9]+", text):
        if len(text) > 9 or int(text) >= len(names):
            raise UserError(f"action {text} is out of range: {_available(names)}")
        return int(text)
    exact = [code for code, name in enumerate(names) if name == text]
    codes = exact or [code for code, name in enumerate(names) if name.casefold() == text.casefold()]
    if len(codes) > 1:
        raise UserError(f"several actions are named '{text}': give a code, {' or '.join(map(str, codes))}")
    return codes[0] if codes else None


def _unknown(text: str, names: Sequence[str]) -> str:
    by_lower_case = {name.casefold(): name for name in names}
    near = difflib.get_close_matches(text.casefold(), by_lower_case, n=1)
    hint = f"did you mean '{by_lower_case[near[0]]}'? " if near else ""
    return f"unknown action '{text}'; {hint}{_available(names)}"


def _available(names: Sequence[str]) -> str:
    named = [f"{code} {name}" for code, name in enumerate(names) if name != default_name(code)]
    codes = f"0 to {len(names) - 1}"
    return f"this world has {len(names)} actions, {codes}" + (f" ({', '.join(named)})" if named else "")
