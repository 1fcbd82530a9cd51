"""The play server: one world in memory, many players, each with a session of their own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from djinn.config import SamplerConfig
from djinn.errors import UserError
from djinn.images import MAX_PIXELS

try:
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.requests import Request
    from starlette.responses import FileResponse, JSONResponse, Response
    from starlette.routing import Mount, Route, WebSocketRoute
    from starlette.staticfiles import StaticFiles
    from starlette.websockets import WebSocket, WebSocketDisconnect
except ImportError:
    raise UserError("Playing in the browser needs the extra 'play': pip install 'djinn[play]'") from None

from djinn.play import images as pictures
from djinn.play import naming, protocol
from djinn.play.player import UNDO_DEPTH, MakeSession, Player
from djinn.play.recorder import write_film
from djinn.play.security import Guard, same_host

if TYPE_CHECKING:
    from djinn.models.world import World

STATIC = Path(__file__).parent / "static"
FILM_TYPES = {"mp4": "video/mp4", "gif": "image/gif"}
log = logging.getLogger("djinn.play")


def serve(
    world_path: str | Path, host: str = "127.0.0.1", port: int = 8000, open_browser: bool = True, **more: Any
) -> None:
    """Serves a world to the browser until Ctrl-C; see `djinn.play.launch.serve`, which this is."""
    from djinn.play.launch import serve as launch

    launch(world_path, host, port, open_browser, **more)


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
    by_address: bool = False,
    make_session: MakeSession | None = None,
    folder: Path | None = None,
) -> Starlette:
    """Builds the web application that plays a world.

    Args:
        world: the world, in memory once for all players.
        prompts: pictures to start from, each uint8 `(H, W, 3)` of any size; without any, players start from grey.
        name: what the page calls the world.
        max_players: no more than this many play at once; the next one is told so.
        fps: the pace a player starts with, frames per second; 0 is as fast as possible; None is the world's own.
        image_format: how frames travel: `png` or `webp` (lossless) or `jpeg`; players may change it for themselves.
        idle_minutes: a player who has sent nothing for so long is dropped.
        hosts: host names that may be asked for besides loopback names.
        by_address: whether any IP address may be asked for too; needed where others reach this machine.
        make_session: makes a session from prompt, sampler and seed; None makes `djinn.generate.session.Session`.
        folder: the world's folder, where names that players give its actions are written; None writes them nowhere.

    Raises:
        UserError: the image format is unknown.
    """
    if image_format not in protocol.IMAGE_FORMATS:
        raise UserError(f"image format must be one of {', '.join(protocol.IMAGE_FORMATS)}, got '{image_format}'")
    hall = PlayServer(world, list(prompts), name, max_players, fps, image_format, idle_minutes, make_session, folder)
    routes = [
        Route("/", hall.page),
        Route("/healthz", hall.health),
        Route("/api/world", hall.describe),
        Route("/api/prompts/{index:int}.png", hall.prompt),
        Route("/api/actions/{code:int}", hall.rename, methods=["POST"]),
        Route("/api/players/{player}/uploads", hall.upload, methods=["POST"]),
        Route("/api/players/{player}/film.{kind}", hall.film),
        WebSocketRoute("/ws", hall.play),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    app = Starlette(routes=routes, middleware=[Middleware(Guard, hosts, by_address)], lifespan=hall.lifespan)
    app.state.hall = hall
    return app


class PlayServer:
    """Where the players are: the world, the one thread that runs it, and the answers to every address."""

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
    ) -> None:
        """Prepares the hall; see `create_app` for the arguments."""
        config = world.config
        size = (config.height, config.width)
        grey = np.full((*size, 3), 96, np.uint8)
        fitted = [p if p.shape[:2] == size else world.fit_image(Image.fromarray(p)) for p in prompts]
        self.world = world
        self.prompts = fitted or [grey]
        self.has_prompts = bool(fitted)
        self.pictures = [pictures.encode_picture(p) for p in self.prompts]
        self.name = name
        self.max_players = max_players
        self.fps = config.fps if fps is None else fps
        self.image_format = image_format
        self.idle_seconds = idle_minutes * 60
        self.make_session = make_session or self._make_session
        self.folder = folder
        self.players: dict[str, Player] = {}
        self.model_thread = ThreadPoolExecutor(1, thread_name_prefix="djinn-world")
        self.decoding = asyncio.Semaphore(1)
        self.filming = asyncio.Semaphore(1)
        self.naming = asyncio.Semaphore(1)

    def _make_session(self, prompt: np.ndarray, sampler: SamplerConfig, seed: int) -> Any:
        from djinn.generate.session import Session

        return Session(self.world, np.array(prompt), sampler=sampler, seed=seed, undo_depth=UNDO_DEPTH)

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Plays one frame before the first player comes, so that theirs is quick; ends the thread at the end."""
        await self._work(lambda: self.make_session(self.prompts[0], self.world.config.sampler, 0).step(0))
        try:
            yield
        finally:
            self.model_thread.shutdown(wait=False, cancel_futures=True)

    async def _work(self, piece: Callable[[], Any]) -> Any:
        """Runs model work in its one thread. A player asks for one piece at a time, so players take turns."""
        return await asyncio.get_running_loop().run_in_executor(self.model_thread, piece)

    def about(self) -> dict[str, Any]:
        """What a page or a program needs to know of the world."""
        config = self.world.config
        names, keys = list(self.world.action_names), [list(k) for k in self.world.action_keys]
        return {
            "name": self.name,
            "height": config.height,
            "width": config.width,
            "fps": self.fps,
            "frames": config.context_frames,
            "tokens_per_frame": config.tokens_per_frame,
            "actions": [{"index": i, "name": n, "keys": k} for i, (n, k) in enumerate(zip(names, keys, strict=True))],
            "sampler": {"steps": config.sampler.steps, "temperature": config.sampler.temperature},
            "prompts": len(self.prompts) if self.has_prompts else 0,
            "image_formats": list(protocol.IMAGE_FORMATS),
            "limits": {
                "players": self.max_players,
                "upload_bytes": pictures.MOST_BYTES,
                "upload_pixels": MAX_PIXELS,
                "steps": protocol.MOST_STEPS,
                "temperature": protocol.HIGHEST_TEMPERATURE,
                "undo": UNDO_DEPTH,
                "name": naming.LONGEST_NAME,
            },
        }

    async def page(self, request: Request) -> Response:
        """The page."""
        return FileResponse(STATIC / "index.html")

    async def health(self, request: Request) -> Response:
        """Whether the server is well, and how many play."""
        return JSONResponse({"status": "ok", "players": len(self.players), "max_players": self.max_players})

    async def describe(self, request: Request) -> Response:
        """The world's sizes, actions and defaults."""
        return JSONResponse(self.about())

    async def prompt(self, request: Request) -> Response:
        """A prompt's picture, exact."""
        index = request.path_params["index"]
        if index >= len(self.pictures):
            return _refuse(404, "There is no such prompt.")
        return Response(self.pictures[index], media_type="image/png")

    async def rename(self, request: Request) -> Response:
        """Gives an action another name (the body is `{"name": TEXT}`), and answers with all actions and perhaps a warning."""
        if not same_host(request):
            return _refuse(403, "Names are taken from this server's own page only.")
        code = request.path_params["code"]
        if code >= len(self.world.action_names):
            return _refuse(404, "There is no such action.")
        data = bytearray()
        async for chunk in request.stream():
            data += chunk
            if len(data) > naming.MOST_BYTES:
                return _refuse(413, "This name is too long.")
        try:
            name = naming.read_name(bytes(data))
        except UserError as error:
            return _refuse(422, str(error))
        async with self.naming:
            warning = await asyncio.to_thread(naming.rename, self.world, self.folder, code, name)
        return JSONResponse({"actions": self.about()["actions"], "warning": warning})

    async def upload(self, request: Request) -> Response:
        """Takes a picture to start from (the body is the file), and answers with the prompt made of it as PNG."""
        if not same_host(request):
            return _refuse(403, "Pictures are taken from this server's own page only.")
        player = self.players.get(request.path_params["player"])
        if player is None:
            return _refuse(404, "This game is no longer running: reload the page.")
        data = bytearray()
        async for chunk in request.stream():
            data += chunk
            if len(data) > pictures.MOST_BYTES:
                return _refuse(413, pictures.too_many_bytes())
        try:
            async with self.decoding:
                prompt = await asyncio.to_thread(pictures.read_picture, bytes(data), self.world.fit_image)
            index = player.add_upload(prompt)
        except UserError as error:
            return _refuse(422, str(error))
        headers = {"X-Upload": str(index)}
        return Response(pictures.encode_picture(prompt), media_type="image/png", headers=headers)

    async def film(self, request: Request) -> Response:
        """The player's recording, or all since the reset, as `film.mp4` or `film.gif`."""
        player = self.players.get(request.path_params["player"])
        kind = request.path_params["kind"]
        if player is None or kind not in FILM_TYPES:
            return _refuse(404, "There is no such film: a film is 'mp4' or 'gif', of a game that is running.")
        frames = player.tape.film()

        def write() -> bytes:
            with tempfile.TemporaryDirectory(prefix="djinn-film-") as folder:
                path = Path(folder) / f"film.{kind}"
                write_film(path, frames, self.world.config.fps)
                return path.read_bytes()

        try:
            async with self.filming:
                data = await asyncio.to_thread(write)
        except (UserError, OSError) as error:
            return _refuse(422, str(error))
        headers = {"Content-Disposition": f'attachment; filename="djinn.{kind}"'}
        return Response(data, media_type=FILM_TYPES[kind], headers=headers)

    async def play(self, websocket: WebSocket) -> None:
        """One player's game, from the door to the moment they leave."""
        if not same_host(websocket):
            await websocket.close(1008)
            return
        await websocket.accept()
        if len(self.players) >= self.max_players:
            noun = "player" if self.max_players == 1 else "players"
            text = f"This world is full: {self.max_players} {noun} at once is the most. Try again in a little while."
            await websocket.send_json({"type": "bye", "reason": "full", "text": text})
            await websocket.close(1013)
            return
        player = Player(
            self.make_session,
            self.prompts,
            len(self.world.action_names),
            sampler=self.world.config.sampler,
            fps=self.fps,
            image_format=self.image_format,
            work=self._work,
            send_text=websocket.send_json,
            send_frame=websocket.send_bytes,
        )
        self.players[player.id] = player
        tasks: set[asyncio.Task[None]] = set()
        try:
            await websocket.send_json({"type": "welcome", "player": player.id, "world": self.about()})
            coroutines = (player.run(), self._listen(websocket, player), self._watch(websocket, player))
            tasks = {asyncio.create_task(c) for c in coroutines}
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                error = task.exception()
                if error is not None and not _is_leaving(error):
                    log.error("a player was dropped", exc_info=error)
        except Exception as error:
            if not _is_leaving(error):
                raise
        finally:
            del self.players[player.id]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with contextlib.suppress(Exception):
                await websocket.close()

    async def _listen(self, websocket: WebSocket, player: Player) -> None:
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            await player.hear(message.get("text"))

    async def _watch(self, websocket: WebSocket, player: Player) -> None:
        """Returns, after a word to the player, when they have been idle for too long."""
        while (left := player.last_heard + self.idle_seconds - time.monotonic()) > 0:
            await asyncio.sleep(left)
        text = "The game was closed because nothing was played for a while. Start again whenever you like."
        await websocket.send_json({"type": "bye", "reason": "idle", "text": text})


def _is_leaving(error: BaseException) -> bool:
    return isinstance(error, WebSocketDisconnect) or (
        isinstance(error, RuntimeError) and "websocket" in str(error).lower()
    )


def _refuse(status: int, text: str) -> Response:
    return JSONResponse({"error": text}, status_code=status)
