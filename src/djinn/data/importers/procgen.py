"""Records CoinRun, the game of the paper's section 3.1, from the `procgen-mirror` package (extra `coinrun`).

Each level is played by itself from a seed of its own, so that a recording depends on the options only and not on how
many processes made it. Frames are 64x64. An action taken at frame t shows in frame t + 1.
"""

from __future__ import annotations

import importlib
import multiprocessing
import sys
import types
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int16, UInt8
from tqdm import tqdm

from djinn.config import check_fps, check_seed
from djinn.data import splits
from djinn.data.dataset import Dataset
from djinn.data.importers.policies import ACTION_NAMES, Policy, PolicyName, check_policy
from djinn.data.writer import DatasetWriter
from djinn.errors import UserError

SIZE = 64
MIN_EPISODE = 16
LAST_LEVEL = 2**31 - 2
MIN_PER_LEVEL = 64
MOST_SHORT = 100
TEST_LEVELS_FROM = 10_000

Recording = tuple[UInt8[np.ndarray, "f 64 64 3"], Int16[np.ndarray, " steps"]]


@dataclass(frozen=True)
class CoinRun:
    """How the game looks and is played."""

    mode: Literal["easy", "hard"] = "hard"
    """`easy`: one theme and no walking monsters; `hard`: all themes and monsters (the paper)."""
    policy: PolicyName = "random"
    """Who plays; see `djinn.data.importers.policies.Policy`."""
    backgrounds: bool = True
    """Draw pictures behind the level; without them it is plain black."""
    restrict_themes: bool = False
    """One set of pictures for ground and player instead of all."""
    seed: int = 0
    """Seed of the policy and of the game's own randomness."""

    def __post_init__(self) -> None:
        check_policy(self.policy)
        check_seed(self.seed)


