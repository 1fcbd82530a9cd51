"""Names and keys of latent actions, stored in `actions.yaml`.

A world folder has one `actions.yaml`. The package is read-only, so changes to the actions of a
shipped world are stored in the user's data folder and override the entries of the package when the
world is loaded.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs
import yaml

from djinn.atomic import atomic_write
from djinn.config.yaml import read_yaml
from djinn.errors import UserError
from djinn.models.world_folder import SHIPPED

FILE = "actions.yaml"
DATA_DIR_VARIABLE = "DJINN_DATA_DIR"
"""Environment variable that replaces the user's data folder."""


@dataclass(frozen=True)
class Proposal:
    """Name and keys that Djinn derived from the effect of an action."""

    name: str
    keys: tuple[str, ...] = ()
    evidence: str = ""
    """One sentence on the effect that supports the name."""


@dataclass(frozen=True)
class ActionName:
    """Name and keys of one latent action, and the proposal for it if there was one."""

    code: int
    name: str
    keys: tuple[str, ...] = ()
    """Keys that play the action, as values of `KeyboardEvent.key`."""
    proposal: Proposal | None = None

    @property
    def evidence(self) -> str:
        """Evidence of the proposal, empty without one."""
        return "" if self.proposal is None else self.proposal.evidence

    @property
    def is_custom(self) -> bool:
        """Whether a user chose name or keys: they are neither the default nor the proposal."""
        current = (self.name, self.keys)
        proposed = None if self.proposal is None else (self.proposal.name, self.proposal.keys)
        return current not in (proposed, (default_name(self.code), ()))

    def renamed(self, name: str) -> ActionName:
        """Return a copy with another name."""
        return dataclasses.replace(self, name=name)


def default_name(code: int) -> str:
    """Return the default name of an action."""
    return f"action {code}"


def proposed(code: int, name: str, keys: Sequence[str], evidence: str) -> ActionName:
    """Return an action with the name and keys proposed for it."""
    return ActionName(code, name, tuple(keys), Proposal(name, tuple(keys), evidence))


def user_data_dir() -> Path:
    """Return the user's data folder, which `DJINN_DATA_DIR` overrides."""
    return Path(os.environ.get(DATA_DIR_VARIABLE) or platformdirs.user_data_dir("djinn", appauthor=False))


def actions_file(folder: Path) -> Path:
    """Return the file that `save_actions` writes for a world folder."""
    if _is_shipped(folder):
        return user_data_dir() / "worlds" / folder.resolve().name / FILE
    return folder / FILE


def read_actions(folder: Path, count: int) -> list[ActionName]:
    """Read names and keys of a world's actions, including a user's changes to a shipped world.

    Args:
        folder: World folder.
        count: Number of latent actions of the world.

    Returns:
        One entry per action, in order of their codes. Without `actions.yaml` these have default
        names.

    Raises:
        UserError: The file is invalid or written for another number of actions.
    """
    actions = read_folder_actions(folder, count)
    overrides = actions_file(folder)
    if not _is_shipped(folder) or not overrides.is_file():
        return actions
    for action in _parse(overrides, lambda data: [_read_entry(code, entry) for code, entry in data.items()]):
        if action.code not in range(count):
            raise UserError(f"{overrides} names action {action.code}, but the world has {count}: delete the file")
        actions[action.code] = action
    return actions


def read_folder_actions(folder: Path, count: int) -> list[ActionName]:
    """Read names and keys from the world folder only; see `read_actions`."""
    path = folder / FILE
    if not path.is_file():
        return [ActionName(code, default_name(code)) for code in range(count)]
    actions = _parse(path, lambda data: [_read_entry(code, entry) for code, entry in enumerate(data)])
    if len(actions) != count:
        raise UserError(f"{path} names {len(actions)} actions, but the world has {count}: delete the file")
    return actions


def save_actions(folder: Path, actions: Sequence[ActionName]) -> Path:
    """Save names and keys of a world's actions.

    For a shipped world only the entries that differ from the package's are saved, to the user's
    data folder.

    Args:
        folder: World folder.
        actions: One entry per action, in order of their codes.

    Returns:
        The file written, `actions_file(folder)`.

    Raises:
        UserError: The file cannot be written.
    """
    if not _is_shipped(folder):
        return write_folder_actions(folder, actions)
    path = actions_file(folder)
    changed = set(actions) - set(read_folder_actions(folder, len(actions)))
    if changed:
        _write(path, {action.code: _entry(action) for action in actions if action in changed})
    else:
        path.unlink(missing_ok=True)
    return path


def write_folder_actions(folder: Path, actions: Sequence[ActionName]) -> Path:
    """Write `actions.yaml` into a world folder, even if it is part of the package.

    Arguments and errors are those of `save_actions`.
    """
    _write(folder / FILE, [_entry(action) for action in actions])
    return folder / FILE


def merge_with_older(folder: Path, names: Sequence[str], keys: Sequence[Sequence[str]]) -> list[ActionName]:
    """Return the entries of a world that is saved over an older one.

    A user's names in the folder are kept for actions that have no name of their own in the new
    world. Proposals are kept for actions whose name and keys are unchanged, and dropped otherwise.

    Args:
        folder: Folder of the older world. It need not exist.
        names: Names of the new world's actions.
        keys: Keys of the new world's actions.
    """
    new = [ActionName(i, name, tuple(own)) for i, (name, own) in enumerate(zip(names, keys, strict=True))]
    try:
        old = read_folder_actions(folder, len(new))
    except UserError:
        return new

    def choose(new: ActionName, old: ActionName) -> ActionName:
        unchanged = (new.name, new.keys) == (old.name, old.keys)
        return old if (unchanged if new.is_custom else old.is_custom) else new

    return [choose(*pair) for pair in zip(new, old, strict=True)]


def _is_shipped(folder: Path) -> bool:
    return folder.resolve().parent == SHIPPED.resolve()


def _entry(action: ActionName) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": action.name, "keys": list(action.keys)}
    if action.proposal is not None:
        entry["proposed"] = {**dataclasses.asdict(action.proposal), "keys": list(action.proposal.keys)}
    return entry


def _write(path: Path, entries: list[dict[str, Any]] | Mapping[int, dict[str, Any]]) -> None:
    text = yaml.safe_dump({"actions": entries}, sort_keys=False, allow_unicode=True, width=1_000)
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _parse(path: Path, read: Callable[[Any], list[ActionName]]) -> list[ActionName]:
    try:
        return read(read_yaml(path)["actions"])
    except (KeyError, TypeError, AttributeError):
        raise UserError(
            f"{path} is invalid: it must contain 'actions', each with a name and a list of keys in printable characters"
        ) from None


def _read_entry(code: int, entry: dict[str, Any]) -> ActionName:
    if not isinstance(code, int) or isinstance(code, bool):
        raise TypeError
    proposal = entry.get("proposed")
    if proposal is not None:
        proposal = Proposal(_text(proposal["name"]), _keys(proposal), _text(proposal.get("evidence", "")))
    return ActionName(code, _text(entry["name"]), _keys(entry), proposal)


def _keys(entry: dict[str, Any]) -> tuple[str, ...]:
    keys = entry.get("keys", [])
    if not isinstance(keys, list):  # a string would be split into letters
        raise TypeError
    return tuple(map(_text, keys))


def _text(value: Any) -> str:
    """Return a string from YAML, which reads digits as a number; refuse control characters."""
    if not isinstance(value, str | int) or isinstance(value, bool) or not str(value).isprintable():
        raise TypeError
    return str(value)
