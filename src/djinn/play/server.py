"""Web application that plays one world: page, uploads, recordings and websocket."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

from djinn.config import SamplerConfig
from djinn.errors import UserError
from djinn.play import images, naming, protocol
from djinn.play.description import describe_actions, describe_world
from djinn.play.player import UNDO_DEPTH, MakeSession, Player
from djinn.play.recorder import write_recording
from djinn.play.security import SecurityMiddleware, is_same_origin

if TYPE_CHECKING:
    from djinn.generate.backend import Backend
    from djinn.models.world import World

STATIC = Path(__file__).parent / "static"
VIDEO_TYPES = {"mp4": "video/mp4", "gif": "image/gif"}
log = logging.getLogger("djinn.play")


def create_app(
    world: World,
    prompts: Sequence[np.ndarray] = (),
    *,
    name: str = "world",
    max_players: int = 8,
    fps: float | None = None,
    image_format: str = "png",
    idle_minutes: float = 10.0,
    hosts: Sequence[str] = (),
    allow_addresses: bool = False,
    make_session: MakeSession | None = None,
    folder: Path | None = None,
    backend: Backend | None = None,
) -> Starlette:
    """Build the web application that plays a world.

    Args:
        world: The world, shared by all players.
        prompts: Images to start from, uint8 `(H, W, 3)` each, of any size. Without prompts, players
            start from a grey image.
        name: Name of the world on the page.
        max_players: Largest number of simultaneous players; further clients are rejected.
        fps: Initial frame rate in frames per second; 0 is unlimited, None is the world's own.
        image_format: Initial encoding of frames: `png` or `webp` (lossless) or `jpeg`.
        idle_minutes: Players that send no message for this long are disconnected.
        hosts: Host names accepted in addition to loopback names.
        allow_addresses: Whether to accept any IP address as host. Required if other machines
            connect.
        make_session: Function from prompt, sampler and seed to a session; None creates
            `djinn.generate.session.Session`.
        folder: The world's folder, to which action names are saved; None saves them nowhere.
        backend: Engine that computes the frames; torch by default.

    Raises:
        UserError: The image format is unknown.
    """
    if image_format not in protocol.IMAGE_FORMATS:
        raise UserError(f"image format must be one of {', '.join(protocol.IMAGE_FORMATS)}, got '{image_format}'")
    server = PlayServer(
        world, list(prompts), name, max_players, fps, image_format, idle_minutes, make_session, folder, backend
    )
    routes = [
        Route("/", server.get_page),
        Route("/healthz", server.get_health),
        Route("/api/world", server.get_world),
        Route("/api/prompts/{index}.png", server.get_prompt),
        Route("/api/actions/{code}", server.rename_action, methods=["POST"]),
        Route("/api/players/{player}/uploads", server.upload, methods=["POST"]),
        Route("/api/players/{player}/recording.{suffix}", server.get_recording),
        WebSocketRoute("/ws", server.play),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    middleware = [Middleware(SecurityMiddleware, hosts, allow_addresses)]
    app = Starlette(routes=routes, middleware=middleware, lifespan=server.lifespan)
    app.state.server = server
    return app


class PlayServer:
    """Request handlers, the connected players, and the one thread that runs the world."""

    def __init__(
        self,
        world: World,
        prompts: list[np.ndarray],
        name: str,
        max_players: int,
        fps: float | None,
        image_format: str,
        idle_minutes: float,
        make_session: MakeSession | None,
        folder: Path | None,
        backend: Backend | None = None,
    ) -> None:
        """Create the server; see `create_app` for the arguments."""
        config = world.config
        size = (config.height, config.width)
        grey = np.full((*size, 3), 96, np.uint8)
        fitted = [p if p.shape[:2] == size else world.fit_image(Image.fromarray(p)) for p in prompts]
        self.world = world
        self.prompts = fitted or [grey]
        self.has_prompts = bool(fitted)
        self.prompt_files = [images.encode_frame(p) for p in self.prompts]
        self.name = name
        self.id = secrets.token_hex(4)
        self.max_players = max_players
        self.fps = config.fps if fps is None else fps
        self.image_format = image_format
        self.idle_seconds = idle_minutes * 60
        self.make_session = make_session or self._make_session
        self.folder = folder
        self.backend = backend
        self.players: dict[str, Player] = {}
        self.model_thread = ThreadPoolExecutor(1, thread_name_prefix="djinn-world")
        self.decode_slot = asyncio.Semaphore(1)
        self.video_slot = asyncio.Semaphore(1)
        self.rename_slot = asyncio.Semaphore(1)

    def _make_session(self, prompt: np.ndarray, sampler: SamplerConfig, seed: int) -> Any:
        from djinn.generate.session import Session

        return Session(
            self.world, np.array(prompt), backend=self.backend, sampler=sampler, seed=seed, undo_depth=UNDO_DEPTH
        )

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Generate one frame at startup: the first frame includes lazy initialization."""
        await self._run_model_work(lambda: self.make_session(self.prompts[0], self.world.config.sampler, 0).step(0))
        try:
            yield
        finally:
            self.model_thread.shutdown(wait=False, cancel_futures=True)

    async def _run_model_work(self, work: Callable[[], Any]) -> Any:
        """Run a function in the model thread. Each player waits for its own, so they take turns."""
        return await asyncio.get_running_loop().run_in_executor(self.model_thread, work)

    def describe(self) -> dict[str, Any]:
        """Return the description of the world that is sent to the page.

        `server` is a random identifier of this server process.
        """
        prompts = len(self.prompts) if self.has_prompts else 0
        description = describe_world(
            self.world, name=self.name, fps=self.fps, prompts=prompts, max_players=self.max_players
        )
        return {"server": self.id, **description}

    async def get_page(self, request: Request) -> Response:
        """Return the page."""
        return FileResponse(STATIC / "index.html")

    async def get_health(self, request: Request) -> Response:
        """Return the status of the server and the number of players."""
        return JSONResponse({"status": "ok", "players": len(self.players), "max_players": self.max_players})

    async def get_world(self, request: Request) -> Response:
        """Return the description of the world."""
        return JSONResponse(self.describe())

    async def get_prompt(self, request: Request) -> Response:
        """Return a prompt as PNG."""
        index = _parse_index(request.path_params["index"], len(self.prompt_files))
        if index is None:
            return _error(404, "This prompt does not exist.")
        return Response(self.prompt_files[index], media_type="image/png")

    async def rename_action(self, request: Request) -> Response:
        """Rename an action to the name in the body, `{"name": TEXT}`; return all actions."""
        if not is_same_origin(request):
            return _error(403, "Names are accepted from this server's own page only.")
        code = _parse_index(request.path_params["code"], len(self.world.action_names))
        if code is None:
            return _error(404, "This action does not exist.")
        try:
            body = await _read_body(request, naming.MAX_BODY_BYTES)
        except ClientDisconnect:
            return _error(400, "The request is incomplete.")
        if body is None:
            return _error(413, "This name is too long.")
        try:
            name = naming.parse_name(body)
        except UserError as error:
            return _error(422, str(error))
        async with self.rename_slot:
            warning = await asyncio.to_thread(naming.rename, self.world, self.folder, code, name)
        return JSONResponse({"actions": describe_actions(self.world), "warning": warning})

    async def upload(self, request: Request) -> Response:
        """Start a game from an uploaded image (the body is the file); return the prompt as PNG."""
        if not is_same_origin(request):
            return _error(403, "Images are accepted from this server's own page only.")
        player = self.players.get(request.path_params["player"])
        if player is None:
            return _error(404, "This game has ended: reload the page.")
        try:
            body = await _read_body(request, images.MAX_BYTES)
        except ClientDisconnect:
            return _error(400, "The request is incomplete.")
        if body is None:
            return _error(413, images.too_many_bytes())
        try:
            async with self.decode_slot:
                prompt = await asyncio.to_thread(images.decode_upload, body, self.world.fit_image)
            index = player.add_upload(prompt)
        except UserError as error:
            return _error(422, str(error))
        headers = {"X-Upload": str(index)}
        return Response(images.encode_frame(prompt), media_type="image/png", headers=headers)

    async def get_recording(self, request: Request) -> Response:
        """Return the player's recording, or all frames since the last reset, as MP4 or GIF."""
        player = self.players.get(request.path_params["player"])
        suffix = request.path_params["suffix"]
        if player is None or suffix not in VIDEO_TYPES:
            return _error(404, "This recording does not exist: recordings are 'mp4' or 'gif' of a running game.")
        frames = player.recorder.frames()

        def write() -> bytes:
            with tempfile.TemporaryDirectory(prefix="djinn-recording-") as folder:
                path = Path(folder) / f"recording.{suffix}"
                write_recording(path, frames, self.world.config.fps)
                return path.read_bytes()

        try:
            async with self.video_slot:
                data = await asyncio.to_thread(write)
        except (UserError, OSError) as error:
            return _error(422, str(error))
        headers = {"Content-Disposition": f'attachment; filename="djinn.{suffix}"'}
        return Response(data, media_type=VIDEO_TYPES[suffix], headers=headers)

    async def play(self, websocket: WebSocket) -> None:
        """Run the game of one client until it disconnects."""
        if not is_same_origin(websocket):
            await websocket.close(1008)
            return
        await websocket.accept()
        if len(self.players) >= self.max_players:
            noun = "player" if self.max_players == 1 else "players"
            text = f"This server is full (limit: {self.max_players} {noun}). Retry in a few minutes."
            await websocket.send_json({"type": "bye", "reason": "full", "text": text})
            await websocket.close(1013)
            return
        player = Player(
            self.make_session,
            self.prompts,
            self.world.action_names,
            sampler=self.world.config.sampler,
            fps=self.fps,
            image_format=self.image_format,
            run_model_work=self._run_model_work,
            send_json=websocket.send_json,
            send_frame=websocket.send_bytes,
        )
        self.players[player.id] = player
        tasks: set[asyncio.Task[None]] = set()
        try:
            await websocket.send_json({"type": "welcome", "player": player.id, "world": self.describe()})
            coroutines = (player.run(), self._receive(websocket, player), self._close_when_idle(websocket, player))
            tasks = {asyncio.create_task(c) for c in coroutines}
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                error = task.exception()
                if error is not None and not _is_disconnect(error):
                    log.error("the connection to a player was closed after an error", exc_info=error)
        except Exception as error:
            if not _is_disconnect(error):
                raise
        finally:
            del self.players[player.id]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with contextlib.suppress(Exception):
                await websocket.close()

    async def _receive(self, websocket: WebSocket, player: Player) -> None:
        """Pass messages to the player until the client disconnects."""
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            await player.handle_message(message.get("text"))

    async def _close_when_idle(self, websocket: WebSocket, player: Player) -> None:
        """Wait until the player has been idle for too long, and announce the end of the game."""
        while (left := player.last_message_at + self.idle_seconds - time.monotonic()) > 0:
            await asyncio.sleep(left)
        text = "The game was closed because it was idle. Reconnect to start a new one."
        await websocket.send_json({"type": "bye", "reason": "idle", "text": text})


def _parse_index(text: str, count: int) -> int | None:
    """Parse an index in `[0, count)`; return None for anything else.

    Starlette's `int` convertor raises an error for numbers of more than 4,300 digits.
    """
    return int(text) if re.fullmatch("[0-9]{1,9}", text) and int(text) < count else None


async def _read_body(request: Request, limit: int) -> bytes | None:
    """Read the body of a request; return None if it has more than `limit` bytes.

    Raises:
        ClientDisconnect: The client disconnected before the end of the body.
    """
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > limit:
            return None
    return bytes(data)


def _is_disconnect(error: BaseException) -> bool:
    return isinstance(error, WebSocketDisconnect) or (
        isinstance(error, RuntimeError) and "websocket" in str(error).lower()
    )


def _error(status: int, text: str) -> Response:
    return JSONResponse({"error": text}, status_code=status)
