"""Jumps, walls and held keys: the same keys in the game and in a world, on unseen levels.

    python recipes/physics.py coinrun --levels 20 --out runs/physics

Four trials on each test level, from seed 10,000, each from the game's own frames:

- jump: at the start of a level the jump key is held for 2 frames and released. Measured: height of
  the player by frame, from the motion of the scene, since the camera follows the player.
- wall: after 60 frames of the policy `sticky` the player runs right in the game until a wall stops
  it. The world gets 4 frames, the last of them 4 frames before the stop, and the same key for 20
  frames. Measured: distance of the player.
- right, left: after 12 to 51 frames of the policy `keyboard-turn` the key is held for 2 frames in
  the game, and then for 24 in both. Most players are stopped by an obstacle; the world should stop
  them where the game does.

Output in OUT: physics.json (all curves) and physics.png. Needs the extras 'coinrun' and 'plot'.
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
from study_report import require_matplotlib, write_text
from tqdm import tqdm

from djinn.atomic import check_writable_folder
from djinn.data.importers.coinrun import SIZE, CoinRun, open_level
from djinn.data.importers.policies import ACTION_NAMES, Policy
from djinn.data.importers.procgen import TEST_LEVELS_FROM
from djinn.errors import UserError
from djinn.evaluate.motion import global_shift, grey
from djinn.generate.session import Session
from djinn.models.world import World

KEYS = {name: ACTION_NAMES.index(name) for name in ("right", "left", "up")} | {"stay": ACTION_NAMES.index("none")}
"""The game's actions by the names of the world's actions."""
JUMP = ("up",) * 2 + ("stay",) * 16
WALL_FRAMES, HELD_FRAMES = 20, 24
PROMPT_FRAMES = 4
FRAMES_BEFORE_STOP = 4
"""Frames between the prompt and the stop; the player moves at least as many pixels in them."""
HELD_WARMUPS, HELD_BEFORE_PROMPT = range(12, 52), 2
"""Frames of the policy `keyboard-turn`, chosen by the level, and of the key before the prompt."""
MIN_MOVED = 4.0
"""Distance in pixels from which a player counts as moving."""
WALL_WARMUP, WALL_RUN = 60, 90
"""Frames of the policy `sticky`, and of the following run to the right."""
MIN_JUMP_HEIGHT = 8.0
"""Height of a jump in pixels, at least; the game's jumps have about 25."""
MAX_LANDED_SHARE = 0.4
"""A jump has landed if the last frame is at most this share of its height above the ground."""
MAX_STOPPED_SPEED = 0.5
"""Speed in pixels per frame below which the player is stopped; it runs at 2."""

PLAYED_IN = ("game", "world")
SIGNS = {"right": 1, "left": -1}
Curves = dict[str, list[list[float]]]
"""Distance by frame, of each trial, in the game and in the world."""
Video = UInt8[np.ndarray, "t 64 64 3"]


@dataclass(frozen=True)
class Trial:
    """Frames of the game from the prompt on, and the keys between them."""

    level: int
    prompt: Video
    real: Video
    keys: Sequence[str]


