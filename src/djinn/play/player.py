"""One player: a session of the world, the key that is held, and the loop that plays."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import random
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import numpy as np

from djinn.config import SamplerConfig
from djinn.errors import UserError
from djinn.play import protocol
from djinn.play.images import encode_picture
from djinn.play.recorder import Tape

log = logging.getLogger("djinn.play")

FRAMES_AHEAD = 2
MOST_WAITING = 16
MOST_UPLOADS = 12
UNDO_DEPTH = 32


class PlaySession(Protocol):
    """What a player needs of `djinn.generate.session.Session`."""

    sampler: SamplerConfig
    timings: dict[str, float]

    @property
    def frame(self) -> np.ndarray:
        """The current frame, uint8 `(1, H, W, 3)`."""
        ...

    def step(self, actions: int) -> np.ndarray:
        """Plays one frame."""
        ...

    def undo(self, n: int = 1) -> np.ndarray:
        """Takes the last n frames back."""
        ...

    def reset(self, seed: int | None = None) -> np.ndarray:
        """Goes back to the prompt."""
        ...


MakeSession = Callable[[np.ndarray, SamplerConfig, int], PlaySession]
Work = Callable[[Callable[[], Any]], Awaitable[Any]]


class Player:
    """A visitor's game.

    All model work goes through `work`, one piece at a time, so that players who share one worker take turns. Only the
    newest action counts: a `hold` that has not been played yet is replaced by the next.
    """

    def __init__(
        self,
        make_session: MakeSession,
        prompts: list[np.ndarray],
        actions: int,
        *,
        sampler: SamplerConfig,
        fps: float,
        image_format: str,
        work: Work,
        send_text: Callable[[dict[str, Any]], Awaitable[None]],
        send_frame: Callable[[bytes], Awaitable[None]],
    ) -> None:
        """Prepares a player; `run` starts the first session and plays."""
        self.id = secrets.token_urlsafe(16)
        self.make_session = make_session
        self.prompts = prompts
        self.uploads: list[np.ndarray] = []
        self.known = protocol.messages(actions, len(prompts))
        self.sampler = sampler
        self.fps = fps
        self.image_format = image_format
        self.work = work
        self.send_text = send_text
        self.send_frame = send_frame
        self.seed = random.randrange(1_000_000)
        self.tape = Tape(prompts[0].nbytes)
        self.last_heard = time.monotonic()

        self._session: PlaySession | None = None
        self._depth = 0
        self._time = 0
        self._number = 0
        self._seen = 0
        self._held: int | None = None
        self._pending: int | None = None
        self._waiting: deque[tuple[str, dict[str, Any]]] = deque([("prompt", {"index": 0})])
        self._due = 0.0
        self._stamp: tuple[float, float] | None = None
        self._wake = asyncio.Event()

    async def hear(self, text: str | None) -> None:
        """Takes one message from the page; what is wrong with it is told to the page, and the game goes on."""
        self.last_heard = time.monotonic()
        try:
            if text is None:
                raise UserError("Messages must be text, not binary.")
            kind, fields = protocol.parse(text, self.known)
            await self._take(kind, fields)
        except UserError as error:
            await self.send_text({"type": "error", "text": str(error)})

    async def _take(self, kind: str, fields: dict[str, Any]) -> None:
        if "stamp" in fields:
            self._stamp = (fields["stamp"], time.monotonic())
        if kind == "hold":
            self._held = self._pending = fields["action"]
        elif kind == "release":
            self._held = None
        elif kind == "seen":
            self._seen = max(self._seen, min(fields["number"], self._number))
        elif kind == "sampler":
            self.sampler = dataclasses.replace(self.sampler, **{k: fields[k] for k in fields})
            await self.send_settings()
        elif kind == "pace":
            self.fps, self._due = fields["fps"], 0.0
            await self.send_settings()
        elif kind == "image":
            self.image_format = fields["format"]
            await self.send_settings()
        elif kind == "record":
            self.tape.record(fields["do"])
            await self.send_tape()
        elif len(self._waiting) >= MOST_WAITING:
            raise UserError("Too many moves are waiting: slow down a little.")
        else:
            if kind == "upload" and fields["index"] >= len(self.uploads):
                raise UserError("That picture is no longer here: upload it again.")
            if kind in ("reset", "prompt", "upload"):
                self._pending = None
            self._waiting.append((kind, fields))
        self._wake.set()

    def add_upload(self, prompt: np.ndarray) -> int:
        """Keeps an uploaded prompt and starts from it; returns its number among this player's uploads."""
        if len(self.uploads) >= MOST_UPLOADS:
            raise UserError(f"You have uploaded {MOST_UPLOADS} pictures, the most: reload the page to begin anew.")
        self.uploads.append(prompt)
        self._waiting.append(("upload", {"index": len(self.uploads) - 1}))
        self._wake.set()
        return len(self.uploads) - 1

    async def run(self) -> None:
        """Plays until it is cancelled."""
        await self.send_settings()
        while True:
            self._wake.clear()
            try:
                if self._waiting:
                    await self._do(*self._waiting.popleft())
                elif not await self._play():
                    await self._wake.wait()
            except UserError as error:
                self._held = self._pending = None
                await self.send_text({"type": "error", "text": str(error)})

    async def _play(self) -> bool:
        """Plays the held or tapped action if it is due; returns whether there may be more to do at once."""
        action = self._pending if self._pending is not None else self._held
        if action is None or self._number - self._seen >= FRAMES_AHEAD:
            return False
        now = time.monotonic()
        if self.fps > 0 and now < self._due:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._due - now)
            return True
        if self.fps > 0:
            self._due = max(self._due, now - 1 / self.fps) + 1 / self.fps
        self._pending = None
        await self._step(action)
        return True

    async def _do(self, kind: str, fields: dict[str, Any]) -> None:
        if kind == "step":
            await self._step(fields["action"])
        elif kind == "undo":
            frames = min(fields.get("frames", 1), self._depth)
            if frames == 0:
                raise UserError(f"There is nothing to take back: undo reaches to the start or {UNDO_DEPTH} frames far.")
            session = self._playing()
            await self._show(lambda: session.undo(frames), action=None, steps=-frames)
        elif kind == "reset":
            self.seed = fields.get("seed", self.seed)
            session = self._playing()
            session.sampler = self.sampler
            await self._show(lambda: session.reset(self.seed), action=None, steps=0)
        else:
            prompt = (self.uploads if kind == "upload" else self.prompts)[fields["index"]]
            self._session = None
            await self._show(lambda: self._start(prompt), action=None, steps=0)

    async def _step(self, action: int) -> None:
        session = self._playing()
        session.sampler = self.sampler
        await self._show(lambda: session.step(action), action=action, steps=1)

    def _start(self, prompt: np.ndarray) -> np.ndarray:
        self._session = self.make_session(prompt, self.sampler, self.seed)
        return self._session.frame

    def _playing(self) -> PlaySession:
        if self._session is None:
            raise UserError("No game is running: choose a picture to start from.")
        return self._session

    async def _show(self, act: Callable[[], np.ndarray], *, action: int | None, steps: int) -> None:
        """Runs one piece of model work and sends the frame that comes of it."""
        asked = time.monotonic()
        stamp, self._stamp = self._stamp, None

        def piece() -> tuple[np.ndarray, bytes, dict[str, float]]:
            begun = time.monotonic()
            frame = np.array(act()[0])
            drawn = time.monotonic()
            picture = encode_picture(frame, self.image_format)
            timings = dict(self._session.timings) if steps > 0 and self._session is not None else {}
            timings = {name: round(float(ms), 2) for name, ms in timings.items()}
            timings["queue"] = round((begun - asked) * 1e3, 2)
            timings["total"] = round((drawn - begun) * 1e3, 2)
            timings["image"] = round((time.monotonic() - drawn) * 1e3, 2)
            return frame, picture, timings

        try:
            frame, picture, timings = await self.work(piece)
        except UserError:
            raise
        except Exception as error:
            log.exception("a frame failed")
            raise UserError(
                f"The world could not make this frame ({type(error).__name__}): reset, or see the server's log."
            ) from error
        if steps == 0:
            self._depth = self._time = 0
            self.tape.restart(frame)
        elif steps < 0:
            self._depth += steps
            self._time += steps
            self.tape.take_back(-steps)
        else:
            self._depth = min(self._depth + steps, UNDO_DEPTH)
            self._time += steps
            self.tape.add(frame)
        self._number += 1
        header: dict[str, Any] = {
            "number": self._number,
            "time": self._time,
            "action": action,
            "undo": self._depth,
            "seed": self.seed,
            "format": self.image_format,
            "ms": timings,
            "tape": self.tape.state(),
        }
        if stamp is not None:
            header["stamp"] = stamp[0]
            header["waited"] = round((asked - stamp[1]) * 1e3, 2)
        await self.send_frame(protocol.pack_frame(header, picture))

    async def send_settings(self) -> None:
        """Tells the page the settings in force."""
        await self.send_text(
            {
                "type": "settings",
                "steps": self.sampler.steps,
                "temperature": self.sampler.temperature,
                "fps": self.fps,
                "format": self.image_format,
                "seed": self.seed,
            }
        )

    async def send_tape(self) -> None:
        """Tells the page what the tape holds."""
        await self.send_text({"type": "tape", **self.tape.state()})
