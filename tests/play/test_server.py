"""HTTP and websocket interface of a server process."""

import io
import json
import threading

import av
import numpy as np
import pytest
from PIL import Image
from play_helpers import Client, connect_as, huge_png, player_count, request, wait_until
from starlette.requests import HTTPConnection
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from djinn.play.security import is_same_origin


def png(color: tuple[int, int, int], size: tuple[int, int] = (100, 60)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, "PNG")
    return buffer.getvalue()


def test_description_lists_sizes_actions_and_defaults(server) -> None:
    status, _, body = request(server, "/api/world")
    world = json.loads(body)
    assert status == 200 and (world["height"], world["width"], world["fps"]) == (32, 32, 30)
    assert [a["index"] for a in world["actions"]] == list(range(6)) and world["actions"][0]["keys"] == ["left"]
    assert world["sampler"] == {"steps": 3, "temperature": 1.0} and world["prompts"] == 2
    assert world["name"] == "tiny-world"
    assert json.loads(request(server, "/healthz")[2])["status"] == "ok"


def test_prompts_are_served_losslessly(server, prompts) -> None:
    assert np.array_equal(np.array(Image.open(io.BytesIO(request(server, "/api/prompts/1.png")[2]))), prompts[1])
    assert request(server, "/api/prompts/2.png")[0] == 404


@pytest.mark.parametrize("path", ["/", "/static/app.js", "/api/world", "/nowhere"])
def test_response_has_security_headers_and_no_cookie(server, path) -> None:
    _, headers, _ = request(server, path)
    headers = {k.lower(): v for k, v in headers.items()}
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert "set-cookie" not in headers


def test_page_loads_no_external_resource(server) -> None:
    for path in (
        "/",
        "/static/style.css",
        "/static/app.js",
        "/static/view.js",
        "/static/connection.js",
        "/static/settings.js",
        "/static/recording.js",
        "/static/gallery.js",
    ):
        text = request(server, path)[2].decode().replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text and "https://" not in text and "url(" not in text


def test_frames_are_determined_by_seed_and_actions(server, join) -> None:
    client = join(server)
    start = client.act("reset", seed=5)
    first = client.play([0, 0, 0, 0])
    client.act("reset", seed=5)
    second = client.play([0, 0, 0, 0])
    client.act("reset", seed=5)
    other = client.play([1, 1, 1, 1])
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first[0], start)


def test_undo_restores_same_pixels(server, join) -> None:
    client = join(server)
    played = client.play([0, 1, 2])
    client.send("undo", frames=2)
    header, frame = client.frame()
    assert np.array_equal(frame, played[0]) and header["time"] == 1 and header["undo"] == 1
    assert np.array_equal(client.play([1, 2]), played[1:])
    client.act("undo", frames=1000)
    client.send("undo")
    assert "Nothing to undo" in client.text("error")["text"]


def test_hold_plays_until_release_and_tap_plays_one_frame(server, join) -> None:
    client = join(server)
    client.send("hold", action=3, timestamp=1.0)
    headers = [client.frame()[0] for _ in range(10)]
    assert [h["time"] for h in headers] == list(range(1, 11)) and {h["action"] for h in headers} == {3}
    assert headers[0]["timestamp"] == 1.0 and {"dynamics", "decode", "queue", "image"} <= set(headers[0]["ms"])
    client.send("release")
    with pytest.raises(TimeoutError):
        for _ in range(10):
            client.frame(seconds=0.5)
    client.socket.send('{"type": "hold", "action": 4}')
    client.socket.send('{"type": "release"}')
    assert client.frame()[0]["action"] == 4
    with pytest.raises(TimeoutError):
        client.frame(seconds=0.4)


def test_server_is_at_most_two_frames_ahead(server, join) -> None:
    client = join(server)
    client.send("hold", action=0)
    received = []
    with pytest.raises(TimeoutError):
        while True:
            message = client.socket.recv(timeout=0.6)
            received += [message] if isinstance(message, bytes) else []
    assert len(received) == 2


def test_invalid_messages_are_answered_and_game_continues(server, join) -> None:
    client = join(server)
    garbage = ["", "{", "null", '{"type": "hold", "action": 99}', '{"type": "hold", "action": "left"}', "\0" * 90]
    for message in [
        *garbage,
        "[" * 100_000,
        '{"type": "nonsense"}',
        b"\x00\x01binary",
        '{"type": "upload", "index": 3}',
    ]:
        client.socket.send(message)
        assert client.text("error")["text"].endswith(".")
    assert client.play([1])[0].shape == (32, 32, 3)


def test_settings_are_applied_and_reported(server, join) -> None:
    client = join(server)
    client.text("settings")
    for message, field, value in (
        ({"type": "sampler", "steps": 5}, "steps", 5),
        ({"type": "sampler", "temperature": 0}, "temperature", 0.0),
        ({"type": "frame_rate", "fps": 0}, "fps", 0.0),
        ({"type": "image", "format": "webp"}, "format", "webp"),
    ):
        client.send(**message)
        assert client.text("settings")[field] == value
    client.send("step", action=0)
    header, _ = client.frame()
    assert header["format"] == "webp"
    client.send("sampler", steps=0)
    assert "'steps'" in client.text("error")["text"]


def test_games_are_independent(server, join) -> None:
    one, two = join(server), join(server)
    one.act("reset", seed=1)
    two.act("prompt", index=1)
    two.act("reset", seed=1)
    alone = one.play([0, 1, 2])
    one.act("reset")
    mixed = []
    for action in (0, 1, 2):
        mixed.append(one.act("step", action=action))
        two.act("step", action=5)
    assert np.array_equal(alone, mixed)
    assert not np.array_equal(alone[0], two.act("undo"))


