"""`djinn data import`: one sub-command per kind of source."""

from __future__ import annotations

import difflib
import sys
from dataclasses import field, fields, is_dataclass, make_dataclass
from pathlib import Path
from typing import Annotated, get_type_hints

from tyro.conf import arg

from djinn.cli.parsing import parse
from djinn.data.importers.importer import Importer
from djinn.data.importers.registry import importers
from djinn.errors import UserError

DEFAULT_KIND = "videos"
_GAME_PREFIX = "procgen:"
"""`procgen:coinrun` as a source is the same as `procgen coinrun`."""
_HELP = """usage: djinn data import KIND SOURCE... --out DATASET [options]

Create a data set from one kind of source:

{kinds}

Without a KIND, sources are {default}. djinn data import KIND --help lists the options of a kind.

For example:

  djinn data import my-videos/ --out data/mine --size 64x64 --fps 10
  djinn data import images my-sequences/ --out data/mine --fit stretch
  djinn data import procgen coinrun --out data/coinrun --mode easy --frames 100000
"""


def main(args: list[str]) -> None:
    """Run `djinn data import`."""
    kind, args = split_kind(args)
    if kind is None:
        kinds = "\n".join(f"  {importer.kind:<10} {importer.description}" for importer in importers().values())
        print(_HELP.format(kinds=kinds, default=DEFAULT_KIND), end="")
        sys.exit(0)
    _refuse_options_of_other_kinds(kind, args)
    options = parse(_options_type(importers()[kind]), args, f"djinn data import {kind}")
    from djinn.data.importers.import_dataset import import_dataset
    from djinn.data.summary import summarize

    print(summarize(import_dataset(options.options, options.out)))


def split_kind(args: list[str]) -> tuple[str | None, list[str]]:
    """Split a command line into the kind of source and its arguments.

    Returns:
        The kind, None if the help on all kinds is requested, and the remaining arguments.

    Raises:
        UserError: A game is imported together with other sources, or the kind is misspelled.
    """
    if args and args[0] in importers():
        return args[0], args[1:]
    games = [text for text in args if text.startswith(_GAME_PREFIX)]
    if games:
        before = ["", *args]
        sources = [
            text
            for text, previous in zip(args, before, strict=False)
            if not text.startswith("-") and (not previous.startswith("--") or "=" in previous)
        ]
        if len(sources) > 1:
            raise UserError(f"{games[0]} cannot be imported together with other sources: create two data sets")
        return "procgen", [text.removeprefix(_GAME_PREFIX) for text in args]
    if "-h" in args or "--help" in args:
        return None, args
    if len(args) > 1 and not args[0].startswith("-") and not Path(args[0]).exists():
        near = difflib.get_close_matches(args[0], importers(), n=1)
        if near:
            raise UserError(f"there is no file, folder or kind of source '{args[0]}'; did you mean '{near[0]}'?")
    return DEFAULT_KIND, args


def _refuse_options_of_other_kinds(kind: str, args: list[str]) -> None:
    own = _option_names(importers()[kind].options)
    for text in args:
        name = text.removeprefix("--").split("=")[0]
        others = [other.kind for other in importers().values() if name in _option_names(other.options)]
        if text.startswith("--") and name not in own and others:
            raise UserError(f"--{name} is for djinn data import {' and '.join(others)} only: leave it out")


def _option_names(options: type) -> set[str]:
    """Return the options of a dataclass and of the dataclasses in its fields."""
    hints = get_type_hints(options)
    names = set()
    for option in fields(options):
        kind = hints[option.name]
        names |= _option_names(kind) if is_dataclass(kind) else {option.name.replace("_", "-")}
    return names


def _options_type(importer: Importer) -> type:
    """Return a dataclass with the options of an importer and `--out`."""
    out = Annotated[Path, arg(metavar="DATASET", help="Folder to create. It must not exist, or be empty.")]
    members = [("options", Annotated[importer.options, arg(name="")]), ("out", out, field())]
    options = make_dataclass("DataImportOptions", members, frozen=True)
    options.__doc__ = importer.options.__doc__
    return options
