"""One player: a session of the world, the action that is held, and the loop that plays it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import random
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

import numpy as np

from djinn.config import SamplerConfig
from djinn.errors import UserError
from djinn.play import protocol
from djinn.play.images import encode_frame
from djinn.play.recorder import Recorder

log = logging.getLogger("djinn.play")

FRAMES_AHEAD = 2
"""Number of frames that the server may send before the page acknowledges them."""
MAX_QUEUE = 16
MAX_UPLOADS = 12
UNDO_DEPTH = 32


class PlaySession(Protocol):
    """Subset of `djinn.generate.session.Session` that a player uses."""

    sampler: SamplerConfig
    timings: dict[str, float]

    @property
    def frame(self) -> np.ndarray:
        """The current frame, uint8 `(1, H, W, 3)`."""
        ...

    def step(self, actions: int) -> np.ndarray:
        """Generate the next frame."""
        ...

    def undo(self, n: int = 1) -> np.ndarray:
        """Go back by `n` frames."""
        ...

    def reset(self, seed: int | None = None) -> np.ndarray:
        """Return to the prompt."""
        ...


MakeSession = Callable[[np.ndarray, SamplerConfig, int], PlaySession]
RunModelWork = Callable[[Callable[[], Any]], Awaitable[Any]]


class Player:
    """The game of one connected client.

    All model work goes through `run_model_work`, one call at a time, so that players sharing one
    worker thread take turns. Only the newest action counts: a `hold` that was not played yet is
    replaced by the next one.
    """

    def __init__(
        self,
        make_session: MakeSession,
        prompts: list[np.ndarray],
        action_names: Sequence[str],
        *,
        sampler: SamplerConfig,
        fps: float,
        image_format: str,
        run_model_work: RunModelWork,
        send_json: Callable[[dict[str, Any]], Awaitable[None]],
        send_frame: Callable[[bytes], Awaitable[None]],
    ) -> None:
        """Create a player. `run` starts the first session and plays."""
        self.id = secrets.token_urlsafe(16)
        self.make_session = make_session
        self.prompts = prompts
        self.uploads: list[np.ndarray] = []
        self.schemas = protocol.message_schemas(action_names, len(prompts))
        self.sampler = sampler
        self.fps = fps
        self.image_format = image_format
        self.run_model_work = run_model_work
        self.send_json = send_json
        self.send_frame = send_frame
        self.seed = random.randrange(1_000_000)
        self.recorder = Recorder(prompts[0].nbytes)
        self.last_message_at = time.monotonic()

        self._session: PlaySession | None = None
        self._undo_depth = 0
        self._time = 0
        self._sent = 0
        self._acknowledged = 0
        self._held: int | None = None
        self._pending: int | None = None
        self._queue: deque[tuple[str, dict[str, Any]]] = deque([("prompt", {"index": 0})])
        self._next_frame_at = 0.0
        self._timestamp: tuple[float, float] | None = None
        self._wake = asyncio.Event()

    async def handle_message(self, text: str | None) -> None:
        """Handle one message of the page, and answer it with an error if it is invalid."""
        self.last_message_at = time.monotonic()
        try:
            if text is None:
                raise UserError("Messages must be text, not binary.")
            message_type, fields = protocol.parse_message(text, self.schemas)
            await self._dispatch(message_type, fields)
        except UserError as error:
            await self.send_json({"type": "error", "text": str(error)})

    async def _dispatch(self, message_type: str, fields: dict[str, Any]) -> None:
        if "timestamp" in fields:
            self._timestamp = (fields["timestamp"], time.monotonic())
        if message_type == "hold":
            self._held = self._pending = fields["action"]
        elif message_type == "release":
            self._held = None
        elif message_type == "ack":
            self._acknowledged = max(self._acknowledged, min(fields["number"], self._sent))
        elif message_type == "sampler":
            self.sampler = dataclasses.replace(self.sampler, **fields)
            await self.send_settings()
        elif message_type == "frame_rate":
            self.fps, self._next_frame_at = fields["fps"], 0.0
            await self.send_settings()
        elif message_type == "image":
            self.image_format = fields["format"]
            await self.send_settings()
        elif message_type == "record":
            self.recorder.record(fields["command"])
            await self.send_json({"type": "recording", **self.recorder.state()})
        elif len(self._queue) >= MAX_QUEUE:
            raise UserError("Too many commands are waiting: slow down.")
        else:
            if message_type == "upload" and fields["index"] >= len(self.uploads):
                raise UserError("This image is no longer available: upload it once more.")
            if message_type in ("reset", "prompt", "upload"):
                self._pending = None
            self._queue.append((message_type, fields))
        self._wake.set()

    def add_upload(self, prompt: np.ndarray) -> int:
        """Store an uploaded prompt, start from it, and return its index among the uploads."""
        if len(self.uploads) >= MAX_UPLOADS:
            raise UserError(
                f"You have reached the limit of {MAX_UPLOADS} uploaded images: reload the page to continue."
            )
        self.uploads.append(prompt)
        self._queue.append(("upload", {"index": len(self.uploads) - 1}))
        self._wake.set()
        return len(self.uploads) - 1

    async def run(self) -> None:
        """Play until cancelled."""
        await self.send_settings()
        while True:
            self._wake.clear()
            try:
                if self._queue:
                    await self._run_command(*self._queue.popleft())
                elif not await self._play():
                    await self._wake.wait()
            except UserError as error:
                self._held = self._pending = None
                await self.send_json({"type": "error", "text": str(error)})

    async def _play(self) -> bool:
        """Play the held or tapped action if a frame is due; return False if there is none."""
        action = self._pending if self._pending is not None else self._held
        if action is None or self._sent - self._acknowledged >= FRAMES_AHEAD:
            return False
        now = time.monotonic()
        if self.fps > 0 and now < self._next_frame_at:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._next_frame_at - now)
            return True
        if self.fps > 0:
            self._next_frame_at = max(self._next_frame_at, now - 1 / self.fps) + 1 / self.fps
        self._pending = None
        await self._step(action)
        return True

    async def _run_command(self, message_type: str, fields: dict[str, Any]) -> None:
        if message_type == "step":
            await self._step(fields["action"])
        elif message_type == "undo":
            frames = min(fields.get("frames", 1), self._undo_depth)
            if frames == 0:
                raise UserError(f"Nothing to undo: undo goes back to the start or by at most {UNDO_DEPTH} frames.")
            session = self._require_session()
            await self._show(lambda: session.undo(frames), action=None, steps=-frames)
        elif message_type == "reset":
            self.seed = fields.get("seed", self.seed)
            session = self._require_session()
            session.sampler = self.sampler
            await self._show(lambda: session.reset(self.seed), action=None, steps=0)
        else:
            prompt = (self.uploads if message_type == "upload" else self.prompts)[fields["index"]]
            self._session = None
            await self._show(lambda: self._start(prompt), action=None, steps=0)

    async def _step(self, action: int) -> None:
        session = self._require_session()
        session.sampler = self.sampler
        await self._show(lambda: session.step(action), action=action, steps=1)

    def _start(self, prompt: np.ndarray) -> np.ndarray:
        self._session = self.make_session(prompt, self.sampler, self.seed)
        return self._session.frame

    def _require_session(self) -> PlaySession:
        if self._session is None:
            raise UserError("No game is running: choose an image to start from.")
        return self._session

    async def _show(self, generate: Callable[[], np.ndarray], *, action: int | None, steps: int) -> None:
        """Run one call of the model and send the resulting frame.

        Args:
            generate: The call; it returns frames, uint8 `(1, H, W, 3)`.
            action: Action that led to the frame, if it was a step.
            steps: Change of the session's time: 1 for a step, -n for undo, 0 for a reset.
        """
        queued_at = time.monotonic()
        timestamp, self._timestamp = self._timestamp, None

        def run() -> tuple[np.ndarray, bytes, dict[str, float]]:
            started_at = time.monotonic()
            frame = np.array(generate()[0])
            generated_at = time.monotonic()
            image = encode_frame(frame, self.image_format)
            timings = dict(self._session.timings) if steps > 0 and self._session is not None else {}
            timings = {name: round(float(ms), 2) for name, ms in timings.items()}
            timings["queue"] = round((started_at - queued_at) * 1e3, 2)
            timings["total"] = round((generated_at - started_at) * 1e3, 2)
            timings["image"] = round((time.monotonic() - generated_at) * 1e3, 2)
            return frame, image, timings

        try:
            frame, image, timings = await self.run_model_work(run)
        except UserError:
            raise
        except Exception as error:
            log.exception("generating a frame failed")
            raise UserError(
                f"Generating this frame failed ({type(error).__name__}): reset, or see the log of the server."
            ) from error
        if steps == 0:
            self._undo_depth = self._time = 0
            self.recorder.restart(frame)
        elif steps < 0:
            self._undo_depth += steps
            self._time += steps
            self.recorder.undo(-steps)
        else:
            self._undo_depth = min(self._undo_depth + steps, UNDO_DEPTH)
            self._time += steps
            self.recorder.add(frame)
        self._sent += 1
        header: dict[str, Any] = {
            "number": self._sent,
            "time": self._time,
            "action": action,
            "undo": self._undo_depth,
            "seed": self.seed,
            "format": self.image_format,
            "ms": timings,
            "recording": self.recorder.state(),
        }
        if timestamp is not None:
            header["timestamp"] = timestamp[0]
            header["waited"] = round((queued_at - timestamp[1]) * 1e3, 2)
        await self.send_frame(protocol.pack_frame(header, image))

    async def send_settings(self) -> None:
        """Send the current settings to the page."""
        await self.send_json(
            {
                "type": "settings",
                "steps": self.sampler.steps,
                "temperature": self.sampler.temperature,
                "deterministic": self.sampler.is_deterministic,
                "fps": self.fps,
                "format": self.image_format,
                "seed": self.seed,
            }
        )
