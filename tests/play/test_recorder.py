from contextlib import nullcontext

import numpy as np
import pytest

from djinn.data import video
from djinn.errors import UserError
from djinn.play.recorder import Recorder, write_recording


def frames(count: int) -> list[np.ndarray]:
    return [np.full((4, 4, 3), i, np.uint8) for i in range(count)]


def test_history_holds_frames_since_reset() -> None:
    recorder = Recorder(48)
    first, *rest = frames(5)
    recorder.restart(first)
    for frame in rest:
        recorder.add(frame)
    recorder.undo(2)
    assert [f[0, 0, 0] for f in recorder.frames()] == [0, 1, 2]
    recorder.undo(9)
    assert len(recorder.frames()) == 1
    recorder.restart(first)
    assert len(recorder.frames()) == 1


def test_recording_takes_precedence_until_discarded() -> None:
    recorder = Recorder(48)
    recorder.restart(frames(1)[0])
    recorder.record("start")
    for frame in frames(3):
        recorder.add(frame)
    recorder.restart(frames(1)[0])
    recorder.record("stop")
    recorder.add(frames(1)[0])
    assert len(recorder.frames()) == 5 and not recorder.state()["recording"]
    recorder.record("discard")
    assert len(recorder.frames()) == 2


def test_undo_past_start_of_recording_restarts_it() -> None:
    recorder = Recorder(48)
    first, *rest = frames(9)
    recorder.restart(first)
    for frame in rest[:3]:
        recorder.add(frame)
    recorder.record("start")
    for frame in rest[3:5]:
        recorder.add(frame)
    recorder.undo(4)
    recorder.add(rest[7])
    assert [f[0, 0, 0] for f in recorder.frames()] == [1, 8]
    recorder.record("stop")
    recorder.undo(1)
    assert [f[0, 0, 0] for f in recorder.frames()] == [1, 8]
    recorder.record("discard")
    assert [f[0, 0, 0] for f in recorder.frames()] == [0, 1]


def test_history_and_recording_are_limited() -> None:
    recorder = Recorder(50_000_000)
    recorder.restart(frames(1)[0])
    recorder.record("start")
    for frame in frames(9):
        recorder.add(frame)
    assert len(recorder.history) == recorder.limit == 2
    assert len(recorder.recorded) == 2 and not recorder.recording


@pytest.mark.parametrize(("count", "side"), [(3, 512), (3000, 128)])
def test_enlargement_of_long_video_is_limited(tmp_path, monkeypatch, count: int, side: int) -> None:
    shapes = set()
    monkeypatch.setattr(video, "_write_mp4", lambda path, frames, *_: shapes.update(f.shape for f in frames))
    monkeypatch.setattr(video, "atomic_write", nullcontext)
    write_recording(tmp_path / "recording.mp4", [np.zeros((64, 64, 3), np.uint8)] * count, 10)
    assert shapes == {(side, side, 3)}


def test_empty_recording_is_refused(tmp_path) -> None:
    with pytest.raises(UserError, match="nothing to save"):
        write_recording(tmp_path / "recording.mp4", [], 10)
