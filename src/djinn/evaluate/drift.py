"""What becomes of a world in a long game: does it freeze, melt, break up into noise, lose its colours or go in circles?

Games are played with random actions, each held for a few frames as a player holds a key, and every frame is measured on
its own. Few real videos are as long as the game, so frames are compared with the game's own beginning and with real frames of
all kinds of scenes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from tqdm import tqdm

from djinn.config import SamplerConfig
from djinn.errors import UserError
from djinn.evaluate.clips import measuring
from djinn.generate.session import Session
from djinn.models.world import World

HOLD = 6
"""Frames for which an action is held on average."""
CHANGED_FROM = 8
"""A pixel counts as changed from this difference in grey levels on, in any channel: less is a tremble of the decoder."""
SAME_WITHIN = 0.25
"""Two frames are the same picture where they differ by less than this share of the game's mean step between frames."""
STRETCH = 12
"""Frames in a row that must come again, in motion, to count as repeated. With random actions held for `HOLD` frames a
stretch of twice that length hardly comes again by chance."""
FEWEST = 2 * STRETCH
LATE = 0.25
"""Flags judge the mean over the last quarter of the game."""

# limits of the flags; `Drift.flags` tells why
STILL = 0.001
STILL_RELATIVE = 0.2
BLURRED = 0.6
NOISY = 2.0
COLOUR_LEAST = 10.0
COLOUR_RELATIVE = 1.5

ENOUGH_REAL = 64
"""Real frames that it takes to judge colours."""
REAL = 256
"""Real frames that a caller with a data set should give."""
REPEATED = 0.5


@dataclass(frozen=True)
class Drift:
    """Long games and how their frames change as time goes on; curves are means over the games."""

    frames: UInt8[np.ndarray, "clips t h w 3"]
    """Made frames, without the prompts."""
    sharpness: Float[np.ndarray, " t"]
    """Contrast between neighbouring pixels against that of the prompts as the tokenizer draws them; 1 is as sharp as these."""
    colour: Float[np.ndarray, " t"]
    """Distance in grey levels between the colours of all games' frames and those of real ones (1-Wasserstein distance of
    the histograms of pixel values, mean of the channels)."""
    colour_spread: float
    """The same distance between one real frame and all of them, on average: what one scene differs from the others."""
    real_frames: int
    """How many real frames that was measured with."""
    change: Float[np.ndarray, " t"]
    """Share of pixels that differ from the frame before, 0 to 1."""
    repetition: Float[np.ndarray, " t"]
    """Share of games that play an earlier stretch of theirs again, 0 to 1."""

    @property
    def flags(self) -> list[str]:
        """What went wrong, judged on the mean over the last quarter of the game.

        - `freezes`: fewer than 0.1 % of the pixels change from frame to frame, or fewer than a fifth of what changes in
          the first quarter. A dead picture changes nothing; a ball of 2x2 in 64x64 already changes 0.2 %.
        - `melts`: sharpness below 0.6. Scenes differ in sharpness, but not by that much in the mean of several games (in
          80 frames of real CoinRun it stays between 1.0 and 1.15).
        - `noise`: sharpness above 2, as of a picture broken into blocks or speckle.
        - `discolours`: all games together are 1.5 times as far from the colours of real frames as one real scene is
          (`colour_spread`), and at least 10 grey levels. Eight real CoinRun videos come to 0.9 times at most. It takes 64
          real frames from all kinds of scenes to tell, and with fewer it is left out: videos that all begin in one kind
          of place leave its colours by themselves.
        - `repeats`: at least half of the games play an earlier stretch again, whatever the actions. A game with very few
          states does so by itself; of four real CoinRun videos a quarter at most.
        """
        limits = self.limits
        change, sharpness, colour, repetition = (
            late(curve) for curve in (self.change, self.sharpness, self.colour, self.repetition)
        )
        found = {
            "freezes": change < limits["freezes"],
            "melts": sharpness < limits["melts"],
            "noise": sharpness > limits["noise"],
            "discolours": colour > limits.get("discolours", np.inf),
            "repeats": repetition >= limits["repeats"],
        }
        return [name for name, is_so in found.items() if is_so]

    @property
    def limits(self) -> dict[str, float]:
        """Where each flag begins; without `discolours` where there are too few real frames to judge it."""
        beginning = float(self.change[: _last_part(len(self.change))].mean())
        limits = {
            "freezes": max(STILL, STILL_RELATIVE * beginning),
            "melts": BLURRED,
            "noise": NOISY,
            "repeats": REPEATED,
        }
        if self.real_frames >= ENOUGH_REAL:
            limits["discolours"] = max(COLOUR_RELATIVE * self.colour_spread, COLOUR_LEAST)
        return limits

    def summary(self) -> dict[str, Any]:
        """Plain values, ready for JSON: the curves, their means over the last quarter (`late`), flags, limits, protocol."""
        curves = {name: getattr(self, name) for name in ("sharpness", "colour", "change", "repetition")}
        clips, frames = self.frames.shape[:2]
        return {
            "flags": self.flags,
            "limits": self.limits,
            "late": {name: late(curve) for name, curve in curves.items()},
            **{name: [round(float(v), 5) for v in curve] for name, curve in curves.items()},
            "colour_spread": self.colour_spread,
            "real_frames": self.real_frames,
            "games": clips,
            "frames": frames,
            "hold": HOLD,
        }


