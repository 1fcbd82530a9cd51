"""`djinn data import`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from djinn.cli.parsing import parse
from djinn.errors import UserError


@dataclass(frozen=True)
class DataImportOptions:
    """Create a data set from videos or from a game.

    For example:
        djinn data import my-videos/ --out data/mine --size 64x64 --fps 10
        djinn data import procgen:coinrun --out data/coinrun --levels 0:10000 --mode easy
    """

    sources: Annotated[tuple[str, ...], Positional, arg(metavar="SOURCE...")]
    """Video files, folders of videos, or procgen:coinrun to record the game CoinRun."""
    out: Path
    """Folder to create. It must not exist yet."""
    size: str = "64x64"
    """Width and height of the frames. Videos are resized to it; the game has 64x64."""
    fps: float = 10.0
    """Frames per second. Videos are resampled to it by their timestamps."""
    fit: Literal["crop", "stretch"] | None = None
    """Videos of another aspect ratio: crop cuts the borders off (the default), stretch distorts."""
    levels: str | None = None
    """Game: levels to play, as FIRST:END (default 0:10000). Levels from 10000 on are test
    levels."""
    frames: int | None = None
    """Game: frames to record (default 1,000,000)."""
    mode: Literal["hard", "easy"] | None = None
    """Game: hard (the default) has all themes and monsters, easy one theme and no monsters."""
    policy: str | None = None
    """Game: policy that plays: random (the default), random9, sticky, right, mix, held-moves,
    keyboard-jump, keyboard-turn or keyboard-mix."""
    backgrounds: Literal["yes", "no"] | None = None
    """Game: draw background images (default yes)."""
    restrict_themes: Literal["yes", "no"] | None = None
    """Game: use one theme instead of all (default no)."""
    seed: int | None = None
    """Game: seed of the policy (default 0)."""
    workers: int | None = None
    """Game: parallel processes (default 1). The data do not depend on it."""


def main(args: list[str]) -> None:
    """Run `djinn data import`."""
    options = parse(DataImportOptions, args, "djinn data import")
    if not options.sources:
        raise UserError("djinn data import needs a SOURCE: a video file, a folder of videos, or procgen:coinrun")
    from djinn.data.commands import import_data

    switch = {None: None, "yes": True, "no": False}
    flags: dict[str, Any] = {key: switch[getattr(options, key)] for key in ("backgrounds", "restrict_themes")}
    import_data(**{**vars(options), **flags})
