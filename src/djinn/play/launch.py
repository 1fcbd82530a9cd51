"""`djinn play`: takes the port, loads the world, serves it, opens the browser."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import logging
import re
import socket
import threading
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from djinn.errors import UserError
from djinn.play.protocol import HIGHEST_FPS
from djinn.play.security import address_of, is_loopback
from djinn.play.server import create_app

if TYPE_CHECKING:
    from djinn.backends.select import Engine

try:
    import uvicorn
    import websockets  # noqa: F401  # uvicorn speaks websocket through it
except ImportError:
    raise UserError("Playing in the browser needs the extra 'play': pip install 'djinn[play]'") from None


def serve(
    world_path: str | Path,
    host: str = "127.0.0.1",
    port: int = 8000,
    open_browser: bool = True,
    *,
    prompts: Sequence[np.ndarray] = (),
    fps: float | None = None,
    max_players: int = 8,
    idle_minutes: float = 10.0,
    image_format: str = "png",
    device: str | None = None,
    allowed_hosts: Sequence[str] = (),
    engine: Engine = "auto",
) -> None:
    """Serves a world to the browser until Ctrl-C.

    The port is taken before the world is loaded, so a port in use is told at once; a browser that comes early waits.

    Args:
        world_path: a world folder, a run folder, or the name of a shipped world.
        host: address to listen on; `127.0.0.1` is this machine only, `0.0.0.0` everyone who can reach it.
        port: port to listen on; 0 takes a free one.
        open_browser: whether to open the page in the browser.
        prompts: pictures to start from, uint8 `(H, W, 3)`, shown after those in the world's folder `prompts`.
        fps: the pace players start with, frames per second; 0 is as fast as possible; the world's own by default.
        max_players: no more than this many play at once.
        idle_minutes: a player who has sent nothing for so long is dropped.
        image_format: how frames travel: `png`, `webp` or `jpeg`.
        device: where the world computes; CUDA where there is one, by default.
        allowed_hosts: further host names by which the page may be asked for, for instance behind a proxy. Without them
            a server that listens for other machines answers to addresses in numbers and this machine's own name only.
        engine: what computes the frames; see `djinn.backends.select`.

    Raises:
        UserError: the port or the address cannot be used, there is no world, a number is out of range, or an allowed name
            is none.
    """
    if max_players < 1:
        raise UserError(f"max_players must be at least 1, got {max_players}")
    if fps is not None and not 0 <= fps <= HIGHEST_FPS:
        raise UserError(f"fps must lie between 0 (as fast as it goes) and {HIGHEST_FPS:g}, got {fps:g}")
    host = host.lower()
    hosts = _hosts(host, allowed_hosts)
    with _take(host, port) as listener:
        url = _url(host, listener.getsockname()[1])
        from djinn.backends.select import prepare_for_inference
        from djinn.models.world import World
        from djinn.models.world_folder import find_world

        folder = find_world(world_path)
        world = prepare_for_inference(World.from_pretrained(folder, device), engine)
        app = create_app(
            world,
            [*world.prompts, *prompts],
            name=_name(folder),
            fps=fps,
            max_players=max_players,
            idle_minutes=idle_minutes,
            image_format=image_format,
            hosts=hosts,
            by_address=not is_loopback(host),
            folder=folder,
        )
        config = uvicorn.Config(
            app,
            log_level=logging.WARNING,
            ws_per_message_deflate=False,
            ws_max_size=1_000_000,
            timeout_graceful_shutdown=1,
        )
        config.load()
        print(f"Play {_name(folder)} at {url}  (Ctrl-C stops it)", flush=True)
        if not is_loopback(host):
            print("Everyone who can reach this machine can play and rename actions: no password is asked.", flush=True)
        if open_browser:
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listener])
        print("Stopped.", flush=True)


def _take(host: str, port: int) -> socket.socket:
    """Opens the listening socket, so that nobody else can have the port while the world loads."""
    if not 0 <= port <= 65535:
        raise UserError(f"port {port} is out of range: choose one from 1024 to 65535 with --port")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise UserError(f"'{host}' is no address of this machine: try --host 127.0.0.1") from None
    listener = socket.socket(family, kind)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise UserError(f"port {port} is in use: choose another one, for instance --port {port + 1}") from None
        if error.errno == errno.EACCES:
            raise UserError(f"port {port} needs rights that you do not have: choose --port 8000, say") from None
        raise UserError(f"cannot listen on {host} port {port} ({error.strerror}): try --host 127.0.0.1") from None
    return listener


def _hosts(host: str, allowed: Sequence[str]) -> list[str]:
    """Host names that may be asked for besides loopback names."""
    for name in allowed:
        if not re.fullmatch(r"[A-Za-z0-9._-]+", name) and address_of(name) is None:
            raise UserError(f"'{name}' is no host name: give --allowed-host the bare name, as in game.example")
    if is_loopback(host):
        return list(allowed)
    own = socket.gethostname()
    return [host, own, f"{own}.local", socket.getfqdn(), *allowed]


def _url(host: str, port: int) -> str:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"http://{host}:{port}"
    if address.is_unspecified:
        return f"http://{socket.gethostname()}:{port}"
    return f"http://[{host}]:{port}" if address.version == 6 else f"http://{host}:{port}"


def _name(folder: Path) -> str:
    """What to call a world: its folder's name, or the run's where it is RUN/world."""
    folder = folder.resolve()
    return folder.parent.name if folder.name == "world" else folder.name
