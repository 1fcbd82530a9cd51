"""Ctrl-C and SIGTERM as a polite request to stop."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

NUMBERS = (signal.SIGINT, signal.SIGTERM)


class Stopped(SystemExit):
    """Training was asked to stop and has saved its state; the exit code is 130 after Ctrl-C, 143 after SIGTERM."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


class StopSignals:
    """Within it, a first Ctrl-C or SIGTERM only sets `received`; a second one ends the program at once.

    In a thread other than the main one it does nothing, since Python delivers signals to the main thread.
    """

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in NUMBERS:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            raise Stopped(number)
        self.received = number
        os.write(2, b"\nstopping after this step; once more stops at once\n")  # print is not safe in a handler


def command_line() -> str:
    """The command that started this program, to be typed again."""
    program = Path(sys.argv[0])
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        count = os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"])
        return shlex.join(["torchrun", "--nproc-per-node", count, "-m", "djinn", *sys.argv[1:]])
    if program.name in ("djinn", "__main__.py"):
        return shlex.join(["djinn", *sys.argv[1:]])
    return shlex.join(["python", *sys.argv])
