"""A call that ends after some minutes, so that a long job runs on a machine that is lent for minutes at a time."""

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
    """Within it the program gets SIGTERM when its minutes are over, and ends cleanly and with exit code 0 if it stops then.

    Training takes the signal as it always does: it ends its step, saves and stops. Elsewhere the signal unwinds the
    program from where it is. Without minutes nothing is limited, and SIGTERM from outside unwinds it all the same.

    Args:
        minutes: of this call; None for no limit.

    Raises:
        UserError: they are not positive.
    """

    def __init__(self, minutes: float | None = None) -> None:
        if minutes is not None and minutes <= 0:
            raise UserError(f"--call-minutes must be positive, got {minutes:g}")
        self.minutes = minutes
        self.over = False
        self._began = time.monotonic()
        self._timer: threading.Timer | None = None
        self._before: Any = None

    def __enter__(self) -> TimeLimit:
        self._before = signal.signal(signal.SIGTERM, self._unwind)
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
        signal.signal(signal.SIGTERM, self._before)
        if not (self.over and isinstance(error, Stopped)):
            return False
        print(f"== the {self.minutes:g} minutes of this call are over: run the same command again to go on", flush=True)
        return True

    def check(self) -> None:
        """Ends the call where its time ran out in the last moments of something that went on to its end.

        Raises:
            Stopped: the time is over.
        """
        if self.over:
            raise Stopped(signal.SIGTERM)

    @contextmanager
    def whole(self, what: str, remedy: str) -> Generator[None]:
        """For a part that begins anew when it is stopped.

        Args:
            what: the part, for the message.
            remedy: what makes it shorter, for the message.

        Raises:
            Stopped: the time is over; in the next call there is more of it for this part.
            UserError: the part had nearly the whole call and was not done, so that no further call would get beyond it.
        """
        self.check()
        early = self.minutes is not None and time.monotonic() - self._began < 0.1 * 60 * self.minutes
        try:
            yield
        except Stopped:
            if self.over and early:
                raise UserError(
                    f"{what} takes longer than --call-minutes {self.minutes:g} and cannot be done in parts: "
                    f"allow more minutes, or {remedy}"
                ) from None
            raise

    def _expire(self) -> None:
        self.over = True
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGTERM)  # to this thread: what it waits for is interrupted

    def _unwind(self, number: int, frame: FrameType | None) -> None:
        raise Stopped(number)
