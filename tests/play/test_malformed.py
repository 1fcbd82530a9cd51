"""Malformed requests and frames: each is rejected, the server keeps running and logs nothing."""

import base64
import os
import signal
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from play_helpers import Client, player_count, request, start, wait_until

TEXT, BINARY, CLOSE, PING = 1, 2, 8, 9


def frame(opcode: int, payload: bytes = b"", *, final: bool = True, masked: bool = True, reserved: int = 0) -> bytes:
    """Encode a websocket frame (RFC 6455, section 5.2)."""
    head = bytes([(0x80 if final else 0) | reserved | opcode])
    mask_bit = 0x80 if masked else 0
    if len(payload) < 126:
        head += bytes([mask_bit | len(payload)])
    elif len(payload) < 65536:
        head += bytes([mask_bit | 126]) + struct.pack(">H", len(payload))
    else:
        head += bytes([mask_bit | 127]) + struct.pack(">Q", len(payload))
    if not masked:
        return head + payload
    mask = os.urandom(4)
    return head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


FRAMES = {
    "invalid UTF-8": (frame(TEXT, b"\xff\xfe"), 1007),
    "invalid UTF-8 three times": (frame(TEXT, b"\xff\xfe") * 3, 1007),
    "invalid UTF-8 in fragments": (frame(TEXT, b"\xe2", final=False) + frame(0, b"\xff"), 1007),
    "invalid UTF-8 in close reason": (frame(CLOSE, b"\x03\xe8\xff"), 1007),
    "too long": (frame(TEXT, b"a" * 1_100_000), 1009),
    "too long by header": (bytes([0x81, 0xFF]) + struct.pack(">Q", 2**40) + b"abcd", 1009),
    "not masked": (frame(TEXT, b"{}", masked=False), 1002),
    "reserved bit": (frame(TEXT, b"{}", reserved=0x40), 1002),
    "unknown opcode": (frame(3), 1002),
    "continuation without start": (frame(0), 1002),
    "new message within fragments": (frame(TEXT, b"{", final=False) + frame(TEXT, b"}"), 1002),
    "fragmented ping": (frame(PING, final=False), 1002),
    "long ping": (frame(PING, b"p" * 126), 1002),
    "close frame of one byte": (frame(CLOSE, b"x"), 1002),
    "unassigned close code": (frame(CLOSE, struct.pack(">H", 999)), 1002),
    "reserved close code": (frame(CLOSE, struct.pack(">H", 1005)), 1002),
}
REQUESTS = {
    "TLS handshake": (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"400"),
    "long header": (b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n", b"400"),
    "negative length": (b"POST /api/actions/0 HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n", b"400"),
    "long index": (b"GET /api/prompts/" + b"9" * 5000 + b".png HTTP/1.1\r\nHost: localhost\r\n\r\n", b"404"),
    "long code": (b"POST /api/actions/" + b"9" * 5000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", b"404"),
    "null byte in path": (b"GET /static/%00 HTTP/1.1\r\nHost: localhost\r\n\r\n", b"404"),
    "other upgrade": (b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", b"200"),
    "websocket without key": (
        b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\n\r\n",
        b"400",
    ),
}


@pytest.fixture(scope="module")
def quiet_server(world_folder: Path) -> Iterator[str]:
    """Address of a server process that must not log anything by the end of this module."""
    process = start(world_folder, 0)
    assert process.stdout is not None
    server = process.stdout.readline().split("http://")[1].split()[0]
    yield server
    assert request(server, "/healthz")[0] == 200
    process.send_signal(signal.SIGINT)
    _, log = process.communicate(timeout=30)
    assert log == ""


def open_socket(server: str) -> socket.socket:
    host, port = server.split(":")
    connection = socket.create_connection((host, int(port)))
    connection.settimeout(20)
    return connection


def open_websocket(server: str) -> socket.socket:
    """Connect as a player and return the socket after the handshake."""
    connection = open_socket(server)
    key = base64.b64encode(os.urandom(16)).decode()
    connection.sendall(
        f"GET /ws HTTP/1.1\r\nHost: {server}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(1)
    assert received.startswith(b"HTTP/1.1 101")
    return connection


def read_frame(connection: socket.socket) -> tuple[int, bytes]:
    """Read a frame of the server: opcode and payload."""

    def read(count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = connection.recv(count - len(data))
            assert part, "connection closed without a close frame"
            data += part
        return data

    first, length = read(2)
    if length >= 126:
        length = int.from_bytes(read(2 if length == 126 else 8), "big")
    return first & 15, read(length)


@pytest.mark.parametrize("case", FRAMES)
def test_malformed_frame_closes_websocket(quiet_server, case) -> None:
    data, code = FRAMES[case]
    with open_websocket(quiet_server) as connection:
        connection.sendall(data)
        opcode, payload = read_frame(connection)
        while opcode != CLOSE:
            opcode, payload = read_frame(connection)
    assert struct.unpack(">H", payload[:2])[0] == code
    wait_until(lambda: player_count(quiet_server) == 0)


def test_binary_message_is_answered_and_game_continues(quiet_server, join) -> None:
    client: Client = join(quiet_server)
    client.socket.send(b"\xff\x00")
    assert "must be text" in client.text("error")["text"]
    assert client.play([0])[0].shape == (32, 32, 3)


@pytest.mark.parametrize("case", REQUESTS)
def test_malformed_request_is_rejected(quiet_server, case) -> None:
    data, status = REQUESTS[case]
    with open_socket(quiet_server) as connection:
        connection.sendall(data)
        assert connection.recv(100).split()[1] == status


@pytest.mark.parametrize("path", ["/api/actions/0", "/api/players/{player}/uploads"])
def test_incomplete_body_is_ignored(quiet_server, join, path) -> None:
    path = path.format(player=join(quiet_server).text("welcome")["player"])
    with open_socket(quiet_server) as connection:
        connection.sendall(f"POST {path} HTTP/1.1\r\nHost: {quiet_server}\r\nContent-Length: 50\r\n\r\nabc".encode())
    assert request(quiet_server, "/healthz")[0] == 200


def test_aborted_connection_removes_player(quiet_server) -> None:
    for _ in range(5):
        with open_websocket(quiet_server) as connection:
            connection.sendall(frame(TEXT, b'{"type": "hold", "action": 0}'))
            read_frame(connection)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close with RST
    wait_until(lambda: player_count(quiet_server) == 0)
