"""Parse a command line into an options dataclass with tyro; errors become one sentence."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import io
import operator
import re
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro
from tyro.conf import FlagCreatePairsOff, Positional, arg
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from djinn.errors import UserError

T = TypeVar("T")

WorldName = Annotated[str, Positional, arg(metavar="WORLD")]
DatasetFolder = Annotated[Path, Positional, arg(metavar="DATASET")]
Engine = Literal["auto", "torch", "onnx", "int8"]
Split = Literal["train", "val", "test"]


def parse(options: type[T], args: list[str], prog: str) -> T:
    """Parse a command line.

    Each field of the dataclass is an option; its docstring is the help text. Fields of a nested
    dataclass annotated with `arg(name="")` are options of the same level.

    Args:
        options: The options dataclass.
        args: The arguments of the command. With `-h` or `--help` the help is printed and the
            program exits.
        prog: Name of the command, such as `djinn train`.

    Raises:
        UserError: An option is unknown, missing, or has an invalid value.
    """
    settings: dict[str, Any] = {"prog": prog, "config": (FlagCreatePairsOff,), "registry": _REGISTRY}
    if "-h" in args or "--help" in args:
        return tyro.cli(options, args=["--help"], **settings)
    output = _Output()
    try:
        with contextlib.redirect_stderr(output), contextlib.redirect_stdout(output):
            return tyro.cli(options, args=args, **settings)
    except SystemExit:
        raise UserError(_one_sentence(output.getvalue(), prog)) from None


# ------------------------------------------------------------------------------- help texts

_REGISTRY = ConstructorRegistry()
_wrapped_types: set[Any] = set()


@_REGISTRY.struct_rule
def _shorten_help(info: StructTypeInfo) -> StructConstructorSpec | None:
    """Leave `None` and the defaults of flags and empty lists out of the help; join its lines."""
    if not dataclasses.is_dataclass(info.type) or info.type in _wrapped_types:
        return None
    _wrapped_types.add(info.type)  # the call below must find tyro's own rule
    try:
        spec = ConstructorRegistry.get_struct_spec(info)
    finally:
        _wrapped_types.remove(info.type)
    if not isinstance(spec, StructConstructorSpec):
        return spec  # pyrefly: ignore
    return dataclasses.replace(spec, fields=tuple(map(_shorten_field_help, spec.fields)))


def _shorten_field_help(field: StructFieldSpec) -> StructFieldSpec:
    kind: Any = field.type
    metavar = None
    choices = typing.get_args(kind)
    if typing.get_origin(kind) in (typing.Union, types.UnionType) and types.NoneType in choices:
        inner = functools.reduce(operator.or_, (c for c in choices if c is not types.NoneType))
        spec = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(inner, set()))
        metavar = spec.metavar if isinstance(spec, PrimitiveConstructorSpec) else None
    hidden = field.default is None or isinstance(field.default, bool) or field.default == ()
    if hidden or metavar is not None:
        kind = Annotated[kind, arg(metavar=metavar, help_behavior_hint="" if hidden else None)]
    return dataclasses.replace(field, type=kind, helptext=functools.partial(_join_lines, field.helptext))


def _join_lines(text: str | Callable[[], str | None] | None) -> str | None:
    text = text() if callable(text) else text
    return None if text is None else " ".join(text.split())


# --------------------------------------------------------------------------- error messages


class _Output(io.StringIO):
    """Output of tyro, which draws the boxes parsed below only where the encoding is UTF-8."""

    encoding = "utf-8"  # pyrefly: ignore


def _one_sentence(box: str, prog: str) -> str:
    """Turn tyro's boxed message into one sentence, with a suggested option."""
    text = "\n".join(re.findall(r"^│ (.*?) *│$", re.sub(r"\x1b\[[0-9;]*m", "", box), re.MULTILINE))
    sections = {section.split("\n")[0]: section for section in re.split(r"\n─+\n", text)}
    message = " ".join(next(iter(sections.values())).split())
    guess = next((re.search(r"--[\w.-]+", sections[key]) for key in sections if key.startswith("Perhaps")), None)
    option = guess[0] if guess else None
    if message.startswith("Missing from"):
        missing = _entries(next(iter(sections.values())))
        unknown = _entries(sections.get("Unrecognized options:", ""))
        message = f"{prog} needs {', '.join(missing)}" + (f" and got an unexpected '{unknown[0]}'" if unknown else "")
        names = [name.split()[0] for name in missing]
        option = next(iter(difflib.get_close_matches(unknown[0], names, n=1)), None) if unknown else None
    for pattern, replacement in _REPLACEMENTS.items():
        message = re.sub(pattern, replacement, message)
    hint = f"did you mean {option}? " if option else ""
    return f"{message.rstrip('.')}; {hint}{prog} --help lists the options"


def _entries(section: str) -> list[str]:
    """Return the options of a list, which tyro indents by four spaces, with their value's name."""
    return [line.strip().split("  ")[0] for line in section.split("\n") if re.match(r" {4}\S", line)]


_REPLACEMENTS = {
    r"^Error parsing \w+Options: ": "",
    r"invalid literal for int\(\) with base 10: ('.*')": r"\1 is not an integer",
    r"could not convert string to float: ('.*')": r"\1 is not a number",
    r"^Error parsing (config\.)?(\S+):": r"\2:",
    r"^Unrecognized options: (--[^, ]+).*": r"unknown option '\1'",
    r"^Unrecognized options: ([^, ]+).*": r"unexpected argument '\1'",
    r"no type matching .* - <class '\w+'>: ": "",
    r"^Missing value for argument '(\S+)'\. Expected 1 values?": r"missing value for \1",
    r"^Missing value for argument '(\S+)'\. Expected (\d+) values?": r"\1 takes \2 values",
    r"Could not parse arguments \[(.*)\] into tuple type .*": r"invalid values \1",
    r"'None', |, 'None'(?=[,)])": "",
    r"[Ii]nvalid choice (\S+) for argument '(\S+)'": r"\2 cannot be \1",
    r"[.:]? Expected one of \((.*)\)": r"; it must be one of \1",
}
"""Regular expressions in tyro's messages, and what replaces them."""
