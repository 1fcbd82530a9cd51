"""Implementation of `djinn play`: open the port, load the world, serve it, open the browser."""

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

try:
    import starlette  # noqa: F401
    import uvicorn
    import websockets  # noqa: F401  # used by uvicorn
except ImportError:
    raise UserError("playing in the browser needs the extra 'play': pip install 'djinn[play]'") from None

from djinn.play.description import training_text
from djinn.play.protocol import MAX_FPS
from djinn.play.security import is_loopback, parse_address
from djinn.play.server import create_app

if TYPE_CHECKING:
    from djinn.backends.select import Engine

INVALID_REQUESTS = ("Invalid UTF-8 sequence", "Invalid HTTP request", "Unsupported upgrade request")
"""Messages that uvicorn logs for malformed input, after it has rejected the request."""


def serve(
    world_path: str | Path,
    host: str = "127.0.0.1",
    port: int = 8000,
    open_browser: bool = True,
    *,
    prompts: Sequence[np.ndarray] = (),
    fps: float | None = None,
    max_players: int = 8,
    device: str | None = None,
    allowed_hosts: Sequence[str] = (),
    engine: Engine = "auto",
) -> None:
    """Serve a world to the browser until Ctrl-C.

    The port is opened before the world is loaded: a port in use is reported at once, and a browser
    that connects early waits.

    Args:
        world_path: World folder, run folder, or name of a shipped world.
        host: Address to listen on; `127.0.0.1` is this machine only, `0.0.0.0` is every interface.
        port: Port to listen on; 0 selects a free one.
        open_browser: Whether to open the page in the browser.
        prompts: Images to start from, uint8 `(H, W, 3)` each, shown after those in the world's
            folder `prompts`.
        fps: Initial frame rate in frames per second; 0 is unlimited, None is the world's own.
        max_players: Largest number of simultaneous players.
        device: Device of the world; CUDA if available, by default.
        allowed_hosts: Further host names of the server, for instance behind a proxy. By default, a
            server that listens to other machines accepts IP addresses and the name of this machine.
        engine: Inference engine; see `djinn.backends.select`.

    Raises:
        UserError: The port or the address is not available, the world does not exist, a number is
            out of range, or an allowed host name is invalid.
    """
    if max_players < 1:
        raise UserError(f"max_players must be at least 1, got {max_players}")
    if fps is not None and not 0 <= fps <= MAX_FPS:
        raise UserError(f"fps must be from 0 (unlimited) to {MAX_FPS:g}, got {fps:g}")
    host = host.lower()
    hosts = _accepted_hosts(host, allowed_hosts)
    with _listen(host, port) as listener:
        url = _url(host, listener.getsockname()[1])
        from djinn.backends.select import select_backend
        from djinn.models.world import World
        from djinn.models.world_folder import find_world

        folder = find_world(world_path)
        name = world_name(folder)
        world = World.from_pretrained(folder, device)
        app = create_app(
            world,
            [*world.prompts, *prompts],
            name=name,
            fps=fps,
            max_players=max_players,
            hosts=hosts,
            allow_addresses=not is_loopback(host),
            folder=folder,
            backend=select_backend(world, engine),
        )
        config = uvicorn.Config(
            app,
            log_level=logging.WARNING,
            ws_per_message_deflate=False,
            ws_max_size=1_000_000,
            timeout_graceful_shutdown=1,
        )
        config.load()
        logging.getLogger("uvicorn.error").addFilter(_is_server_error)
        print(f"Play {name} at {url}  (Ctrl-C to stop)", flush=True)
        print(training_text(world.training_summary), flush=True)
        if not is_loopback(host):
            print(
                "The server is open to the network: it has no password, and every visitor can rename actions.",
                flush=True,
            )
        if open_browser:
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listener])
        print("Stopped.", flush=True)


def world_name(folder: Path) -> str:
    """Return the name of a world: its folder's name, or that of the run folder that contains it."""
    folder = folder.resolve()
    in_run = folder.name == "world" and (folder.parent / "config.yaml").is_file()
    return folder.parent.name if in_run else folder.name


def _is_server_error(record: logging.LogRecord) -> bool:
    """Drop log messages about malformed input, of which a client can cause any number."""
    return not record.getMessage().startswith(INVALID_REQUESTS)


def _listen(host: str, port: int) -> socket.socket:
    """Open the listening socket, which reserves the port while the world loads."""
    if not 0 <= port <= 65535:
        raise UserError(f"port {port} is out of range: choose one from 1024 to 65535 with --port")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise UserError(f"'{host}' is not an address of this machine: try --host 127.0.0.1") from None
    listener = socket.socket(family, kind)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise UserError(f"port {port} is in use: choose another one, for example --port {port + 1}") from None
        if error.errno == errno.EACCES:
            raise UserError(
                f"no permission to listen on port {port}: choose another one, for example --port 8000"
            ) from None
        raise UserError(f"cannot listen on {host} port {port} ({error.strerror}): try --host 127.0.0.1") from None
    return listener


def _accepted_hosts(host: str, allowed: Sequence[str]) -> list[str]:
    """Return the host names that requests may use, besides loopback names."""
    for name in allowed:
        if not re.fullmatch(r"[A-Za-z0-9._-]+", name) and parse_address(name) is None:
            raise UserError(f"'{name}' is not a host name: pass --allowed-host the bare name, as in game.example")
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
