"""The command line: `djinn COMMAND`.

Invalid input ends in one sentence on stderr and exit code 2. Each command is a module of this
package, imported when the command is called, so that `--help` needs neither torch nor tyro.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType

from djinn.atomic import is_disk_full
from djinn.errors import UserError
from djinn.malloc import keep_freed_memory

COMMANDS = {
    "data import": "create a data set from videos, image sequences or a game",
    "data info": "describe a data set",
    "train": "train a world on a data set",
    "play": "play a world in the browser",
    "sample": "generate a video from an image and a list of actions",
    "eval": "evaluate a world on held-out videos",
    "name": "name a world's actions by their effect",
    "diagnose": "find out whether a world is playable, and what to change if it is not",
    "bench": "benchmark a world on this machine: speed of play and training, memory",
    "plan": "show parameters, tokens and memory of a preset",
}
"""Line of each command in `djinn --help`."""

MODULES = {"eval": "evaluate"}
"""Modules of commands whose names differ from the command."""

HELP = """usage: djinn COMMAND ...

Train a playable world on unlabelled videos and play it.

{commands}

For example:

  djinn data import my-videos/ --out data/mine
  djinn train data/mine --preset tiny --out runs/mine --minutes 20
  djinn play runs/mine

A WORLD is a world folder, a run folder, or the name of a world that comes with Djinn (coinrun).
djinn COMMAND --help describes a command and its options.
"""

_MEMORY_ERRORS = ("OutOfMemoryError", "DefaultCPUAllocator", "out of memory")
"""Parts of torch's messages about memory."""


def main(args: Sequence[str] | None = None) -> None:
    """Run one command; exit with a code other than 0 if it fails.

    Args:
        args: The command line without the program name; `sys.argv` by default.
    """
    keep_freed_memory()
    _prepare_output()
    try:
        run(list(sys.argv[1:] if args is None else args))
        sys.stdout.flush()
    except UserError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        print(file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # for example `djinn plan | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except (OSError, MemoryError, RuntimeError) as error:
        message = _explain_os_error(error) if isinstance(error, OSError) else _explain_memory_error(error)
        if message is None:
            raise
        _fail(message)


def run(args: list[str]) -> None:
    """Run one command.

    Raises:
        UserError: There is no such command, or its arguments are invalid.
    """
    if args[:1] == ["help"]:
        args = [*args[1:], "--help"]
    if not args or args[0] in ("-h", "--help"):
        print(HELP.format(commands="\n".join(f"  {command:<12} {text}" for command, text in COMMANDS.items())), end="")
        return
    if args[0] in ("-V", "--version"):
        from djinn import __version__

        print(f"djinn {__version__}")
        return
    command, rest = _split_command(args)
    command_module(command).main(rest)


def command_module(command: str) -> ModuleType:
    """Import the module of a command, which has a function `main(args: list[str])`."""
    return import_module(f"djinn.cli.{MODULES.get(command, command.replace(' ', '_'))}")


def _split_command(args: list[str]) -> tuple[str, list[str]]:
    """Split a command line into the command, of one word or two, and its arguments."""
    for words in (1, 2):
        command = " ".join(args[:words])
        if command in COMMANDS:
            return command, args[words:]
    group = [command for command in COMMANDS if command.split()[0] == args[0]]
    if group and (len(args) == 1 or args[1] in ("-h", "--help")):
        print(f"usage: djinn {args[0]} COMMAND ...\n")
        for command in group:
            print(f"  djinn {command:<12} {COMMANDS[command]}")
        sys.exit(0 if len(args) > 1 else 2)
    typed = " ".join(args[:2]) if group else args[0]
    near = difflib.get_close_matches(typed, COMMANDS, n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    raise UserError(f"unknown command '{typed}'; {hint}the commands are {', '.join(COMMANDS)}")


def _explain_os_error(error: OSError) -> str | None:
    """Return a message for an error of the file system, None for one that is a bug."""
    name = f" {error.filename}" if error.filename else ""
    reason = (error.strerror or "refused").lower()
    if is_disk_full(error):
        return f"no space left on the disk while writing{name}: free some space and rerun the command"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"no permission to use{name}: {reason}"
    if error.errno == errno.ENAMETOOLONG:
        return f"the file name {Path(error.filename).name[:40]}... is too long: use a shorter one"
    if error.errno in (errno.ENOTDIR, errno.EISDIR):
        return f"cannot use{name}: {reason}"
    return None


def _explain_memory_error(error: Exception) -> str | None:
    """Return a message for an error about memory, None for another error."""
    text = f"{type(error).__name__}: {error}"
    if not isinstance(error, MemoryError) and not any(part in text for part in _MEMORY_ERRORS):
        return None
    return (
        f"not enough {'GPU memory' if 'CUDA' in text else 'memory'}: use smaller frames, a smaller batch (--batch; in "
        "training --tokenizer.batch and --dynamics.batch, or --dynamics.grad-accum-steps to keep the batch size) or a "
        "smaller preset; djinn plan shows the memory that a preset needs"
    )


def _prepare_output() -> None:
    """Make every write to stdout and stderr possible.

    A closed stream, as in `djinn plan >&-`, becomes the null device. Characters that the encoding
    of the terminal lacks are escaped.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _fail(message: str) -> None:
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    print(f"djinn: {message}", file=sys.stderr)
    sys.exit(2)
