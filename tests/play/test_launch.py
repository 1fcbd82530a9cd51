"""Start of the server: errors are reported before anything large is loaded."""

import json
import os
import signal
import socket
import subprocess
import sys

import pytest
from play_helpers import connect_as, request, start
from websockets.exceptions import InvalidStatus

from djinn.errors import UserError
from djinn.models.training_summary import TrainingSummary
from djinn.play.launch import _accepted_hosts, serve, world_name
from djinn.play.security import is_loopback


def test_port_in_use_is_reported_before_world_is_loaded() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            UserError, match=f"port {port} is in use: choose another one, for example --port {port + 1}"
        ):
            serve("no/such/world", port=port, open_browser=False)


def test_missing_world_is_reported_and_port_released() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(UserError, match="no-such-world"):
        serve("no-such-world", port=port, open_browser=False)
    socket.create_server(("127.0.0.1", port)).close()


@pytest.mark.parametrize(
    ("host", "port", "sentence"),
    [
        ("127.0.0.1", 70000, "out of range"),
        ("no.such.host.invalid", 0, "is not an address of this machine"),
        ("192.0.2.1", 0, "cannot listen on 192.0.2.1"),
    ],
)
def test_unusable_address_is_reported(host, port, sentence) -> None:
    with pytest.raises(UserError, match=sentence):
        serve("no-such-world", host, port, open_browser=False)


@pytest.mark.parametrize("fps", [-1.0, float("nan"), float("inf")])
def test_invalid_fps_is_reported(fps) -> None:
    with pytest.raises(UserError, match="fps must be from 0"):
        serve("no-such-world", port=0, open_browser=False, fps=fps)


def test_allowed_hosts_are_added_on_every_address() -> None:
    assert _accepted_hosts("127.0.0.1", []) == []
    assert _accepted_hosts("localhost", ["game.example"]) == ["game.example"]
    own = [socket.gethostname(), f"{socket.gethostname()}.local", socket.getfqdn()]
    assert _accepted_hosts("0.0.0.0", []) == ["0.0.0.0", *own]
    assert _accepted_hosts("192.0.2.1", ["game.example"]) == ["192.0.2.1", *own, "game.example"]


@pytest.mark.parametrize("name", ["https://x", "x:8000", "x/", "[::1]", "*.x", ""])
def test_invalid_allowed_host_is_refused(name) -> None:
    with pytest.raises(UserError, match="pass --allowed-host the bare name"):
        serve("no-such-world", port=0, open_browser=False, allowed_hosts=["Game.Example.", "2001:db8::1", name])


@pytest.mark.parametrize(
    ("host", "loopback"),
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
def test_loopback_names_are_recognized(host, loopback) -> None:
    assert is_loopback(host) is loopback


def test_missing_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['uvicorn'] = None; from djinn.errors import UserError\n"
        "try:\n    from djinn.play.launch import serve; serve('x')\n"
        "except UserError as error:\n    print(error)"
    )
    for module in ("uvicorn", "starlette", "websockets"):
        run = subprocess.run([sys.executable, "-c", code.replace("uvicorn", module)], capture_output=True, text=True)
        assert "needs the extra 'play': pip install 'djinn[play]'" in run.stdout, run.stderr


def test_server_on_every_address_accepts_known_hosts_only(world_folder, join) -> None:
    process = start(world_folder, 0, host="0.0.0.0", allowed_hosts=["game.example"])
    try:
        assert process.stdout is not None
        server = "127.0.0.1:" + process.stdout.readline().split("http://")[1].split()[0].rsplit(":", 1)[1]
        join(server)
        for name in ("192.0.2.1", "[fe80::1]", "localhost", socket.gethostname(), socket.getfqdn(), "game.example"):
            assert request(server, "/", Host=f"{name}:8000")[0] == 200, name
        status, _, body = request(server, "/", Host="evil.example:8000")
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
def test_ctrl_c_stops_server_with_connected_player(world_folder, join) -> None:
    process = start(world_folder, 0, fps=5.0, max_players=1)
    assert process.stdout is not None
    server = process.stdout.readline().split("http://")[1].split()[0]
    assert request(server, "/healthz")[0] == 200
    join(server)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0 and "Stopped." in out and "Traceback" not in err, err


@pytest.mark.parametrize(
    ("folder", "in_run", "name"),
    [("my-coinrun/world", True, "my-coinrun"), ("worlds/world", False, "world"), ("coinrun", False, "coinrun")],
)
def test_world_of_a_run_is_named_after_the_run(tmp_path, folder, in_run, name) -> None:
    (tmp_path / folder).mkdir(parents=True)
    if in_run:
        (tmp_path / folder).parent.joinpath("config.yaml").touch()
    assert world_name(tmp_path / folder) == name


def test_training_of_world_is_printed(world, tmp_path) -> None:
    summary, world.training_summary = world.training_summary, TrainingSummary(7, 3, val_gain=0.01)
    world.save_pretrained(tmp_path / "run" / "world")
    world.training_summary = summary
    (tmp_path / "run" / "config.yaml").touch()
    process = start(tmp_path / "run", 0)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("Play run at http://")
        assert "no effect yet" in process.stdout.readline()
    finally:
        process.kill()
        process.communicate()
