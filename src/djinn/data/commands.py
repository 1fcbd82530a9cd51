"""What `djinn data import` and `djinn data info` do."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from djinn.atomic import check_writable_file
from djinn.data.dataset import SPLITS, Dataset
from djinn.errors import UserError

_GAMES = ("procgen:coinrun",)
SMALLEST, LARGEST = 8, 4096
"""Pixels of a side of a frame."""


def import_data(
    sources: Sequence[str],
    out: str | Path,
    *,
    size: str = "64x64",
    fps: float = 10,
    fit: Literal["crop", "stretch"] | None = None,
    levels: str | None = None,
    frames: int | None = None,
    mode: Literal["hard", "easy"] | None = None,
    policy: str | None = None,
    backgrounds: bool | None = None,
    restrict_themes: bool | None = None,
    seed: int | None = None,
    workers: int | None = None,
) -> Dataset:
    """Makes a data set to train on, from videos or from a game, and prints what is in it.

    Args:
        sources: video files, folders of them, or `procgen:coinrun` to record the game.
        out: folder to make; it must not exist yet.
        size: width x height of the frames, for instance 64x64 or 160x90. The game has 64x64.
        fps: frames a second. Videos are brought to it; for a game it is the speed of play.
        fit: videos of another shape: `crop` cuts the borders off (default), `stretch` distorts.
        levels: game: levels to play, FIRST:END (default 0:10000). From 10000 on they are for testing only.
        frames: game: how many frames to record (default 1,000,000).
        mode: game: `hard` (default) has all themes and monsters, `easy` one theme and no walking monsters.
        policy: game: who plays. `random` (default) presses any of 15 buttons each frame, `random9` any of the 9 that
            do something, `sticky` holds them for 2 to 7 frames, `right` runs and jumps to the right, `mix` does all
            of these, `held-moves` holds each of the six moves that act for as long as a jump lasts, `keyboard-jump` walks, taps the
            jump key and sees walls, as somebody at a keyboard does, `keyboard-turn` does so and turns round at walls, `keyboard-mix` is
            `keyboard-jump` in half of the recordings and `keyboard-turn` in the others.
        backgrounds: game: draw pictures behind the level (default), or leave it black.
        restrict_themes: game: one set of pictures for ground and player.
        seed: game: another seed plays in another way (default 0).
        workers: game: processes that play at a time (default 1); the data do not depend on it.

    Returns:
        The data set.

    Raises:
        UserError: a source cannot be read, an option does not fit the source, or `out` exists already.
    """
    height, width = parse_size(size)
    game = {
        "levels": levels,
        "frames": frames,
        "mode": mode,
        "policy": policy,
        "backgrounds": backgrounds,
        "restrict_themes": restrict_themes,
        "seed": seed,
        "workers": workers,
    }
    names = [str(s) for s in sources]
    unknown = next((s for s in names if s.startswith("procgen:") and s not in _GAMES), None)
    if unknown:
        raise UserError(f"there is no importer for '{unknown}'; known games: {', '.join(_GAMES)}")
    if any(s in _GAMES for s in names):
        if len(names) > 1:
            raise UserError(f"{_GAMES[0]} cannot be imported together with other sources: make two data sets")
        _refuse({"fit": fit}, "videos")
        dataset = _import_coinrun(out, (height, width), fps, {k: v for k, v in game.items() if v is not None})
    else:
        _refuse(game, f"{_GAMES[0]}")
        from djinn.data.importers.videos import import_videos

        dataset = import_videos(names, out, (height, width), fps=fps, fit=fit or "crop")
    print(summary(dataset))
    return dataset


def info(path: str | Path, *, picture: str | Path | None = None) -> None:
    """Prints what is in a data set.

    Args:
        path: the data set's folder.
        picture: also write frames of some episodes to this .png file.

    Raises:
        UserError: there is no whole data set at `path`, or the picture cannot be written.
    """
    if picture is not None:
        check_writable_file(picture)
    dataset = Dataset.open(path)
    print(summary(dataset))
    if picture is not None:
        from djinn.data.contact_sheet import write_contact_sheet

        write_contact_sheet(dataset, picture)
        print(f"picture    {picture}")


def summary(dataset: Dataset) -> str:
    """A few lines on a data set, for people."""
    lengths = sorted(e.length for e in dataset.episodes)
    seconds = dataset.frames / dataset.fps
    splits = []
    for name in SPLITS:
        mine = [e for e in dataset.episodes if e.split == name]
        if mine:
            splits.append(f"{name} {sum(e.length for e in mine):,} frames in {_count(len(mine), 'episode')}")
    size = sum(f.stat().st_size for f in dataset.path.iterdir() if f.is_file())
    rows = [
        ("data set", str(dataset.path)),
        ("frames", f"{dataset.frames:,} of {dataset.width}x{dataset.height} at {dataset.fps:g}/s = {_time(seconds)}"),
        (
            "episodes",
            f"{len(lengths):,} of {lengths[0]:,} to {lengths[-1]:,} frames (median {lengths[len(lengths) // 2]:,}) "
            f"from {_count(len({e.source for e in dataset.episodes}), 'source')}",
        ),
        ("splits", "; ".join(splits)),
        ("actions", "true actions are known; training does not see them" if dataset.has_actions else "not known"),
        ("disk", f"{size / 2**20:,.1f} MB"),
        ("made from", _about(dataset.metadata)),
        ("identity", dataset.identity),
    ]
    return "\n".join(f"{name:<10} {text}" for name, text in rows if text)


def parse_size(text: str) -> tuple[int, int]:
    """Reads a size such as `160x90`, width first, into `(height, width)`.

    Raises:
        UserError: it is not two numbers, or a side is shorter than `SMALLEST` or longer than `LARGEST`.
    """
    match = re.fullmatch(r"(\d{1,9})[xX](\d{1,9})", text.strip())
    if not match:
        raise UserError(f"size must be WIDTHxHEIGHT, for instance 64x64 or 160x90, got '{text}'")
    sides = [int(side) for side in match.groups()]
    if min(sides) < SMALLEST or max(sides) > LARGEST:
        raise UserError(
            f"size must be at least {SMALLEST}x{SMALLEST} and at most {LARGEST}x{LARGEST}, got '{text}'; worlds are learnt "
            "at 64x64 or 160x90"
        )
    return int(match[2]), int(match[1])


def parse_levels(text: str) -> range:
    """Reads levels such as `0:10000`, the end not included, or one level such as `7`.

    Raises:
        UserError: it is not one or two numbers.
    """
    match = re.fullmatch(r"(\d+)(?::(\d+))?", text.strip())
    if not match:
        raise UserError(f"levels must be FIRST:END, for instance 0:10000, got '{text}'")
    first = int(match[1])
    return range(first, int(match[2]) if match[2] else first + 1)


def _import_coinrun(out: str | Path, size: tuple[int, int], fps: float, options: dict[str, Any]) -> Dataset:
    from djinn.data.importers.procgen import SIZE, CoinRun, record

    if size != (SIZE, SIZE):
        raise UserError(f"CoinRun is drawn at {SIZE}x{SIZE}, so --size must be {SIZE}x{SIZE}, got {size[1]}x{size[0]}")
    levels = parse_levels(options.pop("levels", "0:10000"))
    frames = options.pop("frames", 1_000_000)
    workers = options.pop("workers", 1)
    return record(out, levels, frames, CoinRun(**options), fps=fps, workers=min(workers, 4 * (os.cpu_count() or 1)))


def _refuse(options: dict[str, Any], meant_for: str) -> None:
    for name, value in options.items():
        if value is not None:
            raise UserError(f"--{name.replace('_', '-')} is for {meant_for} only: leave it out")


def _about(about: dict[str, Any]) -> str:
    return ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in about.items() if not isinstance(v, list | dict))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _time(seconds: float) -> str:
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
