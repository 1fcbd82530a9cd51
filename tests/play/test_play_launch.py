"""Starting the server: what can go wrong is told in one sentence, before anything heavy is loaded."""

import json
import os
import signal
import socket
import subprocess
import sys

import pytest
from playing import ask, connect_as, start
from websockets.exceptions import InvalidStatus

from djinn.errors import UserError
from djinn.play.launch import _hosts, serve
from djinn.play.security import is_loopback


def test_a_port_in_use_is_told_before_the_world_is_looked_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            UserError, match=f"port {port} is in use: choose another one, for instance --port {port + 1}"
        ):
            serve("no/such/world", port=port, open_browser=False)


def test_a_missing_world_is_told_and_the_port_is_free_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(UserError, match="no-such-world"):
        serve("no-such-world", port=port, open_browser=False)
    socket.create_server(("127.0.0.1", port)).close()


@pytest.mark.parametrize(
    ("host", "port", "sentence"),
    [
        ("127.0.0.1", 70000, "out of range"),
        ("no.such.host.invalid", 0, "is no address of this machine"),
        ("192.0.2.1", 0, "cannot listen on 192.0.2.1"),
    ],
)
def test_an_address_that_cannot_be_used_is_told(host, port, sentence) -> None:
    with pytest.raises(UserError, match=sentence):
        serve("no-such-world", host, port, open_browser=False)


@pytest.mark.parametrize("fps", [-1.0, float("nan"), float("inf")])
def test_a_pace_that_cannot_be_kept_is_told(fps) -> None:
    with pytest.raises(UserError, match="fps must lie between 0"):
        serve("no-such-world", port=0, open_browser=False, fps=fps)


def test_names_that_are_allowed_count_on_every_address() -> None:
    assert _hosts("127.0.0.1", []) == []
    assert _hosts("localhost", ["game.example"]) == ["game.example"]
    own = [socket.gethostname(), f"{socket.gethostname()}.local", socket.getfqdn()]
    assert _hosts("0.0.0.0", []) == ["0.0.0.0", *own]
    assert _hosts("192.0.2.1", ["game.example"]) == ["192.0.2.1", *own, "game.example"]


@pytest.mark.parametrize("name", ["https://x", "x:8000", "x/", "[::1]", "*.x", ""])
def test_an_allowed_name_that_no_browser_would_send_is_refused(name) -> None:
    with pytest.raises(UserError, match="give --allowed-host the bare name"):
        serve("no-such-world", port=0, open_browser=False, allowed_hosts=["Game.Example.", "2001:db8::1", name])


@pytest.mark.parametrize(
    ("host", "so"),
    [
        ("localhost", True),
        ("a.localhost", True),
        ("127.0.0.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:192.0.2.1", False),
        ("192.0.2.1", False),
        ("localhost.example", False),
    ],
)
def test_loopback_names(host, so) -> None:
    assert is_loopback(host) is so


def test_a_missing_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['uvicorn'] = None; from djinn.errors import UserError\n"
        "try:\n    from djinn.play.server import serve; serve('x')\n"
        "except UserError as error:\n    print(error)"
    )
    for module in ("uvicorn", "starlette", "websockets"):
        run = subprocess.run([sys.executable, "-c", code.replace("uvicorn", module)], capture_output=True, text=True)
        assert "needs the extra 'play': pip install 'djinn[play]'" in run.stdout, run.stderr


def test_on_every_address_only_known_names_are_answered(world_folder, join) -> None:
    process = start(world_folder, 0, host="0.0.0.0", allowed_hosts=["game.example"])
    try:
        assert process.stdout is not None
        server = "127.0.0.1:" + process.stdout.readline().split("http://")[1].split()[0].rsplit(":", 1)[1]
        join(server)
        for name in ("192.0.2.1", "[fe80::1]", "localhost", socket.gethostname(), socket.getfqdn(), "game.example"):
            assert ask(server, "/", Host=f"{name}:8000")[0] == 200, name
        status, _, body = ask(server, "/", Host="evil.example:8000")
        assert status == 421 and "--allowed-host" in json.loads(body)["error"]
        with connect_as("game.example", server) as player:
            assert json.loads(player.recv(timeout=30))["type"] == "welcome"
        with pytest.raises(InvalidStatus) as refused, connect_as("evil.example", server):
            pass
        answer = refused.value.response
        assert answer.status_code == 421 and b"--allowed-host" in bytes(answer.body or b"")
    finally:
        process.kill()
        process.communicate()


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_ends_it_in_peace_with_a_player_inside(world_folder, join) -> None:
    process = start(world_folder, 0, fps=5.0, max_players=1)
    assert process.stdout is not None
    server = process.stdout.readline().split("http://")[1].split()[0]
    assert ask(server, "/healthz")[0] == 200
    join(server)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0 and "Stopped." in out and "Traceback" not in err, err
