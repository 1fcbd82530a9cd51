"""Helpers of the tests in this folder: a small world, servers, a websocket client."""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import weakref
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette", reason="needs the extra 'play'")
pytest.importorskip("uvicorn", reason="needs the extra 'play'")
pytest.importorskip("websockets", reason="needs the extra 'play'")

import uvicorn
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from djinn.config import (
    DynamicsConfig,
    LatentActionConfig,
    QuantizerConfig,
    SamplerConfig,
    TokenizerConfig,
    TransformerConfig,
    WorldConfig,
)
from djinn.errors import UserError
from djinn.models.world import World
from djinn.play.protocol import unpack_frame
from djinn.play.server import create_app

SIZE = TransformerConfig(blocks=2, d_model=32, heads=2, head_dim=16)
CONFIG = WorldConfig(
    height=32,
    width=32,
    context_frames=4,
    fps=30.0,
    tokenizer=TokenizerConfig(8, SIZE, SIZE, QuantizerConfig(codes=64, dim=8)),
    latent_action=LatentActionConfig(8, SIZE, SIZE, QuantizerConfig(codes=6, dim=8)),
    dynamics=DynamicsConfig(SIZE),
    sampler=SamplerConfig(steps=3),
)


def start(folder: Path, port: int, **settings: Any) -> subprocess.Popen[str]:
    """Start a server process as `djinn play --no-browser` does."""
    code = (
        f"from djinn.play.launch import serve; serve({str(folder)!r}, port={port}, open_browser=False, **{settings!r})"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


class Client:
    """Websocket client without a page."""

    def __init__(self, server: str, **settings: Any) -> None:
        self.server = server
        # websockets 17 connects on entering, earlier ones at once
        address = f"ws://{server}/ws"
        self.socket = connect(address, compression=None, open_timeout=30, close_timeout=1, **settings).__enter__()
        self.texts: list[dict[str, Any]] = []
        self.number = 0

    def send(self, type: str, **fields: Any) -> None:
        self.socket.send(json.dumps({"type": type, **fields}))

    def frame(self, seconds: float = 20) -> tuple[dict[str, Any], np.ndarray]:
        """Receive and acknowledge the next frame; return its header and pixels."""
        while True:
            message = self.socket.recv(timeout=seconds)
            if isinstance(message, bytes):
                header, image = unpack_frame(message)
                self.number = header["number"]
                self.send("ack", number=self.number)
                return header, np.array(Image.open(io.BytesIO(image)))
            self.texts.append(json.loads(message))

    def text(self, type: str, seconds: float = 20) -> dict[str, Any]:
        """Receive the next text message of a type; frames before it are dropped."""
        while True:
            for i, message in enumerate(self.texts):
                if message["type"] == type:
                    return self.texts.pop(i)
            message = self.socket.recv(timeout=seconds)
            if isinstance(message, str):
                self.texts.append(json.loads(message))

    def act(self, type: str, **fields: Any) -> np.ndarray:
        """Send a message that leads to one frame, and return the frame."""
        self.send(type, **fields)
        return self.frame()[1]

    def play(self, actions: list[int]) -> list[np.ndarray]:
        return [self.act("step", action=action) for action in actions]


def connect_as(name: str, server: str) -> contextlib.AbstractContextManager[ClientConnection]:
    """Open a websocket under another host name, as after DNS rebinding."""
    address, port = server.split(":")
    here = socket.create_connection((address, int(port)))
    return connect(f"ws://{name}:{port}/ws", sock=here, origin=Origin(f"http://{name}:{port}"), open_timeout=30)


def request(server: str, path: str, data: bytes | None = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Send an HTTP request; return status, headers and body."""
    message = urllib.request.Request(f"http://{server}{path}", data, headers)
    try:
        with urllib.request.urlopen(message, timeout=60) as response:
            return response.status, dict(response.headers), response.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


def player_count(server: str) -> int:
    """Return the number of players on a server."""
    return json.loads(request(server, "/healthz")[2])["players"]


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait until a condition is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "condition not true in time"
        time.sleep(0.02)


@contextlib.contextmanager
def serving(world: World, port: int = 0, **settings: Any) -> Iterator[str]:
    """Run a server in this process, for tests with another world, session or limit."""
    listener = socket.create_server(("127.0.0.1", port))
    app = create_app(world, **settings)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", ws_per_message_deflate=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()


def huge_png(side: int) -> bytes:
    """Return a small PNG file whose header states a large size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


class CountingSession:
    """Session whose frames show the number of frames and the last action as colors."""

    alive: ClassVar = weakref.WeakSet()
    gate = threading.Event()
    gate.set()

    def __init__(self, prompt: np.ndarray, sampler: Any, seed: int) -> None:
        self.sampler, self.timings, self.colors = sampler, {"dynamics": 1.0, "decode": 1.0}, [(0, 0)]
        CountingSession.alive.add(self)

    @property
    def frame(self) -> np.ndarray:
        frame = np.zeros((1, CONFIG.height, CONFIG.width, 3), np.uint8)
        frame[..., 0], frame[..., 1] = self.colors[-1]
        return frame

    def step(self, action: int) -> np.ndarray:
        assert CountingSession.gate.wait(20)
        if action == 5:
            raise RuntimeError("no such memory")
        if action == 4:
            raise UserError("This action is disabled.")
        self.colors.append((len(self.colors) % 256, action))
        return self.frame

    def undo(self, n: int = 1) -> np.ndarray:
        del self.colors[-n:]
        return self.frame

    def reset(self, seed: int | None = None) -> np.ndarray:
        del self.colors[1:]
        return self.frame


def scripted_world(**attributes: Any) -> Any:
    """Return the part of a `World` that a server with `CountingSession` needs."""
    world = SimpleNamespace(
        config=CONFIG,
        action_names=[f"action {code}" for code in range(6)],
        action_keys=[[] for _ in range(6)],
        training_summary=None,
        fit_image=lambda image: World.fit_image(cast(World, world), image),
    )
    vars(world).update(attributes)
    return world
