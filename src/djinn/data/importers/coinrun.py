"""The game CoinRun of Procgen (paper section 3.1), played by a scripted policy.

The game comes from the package `procgen-mirror` (extra `coinrun`). Frames are 64x64. The effect of
an action taken at frame t is visible in frame t + 1.
"""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Int16, UInt8
from tyro.conf import FlagConversionOff, arg
from tyro.constructors import PrimitiveConstructorSpec

from djinn.config import check_seed
from djinn.data.importers.policies import POLICIES, Policy, check_policy
from djinn.errors import UserError

SIZE = 64
"""Height and width of a frame in pixels."""
MIN_EPISODE_FRAMES = 16
"""Shorter episodes are discarded."""
LAST_LEVEL = 2**31 - 2
_MAX_SHORT_EPISODES = 100
"""Number of discarded episodes after which a level is abandoned."""

Recording = tuple[UInt8[np.ndarray, "f 64 64 3"], Int16[np.ndarray, " steps"]]
"""Frames and ground-truth actions of one episode."""

YesNo = Annotated[
    bool,
    FlagConversionOff,
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="yes|no",
        instance_from_str=lambda texts: texts[0] == "yes",
        is_instance=lambda value: isinstance(value, bool),
        str_from_instance=lambda value: ["yes" if value else "no"],
        choices=("yes", "no"),
    ),
]
"""A boolean option that takes the value yes or no."""


@dataclass(frozen=True)
class CoinRun:
    """Appearance of the game, and the policy that plays it."""

    mode: Literal["easy", "hard"] = "hard"
    """hard: all themes and monsters, as in the paper. easy: one theme and no walking monsters."""
    policy: Annotated[str, arg(metavar="NAME", help=f"Policy that plays, one of {', '.join(POLICIES)}.")] = "random"
    """See `djinn.data.importers.policies.Policy`."""
    backgrounds: YesNo = True
    """Draw backgrounds. Without them the background is black."""
    restrict_themes: YesNo = False
    """Use one theme for ground and player instead of all themes."""
    seed: int = 0
    """Seed of the policy and of the game's own randomness."""

    def __post_init__(self) -> None:
        check_policy(self.policy)
        check_seed(self.seed)


def play_level(level: int, frames: int, game: CoinRun) -> Iterator[Recording]:
    """Play a level repeatedly until there are enough frames.

    Args:
        level: Level number.
        frames: Number of frames to record. Up to 15 more are recorded, so that the last episode has
            at least 16.
        game: Appearance and policy.

    Yields:
        Frames `(F, 64, 64, 3)` and ground-truth actions `(F - 1,)` of each episode of at least 16
        frames. A level is abandoned after 100 shorter episodes.
    """
    rng = np.random.Generator(np.random.PCG64([game.seed, level]))
    env = open_level(level, game, int(rng.integers(2**31 - 1)))
    num_frames = num_short = 0
    with closing(env):
        while num_frames < frames and num_short < _MAX_SHORT_EPISODES:
            max_frames = max(MIN_EPISODE_FRAMES, frames - num_frames)
            recording = _record_episode(env, max_frames, Policy(check_policy(game.policy), rng))
            if len(recording[0]) < MIN_EPISODE_FRAMES:
                num_short += 1
                continue
            num_frames += len(recording[0])
            yield recording


def open_level(level: int, game: CoinRun, seed: int) -> Any:
    """Return a gym3 environment with one level, which the caller closes.

    Args:
        level: Level number.
        game: Appearance.
        seed: Seed of the game's own randomness.
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


def load_game() -> types.SimpleNamespace:
    """Import Procgen.

    Procgen registers itself with `gym`, which Djinn does not use and which warns on import, so a
    stub replaces `gym` during the import.

    Returns:
        The environment class as `env`, and the `version` of the package.

    Raises:
        UserError: The package is not installed or cannot be imported.
    """
    try:
        with _gym_stub():
            procgen = importlib.import_module("procgen")
    except ImportError as error:
        is_missing = isinstance(error, ModuleNotFoundError) and error.name in (None, "procgen")
        raise UserError(
            f"the game's package 'procgen' {'is not installed' if is_missing else 'cannot be imported'} ({error}): "
            f"pip install {'' if is_missing else '--force-reinstall '}'djinn[coinrun]' (Python 3.11 or 3.12 on Linux)"
        ) from None
    return types.SimpleNamespace(env=procgen.ProcgenGym3Env, version=procgen.__version__.strip())


def _record_episode(env: Any, max_frames: int, policy: Policy) -> Recording:
    """Record one episode of at most `max_frames` frames, from the current frame.

    The action after the last frame is executed as well. At the end of an episode it resets the
    game; after a cut the next episode starts in the middle of the level.
    """
    video, actions = [], []
    while True:
        _, observation, _ = env.observe()
        video.append(observation["rgb"][0].copy())
        action = policy.act(video[-1])
        env.act(np.array([action]))
        if env.observe()[2][0] or len(video) == max_frames:
            return np.stack(video), np.array(actions, dtype=np.int16)
        actions.append(action)


@contextmanager
def _gym_stub() -> Iterator[None]:
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