def measure_drift(
    world: World,
    prompts: UInt8[np.ndarray, "p k h w 3"],
    *,
    frames: int = 200,
    sampler: SamplerConfig | None = None,
    seed: int = 0,
    real: UInt8[np.ndarray, "n h w 3"] | None = None,
    progress: bool = True,
) -> Drift:
    """Plays long games with random held actions, all at once, and measures their frames.

    Args:
        world: the world.
        prompts: real frames to start from, one game for each; several frames a game need a latent action model.
        frames: frames to make in each game.
        sampler: how tokens are drawn; the world's own setting by default.
        seed: of the actions and the draws.
        real: real frames from all kinds of scenes, about `REAL` of them, whose colours are the right ones; the prompts by
            default.
        progress: show a progress bar.

    Raises:
        UserError: there are no prompts, or too few frames to tell anything.
    """
    if frames < FEWEST:
        raise UserError(f"a long game to measure drift in needs at least {FEWEST} frames, got {frames}")
    if len(prompts) == 0:
        raise UserError("measuring drift needs at least one prompt")
    actions = held_actions(world.num_actions, len(prompts), frames, seed)
    made = np.empty((len(prompts), frames, *prompts.shape[2:]), np.uint8)
    bar = tqdm(total=made.shape[0] * frames, desc="long games", unit=" frames", disable=not progress)
    with measuring(world), bar:
        session = Session(world, prompts, sampler=sampler, seed=seed, undo_depth=0)
        start = session.frame
        for t in range(frames):
            made[:, t] = session.step(torch.from_numpy(actions[:, t]))
            bar.update(len(prompts))
    return drift_of(made, start, prompts.reshape(-1, *prompts.shape[2:]) if real is None else real)


