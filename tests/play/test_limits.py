"""Limits of the server and errors inside sessions, with scripted sessions."""

import gc
import json
import re
import time
from collections.abc import Iterator

import numpy as np
import pytest
from play_helpers import Client, CountingSession, player_count, request, scripted_world, serving, wait_until

from djinn.errors import UserError
from djinn.play.player import UNDO_DEPTH
from djinn.play.server import create_app

WORLD = scripted_world()


@pytest.fixture(autouse=True)
def open_gate() -> Iterator[None]:
    yield
    CountingSession.gate.set()


def test_full_server_turns_clients_away(join) -> None:
    with serving(WORLD, make_session=CountingSession, max_players=2) as server:
        one, _ = join(server), join(server)
        with pytest.raises(Exception, match="1013"):
            join(server)
        assert "limit: 2 players" in Client(server).text("bye")["text"]
        one.socket.close()
        wait_until(lambda: player_count(server) == 1)
        join(server)


def test_idle_player_is_disconnected(join) -> None:
    with serving(WORLD, make_session=CountingSession, idle_minutes=0.01) as server:
        client = join(server)
        bye = client.text("bye")
        assert bye["reason"] == "idle" and bye["text"].endswith(".")
        wait_until(lambda: player_count(server) == 0)


def test_disconnect_frees_session(join) -> None:
    with serving(WORLD, make_session=CountingSession) as server:
        client = join(server)
        client.send("hold", action=1)
        client.frame()
        wait_until(lambda: len(CountingSession.alive) == 1)
        client.socket.socket.close()
        wait_until(lambda: player_count(server) == 0)
        wait_until(lambda: gc.collect() >= 0 and len(CountingSession.alive) == 0)


def test_newest_action_replaces_earlier_ones(join) -> None:
    with serving(WORLD, make_session=CountingSession, fps=0) as server:
        client = join(server)
        CountingSession.gate.clear()
        client.send("step", action=0)
        for action in (1, 2, 3, 1, 2):
            client.send("hold", action=action)
        client.send("release")
        client.send("image", format="webp")
        while client.text("settings")["format"] != "webp":
            pass
        CountingSession.gate.set()
        assert [client.frame()[0]["action"] for _ in range(2)] == [0, 2]
        with pytest.raises(TimeoutError):
            client.frame(seconds=0.3)


def test_number_of_waiting_commands_is_limited(join) -> None:
    with serving(WORLD, make_session=CountingSession) as server:
        client = join(server)
        CountingSession.gate.clear()
        for _ in range(100):
            client.send("step", action=0)
        assert "Too many commands" in client.text("error")["text"]
        CountingSession.gate.set()
        assert client.frame()[0]["time"] == 1


@pytest.mark.parametrize(
    ("action", "sentence"), [(5, r"Generating this frame failed \(RuntimeError\)"), (4, "is disabled")]
)
def test_session_error_is_reported_and_game_continues(join, action, sentence, caplog) -> None:
    with serving(WORLD, make_session=CountingSession) as server:
        client = join(server)
        client.send("hold", action=action)
        assert re.search(sentence, client.text("error")["text"])
        assert client.act("step", action=1)[0, 0, 1] == 1


def test_undo_is_limited_to_undo_depth(join) -> None:
    with serving(WORLD, make_session=CountingSession, fps=0) as server:
        client = join(server)
        client.send("hold", action=1)
        while (header := client.frame()[0])["time"] < UNDO_DEPTH + 5:
            pass
        assert header["undo"] == UNDO_DEPTH


def test_frame_rate_is_limited(join) -> None:
    with serving(WORLD, make_session=CountingSession, fps=20) as server:
        client = join(server)
        started = time.monotonic()
        client.send("hold", action=1)
        while client.frame()[0]["time"] < 12:
            pass
        assert time.monotonic() - started > 10 / 20


def test_world_without_prompts_starts_from_grey(join) -> None:
    with serving(WORLD, make_session=CountingSession) as server:
        assert json.loads(request(server, "/api/world")[2])["prompts"] == 0
        assert request(server, "/api/prompts/0.png")[0] == 200
        join(server)


def test_further_hosts_match_in_any_spelling() -> None:
    with serving(WORLD, make_session=CountingSession, hosts=["Game.Example", "dotted.example."]) as server:
        for name in ("game.example", "GAME.example", "game.example.", "dotted.example", "localhost."):
            assert request(server, "/", Host=f"{name}:8000")[0] == 200, name
        assert request(server, "/", Host="evil.example")[0] == 421
        assert request(server, "/", Host="192.0.2.1")[0] == 421
        assert request(server, "/")[0] == 200


def test_app_without_hosts_accepts_loopback_only() -> None:
    with serving(WORLD, make_session=CountingSession) as server:
        assert request(server, "/", Host="evil.example")[0] == 421
        assert request(server, "/", Host="localhost")[0] == 200


def test_prompts_are_resized_to_world() -> None:
    app = create_app(WORLD, [np.zeros((50, 90, 3), np.uint8)], make_session=CountingSession)
    assert app.state.server.prompts[0].shape == (32, 32, 3)


def test_unknown_image_format_is_refused() -> None:
    with pytest.raises(UserError, match="one of png, webp, jpeg"):
        create_app(WORLD, image_format="bmp")