def test_players_take_turns(server, join) -> None:
    clients = [join(server), join(server)]
    counts = [0, 0]

    def play(i: int) -> None:
        clients[i].send("pace", fps=0)
        clients[i].send("hold", action=i)
        while max(counts) < 60:
            clients[i].frame()
            counts[i] += 1

    threads = [threading.Thread(target=play, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert min(counts) >= 20, counts


def test_disconnect_removes_player(server, join) -> None:
    wait_until(lambda: player_count(server) == 0)
    polite, rude = join(server), join(server)
    assert player_count(server) == 2
    polite.socket.close()
    rude.send("hold", action=0)
    rude.socket.socket.close()
    wait_until(lambda: player_count(server) == 0)
    assert request(server, f"/api/players/{rude.text('welcome')['player']}/recording.gif")[0] == 404


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "https://127.0.0.1", "http://127.0.0.1:1", "nonsense"]
)
def test_other_origins_are_refused(server, join, origin) -> None:
    with pytest.raises(InvalidStatus), connect(f"ws://{server}/ws", origin=origin):
        pass
    player = join(server).text("welcome")["player"]
    status, _, body = request(server, f"/api/players/{player}/uploads", png((1, 2, 3)), Origin=origin)
    assert status == 403 and "own page" in json.loads(body)["error"]


@pytest.mark.parametrize(
    ("host", "origin", "same"),
    [
        ("game.example", "https://game.example", True),  # a proxy terminates TLS
        ("game.example:443", "https://game.example", True),
        ("game.example", "http://game.example:80", True),
        ("game.example:8443", "https://game.example:8443", True),
        ("game.example:8443", "https://game.example", False),
        ("game.example", "https://game.example:8443", False),
        ("game.example", "https://evil.example", False),
    ],
)
def test_same_origin_behind_proxy(host: str, origin: str, same: bool) -> None:
    headers = [(b"host", host.encode()), (b"origin", origin.encode())]
    scope = {"type": "websocket", "scheme": "ws", "path": "/ws", "query_string": b"", "headers": headers}
    assert is_same_origin(HTTPConnection(scope)) is same


def test_rebound_host_name_is_refused(server) -> None:
    with pytest.raises(InvalidStatus, match="421"), connect_as("evil.example", server):
        pass
    assert request(server, "/", Host="evil.example:8000")[0] == 421
    assert request(server, "/", Host="a:b:c")[0] in (400, 421)
    assert request(server, "/", Host="localhost:1")[0] == 200


def test_own_page_is_accepted(server, join) -> None:
    client = join(server, origin=f"http://{server}")
    assert client.play([0])[0].shape == (32, 32, 3)


def test_game_starts_from_upload(server, join) -> None:
    client = join(server)
    path = f"/api/players/{client.text('welcome')['player']}/uploads"
    status, headers, body = request(server, path, png((250, 20, 20)), Origin=f"http://{server}")
    assert status == 200 and headers["x-upload"] == "0"
    assert np.array_equal(np.array(Image.open(io.BytesIO(body))), np.full((32, 32, 3), (250, 20, 20)))
    header, uploaded = client.frame()
    assert header["time"] == 0
    started = client.act("prompt", index=0)
    assert not np.array_equal(started, uploaded)
    assert np.array_equal(client.act("upload", index=0), uploaded)


@pytest.mark.parametrize(
    ("data", "status", "sentence"),
    [
        (b"some text", 422, "not a readable image"),
        (huge_png(10_000), 422, "100 megapixels"),
        (b"\0" * 9_000_000, 413, "limit is 8 MB"),
    ],
)
def test_invalid_uploads_are_refused_and_game_continues(server, join, data, status, sentence) -> None:
    client = join(server)
    response, _, body = request(server, f"/api/players/{client.text('welcome')['player']}/uploads", data)
    assert response == status and sentence in json.loads(body)["error"]
    assert client.play([2])[0].shape == (32, 32, 3)
    assert request(server, "/api/players/nobody/uploads", png((0, 0, 0)))[0] == 404


def test_recordings_are_valid_videos(server, join) -> None:
    client = join(server)
    path = f"/api/players/{client.text('welcome')['player']}/recording"
    client.play([0, 1, 2])
    client.send("record", command="start")
    assert client.text("recording")["recording"]
    played = client.play([3, 4, 5, 0])
    client.send("record", command="stop")
    assert client.text("recording")["recorded"] == 5
    client.play([1])

    status, headers, body = request(server, f"{path}.mp4")
    assert status == 200 and headers["content-type"] == "video/mp4" and "attachment" in headers["content-disposition"]
    with av.open(io.BytesIO(body)) as container:
        video = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(video) == 5
    scale = video[0].shape[0] // 32
    small = video[-1][scale // 2 :: scale, scale // 2 :: scale]
    assert np.abs(small.astype(int) - played[-1]).mean() < 12

    status, headers, body = request(server, f"{path}.gif")
    assert status == 200 and headers["content-type"] == "image/gif" and body[:3] == b"GIF"
    assert Image.open(io.BytesIO(body)).size == (512, 512)

    client.send("record", command="discard")
    assert client.text("recording")["history"] == 9
    with av.open(io.BytesIO(request(server, f"{path}.mp4")[2])) as container:
        assert sum(1 for _ in container.decode(video=0)) == 9
    assert request(server, f"{path}.exe")[0] == 404


def test_recording_continues_after_reset(server, join) -> None:
    client: Client = join(server)
    client.send("record", command="start")
    client.play([0, 1])
    client.act("reset")
    client.send("step", action=2)
    header, _ = client.frame()
    assert header["recording"]["recorded"] == 5 and header["recording"]["history"] == 2
