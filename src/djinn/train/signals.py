"""Ctrl-C and SIGTERM as requests to save and stop."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(SystemExit):
    """Training was stopped by a signal and is saved; the exit code is 128 + signal number."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


class StopSignals:
    """Context in which the first Ctrl-C or SIGTERM sets `received`, and the second one exits.

    It has no effect outside the main thread, to which Python delivers signals.
    """

    def __init__(self) -> None:
        self.received = 0
        """Number of the first signal, or 0."""
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            raise Stopped(number)
        self.received = number
        # os.write, since print is not safe in a signal handler
        os.write(2, b"\nstopping after this step; press Ctrl-C once more to exit without saving\n")


def command_line() -> str:
    """Return the shell command that started this program."""
    program = Path(sys.argv[0])
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        count = os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"])
        return shlex.join(["torchrun", "--nproc-per-node", count, "-m", "djinn", *sys.argv[1:]])
    if program.name in ("djinn", "__main__.py"):
        return shlex.join(["djinn", *sys.argv[1:]])
    return shlex.join(["python", *sys.argv])
