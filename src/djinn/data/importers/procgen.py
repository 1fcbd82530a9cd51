"""Importer that records games of Procgen with their ground-truth actions.

Each level is played from a seed of its own, so the data depend on the options only and not on the
number of processes.
"""

from __future__ import annotations

import multiprocessing
import os
import re
from collections.abc import Generator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

import numpy as np
from tyro.conf import Positional, arg

from djinn.config import check_fps
from djinn.data import splits
from djinn.data.importers.coinrun import LAST_LEVEL, MIN_EPISODE_FRAMES, SIZE, CoinRun, Recording, load_game, play_level
from djinn.data.importers.importer import Episode, Importer, frame_progress, parse_size
from djinn.data.importers.policies import ACTION_NAMES
from djinn.errors import UserError

GAMES = ("coinrun",)
TEST_LEVELS_FROM = 10_000
"""Levels from this number on are always in split `test`."""
_VAL_FRACTION = _TEST_FRACTION = 0.02
_MIN_FRAMES_PER_LEVEL = 64
_MAX_PROCESSES_PER_CPU = 4


@dataclass(frozen=True)
class ProcgenOptions:
    """Record a game of Procgen with its ground-truth actions.

    The frames are spread evenly over the levels. A level is played for at least 64 frames, so with
    few frames an evenly spaced part of the levels is played. An episode ends where the player dies,
    wins or runs out of time. Levels from 10000 on are always in split test. Of the levels below,
    2 % are in val and 2 % in test.
    """

    game: Annotated[str, Positional, arg(metavar="GAME", help=f"Game to record: {', '.join(GAMES)}.")]
    """Game to record."""
    levels: Annotated[str, arg(metavar="FIRST:END")] = "0:10000"
    """Levels to play, END excluded. Levels from 10000 on are for testing."""
    frames: int = 1_000_000
    """Number of frames to record. Up to 15 more per level are recorded to avoid short episodes."""
    coinrun: Annotated[CoinRun, arg(name="")] = field(default_factory=CoinRun)
    """Appearance of the game, and the policy that plays it."""
    size: Annotated[str, arg(metavar="WxH")] = f"{SIZE}x{SIZE}"
    """Width and height of the frames. The game is rendered at 64x64 only."""
    fps: float = 10.0
    """Frames per second recorded in the data set. The game itself has no frame rate."""
    workers: int = 1
    """Number of processes that play. The data do not depend on it."""

    def __post_init__(self) -> None:
        if self.game not in GAMES:
            raise UserError(f"there is no importer for the game '{self.game}'; known games: {', '.join(GAMES)}")
        levels = parse_levels(self.levels)
        if len(levels) == 0:
            raise UserError(f"levels must be FIRST:END with FIRST < END, got {self.levels}")
        if levels.stop > LAST_LEVEL + 1:
            raise UserError(f"the game's last level is {LAST_LEVEL}, got levels {self.levels}")
        if self.frames < MIN_EPISODE_FRAMES:
            raise UserError(f"frames must be at least {MIN_EPISODE_FRAMES}, got {self.frames}")
        if parse_size(self.size) != (SIZE, SIZE):
            raise UserError(
                f"{self.game} is rendered at {SIZE}x{SIZE}, so --size must be {SIZE}x{SIZE}, got {self.size}"
            )
        check_fps(self.fps)
        if self.workers < 1:
            raise UserError(f"workers must be at least 1, got {self.workers}")

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of a frame in pixels."""
        return parse_size(self.size)


def read_game(options: ProcgenOptions) -> Generator[Episode]:
    """Play levels and yield their episodes, each with the split of its level.

    Raises:
        UserError: The game is not installed.
    """
    load_game()
    levels = selected_levels(options)
    targets = np.diff(np.arange(len(levels) + 1, dtype=np.int64) * options.frames // len(levels))
    jobs = [(level, int(frames), options.coinrun) for level, frames in zip(levels, targets, strict=True)]
    split_of = dict(zip(levels, split_levels(levels), strict=True))
    workers = min(options.workers, len(levels), _MAX_PROCESSES_PER_CPU * (os.cpu_count() or 1))
    with (
        closing(_play_levels(jobs, workers)) as recordings,
        frame_progress("playing CoinRun", options.frames) as progress,
    ):
        for level, (frames, actions) in recordings:
            yield Episode(frames, f"level-{level}", actions, split_of[level])
            progress.update(min(len(frames), options.frames - progress.n))


def selected_levels(options: ProcgenOptions) -> list[int]:
    """Return the levels to play: an evenly spaced part if there are too few frames for all."""
    levels = parse_levels(options.levels)
    count = max(1, min(len(levels), options.frames // _MIN_FRAMES_PER_LEVEL))
    return [levels[i * len(levels) // count] for i in range(count)]


def split_levels(levels: list[int]) -> list[str]:
    """Return the split of each level.

    Levels from 10,000 on are in `test`. Of the others 96 % are in `train`, 2 % in `val` and 2 % in
    `test`, by the hash of the level.
    """
    below = [f"coinrun level {level}" for level in levels if level < TEST_LEVELS_FROM]
    assigned = iter(splits.assign(below, val=_VAL_FRACTION, test=_TEST_FRACTION))
    return [next(assigned) if level < TEST_LEVELS_FROM else "test" for level in levels]


def parse_levels(text: str) -> range:
    """Parse levels such as `0:10000`, the end excluded, or a single level such as `7`.

    Raises:
        UserError: The text is not one or two numbers.
    """
    match = re.fullmatch(r"(\d+)(?::(\d+))?", text.strip())
    if not match:
        raise UserError(f"levels must be FIRST:END, for example 0:10000, got '{text}'")
    first = int(match[1])
    return range(first, int(match[2]) if match[2] else first + 1)


def _play_levels(jobs: list[tuple[int, int, CoinRun]], workers: int) -> Generator[tuple[int, Recording]]:
    """Yield level and recording of each episode, in the order of the jobs."""
    if workers == 1:
        for level, frames, game in jobs:
            yield from ((level, recording) for recording in play_level(level, frames, game))
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for level, recordings in pool.imap(_play_job, jobs, chunksize=4):
            yield from ((level, recording) for recording in recordings)


def _play_job(job: tuple[int, int, CoinRun]) -> tuple[int, list[Recording]]:
    return job[0], list(play_level(*job))


def _metadata(options: ProcgenOptions, num_sources: int) -> dict[str, Any]:
    levels = parse_levels(options.levels)
    return {
        "kind": f"procgen:{options.game}",
        "game": f"procgen {load_game().version}",
        "levels": [levels.start, levels.stop],
        "levels_played": len(selected_levels(options)),
        **asdict(options.coinrun),
        "action_names": list(ACTION_NAMES),
    }


IMPORTER = Importer(
    "procgen", "games of Procgen, recorded with their ground-truth actions", ProcgenOptions, read_game, _metadata
)
