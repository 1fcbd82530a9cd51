"""The film of one player: what was played since the reset, or what was recorded."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import numpy as np

from djinn.errors import UserError

MOST_FRAMES = 3000
MOST_BYTES = 96_000_000
MOST_FILM_BYTES = 192_000_000
FILM_SIDE = 512


class Tape:
    """Keeps a player's frames for a film.

    Two films are kept: one of all frames since the last reset, whose oldest frames leave when it is full, and one that
    the player started; the latter wins when a film is asked for. Taking a frame back takes it out of both, but for a
    recording that has ended, which stays as it is.
    """

    def __init__(self, frame_bytes: int) -> None:
        """Makes an empty tape.

        Args:
            frame_bytes: size of one frame, which bounds how many are kept.
        """
        self.limit = max(2, min(MOST_FRAMES, MOST_BYTES // max(frame_bytes, 1)))
        self.history: deque[np.ndarray] = deque(maxlen=self.limit)
        self.recorded: list[np.ndarray] = []
        self.recording = False

    def restart(self, frame: np.ndarray) -> None:
        """Begins the film since the reset anew; a recording goes on."""
        self.history.clear()
        self.add(frame)

    def add(self, frame: np.ndarray) -> None:
        """Adds one frame; a recording that is full ends."""
        self.history.append(frame)
        if self.recording:
            self.recorded.append(frame)
            self.recording = len(self.recorded) < self.limit

    def take_back(self, frames: int) -> None:
        """Takes the last frames away, as an undo does; the first one stays.

        A recording whose beginning is taken back begins with the frame that is then shown.
        """
        for _ in range(frames):
            if len(self.history) > 1:
                self.history.pop()
            if self.recording and len(self.recorded) > 1:
                self.recorded.pop()
            elif self.recording:
                self.recorded = [self.history[-1]]

    def record(self, do: str) -> None:
        """Starts a recording at the current frame, stops it, or discards it."""
        if do == "start":
            self.recorded = [self.history[-1]] if self.history else []
            self.recording = True
        else:
            self.recording = False
            if do == "discard":
                self.recorded = []

    def film(self) -> list[np.ndarray]:
        """The frames of the recording if there is one, else of all since the reset."""
        return list(self.recorded or self.history)

    def state(self) -> dict[str, Any]:
        """What the page shows of it."""
        return {
            "recording": self.recording,
            "recorded": len(self.recorded),
            "history": len(self.history),
            "limit": self.limit,
        }


def write_film(path: Path, frames: list[np.ndarray], fps: float) -> None:
    """Writes frames as a film, each pixel enlarged to a whole number of pixels so that it stays crisp.

    Args:
        path: where to; the ending `.mp4` or `.gif` tells the format.
        frames: uint8 `(H, W, 3)` each.
        fps: frames per second.

    Raises:
        UserError: there are no frames.
    """
    if not frames:
        raise UserError("There is nothing to save yet: play a few frames first.")
    from djinn.data.video import write_video

    video = np.stack(frames)
    scale = max(1, FILM_SIDE // max(video.shape[1:3]))
    while scale > 1 and video.nbytes * scale * scale > MOST_FILM_BYTES:
        scale -= 1
    write_video(path, video, fps, scale=scale)
