"""Drift of long roll-outs: freezing, blur, noise, wrong colors, repetition.

The roll-outs use random actions, each held for a few frames as a player holds a key. Few real
videos are as long, so frames are compared with the beginning of the roll-out and with real frames
of all kinds of scenes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from tqdm import tqdm

from djinn.config import SamplerConfig
from djinn.errors import UserError
from djinn.evaluate.inference import evaluation_mode
from djinn.evaluate.settings import MIN_DRIFT_FRAMES
from djinn.generate.session import Session
from djinn.models.world import World

HOLD = 6
"""Mean number of frames for which an action is held."""
CHANGE_THRESHOLD = 8
"""Difference in grey levels, in any channel, from which a pixel has changed. Less is decoder
noise.
"""
SAME_WITHIN = 0.25
"""Two frames are equal if they differ by less than this share of the mean step between
frames.
"""
STRETCH = MIN_DRIFT_FRAMES // 2
"""Frames in a row that must recur, in motion, to count as repeated.

With random actions held for `HOLD` frames, a stretch of twice that length rarely recurs by chance.
"""
LATE_SHARE = 0.25
"""Flags are derived from means over this last part of the roll-out."""

# thresholds of the flags, see `Drift.flags`
STILL = 0.001
STILL_RELATIVE = 0.2
BLURRED = 0.6
NOISY = 2.0
MIN_COLOR_DISTANCE = 10.0
COLOR_RELATIVE = 1.5

MIN_REAL_FRAMES = 64
"""Real frames needed to judge colors."""
REAL_FRAMES = 256
"""Recommended number of real frames."""
REPEATED = 0.5


@dataclass(frozen=True)
class Drift:
    """Long roll-outs and how their frames change over time. Curves are means over the roll-outs."""

    frames: UInt8[np.ndarray, "clips t h w 3"]
    """Generated frames, without the prompts."""
    sharpness: Float[np.ndarray, " t"]
    """Contrast between neighboring pixels relative to that of the reconstructed prompts, 1 if
    equal.
    """
    color: Float[np.ndarray, " t"]
    """Distance in grey levels between the colors of the roll-outs and those of real frames.

    It is the 1-Wasserstein distance of the histograms of pixel values, mean over channels.
    """
    color_spread: float
    """The same distance between one real frame and all of them, mean over frames."""
    real_frames: int
    """Number of real frames."""
    change: Float[np.ndarray, " t"]
    """Share of pixels that differ from the previous frame, in [0, 1]."""
    repetition: Float[np.ndarray, " t"]
    """Share of roll-outs that repeat an earlier stretch, in [0, 1]."""

    @property
    def flags(self) -> list[str]:
        """Faults, derived from the mean over the last quarter.

        - `freezes`: fewer than 0.1 % of the pixels change per frame, or less than a fifth of what
          changes in the first quarter. A ball of 2x2 pixels in 64x64 changes 0.2 %.
        - `blurs`: sharpness below 0.6. In 80 frames of real CoinRun videos the mean over several
          videos stays between 1.0 and 1.15.
        - `noise`: sharpness above 2, for example block artifacts.
        - `discolors`: the colors are 1.5 times as far from those of real frames as one real scene
          is (`color_spread`), and at least 10 grey levels. Eight real CoinRun videos reach 0.9
          times at most. It needs 64 real frames of all kinds of scenes and is omitted with fewer,
          since videos that all start in one kind of scene may leave its colors without a fault.
        - `repeats`: at least half of the roll-outs repeat an earlier stretch, whatever the actions.
          This also holds for games with very few states; of four real CoinRun videos a quarter at
          most.
        """
        limits = self.limits
        change, sharpness, color, repetition = (
            late_mean(curve) for curve in (self.change, self.sharpness, self.color, self.repetition)
        )
        found = {
            "freezes": change < limits["freezes"],
            "blurs": sharpness < limits["blurs"],
            "noise": sharpness > limits["noise"],
            "discolors": color > limits.get("discolors", np.inf),
            "repeats": repetition >= limits["repeats"],
        }
        return [name for name, present in found.items() if present]

    @property
    def limits(self) -> dict[str, float]:
        """Threshold of each flag. `discolors` is missing with too few real frames."""
        early = float(self.change[: _last_part(len(self.change))].mean())
        limits = {"freezes": max(STILL, STILL_RELATIVE * early), "blurs": BLURRED, "noise": NOISY, "repeats": REPEATED}
        if self.real_frames >= MIN_REAL_FRAMES:
            limits["discolors"] = max(COLOR_RELATIVE * self.color_spread, MIN_COLOR_DISTANCE)
        return limits

    def summary(self) -> dict[str, Any]:
        """Return plain values, ready for JSON; `late` has the means over the last quarter."""
        curves = {name: getattr(self, name) for name in ("sharpness", "color", "change", "repetition")}
        clips, frames = self.frames.shape[:2]
        return {
            "flags": self.flags,
            "limits": self.limits,
            "late": {name: late_mean(curve) for name, curve in curves.items()},
            **{name: [round(float(v), 5) for v in curve] for name, curve in curves.items()},
            "color_spread": self.color_spread,
            "real_frames": self.real_frames,
            "rollouts": clips,
            "frames": frames,
            "hold": HOLD,
        }

    def lines(self, names: Sequence[str]) -> list[str]:
        """Return text for the terminal; the names of actions do not matter."""
        faults = ", ".join(self.flags) or "no fault"
        return [f"drift over {len(self.frames)} roll-outs of {self.frames.shape[1]} frames: {faults}"]


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
    """Generate long roll-outs with random held actions and measure their frames.

    Args:
        world: The world.
        prompts: Real frames to start from, one row per roll-out. Several frames per row need a
            latent action model.
        frames: Frames to generate in each roll-out.
        sampler: Sampler settings, by default those of the world.
        seed: Seed of the actions and the sampling.
        real: Real frames of all kinds of scenes, about `REAL_FRAMES`, as the reference for colors.
            By default the prompts.
        progress: Show a progress bar.

    Raises:
        UserError: There are no prompts, or `frames` is less than `MIN_DRIFT_FRAMES`.
    """
    if frames < MIN_DRIFT_FRAMES:
        raise UserError(f"drift needs roll-outs of at least {MIN_DRIFT_FRAMES} frames, got {frames}: use more")
    if len(prompts) == 0:
        raise UserError("drift needs at least one prompt, got none")
    actions = held_actions(world.num_actions, len(prompts), frames, seed)
    generated = np.empty((len(prompts), frames, *prompts.shape[2:]), np.uint8)
    bar = tqdm(total=generated.shape[0] * frames, desc="drift roll-outs", unit=" frames", disable=not progress)
    with evaluation_mode(world), bar:
        session = Session(world, prompts, sampler=sampler, seed=seed, undo_depth=0)
        start = session.frame
        for t in range(frames):
            generated[:, t] = session.step(torch.from_numpy(actions[:, t]))
            bar.update(len(prompts))
    return drift_from_frames(generated, start, prompts.reshape(-1, *prompts.shape[2:]) if real is None else real)


def held_actions(num_actions: int, rollouts: int, frames: int, seed: int) -> Int[np.ndarray, "rollouts frames"]:
    """Draw uniform random actions, each held for a geometric number of frames with mean `HOLD`."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(num_actions, size=(rollouts, frames))
    switches = rng.random((rollouts, frames)) < 1 / HOLD
    switches[:, 0] = True
    last_switch = np.maximum.accumulate(np.where(switches, np.arange(frames), 0), axis=1)
    return np.take_along_axis(drawn, last_switch, axis=1)


