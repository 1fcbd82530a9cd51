"""The server as programs meet it: real process, real world, real sockets."""

import io
import json
import threading

import av
import numpy as np
import pytest
from PIL import Image
from playing import Client, ask, connect_as, huge_png, players, until
from starlette.requests import HTTPConnection
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from djinn.play.security import same_host


def png(colour: tuple[int, int, int], size: tuple[int, int] = (100, 60)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def test_the_world_is_described(server) -> None:
    status, _, body = ask(server, "/api/world")
    about = json.loads(body)
    assert status == 200 and (about["height"], about["width"], about["fps"]) == (32, 32, 30)
    assert [a["index"] for a in about["actions"]] == list(range(6)) and about["actions"][0]["keys"] == ["left"]
    assert about["sampler"] == {"steps": 3, "temperature": 1.0} and about["prompts"] == 2
    assert about["name"] == "tiny-world"
    assert json.loads(ask(server, "/healthz")[2])["status"] == "ok"


def test_prompts_are_shown_as_they_are(server, prompts) -> None:
    assert np.array_equal(np.array(Image.open(io.BytesIO(ask(server, "/api/prompts/1.png")[2]))), prompts[1])
    assert ask(server, "/api/prompts/2.png")[0] == 404


@pytest.mark.parametrize("path", ["/", "/static/app.js", "/api/world", "/nowhere"])
def test_every_answer_has_the_security_headers_and_no_cookie(server, path) -> None:
    _, headers, _ = ask(server, path)
    headers = {k.lower(): v for k, v in headers.items()}
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert "set-cookie" not in headers


def test_the_page_asks_for_nothing_from_elsewhere(server) -> None:
    for path in (
        "/",
        "/static/style.css",
        "/static/app.js",
        "/static/view.js",
        "/static/link.js",
        "/static/gallery.js",
    ):
        text = ask(server, path)[2].decode().replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text and "https://" not in text and "url(" not in text


def test_the_same_seed_and_actions_give_the_same_frames_and_other_actions_others(server, join) -> None:
    client = join(server)
    start = client.act("reset", seed=5)
    first = client.play([0, 0, 0, 0])
    client.act("reset", seed=5)
    again = client.play([0, 0, 0, 0])
    client.act("reset", seed=5)
    other = client.play([1, 1, 1, 1])
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first[0], start)


def test_undo_goes_back_to_the_same_pixels(server, join) -> None:
    client = join(server)
    played = client.play([0, 1, 2])
    client.send("undo", frames=2)
    header, frame = client.frame()
    assert np.array_equal(frame, played[0]) and header["time"] == 1 and header["undo"] == 1
    assert np.array_equal(client.play([1, 2]), played[1:])
    client.act("undo", frames=1000)
    client.send("undo")
    assert "nothing to take back" in client.text("error")["text"]


def test_a_held_action_plays_until_it_is_released_and_a_tap_plays_one_frame(server, join) -> None:
    client = join(server)
    client.send("hold", action=3, stamp=1.0)
    headers = [client.frame()[0] for _ in range(10)]
    assert [h["time"] for h in headers] == list(range(1, 11)) and {h["action"] for h in headers} == {3}
    assert headers[0]["stamp"] == 1.0 and {"dynamics", "decode", "queue", "image"} <= set(headers[0]["ms"])
    client.send("release")
    with pytest.raises(TimeoutError):
        for _ in range(10):
            client.frame(seconds=0.5)
    client.socket.send('{"type": "hold", "action": 4}')
    client.socket.send('{"type": "release"}')
    assert client.frame()[0]["action"] == 4
    with pytest.raises(TimeoutError):
        client.frame(seconds=0.4)


def test_the_server_is_never_more_than_two_frames_ahead(server, join) -> None:
    client = join(server)
    client.send("hold", action=0)
    received = []
    with pytest.raises(TimeoutError):
        while True:
            message = client.socket.recv(timeout=0.6)
            received += [message] if isinstance(message, bytes) else []
    assert len(received) == 2


def test_garbage_gets_a_sentence_and_the_game_goes_on(server, join) -> None:
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


def test_settings_are_taken_and_told(server, join) -> None:
    client = join(server)
    client.text("settings")
    for message, field, value in (
        ({"type": "sampler", "steps": 5}, "steps", 5),
        ({"type": "sampler", "temperature": 0}, "temperature", 0.0),
        ({"type": "pace", "fps": 0}, "fps", 0.0),
        ({"type": "image", "format": "webp"}, "format", "webp"),
    ):
        client.send(**message)
        assert client.text("settings")[field] == value
    client.send("step", action=0)
    header, _ = client.frame()
    assert header["format"] == "webp"
    client.send("sampler", steps=0)
    assert "'steps'" in client.text("error")["text"]


def test_players_are_independent(server, join) -> None:
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


