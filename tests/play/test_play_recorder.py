from contextlib import nullcontext

import numpy as np
import pytest

from djinn.data import video
from djinn.errors import UserError
from djinn.play.recorder import Tape, write_film


def frames(count: int) -> list[np.ndarray]:
    return [np.full((4, 4, 3), i, np.uint8) for i in range(count)]


def test_the_film_since_the_reset() -> None:
    tape = Tape(48)
    first, *rest = frames(5)
    tape.restart(first)
    for frame in rest:
        tape.add(frame)
    tape.take_back(2)
    assert [f[0, 0, 0] for f in tape.film()] == [0, 1, 2]
    tape.take_back(9)
    assert len(tape.film()) == 1
    tape.restart(first)
    assert len(tape.film()) == 1


def test_a_recording_wins_until_it_is_discarded() -> None:
    tape = Tape(48)
    tape.restart(frames(1)[0])
    tape.record("start")
    for frame in frames(3):
        tape.add(frame)
    tape.restart(frames(1)[0])
    tape.record("stop")
    tape.add(frames(1)[0])
    assert len(tape.film()) == 5 and not tape.state()["recording"]
    tape.record("discard")
    assert len(tape.film()) == 2


def test_an_undo_past_the_start_of_a_recording_begins_it_anew() -> None:
    tape = Tape(48)
    first, *rest = frames(9)
    tape.restart(first)
    for frame in rest[:3]:
        tape.add(frame)
    tape.record("start")
    for frame in rest[3:5]:
        tape.add(frame)
    tape.take_back(4)
    tape.add(rest[7])
    assert [f[0, 0, 0] for f in tape.film()] == [1, 8]
    tape.record("stop")
    tape.take_back(1)
    assert [f[0, 0, 0] for f in tape.film()] == [1, 8]
    tape.record("discard")
    assert [f[0, 0, 0] for f in tape.film()] == [0, 1]


def test_both_films_are_bounded() -> None:
    tape = Tape(50_000_000)
    tape.restart(frames(1)[0])
    tape.record("start")
    for frame in frames(9):
        tape.add(frame)
    assert len(tape.history) == tape.limit == 2
    assert len(tape.recorded) == 2 and not tape.recording


@pytest.mark.parametrize(("count", "side"), [(3, 512), (3000, 128)])
def test_a_long_film_is_not_enlarged_beyond_its_bound(tmp_path, monkeypatch, count: int, side: int) -> None:
    shapes = set()
    monkeypatch.setattr(video, "_write_mp4", lambda path, frames, *_: shapes.update(f.shape for f in frames))
    monkeypatch.setattr(video, "atomic_write", nullcontext)
    write_film(tmp_path / "film.mp4", [np.zeros((64, 64, 3), np.uint8)] * count, 10)
    assert shapes == {(side, side, 3)}


def test_nothing_to_save_is_said(tmp_path) -> None:
    with pytest.raises(UserError, match="nothing to save"):
        write_film(tmp_path / "film.mp4", [], 10)