def main() -> None:
    """Run the recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("world", help="world folder, run folder or name of a shipped world, with named actions")
    parser.add_argument("--levels", type=int, default=20, help="number of test levels (%(default)s)")
    parser.add_argument("--mode", choices=("easy", "hard"), default="easy", help="mode of the game (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/physics"), help="output folder (%(default)s)")
    args = parser.parse_args()
    try:
        run(args.world, range(TEST_LEVELS_FROM, TEST_LEVELS_FROM + args.levels), args.mode, args.out)
    except UserError as error:
        sys.exit(f"physics: {error}")


def run(name: str, levels: range, mode: Literal["easy", "hard"], out: Path) -> dict[str, dict[str, str]]:
    """Record the trials, play them in the world, and write curves and plot.

    Args:
        name: World folder, run folder or name of a shipped world.
        levels: Levels of the game, at least one.
        mode: Mode of the game.
        out: Output folder.

    Returns:
        A summary of the game and of the world.

    Raises:
        UserError: There are no levels, or the world has another frame size or no names.
    """
    require_matplotlib()
    if len(levels) == 0:
        raise UserError("--levels must be at least 1")
    check_writable_folder(out)
    world = World.from_pretrained(name, "cpu")
    if (world.config.height, world.config.width) != (SIZE, SIZE):
        raise UserError(
            f"the frames of the game are {SIZE}x{SIZE}, those of the world {world.config.width}x{world.config.height}"
        )
    codes = named_codes(world)
    trials: dict[str, list[Trial]] = {"jump": [], "wall": [], "right": [], "left": []}
    for level in tqdm(levels, desc="game", unit=" levels"):
        recorded = {"jump": jump_trial(level, mode), "wall": wall_trial(level, mode)}
        recorded |= {key: held_trial(level, mode, key) for key in ("right", "left")}
        for kind, trial in recorded.items():
            if trial is not None:
                trials[kind].append(trial)
    curves: dict[str, Curves] = {}
    for kind, kind_trials in trials.items():
        axis = int(kind == "jump")
        generated = [play(world, trial, codes) for trial in tqdm(kind_trials, desc=f"world: {kind}", unit=" levels")]
        curves[kind] = {
            "game": [player_motion(trial.prompt[-1:], trial.real, axis) for trial in kind_trials],
            "world": [
                player_motion(trial.prompt[-1:], video, axis)
                for trial, video in zip(kind_trials, generated, strict=True)
            ],
        }
    summary = {
        played_in: {
            **count_jumps(curves["jump"][played_in]),
            "walls that stop": count_stops(curves["wall"][played_in]),
            **{f"{key} moves": count_moving(curves[key][played_in], SIGNS[key]) for key in SIGNS},
        }
        for played_in in PLAYED_IN
    }
    summary["world"] |= {f"{key} as in the game": compare_to_game(curves[key], SIGNS[key]) for key in SIGNS}
    played_levels = {kind: [trial.level for trial in kind_trials] for kind, kind_trials in trials.items()}
    write_text(
        out / "physics.json", json.dumps({"summary": summary, "levels": played_levels, **curves}, indent=2) + "\n"
    )
    plot(curves, out / "physics.png")
    for played_in, values in summary.items():
        print(f"{played_in:6}", ", ".join(f"{what} {value}" for what, value in values.items()))
    return summary


def named_codes(world: World) -> dict[str, int]:
    """Return the world's codes for `KEYS`, by the names of its actions.

    Raises:
        UserError: A name is missing.
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
    """Record a level from its start under the given actions; shorter if the episode ends."""
    frames = []
    with closing(open_level(level, CoinRun(mode=mode), seed=0)) as env:
        for action in (*actions, KEYS["stay"]):
            frames.append(env.observe()[1]["rgb"][0].copy())
            env.act(np.array([action]))
            if env.observe()[2][0]:
                break
    return np.stack(frames)


def jump_trial(level: int, mode: Literal["easy", "hard"]) -> Trial:
    """Record a jump at the start of a level."""
    video = record(level, mode, [KEYS[key] for key in JUMP])
    return Trial(level, video[:1], video[1:], JUMP)


def wall_trial(level: int, mode: Literal["easy", "hard"]) -> Trial | None:
    """Record a run against a wall; None if there is no wall or the player reaches it too early."""
    policy = Policy("sticky", np.random.default_rng(level))
    video = record(level, mode, [policy.act() for _ in range(WALL_WARMUP)] + [KEYS["right"]] * WALL_RUN)
    distance = np.array([0, *player_motion(video[:1], video[1:], 0)])
    moving = np.flatnonzero(np.abs(np.diff(distance)) > MAX_STOPPED_SPEED)
    stop = int(moving[-1]) + 1 if len(moving) else 0
    start = stop - FRAMES_BEFORE_STOP
    too_early = start < WALL_WARMUP or stop + WALL_FRAMES >= len(distance)
    if too_early or distance[stop] - distance[start] < FRAMES_BEFORE_STOP:
        return None
    return trial_from(level, video, start, "right", WALL_FRAMES)


def held_trial(level: int, mode: Literal["easy", "hard"], key: str) -> Trial | None:
    """Record a key held from the middle of a game; None if the level ends before."""
    policy = Policy("keyboard-turn", np.random.default_rng(level))
    warmup = HELD_WARMUPS[level % len(HELD_WARMUPS)]
    held = [KEYS[key]] * (HELD_BEFORE_PROMPT + HELD_FRAMES)
    video = record(level, mode, [policy.act() for _ in range(warmup)] + held)
    start = warmup + HELD_BEFORE_PROMPT
    return trial_from(level, video, start, key, HELD_FRAMES) if start + HELD_FRAMES < len(video) else None


