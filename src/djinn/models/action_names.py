"""`actions.yaml` of a world folder: what each latent action is called, and the keys that play it.

An entry that Djinn has proposed a name for keeps the proposal beside the name in use, so that it shows whether a person
has changed it since.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from djinn.config.yaml import read_yaml
from djinn.errors import UserError

FILE = "actions.yaml"


@dataclass(frozen=True)
class Proposal:
    """What Djinn calls an action, by what it has seen it do."""

    name: str
    keys: tuple[str, ...] = ()
    evidence: str = ""
    """One sentence on what speaks for the name."""


@dataclass(frozen=True)
class ActionName:
    """What one latent action is called."""

    code: int
    name: str
    keys: tuple[str, ...] = ()
    """Keys that play it, as a browser names them (`KeyboardEvent.key`)."""
    proposal: Proposal | None = None

    @property
    def evidence(self) -> str:
        """What speaks for the proposed name; empty where none was proposed."""
        return "" if self.proposal is None else self.proposal.evidence

    @property
    def own(self) -> bool:
        """Whether a person chose name or keys: they are neither the first ones nor those proposed."""
        given = (self.name, self.keys)
        proposed = None if self.proposal is None else (self.proposal.name, self.proposal.keys)
        return given not in (proposed, (default_name(self.code), ()))

    def renamed(self, name: str) -> ActionName:
        """The same action under another name."""
        return dataclasses.replace(self, name=name)


def default_name(code: int) -> str:
    """The name of an action that nobody has named."""
    return f"action {code}"


def proposed(code: int, name: str, keys: Sequence[str], evidence: str) -> ActionName:
    """An action under the name that is proposed for it."""
    return ActionName(code, name, tuple(keys), Proposal(name, tuple(keys), evidence))


def read_actions(folder: Path, count: int) -> list[ActionName]:
    """Names and keys of a world folder's actions; the first ones where it has no `actions.yaml`.

    Args:
        folder: the world folder.
        count: latent actions that the world has.

    Raises:
        UserError: the file is broken, or made for another number of actions.
    """
    path = folder / FILE
    if not path.is_file():
        return [ActionName(code, default_name(code)) for code in range(count)]
    try:
        actions = [_read(code, entry) for code, entry in enumerate(read_yaml(path)["actions"])]
    except (KeyError, TypeError, AttributeError):
        raise UserError(
            f"{path} is broken: it must be a list 'actions' with a name and keys for each, in printable letters"
        ) from None
    if len(actions) != count:
        raise UserError(f"{path} names {len(actions)} actions, but the world has {count}")
    return actions


def _read(code: int, entry: dict[str, Any]) -> ActionName:
    proposal = entry.get("proposed")
    if proposal is not None:
        proposal = Proposal(_word(proposal["name"]), _keys(proposal), _word(proposal.get("evidence", "")))
    return ActionName(code, _word(entry["name"]), _keys(entry), proposal)


def _keys(entry: dict[str, Any]) -> tuple[str, ...]:
    keys = entry.get("keys", [])
    if not isinstance(keys, list):  # the letters of `keys: ArrowUp` are no keys
        raise TypeError
    return tuple(map(_word, keys))


def _word(value: Any) -> str:
    """A name, a key or a sentence; YAML reads one of digits as a number, and a terminal would obey what cannot be printed."""
    if not isinstance(value, str | int) or isinstance(value, bool) or not str(value).isprintable():
        raise TypeError
    return str(value)


def save_actions(folder: Path, actions: Sequence[ActionName]) -> None:
    """Writes a world folder's `actions.yaml`, replacing the old one only when all of the new one is written.

    Args:
        folder: the world folder.
        actions: one for each latent action, in order.

    Raises:
        OSError: the folder cannot be written.
    """
    entries = []
    for action in actions:
        entry: dict[str, Any] = {"name": action.name, "keys": list(action.keys)}
        if action.proposal is not None:
            entry["proposed"] = {**dataclasses.asdict(action.proposal), "keys": list(action.proposal.keys)}
        entries.append(entry)
    text = yaml.safe_dump({"actions": entries}, sort_keys=False, allow_unicode=True, width=1_000)
    temporary = folder / f"{FILE}.tmp"
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(folder / FILE)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def kept(folder: Path, names: Sequence[str], keys: Sequence[Sequence[str]]) -> list[ActionName]:
    """Entries for a world that is saved over an older one in a folder.

    Actions that the world itself does not name keep what a person has called them in the folder, and those whose name has
    not changed keep the proposal beside it. Other proposals were made for the older world and go.

    Args:
        folder: the folder with the older world, if there is one.
        names: names of the world's actions.
        keys: their keys.
    """
    given = [ActionName(i, n, tuple(k)) for i, (n, k) in enumerate(zip(names, keys, strict=True))]
    try:
        old = read_actions(folder, len(given))
    except UserError:
        return given

    def choose(new: ActionName, before: ActionName) -> ActionName:
        same = (new.name, new.keys) == (before.name, before.keys)
        return before if (same if new.own else before.own) else new

    return [choose(*pair) for pair in zip(given, old, strict=True)]
