"""Parse a command line into an options dataclass with tyro; errors become one sentence."""

from __future__ import annotations

import contextlib
import dataclasses
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


def parse(options: type[T], args: list[str], prog: str, *, default: Any = tyro.MISSING_NONPROP) -> T:
    """Parse a command line.

    Each field of the dataclass is an option; its docstring is the help text. Fields of a nested
    dataclass annotated with `arg(name="")` are options of the same level.

    Args:
        options: The options dataclass.
        args: The command line after the verb. With `-h` or `--help` the help is printed and the
            program exits.
        prog: Name of the command, such as `djinn train`.
        default: Instance of `options` with other defaults than its own.

    Raises:
        UserError: An option is unknown, missing, or has an invalid value.
    """
    settings: dict[str, Any] = {"prog": prog, "config": (FlagCreatePairsOff,), "registry": _REGISTRY}
    if "-h" in args or "--help" in args:
        return tyro.cli(options, args=["--help"], default=default, **settings)
    output = _Output()
    try:
        with contextlib.redirect_stderr(output), contextlib.redirect_stdout(output):
            return tyro.cli(options, args=args, default=default, **settings)
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
    if field.default is None or isinstance(field.default, bool) or field.default == ():
        kind = Annotated[kind, arg(metavar=metavar, help_behavior_hint="")]
    return dataclasses.replace(field, type=kind, helptext=functools.partial(_join_lines, field.helptext))


def _join_lines(text: str | Callable[[], str | None] | None) -> str | None:
    text = text() if callable(text) else text
    return None if text is None else " ".join(text.split())


# --------------------------------------------------------------------------- error messages


class _Output(io.StringIO):
    """Output of tyro, which draws the boxes parsed below only where the encoding is UTF-8."""

    encoding = "utf-8"  # pyrefly: ignore


def _one_sentence(box: str, prog: str) -> str:
    """Turn tyro's boxed message into one sentence, with the option that was perhaps meant."""
    box = re.sub(r"\x1b\[[0-9;]*m", "", box)
    body, *notes = [_text(part) for part in re.split(r"─{6,}", re.sub("╭.*╮", "", box)) if _text(part)]
    if body.startswith("Missing from"):
        names = [line.split("  ")[0].strip() for line in re.findall(r"^│ {5}(\S.*?) *│$", box, re.MULTILINE)]
        body = f"{prog} needs {', '.join(name for name in names if not name.startswith(prog))}"
    for pattern, text in _REPLACEMENTS.items():
        body = re.sub(pattern, text, body)
    guess = next((re.search(r"--[\w.-]+", note) for note in notes if note.startswith("Perhaps you meant")), None)
    hint = f"did you mean {guess[0]}? " if guess else ""
    return f"{body.rstrip('.')}; {hint}{prog} --help lists the options"


_REPLACEMENTS = {
    r"invalid literal for int\(\) with base 10: ('.*')": r"\1 is not an integer",
    r"could not convert string to float: ('.*')": r"\1 is not a number",
    r"^Error parsing (config\.)?(\S+):": r"\2:",
    r"^Unrecognized options: (--[^, ]+).*": r"unknown option '\1'",
    r"^Unrecognized options: ([^, ]+).*": r"unexpected argument '\1'",
    r"no type matching .* - <class '\w+'>: ": "",
    r"^Missing value": "missing value",
    r"'None', |, 'None'(?=[,)])": "",
    r" Expected one of \((.*)\)": r"; it must be one of \1",
    r" Expected (\d+) values?": r"; it takes \1",
    r"[.:];": ";",
}
"""Regular expressions in tyro's messages, and what replaces them."""


def _text(part: str) -> str:
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", part).split())