def test_whoever_leaves_leaves_nothing(server, join) -> None:
    until(lambda: players(server) == 0)
    polite, rude = join(server), join(server)
    assert players(server) == 2
    polite.socket.close()
    rude.send("hold", action=0)
    rude.socket.socket.close()
    until(lambda: players(server) == 0)
    assert ask(server, f"/api/players/{rude.text('welcome')['player']}/film.gif")[0] == 404


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "https://127.0.0.1", "http://127.0.0.1:1", "nonsense"]
)
def test_pages_from_elsewhere_are_refused(server, join, origin) -> None:
    with pytest.raises(InvalidStatus), connect(f"ws://{server}/ws", origin=origin):
        pass
    player = join(server).text("welcome")["player"]
    status, _, body = ask(server, f"/api/players/{player}/uploads", png((1, 2, 3)), Origin=origin)
    assert status == 403 and "own page" in json.loads(body)["error"]


@pytest.mark.parametrize(
    ("host", "origin", "own"),
    [
        ("game.example", "https://game.example", True),  # a proxy speaks TLS, the server does not know it
        ("game.example:443", "https://game.example", True),
        ("game.example", "http://game.example:80", True),
        ("game.example:8443", "https://game.example:8443", True),
        ("game.example:8443", "https://game.example", False),
        ("game.example", "https://game.example:8443", False),
        ("game.example", "https://evil.example", False),
    ],
)
def test_the_own_page_behind_a_proxy(host: str, origin: str, own: bool) -> None:
    headers = [(b"host", host.encode()), (b"origin", origin.encode())]
    scope = {"type": "websocket", "scheme": "ws", "path": "/ws", "query_string": b"", "headers": headers}
    assert same_host(HTTPConnection(scope)) is own


def test_a_name_that_was_made_to_point_here_is_refused(server) -> None:
    with pytest.raises(InvalidStatus, match="421"), connect_as("evil.example", server):
        pass
    assert ask(server, "/", Host="evil.example:8000")[0] == 421
    assert ask(server, "/", Host="a:b:c")[0] in (400, 421)
    assert ask(server, "/", Host="localhost:1")[0] == 200


def test_the_own_page_is_let_in(server, join) -> None:
    client = join(server, origin=f"http://{server}")
    assert client.play([0])[0].shape == (32, 32, 3)


def test_an_upload_becomes_the_start(server, join) -> None:
    client = join(server)
    path = f"/api/players/{client.text('welcome')['player']}/uploads"
    status, headers, body = ask(server, path, png((250, 20, 20)), Origin=f"http://{server}")
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
        (b"\0" * 9_000_000, 413, "at most 8 MB"),
    ],
)
def test_bad_uploads_are_refused_and_the_game_goes_on(server, join, data, status, sentence) -> None:
    client = join(server)
    answer, _, body = ask(server, f"/api/players/{client.text('welcome')['player']}/uploads", data)
    assert answer == status and sentence in json.loads(body)["error"]
    assert client.play([2])[0].shape == (32, 32, 3)
    assert ask(server, "/api/players/nobody/uploads", png((0, 0, 0)))[0] == 404


def test_films_can_be_watched(server, join) -> None:
    client = join(server)
    path = f"/api/players/{client.text('welcome')['player']}/film"
    client.play([0, 1, 2])
    client.send("record", do="start")
    assert client.text("tape")["recording"]
    played = client.play([3, 4, 5, 0])
    client.send("record", do="stop")
    assert client.text("tape")["recorded"] == 5
    client.play([1])

    status, headers, body = ask(server, f"{path}.mp4")
    assert status == 200 and headers["content-type"] == "video/mp4" and "attachment" in headers["content-disposition"]
    with av.open(io.BytesIO(body)) as container:
        film = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(film) == 5
    scale = film[0].shape[0] // 32
    small = film[-1][scale // 2 :: scale, scale // 2 :: scale]
    assert np.abs(small.astype(int) - played[-1]).mean() < 12

    status, headers, body = ask(server, f"{path}.gif")
    assert status == 200 and headers["content-type"] == "image/gif" and body[:3] == b"GIF"
    assert Image.open(io.BytesIO(body)).size == (512, 512)

    client.send("record", do="discard")
    assert client.text("tape")["history"] == 9
    with av.open(io.BytesIO(ask(server, f"{path}.mp4")[2])) as container:
        assert sum(1 for _ in container.decode(video=0)) == 9
    assert ask(server, f"{path}.exe")[0] == 404


def test_recording_goes_on_over_a_reset(server, join) -> None:
    client: Client = join(server)
    client.send("record", do="start")
    client.play([0, 1])
    client.act("reset")
    client.send("step", action=2)
    header, _ = client.frame()
    assert header["tape"]["recorded"] == 5 and header["tape"]["history"] == 2
