"""Do jumps come down, do walls stop, does a held key go on? The same keys in the game and in a world, on unseen levels.

    python recipes/physics.py coinrun --levels 20 --out runs/physics

Four trials on each of so many test levels, from seed 10,000 on, none picked, each from the game's own frames:

- jump: the player stands where the level begins, the jump key is held for 2 frames and then let go. Measured is how far
  the scene has moved down, frame by frame, for the camera follows the player.
- wall: after 60 frames of the policy `sticky` the player runs to the right in the game until something stops him. The world
  gets the 4 frames up to 4 frames before that, and then the same key for 20 frames. Measured is how far he has come.
- right, left: after 12 to 51 frames of the policy `keyboard-turn` the key is held for 2 frames in the game, and then for 24 in both.
  Most players are stopped by something on the way; the world is to let them go on and stop them where the game does.

In OUT it leaves physics.json (all curves) and physics.png. Needs the extras 'coinrun' and 'plot'.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8
from study_report import need_plot, write
from tqdm import tqdm

from djinn.data.importers.policies import ACTION_NAMES, Policy
from djinn.data.importers.procgen import SIZE, TEST_LEVELS_FROM, CoinRun, open_level
from djinn.errors import UserError
from djinn.evaluate.motion import global_shift, grey
from djinn.generate.session import Session
from djinn.models.world import World

KEYS = {name: ACTION_NAMES.index(name) for name in ("right", "left", "up")} | {"stay": ACTION_NAMES.index("none")}
"""The game's actions by the names that the world's have."""
JUMP = ("up",) * 2 + ("stay",) * 16
WALL_FRAMES, HELD_FRAMES = 20, 24
PROMPT_FRAMES = 4
BEFORE = 4
"""Frames between the prompt and the stop, in which the player comes as many pixels far at least."""
HELD_LEADS, HELD_BEFORE = range(12, 52), 2
"""Frames of the policy `keyboard-turn`, one of these by the level, and of the key before the world begins."""
GOES_ON = 4.0
"""Pixels that who goes on comes at least; who stands at a wall comes none."""
LEAD, RUN = 60, 90
"""Frames of the policy `sticky`, and of the run to the right after them."""
JUMPED_FROM = 8.0
"""Pixels that a jump is high at least; the game's is about 25."""
DOWN_TO = 0.4
"""A jump has come down where the last frame is at most this share of its height above the ground."""
STOPPED_BELOW = 0.5
"""Pixels a frame in the last 4 frames, below which the player is stopped; he runs at 2."""

WHO = ("game", "world")
SIGNS = {"right": 1, "left": -1}
Curves = dict[str, list[list[float]]]
"""Way by frame, of each trial, in the game and in the world."""
Video = UInt8[np.ndarray, "t 64 64 3"]


@dataclass(frozen=True)
class Trial:
    """The game's frames, from the prompt on, and the keys that lead from each to the next."""

    level: int
    prompt: Video
    real: Video
    keys: Sequence[str]


