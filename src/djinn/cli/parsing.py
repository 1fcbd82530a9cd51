"""From a command line to the arguments of a function, by tyro; what is wrong in it becomes one sentence."""

from __future__ import annotations

import contextlib
import functools
import io
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import FlagCreatePairsOff, Positional, arg

from djinn.errors import UserError

World = Annotated[str, Positional, arg(metavar="WORLD")]
YesNo = Annotated[Literal["yes", "no"] | None, arg(metavar="yes|no", help_behavior_hint="")]
Split = Annotated[Literal["train", "val", "test"] | None, arg(metavar="train|val|test", help_behavior_hint="")]
Flag = Annotated[bool, arg(help_behavior_hint="")]
Engine = Literal["auto", "torch", "onnx", "int8"]
Device = Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")]


def parse(spec: Callable[..., Any], args: list[str], prog: str, **more: Any) -> Any:
    """Parses a command line with tyro; a mistake in it becomes one sentence.

    Args:
        spec: the function or dataclass that describes the command; a function is called.
        args: the command line.
        prog: the command's name.
        **more: passed on to `tyro.cli`.

    Raises:
        UserError: an option is unknown, missing or has a wrong value.
    """
    if "-h" in args or "--help" in args:
        return tyro.cli(spec, args=["--help"], prog=prog, config=(FlagCreatePairsOff,), **more)
    deferred = spec if isinstance(spec, type) else _defer(spec)
    said = _Caught()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            result = tyro.cli(deferred, args=args, prog=prog, config=(FlagCreatePairsOff,), **more)
    except SystemExit:
        raise UserError(_sentence(said.getvalue(), prog)) from None
    return result if isinstance(spec, type) else result()


def _defer(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function as tyro sees it, but it only binds its arguments."""

    @functools.wraps(function)
    def bind(*args: Any, **kwargs: Any) -> Callable[[], Any]:
        return functools.partial(function, *args, **kwargs)

    return bind


class _Caught(io.StringIO):
    """Catches what tyro prints; tyro draws its boxes with these characters only where the encoding has them."""

    encoding = "utf-8"  # pyrefly: ignore


def _sentence(box: str, prog: str) -> str:
    """Tyro's boxed message as one sentence: what is wrong, and the option that was perhaps meant."""
    box = re.sub(r"\x1b\[[0-9;]*m", "", box)
    body, *notes = [_text(part) for part in re.split(r"─{6,}", re.sub("╭.*╮", "", box)) if _text(part)]
    if body.startswith("Missing from"):
        names = [line.split("  ")[0].strip() for line in re.findall(r"^│ {5}(\S.*?) *│$", box, re.MULTILINE)]
        names = [name for name in names if not name.startswith(prog)]
        body = f"{prog} needs {', '.join(names)}"
    for pattern, text in _PLAINER.items():
        body = re.sub(pattern, text, body)
    guess = next((re.search(r"--[\w.-]+", note) for note in notes if note.startswith("Perhaps you meant")), None)
    hint = f"did you mean {guess[0]}? " if guess else ""
    return f"{body.rstrip('.')}; {hint}{prog} --help lists the options"


_PLAINER = {
    r"invalid literal for int\(\) with base 10: ('.*')": r"\1 is not a whole number",
    r"could not convert string to float: ('.*')": r"\1 is not a number",
    r"^Error parsing (config\.)?(\S+):": r"\2:",
    r"^Unrecognized options: ([^, ]+).*": r"unknown option '\1'",
    r"no type matching .* - <class '\w+'>: ": "",
    r"^Missing value": "missing value",
    r"'None', |, 'None'(?=[,)])": "",
    r" Expected one of \((.*)\)": r" it must be one of \1",
    r" Expected (\d+) values?": r" it takes \1",
    r"(?<=[^.])\. it": "; it",
}


def _text(part: str) -> str:
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", part).split())