def drift_from_frames(
    frames: UInt8[np.ndarray, "clips t h w 3"],
    start: UInt8[np.ndarray, "clips h w 3"],
    real: UInt8[np.ndarray, "n h w 3"],
) -> Drift:
    """Measure the drift of frames that were generated before.

    Args:
        frames: Frames of long roll-outs.
        start: The reconstructed last prompt frame of each roll-out.
        real: Real frames, as for `measure_drift`.
    """
    times = range(frames.shape[1])
    before = [start, *(frames[:, t] for t in times[:-1])]
    start_sharpness = sharpness(start).mean()
    colors = _cumulative_histogram(real)
    return Drift(
        frames,
        sharpness=np.array([sharpness(frames[:, t]).mean() for t in times]) / max(float(start_sharpness), 1e-6),
        color=np.array([_color_distance(_cumulative_histogram(frames[:, t]), colors) for t in times]),
        color_spread=float(np.mean([_color_distance(_cumulative_histogram(frame), colors) for frame in real])),
        real_frames=len(real),
        change=np.array([changed_share(before[t], frames[:, t]).mean() for t in times]),
        repetition=repeated(frames).mean(axis=0),
    )


def late_mean(curve: Float[np.ndarray, " t"]) -> float:
    """Return the mean over the last quarter of a curve."""
    return float(curve[-_last_part(len(curve)) :].mean())


