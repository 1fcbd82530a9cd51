"""`djinn play`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from djinn.cli.parsing import Engine, WorldName, parse


@dataclass(frozen=True)
class PlayOptions:
    """Play a world in the browser. Ctrl-C stops the server.

    For example:
        djinn play coinrun
        djinn play runs/mine --port 8080 --no-browser

    On a CPU, frames are computed with ONNX Runtime where it is installed.
    """

    world: WorldName
    """World folder, run folder, or name of a shipped world."""
    host: str = "127.0.0.1"
    """Address to listen on. 127.0.0.1 serves this machine only, 0.0.0.0 every machine that can
    reach this one."""
    port: int = 8000
    """Port to listen on. 0 selects a free one."""
    browser: bool = True
    """Do not open the page in a browser."""
    fps: float | None = None
    """Initial frame rate in frames per second. 0 is as fast as possible. The default is the world's
    own."""
    max_players: int = 8
    """Maximum number of simultaneous players."""
    image: tuple[Path, ...] = ()
    """Images to start from, besides the world's own prompts: PNG, JPEG or WebP files of any
    size."""
    allowed_host: tuple[str, ...] = ()
    """Further host names under which the page may be requested, for example behind a proxy. The
    machine's addresses and its own name are always accepted."""
    engine: Engine = "auto"
    """Engine that computes the frames. torch: PyTorch. onnx: ONNX Runtime, on a CPU only. int8: the
    same with 8-bit matrix products in the dynamics model. auto, on a CPU with ONNX Runtime
    installed: int8 for a dynamics model of width 256 or more, else onnx."""
    device: str | None = None
    """Device to compute on, for example cpu or cuda. The default is the GPU if there is one."""


def main(args: list[str]) -> None:
    """Run `djinn play`."""
    options = parse(PlayOptions, args, "djinn play")
    from djinn.images import read_image
    from djinn.play.launch import serve

    serve(
        options.world,
        options.host,
        options.port,
        options.browser,
        prompts=[read_image(path) for path in options.image],
        fps=options.fps,
        max_players=options.max_players,
        allowed_hosts=options.allowed_host,
        engine=options.engine,
        device=options.device,
    )
