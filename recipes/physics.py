"""Do jumps come down and do walls stop? The same keys in the game and in a world, from the same frames of unseen levels.

    python recipes/physics.py coinrun --levels 20 --out runs/physics

Three trials on each of so many test levels, from seed 10,000 on, none picked:

- jump: the player stands where the level begins, the jump key is held for 2 frames and then let go. Measured is how far
  the scene has moved down, frame by frame, for the camera follows the player.
- wall: after 60 frames of the policy `sticky` the player runs to the right in the game until something stops him. The world
  gets the 4 frames up to 4 frames before that, and then the same key for 20 frames. Measured is how far he has come.
- free: the same for 8 frames in which nothing stops him, so that a world in which nobody runs is found out.

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

KEYS = {"right": ACTION_NAMES.index("right"), "up": ACTION_NAMES.index("up"), "stay": ACTION_NAMES.index("none")}
"""The game's actions by the names that the world's have."""
JUMP = ("up",) * 2 + ("stay",) * 16
WALL_FRAMES, FREE_FRAMES = 20, 8
PROMPT_FRAMES = 4
BEFORE = 4
"""Frames between the prompt and the stop, in which the player comes as many pixels far at least."""
FREE_WAY = 11.0
"""Pixels that the player comes in `FREE_FRAMES` at least where nothing stops him."""
LEAD, RUN = 60, 90
"""Frames of the policy `sticky`, and of the run to the right after them."""
JUMPED_FROM = 8.0
"""Pixels that a jump is high at least; the game's is about 25."""
DOWN_TO = 0.4
"""A jump has come down where the last frame is at most this share of its height above the ground."""
STOPPED_BELOW = 0.5
"""Pixels a frame in the last 4 frames, below which the player is stopped; he runs at 2."""

WHO = ("game", "world")
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
    trials: dict[str, list[Trial]] = {"jump": [], "wall": [], "free": []}
    for level in tqdm(levels, desc="the game", unit=" levels"):
        found = {"jump": jump_trial(level, mode), **run_trials(level, mode)}
        for kind, trial in found.items():
            trials[kind].append(trial)
    figures: dict[str, Curves] = {}
    for (kind, of_kind), axis in zip(trials.items(), (1, 0, 0), strict=True):
        made = [play(world, trial, codes) for trial in tqdm(of_kind, desc=f"the world: {kind}", unit=" levels")]
        figures[kind] = {
            "game": [moved(trial.prompt[-1:], trial.real, axis) for trial in of_kind],
            "world": [moved(trial.prompt[-1:], video, axis) for trial, video in zip(of_kind, made, strict=True)],
        }
    stops = {who: {f"stopped, {kind}": runs(figures[kind][who]) for kind in ("wall", "free")} for who in WHO}
    summary = {who: {**jumps(figures["jump"][who]), **stops[who]} for who in WHO}
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


def run_trials(level: int, mode: Literal["easy", "hard"]) -> dict[str, Trial]:
    """A run against a wall and one where none is; those that the level does not have are left out."""
    policy = Policy("sticky", np.random.default_rng(level))
    actions = [policy.act() for _ in range(LEAD)] + [KEYS["right"]] * RUN
    video = record(level, mode, actions)
    way = np.array([0, *moved(video[:1], video[1:], 0)])
    trials = {}

    def add(name: str, start: int, frames: int) -> None:
        prompt, real = video[start - PROMPT_FRAMES + 1 : start + 1], video[start + 1 : start + 1 + frames]
        trials[name] = Trial(level, prompt, real, ("right",) * frames)

    going = np.flatnonzero(np.abs(np.diff(way)) > STOPPED_BELOW)
    stop = int(going[-1]) + 1 if len(going) else 0
    start = stop - BEFORE
    if start >= LEAD and stop + WALL_FRAMES < len(way) and way[stop] - way[start] >= BEFORE:
        add("wall", start, WALL_FRAMES)
    pressed = np.array(actions) == KEYS["right"]
    for start in range(PROMPT_FRAMES, len(way) - FREE_FRAMES):
        if pressed[start : start + FREE_FRAMES].all() and way[start + FREE_FRAMES] - way[start] >= FREE_WAY:
            add("free", start, FREE_FRAMES)
            break
    return trials


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


def runs(curves: list[list[float]]) -> str:
    """How many runs end in a stop, and how far they go."""
    stopped = [curve for curve in curves if abs(curve[-1] - curve[-5]) < 4 * STOPPED_BELOW]
    far = np.median([curve[-1] for curve in curves]) if curves else 0.0
    return f"{len(stopped)} of {len(curves)} (median way {far:.0f} px)"


def draw(figures: dict[str, Curves], path: Path) -> None:
    """One picture: a line for each level, the game beside the world."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 8), layout="constrained")
    titles = {
        "jump": "jump key for 2 frames: height, px",
        "wall": "right key, a wall ahead: way, px",
        "free": "right key, no wall: way, px",
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
