"""Write the command-line reference from the `--help` text of every command to a Markdown file."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from pathlib import Path

from djinn.cli import COMMANDS, run
from djinn.data.importers.registry import importers

WIDTH = 84
"""Columns of the help texts."""


def help_text(command: str) -> str:
    """Return what `djinn COMMAND --help` prints, without colors."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        run([*command.split(), "--help"])
    return re.sub(r"\x1b\[[0-9;]*m", "", printed.getvalue()).strip()


def commands() -> list[str]:
    """Return the commands, with a sub-command for each kind of source after `data import`."""
    kinds = [f"data import {kind}" for kind in importers()]
    return [command for parent in COMMANDS for command in (parent, *(kinds if parent == "data import" else ()))]


def reference() -> str:
    """Return the page in Markdown: a table of the commands, and a section with the help of each."""
    lines = [
        "# Command line",
        "",
        "Generated from `djinn COMMAND --help` by `docs/tools/cli_reference.py`.",
        "A `WORLD` is a world folder, a run folder, or the name of a shipped world.",
        "",
        "| command | description |",
        "|---|---|",
        *(
            f"| [`djinn {command}`](#djinn-{command.replace(' ', '-')}) | {text} |"
            for command, text in COMMANDS.items()
        ),
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