def record(
    out: str | Path, levels: range, frames: int, game: CoinRun | None = None, *, fps: float = 10, workers: int = 1
) -> Dataset:
    """Plays levels and writes their frames and true actions as a data set.

    The frames are spread evenly over the levels. A level with fewer than 64 frames to give would show little, so with
    few frames an evenly spaced part of the levels is played. Episodes end where the player dies, wins or is out of time.
    Levels from 10,000 on are always in split `test`; of the levels below, 2 % are in `val` and 2 % in `test`, by level.

    Args:
        out: folder to make.
        levels: level numbers.
        frames: how many frames to record; up to some 15 more per level may come, so that no episode is very short.
        game: how the game looks and is played.
        fps: the speed that is noted in the data set; the game itself knows no time.
        workers: processes that play; the data do not depend on it.

    Returns:
        The data set.

    Raises:
        UserError: the game is not installed, a number makes no sense, or `out` cannot be written.
    """
    game = game or CoinRun()
    _check(levels, frames, fps, workers)
    version = load_game().version
    count = max(1, min(len(levels), frames // MIN_PER_LEVEL))
    chosen = [levels[i * len(levels) // count] for i in range(count)]
    targets = np.diff(np.arange(count + 1, dtype=np.int64) * frames // count)
    jobs = [(level, int(n), game) for level, n in zip(chosen, targets, strict=True)]
    split = dict(zip(chosen, split_levels(chosen), strict=True))
    about = {
        "kind": "procgen:coinrun",
        "game": f"procgen {version}",
        "levels": [levels.start, levels.stop],
        "levels_played": count,
        **asdict(game),
        "action_names": list(ACTION_NAMES),
    }
    with (
        DatasetWriter(out, height=SIZE, width=SIZE, fps=fps, metadata=about) as writer,
        closing(_played(jobs, min(workers, count))) as played,
        tqdm(total=frames, unit=" frames", desc="playing CoinRun", unit_scale=True, mininterval=0.5) as bar,
    ):
        for level, recordings in played:
            for video, actions in recordings:
                writer.add_episode(video, source=f"level-{level}", split=split[level], actions=actions)
                bar.update(min(len(video), frames - bar.n))
    return Dataset.open(out)


def play_level(level: int, frames: int, game: CoinRun) -> list[Recording]:
    """Plays one level, again and again where it ends early, until there are enough frames.

    Args:
        level: level number.
        frames: how many frames to return; fewer than 16 more may come, so that the last episode has 16.
        game: how the game looks and is played.

    Returns:
        Frames and true actions of each episode of at least 16 frames. A level that ends sooner a hundred times is left.
    """
    rng = np.random.Generator(np.random.PCG64([game.seed, level]))
    env = open_level(level, game, int(rng.integers(2**31 - 1)))
    recordings: list[Recording] = []
    collected = 0
    short = 0
    with closing(env):
        while collected < frames and short < MOST_SHORT:
            recording = _attempt(env, max(MIN_EPISODE, frames - collected), Policy(game.policy, rng))
            if len(recording[0]) < MIN_EPISODE:
                short += 1
                continue
            recordings.append(recording)
            collected += len(recording[0])
    return recordings


def open_level(level: int, game: CoinRun, seed: int) -> Any:
    """The game on one level, an environment of gym3 that its caller closes.

    Args:
        level: level number.
        game: how it looks.
        seed: of what the game itself draws.
    """
    return load_game().env(
        num=1,
        env_name="coinrun",
        distribution_mode=game.mode,
        start_level=level,
        num_levels=1,
        rand_seed=seed,
        num_threads=0,
        use_backgrounds=game.backgrounds,
        restrict_themes=game.restrict_themes,
    )


def split_levels(levels: list[int]) -> list[str]:
    """Split of each level: `test` from level 10,000 on, else 96 / 2 / 2 % train / val / test by the level's hash."""
    below = [f"coinrun level {level}" for level in levels if level < TEST_LEVELS_FROM]
    dealt = iter(splits.assign(below, val=0.02, test=0.02))
    return [next(dealt) if level < TEST_LEVELS_FROM else "test" for level in levels]


def load_game() -> types.SimpleNamespace:
    """The game's environment class `env` and its `version`.

    Procgen registers itself with `gym`, which Djinn does not use and which warns on import: a stand-in takes its place.

    Raises:
        UserError: the package is not installed.
    """
    try:
        with _gym_stand_in():
            procgen = importlib.import_module("procgen")
    except ImportError as error:
        raise UserError(
            "procgen:coinrun needs the extra 'coinrun' (Python 3.11 or 3.12 on Linux): pip install 'djinn[coinrun]' "
            f"({error})"
        ) from None
    return types.SimpleNamespace(env=procgen.ProcgenGym3Env, version=procgen.__version__.strip())


def _attempt(env: Any, most: int, policy: Policy) -> Recording:
    """One episode of at most `most` frames, from the frame that the game shows now.

    The action after the last frame is taken as well: the game resets itself where the episode ended, and where it was
    cut the next attempt would go on in the middle, which is as good a start.
    """
    video, actions = [], []
    while True:
        _, observation, _ = env.observe()
        video.append(observation["rgb"][0].copy())
        action = policy.act(video[-1])
        env.act(np.array([action]))
        if env.observe()[2][0] or len(video) == most:
            return np.stack(video), np.array(actions, dtype=np.int16)
        actions.append(action)


def _played(jobs: list[tuple[int, int, CoinRun]], workers: int) -> Generator[tuple[int, list[Recording]], None, None]:
    """The levels' recordings in the order of the jobs."""
    if workers == 1:
        yield from map(_play, jobs)
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap(_play, jobs, chunksize=4)


def _play(job: tuple[int, int, CoinRun]) -> tuple[int, list[Recording]]:
    return job[0], play_level(*job)


def _check(levels: range, frames: int, fps: float, workers: int) -> None:
    if len(levels) == 0 or levels.start < 0 or levels.step != 1:
        raise UserError(f"levels must be FIRST:END with 0 <= FIRST < END, got {levels.start}:{levels.stop}")
    if levels.stop > LAST_LEVEL + 1:
        raise UserError(f"the game's last level is {LAST_LEVEL}, got {levels.start}:{levels.stop}")
    if frames < MIN_EPISODE:
        raise UserError(f"frames must be at least {MIN_EPISODE}, got {frames}")
    check_fps(fps)
    if workers < 1:
        raise UserError(f"workers must be at least 1, got {workers}")


@contextmanager
def _gym_stand_in() -> Iterator[None]:
    names = ("gym", "gym.envs", "gym.envs.registration")
    if any(name in sys.modules for name in ("procgen", "gym")):
        yield
        return
    for name in names:
        sys.modules[name] = types.ModuleType(name)
    sys.modules[names[-1]].register = lambda *args, **kwargs: None  # pyrefly: ignore
    try:
        yield
    finally:
        for name in names:
            sys.modules.pop(name, None)
