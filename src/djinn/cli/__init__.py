"""The command `djinn`: one verb for each job.

A mistake of the user ends in one sentence on stderr and exit code 2. The verbs are in `djinn.cli.registry`; nothing
heavy is imported before a verb needs it, so that `--help` answers at once.
"""

from __future__ import annotations

import difflib
import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from djinn.atomic import is_full
from djinn.errors import UserError
from djinn.malloc import keep_freed_memory

VERBS = {
    "data import": "turn videos, or the game CoinRun, into a data set",
    "data info": "say what is in a data set",
    "train": "learn a world from a data set",
    "play": "play a world in the browser",
    "sample": "make a video from a picture and a list of actions",
    "eval": "measure how good a world is on videos that it has not seen",
    "name": "name a world's actions by what they do",
    "diagnose": "say whether a world is playable, or what is wrong with it and what to change",
    "bench": "measure how fast a world is on this machine",
    "plan": "say what a preset would cost, before training it",
}

_HELP = """usage: djinn VERB ... (djinn VERB --help tells more)

Djinn learns a playable world from videos that nobody has labelled, and lets you play it.

{verbs}

From nothing to a game:

  djinn data import my-videos/ --out data/mine
  djinn train data/mine --preset tiny --out runs/mine --minutes 20
  djinn play runs/mine

A WORLD is a world folder, a run folder, or the name of a world that comes with Djinn.
"""


_NO_MEMORY = ("OutOfMemoryError", "DefaultCPUAllocator", "out of memory")
"""Of which one stands in torch's errors about memory."""


def main(args: Sequence[str] | None = None) -> None:
    """Runs one command and ends the program with its exit code.

    Args:
        args: the command line without the program's name; `sys.argv` by default.
    """
    keep_freed_memory()
    try:
        run(list(sys.argv[1:] if args is None else args))
        sys.stdout.flush()
    except UserError as error:
        _fail(str(error), 2)
    except KeyboardInterrupt:
        print(file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output has gone, as in `djinn plan | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except (OSError, MemoryError, RuntimeError) as error:
        sentence = _explain(error) if isinstance(error, OSError) else _explain_memory(error)
        if sentence is None:
            raise
        _fail(sentence, 2)


def run(args: list[str]) -> None:
    """Finds the verb and hands it the rest of the command line.

    Raises:
        UserError: there is no such verb, or the verb refuses what it was given.
    """
    if not args or args[0] in ("-h", "--help", "help"):
        print(_HELP.format(verbs="\n".join(f"  {name:<12} {text}" for name, text in VERBS.items())), end="")
        return
    if args[0] in ("-V", "--version"):
        from djinn import __version__

        print(f"djinn {__version__}")
        return
    verb, rest = _split(args)
    from djinn.cli.registry import COMMANDS

    COMMANDS[verb](rest)


def _split(args: list[str]) -> tuple[str, list[str]]:
    """The verb, of one word or two, and what follows it."""
    for words in (1, 2):
        verb = " ".join(args[:words])
        if verb in VERBS:
            return verb, args[words:]
    group = [name for name in VERBS if name.split()[0] == args[0]]
    if group and (len(args) == 1 or args[1] in ("-h", "--help")):
        for name in group:
            print(f"  djinn {name:<12} {VERBS[name]}")
        sys.exit(0 if len(args) > 1 else 2)
    typed = " ".join(args[:2]) if group else args[0]
    near = difflib.get_close_matches(typed, VERBS, n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    raise UserError(f"unknown verb '{typed}'; {hint}the verbs are {', '.join(VERBS)}")


def _explain(error: OSError) -> str | None:
    """A sentence for what a disk or its owner refuses; None for what would be a fault of ours."""
    where = f" {error.filename}" if error.filename else ""
    reason = (error.strerror or "it was refused").lower()
    if is_full(error):
        return f"no space left on the disk while writing{where}: free some space and start the same command again"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"no permission to use{where}: {reason}"
    if error.errno == errno.ENAMETOOLONG:
        return f"a file cannot have so long a name: {Path(error.filename).name[:40]}...; use a shorter one"
    if error.errno in (errno.ENOTDIR, errno.EISDIR):
        return f"cannot use{where}: {reason}"
    return None


def _explain_memory(error: Exception) -> str | None:
    """A sentence for what memory cannot hold; None for another error."""
    said = f"{type(error).__name__}: {error}"
    if not isinstance(error, MemoryError) and not any(words in said for words in _NO_MEMORY):
        return None
    whose = "of the GPU " if "CUDA" in said else ""
    return (
        f"the memory {whose}is not enough for this: use smaller frames, a smaller batch (--batch; in training "
        "--dynamics.batch and --tokenizer.batch, with --dynamics.grad-accum-steps to keep the sum) or a smaller preset; "
        "djinn plan says what one needs"
    )


def _fail(sentence: str, code: int) -> None:
    sys.stdout.flush()
    print(f"djinn: {sentence}", file=sys.stderr)
    sys.exit(code)
