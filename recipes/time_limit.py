"""A time limit per call, to run a long job on a machine that is available for minutes at a time."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from djinn.errors import UserError
from djinn.train.signals import Stopped


class TimeLimit:
    """Context manager that sends SIGTERM to the program after some minutes.

    Training handles the signal: it finishes the step, saves and stops. Elsewhere the signal raises
    `Stopped` at the current position. A program that stops because of the limit
    ends with exit code 0. Without a limit, SIGTERM from outside raises `Stopped` as well.

    Args:
        minutes: Limit in minutes; None for no limit.

    Raises:
        UserError: `minutes` is not positive.
    """

    def __init__(self, minutes: float | None = None) -> None:
        if minutes is not None and minutes <= 0:
            raise UserError(f"--call-minutes must be positive, got {minutes:g}")
        self.minutes = minutes
        self.expired = False
        self._start = time.monotonic()
        self._timer: threading.Timer | None = None
        self._previous_handler: Any = None

    def __enter__(self) -> TimeLimit:
        self._previous_handler = signal.signal(signal.SIGTERM, self._raise_stopped)
        if self.minutes is not None:
            self._timer = threading.Timer(60 * self.minutes, self._expire)
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the timer may be about to send it
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
        signal.signal(signal.SIGTERM, self._previous_handler)
        if not (self.expired and isinstance(error, Stopped)):
            return False
        print(f"== stopped after --call-minutes {self.minutes:g}: the same command resumes", flush=True)
        return True

    def check(self) -> None:
        """Stop if the limit expired at the end of a part that handles the signal.

        Raises:
            Stopped: The limit has expired.
        """
        if self.expired:
            raise Stopped(signal.SIGTERM)

    @contextmanager
    def uninterruptible(self, what: str, remedy: str) -> Generator[None]:
        """Run a part that starts from the beginning if it is stopped.

        Args:
            what: The part, for the message.
            remedy: How to shorten it, for the message.

        Raises:
            Stopped: The limit has expired; the next call leaves more time for this part.
            UserError: The part had nearly the whole time of the call, so no call can finish it.
        """
        self.check()
        early = self.minutes is not None and time.monotonic() - self._start < 0.1 * 60 * self.minutes
        try:
            yield
        except Stopped:
            if self.expired and early:
                raise UserError(
                    f"{what} takes longer than --call-minutes {self.minutes:g} and cannot be split: "
                    f"allow more minutes, or {remedy}"
                ) from None
            raise

    def _expire(self) -> None:
        self.expired = True
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGTERM)  # to the main thread, so that blocking calls are interrupted

    def _raise_stopped(self, number: int, frame: FrameType | None) -> None:
        raise Stopped(number)