def held_actions(num_actions: int, games: int, frames: int, seed: int) -> Int[np.ndarray, "games frames"]:
    """Uniform random actions, each held for a geometric number of frames with the mean `HOLD`."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(num_actions, size=(games, frames))
    anew = rng.random((games, frames)) < 1 / HOLD
    anew[:, 0] = True
    since = np.maximum.accumulate(np.where(anew, np.arange(frames), 0), axis=1)
    return np.take_along_axis(drawn, since, axis=1)


def drift_of(
    frames: UInt8[np.ndarray, "clips t h w 3"],
    start: UInt8[np.ndarray, "clips h w 3"],
    real: UInt8[np.ndarray, "n h w 3"],
) -> Drift:
    """Measures frames that were made already.

    Args:
        frames: of long games.
        start: the frame before each game's first, as the world draws it.
        real: real frames, as for `measure_drift`.
    """
    times = range(frames.shape[1])
    before = [start, *(frames[:, t] for t in times[:-1])]
    sharp = sharpness(start).mean()
    colours = _levels(real)
    return Drift(
        frames,
        sharpness=np.array([sharpness(frames[:, t]).mean() for t in times]) / max(float(sharp), 1e-6),
        colour=np.array([_colour_distance(_levels(frames[:, t]), colours) for t in times]),
        colour_spread=float(np.mean([_colour_distance(_levels(frame), colours) for frame in real])),
        real_frames=len(real),
        change=np.array([changed_share(before[t], frames[:, t]).mean() for t in times]),
        repetition=repeated(frames).mean(axis=0),
    )


def late(curve: Float[np.ndarray, " t"]) -> float:
    """Mean over the last quarter."""
    return float(curve[-_last_part(len(curve)) :].mean())


def _last_part(frames: int) -> int:
    return max(1, round(LATE * frames))


def sharpness(frames: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, " n"]:
    """Root mean square difference between neighbouring pixels, in grey levels; a blur lowers it, as it flattens edges."""
    grey = frames.mean(axis=-1, dtype=np.float32)
    across, down = np.diff(grey, axis=2), np.diff(grey, axis=1)
    return np.sqrt(np.square(across).mean((1, 2)) + np.square(down).mean((1, 2)))


def changed_share(before: UInt8[np.ndarray, "n h w 3"], after: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, " n"]:
    """Share of each frame's pixels that differ by at least `CHANGED_FROM` grey levels."""
    difference = np.maximum(before, after) - np.minimum(before, after)
    return (difference >= CHANGED_FROM).any(axis=-1).mean(axis=(1, 2))


def repeated(frames: UInt8[np.ndarray, "clips t h w 3"]) -> Bool[np.ndarray, "clips t"]:
    """Whether each frame ends a stretch of `STRETCH` frames that was there before in the same game.

    Standing still is no repetition: over the stretch the picture must move at least half as fast as in the whole game.
    """
    small = _shrunk(frames)
    clips, count = small.shape[:2]
    steps = np.zeros((clips, count))
    steps[:, 1:] = np.abs(np.diff(small, axis=1)).mean(-1)
    typical = steps[:, 1:].mean(axis=1, keepdims=True)
    run = np.zeros(
        (clips, count), np.int64
    )  # for each earlier frame: how many up to it are the same as those up to now
    found = np.zeros((clips, count), bool)
    for now in range(1, count):
        distance = np.abs(small[:, :now] - small[:, now, None]).mean(-1)
        longer = np.zeros_like(run)
        longer[:, 1:now] = run[:, : now - 1]
        longer[:, :now] = np.where(distance < SAME_WITHIN * typical, longer[:, :now] + 1, 0)
        run = longer
        moving = steps[:, max(0, now - STRETCH + 1) : now + 1].mean(axis=1) > typical[:, 0] / 2
        found[:, now] = moving & (run >= STRETCH).any(axis=1)
    return found


def _shrunk(frames: UInt8[np.ndarray, "clips t h w 3"], side: int = 32) -> Float[np.ndarray, "clips t values"]:
    """Means of blocks, at most `side` a row or column, which is enough to tell two pictures apart."""
    height, width = frames.shape[2:4]
    rows, columns = (np.arange(0, n, -(-n // side)) for n in (height, width))
    small = np.empty((*frames.shape[:2], len(rows), len(columns), 3), np.float32)
    for t in range(frames.shape[1]):
        sums = np.add.reduceat(frames[:, t].astype(np.float32), rows, axis=1)
        sums = np.add.reduceat(sums, columns, axis=2)
        areas = np.diff([*rows, height])[:, None] * np.diff([*columns, width])
        small[:, t] = sums / areas[..., None]
    return small.reshape(*small.shape[:2], -1)


def _levels(frames: UInt8[np.ndarray, "*s 3"]) -> Float[np.ndarray, "3 256"]:
    """Share of pixels up to each grey level, in each channel."""
    counts = np.stack([np.bincount(frames[..., c].ravel(), minlength=256) for c in range(3)])
    return counts.cumsum(axis=1) / counts.sum(axis=1, keepdims=True)


def _colour_distance(a: Float[np.ndarray, "3 256"], b: Float[np.ndarray, "3 256"]) -> float:
    return float(np.abs(a - b).sum(axis=1).mean())
