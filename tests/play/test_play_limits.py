"""Limits, and what goes wrong inside: with sessions made for the purpose."""

import gc
import json
import re
import threading
import time
import weakref
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from playing import CONFIG, Client, ask, players, serving, until

from djinn.errors import UserError
from djinn.models.world import World
from djinn.play.player import UNDO_DEPTH
from djinn.play.server import create_app


class Counter:
    """A session that shows its number of frames and its last action as colours."""

    alive: ClassVar = weakref.WeakSet()
    gate = threading.Event()
    gate.set()

    def __init__(self, prompt: np.ndarray, sampler: Any, seed: int) -> None:
        self.sampler, self.timings, self.colours = sampler, {"dynamics": 1.0, "decode": 1.0}, [(0, 0)]
        Counter.alive.add(self)

    @property
    def frame(self) -> np.ndarray:
        frame = np.zeros((1, CONFIG.height, CONFIG.width, 3), np.uint8)
        frame[..., 0], frame[..., 1] = self.colours[-1]
        return frame

    def step(self, action: int) -> np.ndarray:
        assert Counter.gate.wait(20)
        if action == 5:
            raise RuntimeError("no such memory")
        if action == 4:
            raise UserError("This action is not for today.")
        self.colours.append((len(self.colours) % 256, action))
        return self.frame

    def undo(self, n: int = 1) -> np.ndarray:
        del self.colours[-n:]
        return self.frame

    def reset(self, seed: int | None = None) -> np.ndarray:
        del self.colours[1:]
        return self.frame


WORLD: Any = SimpleNamespace(
    config=CONFIG,
    action_names=list("abcdef"),
    action_keys=[[]] * 6,
    fit_image=lambda image: World.fit_image(WORLD, image),
)


@pytest.fixture(autouse=True)
def open_gate() -> Iterator[None]:
    yield
    Counter.gate.set()


def test_a_full_world_says_so(join) -> None:
    with serving(WORLD, make_session=Counter, max_players=2) as server:
        one, _ = join(server), join(server)
        with pytest.raises(Exception, match="1013"):
            join(server)
        assert "2 players at once is the most" in Client(server).text("bye")["text"]
        one.socket.close()
        until(lambda: players(server) == 1)
        join(server)


def test_the_idle_are_dropped(join) -> None:
    with serving(WORLD, make_session=Counter, idle_minutes=0.01) as server:
        client = join(server)
        bye = client.text("bye")
        assert bye["reason"] == "idle" and bye["text"].endswith(".")
        until(lambda: players(server) == 0)


def test_a_dropped_player_frees_the_session(join) -> None:
    with serving(WORLD, make_session=Counter) as server:
        client = join(server)
        client.send("hold", action=1)
        client.frame()
        until(lambda: len(Counter.alive) == 1)
        client.socket.socket.close()
        until(lambda: players(server) == 0)
        until(lambda: gc.collect() >= 0 and len(Counter.alive) == 0)


def test_only_the_newest_action_is_played(join) -> None:
    with serving(WORLD, make_session=Counter, fps=0) as server:
        client = join(server)
        Counter.gate.clear()
        client.send("step", action=0)
        for action in (1, 2, 3, 1, 2):
            client.send("hold", action=action)
        client.send("release")
        client.send("image", format="webp")
        while client.text("settings")["format"] != "webp":
            pass
        Counter.gate.set()
        assert [client.frame()[0]["action"] for _ in range(2)] == [0, 2]
        with pytest.raises(TimeoutError):
            client.frame(seconds=0.3)


def test_a_flood_of_moves_is_bounded(join) -> None:
    with serving(WORLD, make_session=Counter) as server:
        client = join(server)
        Counter.gate.clear()
        for _ in range(100):
            client.send("step", action=0)
        assert "Too many moves" in client.text("error")["text"]
        Counter.gate.set()
        assert client.frame()[0]["time"] == 1


@pytest.mark.parametrize(
    ("action", "sentence"), [(5, r"could not make this frame \(RuntimeError\)"), (4, "not for today")]
)
def test_what_fails_inside_is_told_and_the_game_goes_on(join, action, sentence, caplog) -> None:
    with serving(WORLD, make_session=Counter) as server:
        client = join(server)
        client.send("hold", action=action)
        assert re.search(sentence, client.text("error")["text"])
        assert client.act("step", action=1)[0, 0, 1] == 1


def test_undo_reaches_as_far_as_the_session_keeps(join) -> None:
    with serving(WORLD, make_session=Counter, fps=0) as server:
        client = join(server)
        client.send("hold", action=1)
        while (header := client.frame()[0])["time"] < UNDO_DEPTH + 5:
            pass
        assert header["undo"] == UNDO_DEPTH


def test_the_pace_is_kept(join) -> None:
    with serving(WORLD, make_session=Counter, fps=20) as server:
        client = join(server)
        begun = time.monotonic()
        client.send("hold", action=1)
        while client.frame()[0]["time"] < 12:
            pass
        assert time.monotonic() - begun > 10 / 20


def test_without_prompts_players_start_from_grey(join) -> None:
    with serving(WORLD, make_session=Counter) as server:
        assert json.loads(ask(server, "/api/world")[2])["prompts"] == 0
        assert ask(server, "/api/prompts/0.png")[0] == 200
        join(server)


def test_further_names_are_answered_however_they_are_spelt() -> None:
    with serving(WORLD, make_session=Counter, hosts=["Game.Example", "dotted.example."]) as server:
        for name in ("game.example", "GAME.example", "game.example.", "dotted.example", "localhost."):
            assert ask(server, "/", Host=f"{name}:8000")[0] == 200, name
        assert ask(server, "/", Host="evil.example")[0] == 421
        assert ask(server, "/", Host="192.0.2.1")[0] == 421
        assert ask(server, "/")[0] == 200


def test_an_app_that_was_told_no_names_answers_to_this_machine_only() -> None:
    with serving(WORLD, make_session=Counter) as server:
        assert ask(server, "/", Host="evil.example")[0] == 421
        assert ask(server, "/", Host="localhost")[0] == 200


def test_prompts_of_any_size_are_fitted() -> None:
    app = create_app(WORLD, [np.zeros((50, 90, 3), np.uint8)], make_session=Counter)
    assert app.state.hall.prompts[0].shape == (32, 32, 3)


def test_an_unknown_image_format_is_named() -> None:
    with pytest.raises(UserError, match="one of png, webp, jpeg"):
        create_app(WORLD, image_format="bmp")