def trial_from(level: int, video: Video, start: int, key: str, frames: int) -> Trial:
    """Return the trial of one key from frame `start` of a recording."""
    prompt, real = video[start - PROMPT_FRAMES + 1 : start + 1], video[start + 1 : start + 1 + frames]
    return Trial(level, prompt, real, (key,) * frames)


def play(world: World, trial: Trial, codes: dict[str, int]) -> Video:
    """Generate the world's frames for the keys of a trial."""
    session = Session(world, trial.prompt, seed=0, undo_depth=0)
    return np.stack([session.step(codes[key])[0] for key in trial.keys[: len(trial.real)]])


def player_motion(start: Video, video: Video, axis: int) -> list[float]:
    """Return the distance from `start` in pixels by frame: right (axis 0) or up (axis 1)."""
    images = grey(np.concatenate([start, video]))
    shifts: Float[np.ndarray, "t 2"] = global_shift(images[:-1], images[1:])
    signs = (-1, 1)  # the scene moves left when the player moves right, and down when the player rises
    return [round(float(x), 2) for x in signs[axis] * np.cumsum(shifts[:, axis])]


def count_jumps(curves: list[list[float]]) -> dict[str, str]:
    """Count the jumps that rise, and those of them that land."""
    risen = [curve for curve in curves if max(curve) >= MIN_JUMP_HEIGHT]
    landed = [curve for curve in risen if curve[-1] <= MAX_LANDED_SHARE * max(curve)]
    height = np.median([max(curve) for curve in risen]) if risen else 0.0
    return {
        "jumps that rise": f"{len(risen)} of {len(curves)}",
        "median height": f"{height:.0f} px",
        "land": f"{len(landed)} of {len(risen)}",
    }


def count_stops(curves: list[list[float]]) -> str:
    """Count the runs that end in a stop, with their median distance."""
    stopped = [curve for curve in curves if abs(curve[-1] - curve[-5]) < 4 * MAX_STOPPED_SPEED]
    distance = np.median([curve[-1] for curve in curves]) if curves else 0.0
    return f"{len(stopped)} of {len(curves)} (median distance {distance:.0f} px)"


def count_moving(curves: list[list[float]], sign: int) -> str:
    """Count the players that move in the direction of their key, with the mean distance of all."""
    distances = [sign * curve[-1] for curve in curves]
    moving = sum(distance >= MIN_MOVED for distance in distances)
    return f"{moving} of {len(distances)} (mean distance {np.mean(distances or [0.0]):.1f} px)"


def compare_to_game(curves: Curves, sign: int) -> str:
    """Count the trials that move in both or in neither, with the correlation of the distances."""
    game, world = (sign * np.array([curve[-1] for curve in curves[played_in]]) for played_in in PLAYED_IN)
    same = int(((game >= MIN_MOVED) == (world >= MIN_MOVED)).sum())
    correlation = np.corrcoef(game, world)[0, 1] if len(game) > 1 and game.std() and world.std() else float("nan")
    return f"{same} of {len(game)} (correlation of distances {correlation:.2f})"


def plot(curves: dict[str, Curves], path: Path) -> None:
    """Plot one line per level, the game beside the world."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 10), layout="constrained")
    titles = {
        "jump": "jump key for 2 frames: height, px",
        "wall": "right key, a wall ahead: distance, px",
        "right": "right key held: distance, px",
        "left": "left key held: distance, px",
    }
    panels = figure.subplots(len(titles), 2, sharex="row", sharey="row")
    for row, (name, title) in zip(panels, titles.items(), strict=True):
        for panel, played_in in zip(row, PLAYED_IN, strict=True):
            for curve in curves[name][played_in]:
                panel.plot(range(1, len(curve) + 1), curve, color="tab:blue", alpha=0.5, linewidth=1)
            panel.set_title(f"{played_in}: {title}", fontsize=9)
            panel.grid(alpha=0.3)
    for panel in panels[-1]:
        panel.set_xlabel("frame")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