def _last_part(frames: int) -> int:
    return max(1, round(LATE_SHARE * frames))


def sharpness(frames: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, " n"]:
    """Return the root mean square difference between neighboring pixels, in grey levels."""
    grey = frames.mean(axis=-1, dtype=np.float32)
    horizontal, vertical = np.diff(grey, axis=2), np.diff(grey, axis=1)
    return np.sqrt(np.square(horizontal).mean((1, 2)) + np.square(vertical).mean((1, 2)))


def changed_share(before: UInt8[np.ndarray, "n h w 3"], after: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, " n"]:
    """Return the share of pixels that differ by at least `CHANGE_THRESHOLD`, in [0, 1]."""
    difference = np.maximum(before, after) - np.minimum(before, after)
    return (difference >= CHANGE_THRESHOLD).any(axis=-1).mean(axis=(1, 2))


def repeated(frames: UInt8[np.ndarray, "clips t h w 3"]) -> Bool[np.ndarray, "clips t"]:
    """Return whether each frame ends a stretch of `STRETCH` frames that occurred before.

    Standing still is no repetition: the mean step over the stretch must be at least half of the
    mean step of the roll-out.
    """
    small = _downsample(frames)
    clips, count = small.shape[:2]
    steps = np.zeros((clips, count))
    steps[:, 1:] = np.abs(np.diff(small, axis=1)).mean(-1)
    mean_step = steps[:, 1:].mean(axis=1, keepdims=True)
    # run[:, i]: number of frames up to frame i that equal those up to the current frame
    run = np.zeros((clips, count), np.int64)
    found = np.zeros((clips, count), bool)
    for now in range(1, count):
        distance = np.abs(small[:, :now] - small[:, now, None]).mean(-1)
        longer = np.zeros_like(run)
        longer[:, 1:now] = run[:, : now - 1]
        longer[:, :now] = np.where(distance < SAME_WITHIN * mean_step, longer[:, :now] + 1, 0)
        run = longer
        moving = steps[:, max(0, now - STRETCH + 1) : now + 1].mean(axis=1) > mean_step[:, 0] / 2
        found[:, now] = moving & (run >= STRETCH).any(axis=1)
    return found


def _downsample(frames: UInt8[np.ndarray, "clips t h w 3"], side: int = 32) -> Float[np.ndarray, "clips t values"]:
    """Average over blocks, at most `side` per row and column, which suffices to compare frames."""
    height, width = frames.shape[2:4]
    rows, columns = (np.arange(0, n, -(-n // side)) for n in (height, width))
    small = np.empty((*frames.shape[:2], len(rows), len(columns), 3), np.float32)
    for t in range(frames.shape[1]):
        sums = np.add.reduceat(frames[:, t].astype(np.float32), rows, axis=1)
        sums = np.add.reduceat(sums, columns, axis=2)
        areas = np.diff([*rows, height])[:, None] * np.diff([*columns, width])
        small[:, t] = sums / areas[..., None]
    return small.reshape(*small.shape[:2], -1)


def _cumulative_histogram(frames: UInt8[np.ndarray, "*s 3"]) -> Float[np.ndarray, "3 256"]:
    """Return the share of pixels up to each grey level, per channel."""
    counts = np.stack([np.bincount(frames[..., c].ravel(), minlength=256) for c in range(3)])
    return counts.cumsum(axis=1) / counts.sum(axis=1, keepdims=True)


def _color_distance(a: Float[np.ndarray, "3 256"], b: Float[np.ndarray, "3 256"]) -> float:
    return float(np.abs(a - b).sum(axis=1).mean())