def main() -> None:
    """Runs the recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("world", help="world folder, run folder or name of a shipped world, with named actions")
    parser.add_argument("--levels", type=int, default=20, help="test levels (%(default)s)")
    parser.add_argument("--mode", choices=("easy", "hard"), default="easy", help="the game's (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/physics"), help="folder to write to (%(default)s)")
    args = parser.parse_args()
    try:
        run(args.world, range(TEST_LEVELS_FROM, TEST_LEVELS_FROM + args.levels), args.mode, args.out)
    except UserError as error:
        sys.exit(f"physics: {error}")


def run(name: str, levels: range, mode: Literal["easy", "hard"], out: Path) -> dict[str, dict[str, str]]:
    """Records the trials, plays them in the world, and writes both down.

    Args:
        name: of the world.
        levels: at least one.
        mode: of the game.
        out: folder to write to.

    Returns:
        What the game did and what the world did, in words.

    Raises:
        UserError: there are no levels, or the world has other frames than the game or no names.
    """
    need_plot()
    if len(levels) == 0:
        raise UserError("--levels must be at least 1")
    world = World.from_pretrained(name, "cpu")
    if (world.config.height, world.config.width) != (SIZE, SIZE):
        raise UserError(f"the game's frames are {SIZE}x{SIZE}, the world's {world.config.width}x{world.config.height}")
    codes = named_codes(world)
    trials: dict[str, list[Trial]] = {"jump": [], "wall": [], "right": [], "left": []}
    for level in tqdm(levels, desc="the game", unit=" levels"):
        found = {"jump": jump_trial(level, mode), "wall": wall_trial(level, mode)}
        found |= {key: held_trial(level, mode, key) for key in ("right", "left")}
        for kind, trial in found.items():
            if trial is not None:
                trials[kind].append(trial)
    figures: dict[str, Curves] = {}
    for kind, of_kind in trials.items():
        axis = int(kind == "jump")
        made = [play(world, trial, codes) for trial in tqdm(of_kind, desc=f"the world: {kind}", unit=" levels")]
        figures[kind] = {
            "game": [moved(trial.prompt[-1:], trial.real, axis) for trial in of_kind],
            "world": [moved(trial.prompt[-1:], video, axis) for trial, video in zip(of_kind, made, strict=True)],
        }
    summary = {
        who: {
            **jumps(figures["jump"][who]),
            "walls that stop": stops(figures["wall"][who]),
            **{f"{key} goes on": goes_on(figures[key][who], SIGNS[key]) for key in SIGNS},
        }
        for who in WHO
    }
    summary["world"] |= {f"{key} as in the game": alike(figures[key], SIGNS[key]) for key in SIGNS}
    played = {kind: [trial.level for trial in of_kind] for kind, of_kind in trials.items()}
    out.mkdir(parents=True, exist_ok=True)
    write(out / "physics.json", json.dumps({"summary": summary, "levels": played, **figures}, indent=2) + "\n")
    draw(figures, out / "physics.png")
    for who, values in summary.items():
        print(f"{who:6}", ", ".join(f"{what} {value}" for what, value in values.items()))
    return summary


def named_codes(world: World) -> dict[str, int]:
    """The world's codes for `KEYS`, by the names of its actions.

    Raises:
        UserError: an action has no such name.
    """
    names = ["stay" if name.startswith("stay") else name for name in world.action_names]
    missing = [name for name in KEYS if name not in names]
    if missing:
        raise UserError(
            f"no action of this world is called {' or '.join(missing)}, only {', '.join(world.action_names)}: "
            "name them with djinn name or in the page"
        )
    return {name: names.index(name) for name in KEYS}


def record(level: int, mode: Literal["easy", "hard"], actions: Sequence[int]) -> Video:
    """A level from its beginning under the given actions of the game; shorter where the episode ends."""
    frames = []
    with closing(open_level(level, CoinRun(mode=mode), seed=0)) as env:
        for action in (*actions, KEYS["stay"]):
            frames.append(env.observe()[1]["rgb"][0].copy())
            env.act(np.array([action]))
            if env.observe()[2][0]:
                break
    return np.stack(frames)


def jump_trial(level: int, mode: Literal["easy", "hard"]) -> Trial:
    """A jump from where the level begins."""
    video = record(level, mode, [KEYS[key] for key in JUMP])
    return Trial(level, video[:1], video[1:], JUMP)


def wall_trial(level: int, mode: Literal["easy", "hard"]) -> Trial | None:
    """A run against a wall; None where the level has none, or the player comes to it too soon."""
    policy = Policy("sticky", np.random.default_rng(level))
    video = record(level, mode, [policy.act() for _ in range(LEAD)] + [KEYS["right"]] * RUN)
    way = np.array([0, *moved(video[:1], video[1:], 0)])
    going = np.flatnonzero(np.abs(np.diff(way)) > STOPPED_BELOW)
    stop = int(going[-1]) + 1 if len(going) else 0
    start = stop - BEFORE
    if start < LEAD or stop + WALL_FRAMES >= len(way) or way[stop] - way[start] < BEFORE:
        return None
    return trial_from(level, video, start, "right", WALL_FRAMES)


def held_trial(level: int, mode: Literal["easy", "hard"], key: str) -> Trial | None:
    """A key that is held from the midst of a game on; None where the level ends before."""
    policy = Policy("keyboard-turn", np.random.default_rng(level))
    lead = HELD_LEADS[level % len(HELD_LEADS)]
    video = record(level, mode, [policy.act() for _ in range(lead)] + [KEYS[key]] * (HELD_BEFORE + HELD_FRAMES))
    start = lead + HELD_BEFORE
    return trial_from(level, video, start, key, HELD_FRAMES) if start + HELD_FRAMES < len(video) else None


def trial_from(level: int, video: Video, start: int, key: str, frames: int) -> Trial:
    """One key from frame `start` of a recording on."""
    prompt, real = video[start - PROMPT_FRAMES + 1 : start + 1], video[start + 1 : start + 1 + frames]
    return Trial(level, prompt, real, (key,) * frames)


def play(world: World, trial: Trial, codes: dict[str, int]) -> Video:
    """The world's frames under the trial's keys."""
    session = Session(world, trial.prompt, seed=0, undo_depth=0)
    return np.stack([session.step(codes[key])[0] for key in trial.keys[: len(trial.real)]])


def moved(start: Video, video: Video, axis: int) -> list[float]:
    """How far the player has come since `start`, in pixels, frame by frame: to the right (axis 0) or up (axis 1)."""
    pictures = grey(np.concatenate([start, video]))
    shifts: Float[np.ndarray, "t 2"] = global_shift(pictures[:-1], pictures[1:])
    signs = (-1, 1)  # the scene goes left when he goes right, and down when he rises
    return [round(float(x), 2) for x in signs[axis] * np.cumsum(shifts[:, axis])]


def jumps(curves: list[list[float]]) -> dict[str, str]:
    """How many jumps rise, and how many of these come down again."""
    risen = [curve for curve in curves if max(curve) >= JUMPED_FROM]
    down = [curve for curve in risen if curve[-1] <= DOWN_TO * max(curve)]
    height = np.median([max(curve) for curve in risen]) if risen else 0.0
    return {
        "jumps that rise": f"{len(risen)} of {len(curves)}",
        "median height": f"{height:.0f} px",
        "come down": f"{len(down)} of {len(risen)}",
    }


def stops(curves: list[list[float]]) -> str:
    """How many runs end in a stop, and how far they go."""
    stopped = [curve for curve in curves if abs(curve[-1] - curve[-5]) < 4 * STOPPED_BELOW]
    far = np.median([curve[-1] for curve in curves]) if curves else 0.0
    return f"{len(stopped)} of {len(curves)} (median way {far:.0f} px)"


def goes_on(curves: list[list[float]], sign: int) -> str:
    """How many go on in the direction of their key, and how far all of them come on average."""
    far = [sign * curve[-1] for curve in curves]
    return f"{sum(way >= GOES_ON for way in far)} of {len(far)} (mean way {np.mean(far or [0.0]):.1f} px)"


def alike(curves: Curves, sign: int) -> str:
    """How many go on in the world where they do in the game, or in neither, and how much the ways have in common."""
    game, world = (sign * np.array([curve[-1] for curve in curves[who]]) for who in WHO)
    same = int(((game >= GOES_ON) == (world >= GOES_ON)).sum())
    common = np.corrcoef(game, world)[0, 1] if len(game) > 1 and game.std() and world.std() else float("nan")
    return f"{same} of {len(game)} (correlation of ways {common:.2f})"


def draw(figures: dict[str, Curves], path: Path) -> None:
    """One picture: a line for each level, the game beside the world."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 10), layout="constrained")
    titles = {
        "jump": "jump key for 2 frames: height, px",
        "wall": "right key, a wall ahead: way, px",
        "right": "right key held: way, px",
        "left": "left key held: way, px",
    }
    panels = figure.subplots(len(titles), 2, sharex="row", sharey="row")
    for row, (name, title) in zip(panels, titles.items(), strict=True):
        for panel, who in zip(row, WHO, strict=True):
            for curve in figures[name][who]:
                panel.plot(range(1, len(curve) + 1), curve, color="tab:blue", alpha=0.5, linewidth=1)
            panel.set_title(f"{who}: {title}", fontsize=9)
            panel.grid(alpha=0.3)
    for panel in panels[-1]:
        panel.set_xlabel("frame")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
