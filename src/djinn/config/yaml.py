"""Strict conversion between config dataclasses and YAML.

Unknown keys and values of the wrong type are errors that name the key.
"""

from __future__ import annotations

import contextlib
import dataclasses
import types
import typing
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from djinn.atomic import atomic_write, check_readable_file
from djinn.errors import UserError

T = TypeVar("T")


def to_dict(config: Any) -> Any:
    """Convert a config dataclass to dicts, lists and scalars."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {f.name: to_dict(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, tuple):
        return [to_dict(v) for v in config]
    return config


def from_dict(cls: type[T], data: Any, where: str = "") -> T:
    """Build a dataclass from plain data.

    Args:
        cls: Dataclass of scalars, tuples and dataclasses.
        data: Nested dicts as returned by `to_dict`. Missing fields take their defaults.
        where: Dotted path of `data`, for messages.

    Raises:
        UserError: A key is unknown or a value has the wrong type. The message names its path.
    """
    _check(isinstance(data, dict), f"config {where or 'file'} must be a mapping of keys to values, got {data!r}")
    hints = typing.get_type_hints(cls)
    known = {f.name for f in dataclasses.fields(cls)}  # pyrefly: ignore
    for key in data:
        path = f"{where}.{key}" if where else str(key)
        _check(key in known, f"unknown config key '{path}'; known here: {', '.join(sorted(known))}")
    values = {k: _convert(hints[k], v, f"{where}.{k}" if where else k) for k, v in data.items()}
    return cls(**values)


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    args = typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast(type, hint), value, where)
    if origin is Literal:
        if isinstance(value, bool) and {"on", "off"} <= set(args):
            value = "on" if value else "off"  # YAML reads these words as booleans
        _check(value in args, f"config key '{where}' must be one of {', '.join(map(str, args))}, got {value!r}")
        return value
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _convert(next(a for a in args if a is not type(None)), value, where)
    if origin is tuple:
        _check(isinstance(value, list | tuple), f"config key '{where}' must be a list, got {value!r}")
        kinds = [args[0]] * len(value) if len(args) == 2 and args[1] is Ellipsis else list(args)
        _check(len(kinds) == len(value), f"config key '{where}' must have {len(kinds)} values, got {value!r}")
        return tuple(_convert(k, v, where) for k, v in zip(kinds, value, strict=True))
    if hint is float and isinstance(value, int | str) and not isinstance(value, bool):
        with contextlib.suppress(ValueError):
            return float(value)  # YAML reads 1e-3 as a string
    matches = isinstance(value, hint) and (hint is bool or not isinstance(value, bool))
    _check(matches, f"config key '{where}' must be of type {hint.__name__}, got {value!r}")
    return value


def save_yaml(config: Any, path: Path) -> None:
    """Write a config dataclass or plain data to a YAML file, atomically.

    Raises:
        UserError: The file cannot be written.
    """
    with atomic_write(path) as temporary:
        temporary.write_text(yaml.safe_dump(to_dict(config), sort_keys=False), encoding="utf-8")


def load_yaml(cls: type[T], path: Path) -> T:
    """Read a config dataclass from a YAML file.

    Raises:
        UserError: The file cannot be read or is not valid YAML, a key is unknown, or a value has
            the wrong type.
    """
    data = read_yaml(path)
    try:
        return from_dict(cls, data)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def read_yaml(path: Path) -> Any:
    """Read plain data from a YAML file.

    Raises:
        UserError: The file cannot be read or is not valid YAML.
    """
    check_readable_file(path)
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise UserError(f"{path} is not valid YAML: it is nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: an impossible date or invalid UTF-8
        raise UserError(f"{path} is not valid YAML: {str(error).splitlines()[0]}") from None


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise UserError(message)
