"""Store one player's frames and write them as a video file."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import numpy as np

from djinn.errors import UserError

MAX_FRAMES = 3000
MAX_BYTES = 96_000_000
MAX_VIDEO_BYTES = 192_000_000
VIDEO_SIDE = 512


class Recorder:
    """Frame history and recording of one player.

    The history holds the frames since the last reset; when it is full, the oldest frames are
    dropped. A recording is started and stopped by the player, and takes precedence over the history
    when a video is saved. Undo removes frames from both, except from a recording that was stopped.
    """

    def __init__(self, frame_bytes: int) -> None:
        """Create an empty recorder.

        Args:
            frame_bytes: Size of one frame in bytes, which bounds the number of stored frames.
        """
        self.limit = max(2, min(MAX_FRAMES, MAX_BYTES // max(frame_bytes, 1)))
        self.history: deque[np.ndarray] = deque(maxlen=self.limit)
        self.recorded: list[np.ndarray] = []
        self.recording = False

    def restart(self, frame: np.ndarray) -> None:
        """Clear the history and start it with `frame`. A running recording continues."""
        self.history.clear()
        self.add(frame)

    def add(self, frame: np.ndarray) -> None:
        """Append one frame. A recording stops when it reaches the limit."""
        self.history.append(frame)
        if self.recording:
            self.recorded.append(frame)
            self.recording = len(self.recorded) < self.limit

    def undo(self, frames: int) -> None:
        """Remove the last frames; the first one stays.

        If undo goes back past the start of a recording, the recording restarts at the frame shown.
        """
        for _ in range(frames):
            if len(self.history) > 1:
                self.history.pop()
            if self.recording and len(self.recorded) > 1:
                self.recorded.pop()
            elif self.recording:
                self.recorded = [self.history[-1]]

    def record(self, command: str) -> None:
        """Start a recording at the current frame, stop or discard it, by `command`."""
        if command == "start":
            self.recorded = [self.history[-1]] if self.history else []
            self.recording = True
        else:
            self.recording = False
            if command == "discard":
                self.recorded = []

    def frames(self) -> list[np.ndarray]:
        """Return the recording, or the history if there is none."""
        return list(self.recorded or self.history)

    def state(self) -> dict[str, Any]:
        """Return the state that the page shows."""
        return {
            "recording": self.recording,
            "recorded": len(self.recorded),
            "history": len(self.history),
            "limit": self.limit,
        }


def write_recording(path: Path, frames: list[np.ndarray], fps: float) -> None:
    """Write frames to a video file, enlarged by an integer factor so that pixels stay sharp.

    Args:
        path: Output file; the suffix `.mp4` or `.gif` selects the format.
        frames: Frames, uint8 `(H, W, 3)` each.
        fps: Frames per second.

    Raises:
        UserError: There are no frames.
    """
    if not frames:
        raise UserError("There is nothing to save yet: play a few frames first.")
    from djinn.data.video import write_video

    video = np.stack(frames)
    scale = max(1, VIDEO_SIDE // max(video.shape[1:3]))
    while scale > 1 and video.nbytes * scale * scale > MAX_VIDEO_BYTES:
        scale -= 1
    write_video(path, video, fps, scale=scale)
