"""Write the command-line reference from the `--help` text of every verb to a Markdown file."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from pathlib import Path

from djinn.cli import VERBS, run
from djinn.data.importers.registry import importers

WIDTH = 84
"""Columns of the help texts."""


def help_text(verb: str) -> str:
    """Return what `djinn VERB --help` prints, without colours."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        run([*verb.split(), "--help"])
    return re.sub(r"\x1b\[[0-9;]*m", "", printed.getvalue()).strip()


def commands() -> list[str]:
    """Return the verbs, with a sub-command for each kind of source after `data import`."""
    kinds = [f"data import {kind}" for kind in importers()]
    return [command for verb in VERBS for command in (verb, *(kinds if verb == "data import" else ()))]


def reference() -> str:
    """Return the page in Markdown: a table of the verbs, and a section with the help of each."""
    lines = [
        "# Command line",
        "",
        "Generated from `djinn VERB --help` by `docs/tools/cli_reference.py`.",
        "A `WORLD` is a world folder, a run folder, or the name of a shipped world.",
        "",
        "| verb | what it does |",
        "|---|---|",
        *(f"| [`djinn {verb}`](#djinn-{verb.replace(' ', '-')}) | {text} |" for verb, text in VERBS.items()),
        "",
    ]
    for command in commands():
        lines += [f"## djinn {command}", "", "```text", help_text(command), "```", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    os.environ["COLUMNS"] = str(WIDTH)
    target = Path(sys.argv[1])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(reference(), encoding="utf-8")
