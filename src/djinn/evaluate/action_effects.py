"""Effect of each latent action and its consistency across prompts (paper, Fig. 13 and 17)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from tqdm import tqdm

from djinn.config import SamplerConfig
from djinn.errors import UserError
from djinn.evaluate.inference import evaluation_mode
from djinn.evaluate.motion import block_flow, global_shift, grey
from djinn.evaluate.text import action_label, align, signed
from djinn.generate.session import Session
from djinn.models.world import World

AGREEMENT_RADIUS = 1.0
"""Shifts that differ by at most this many pixels per frame agree."""
BATCH = 32
"""Prompts played in one batch."""

Shifts = Float[np.ndarray, "codes p 2"]
Flows = Float[np.ndarray, "codes p rows columns 2"]


@dataclass(frozen=True)
class ActionEffect:
    """Effect of one latent action.

    Motion is that of the image content in pixels per frame, +x to the right and +y down.
    """

    code: int
    shift: list[float]
    """`[dx, dy]` of the whole frame, median over prompts."""
    shift_agreement: float
    """Share of the prompts whose shift is within `AGREEMENT_RADIUS` of the median, in [0, 1]."""
    relative_shift: list[float]
    """Median over prompts of the shift minus the median shift of all codes on the same prompt."""
    flow_agreement: float
    """Mean cosine in [-1, 1] between the block flow of a prompt and the mean of all others."""
    relative_flow_agreement: float
    """The same for the flow minus the mean flow of all codes on the same prompt."""
    change: float
    """Mean absolute difference in grey levels from the medoid of all codes on the same prompt."""


@dataclass(frozen=True)
class ActionEffects:
    """Effects of all codes, played from the same prompts with the same seed."""

    frames: UInt8[np.ndarray, "codes p t h w 3"]
    """The prompt, then the generated frames."""
    codes: list[ActionEffect]
    shifts: Shifts
    """Shift of the whole frame by code and prompt, median over frames."""
    flows: Flows
    """Block flow by code and prompt, mean over frames."""
    consistency: float
    """Share in [0, 1] of the differences in motion between codes that the code explains."""
    differences: Float[np.ndarray, "codes codes"]
    """Mean absolute difference in grey levels between two codes on the same prompts."""

    def summary(self) -> dict[str, Any]:
        """Return plain values, ready for JSON, with one entry per code in `codes`."""
        return {
            "consistency": self.consistency,
            "prompts": self.frames.shape[1],
            "frames": self.frames.shape[2] - 1,
            "codes": [asdict(effect) for effect in self.codes],
        }

    def lines(self, names: Sequence[str]) -> list[str]:
        """Return the effects as text for the terminal.

        Args:
            names: Names of the latent actions.
        """
        rows = [["action", "dx", "dy", "prompts that agree", "flow agreement", "change (grey levels)"]]
        for effect in self.codes:
            shift = [signed(pixels) for pixels in effect.shift]
            agreement = [f"{100 * effect.shift_agreement:.0f} %", f"{effect.flow_agreement:.2f}"]
            rows.append([action_label(effect.code, names), *shift, *agreement, f"{effect.change:.1f}"])
        return [
            f"effect of each action, held for {self.frames.shape[2] - 1} frames from {self.frames.shape[1]} prompts: "
            f"shift of the frame in pixels per frame; consistency {self.consistency:.2f} (0 to 1)",
            *align(rows, left=1),
        ]


def measure_action_effects(
    world: World,
    prompts: UInt8[np.ndarray, "p 1 h w 3"],
    *,
    frames: int = 4,
    sampler: SamplerConfig | None = None,
    seed: int = 0,
    progress: bool = True,
) -> ActionEffects:
    """Hold each latent action from each prompt and measure the motion.

    Args:
        world: The world.
        prompts: First frames, at least two.
        frames: Number of frames for which an action is held.
        sampler: Sampler settings, by default those of the world.
        seed: Seed of the sampling, the same for each code.
        progress: Show progress bars.

    Raises:
        UserError: There are fewer than two prompts or no frames, or the prompts do not have the
            size of the world.
    """
    if len(prompts) < 2 or frames < 1:
        raise UserError(
            f"action effects need at least 2 prompts and 1 frame, got {len(prompts)} and {frames}: use more"
        )
    generated = hold_actions(
        world, prompts, range(world.num_actions), frames=frames, sampler=sampler, seed=seed, progress=progress
    )
    return effects_from_frames(generated, progress=progress)


def hold_actions(
    world: World,
    prompts: UInt8[np.ndarray, "p 1 h w 3"],
    codes: Sequence[int],
    *,
    frames: int,
    sampler: SamplerConfig | None = None,
    seed: int = 0,
    progress: bool = True,
) -> UInt8[np.ndarray, "codes p t h w 3"]:
    """Hold latent actions for some frames from each prompt.

    Args:
        world: The world.
        prompts: First frames.
        codes: The actions.
        frames: Number of frames for which an action is held.
        sampler: Sampler settings, by default those of the world.
        seed: Seed of the sampling, the same for each code.
        progress: Show a progress bar.

    Returns:
        The prompt, then the generated frames.
    """
    generated = np.empty((len(codes), len(prompts), frames + 1, *prompts.shape[2:]), np.uint8)
    generated[:, :, 0] = prompts[:, 0]
    total = len(codes) * len(prompts) * frames
    with evaluation_mode(world), tqdm(total=total, desc="holding actions", unit=" frames", disable=not progress) as bar:
        for start in range(0, len(prompts), BATCH):
            part = slice(start, start + BATCH)
            session = Session(world, prompts[part], sampler=sampler, seed=seed + start, undo_depth=0)
            for i, code in enumerate(codes):
                session.reset()
                for t in range(1, frames + 1):
                    generated[i, part, t] = session.step(code)
                    bar.update(len(prompts[part]))
    return generated


def effects_from_frames(frames: UInt8[np.ndarray, "codes p t h w 3"], *, progress: bool = False) -> ActionEffects:
    """Measure the effects of actions on frames that were generated before.

    Args:
        frames: Frames of each code from the same prompts, at least two; the prompt comes first.
        progress: Show a progress bar.
    """
    codes, prompts, length = frames.shape[:3]
    motion = []
    for code in tqdm(range(codes), desc="measuring motion", unit=" codes", disable=not progress):
        luminance = grey(frames[code])
        motion.append((median_shift(luminance), block_flow(*_pairs(luminance))))
    shifts = np.stack([shift for shift, _ in motion])
    flows = np.stack([flow for _, flow in motion])
    flows = flows.reshape(codes, prompts, length - 1, *flows.shape[2:]).mean(axis=2, dtype=np.float64)
    change, differences = _differences(frames)
    relative_flows = flows - flows.mean(axis=0)
    relative_shifts = shifts - np.median(shifts, axis=0)
    effects = []
    for code in range(codes):
        median = np.median(shifts[code], axis=0)
        agrees = np.hypot(*(shifts[code] - median).T) <= AGREEMENT_RADIUS
        effects.append(
            ActionEffect(
                code=code,
                shift=median.tolist(),
                shift_agreement=float(agrees.mean()),
                relative_shift=np.median(relative_shifts[code], axis=0).tolist(),
                flow_agreement=_agreement(flows[code]),
                relative_flow_agreement=_agreement(relative_flows[code]),
                change=float(change[code]),
            )
        )
    return ActionEffects(frames, effects, shifts, flows, explained_by_code(relative_flows), differences)


def median_shift(videos: Float[np.ndarray, "p t h w"]) -> Float[np.ndarray, "p 2"]:
    """Return the median shift of the whole frame in grey videos, in pixels per frame."""
    prompts, length = videos.shape[:2]
    return np.median(global_shift(*_pairs(videos)).reshape(prompts, length - 1, 2), axis=1)


def _pairs(videos: Float[np.ndarray, "p t h w"]) -> tuple[Float[np.ndarray, "n h w"], Float[np.ndarray, "n h w"]]:
    """Return all frames but the last and their successors."""
    return videos[:, :-1].reshape(-1, *videos.shape[2:]), videos[:, 1:].reshape(-1, *videos.shape[2:])


def _agreement(fields: Float[np.ndarray, "p rows columns 2"]) -> float:
    """Return the mean cosine between each field and the mean of the others, 1 for zero fields."""
    flat = fields.reshape(len(fields), -1)
    others = (flat.sum(axis=0) - flat) / (len(flat) - 1)
    norms, other_norms = np.linalg.norm(flat, axis=1), np.linalg.norm(others, axis=1)
    moves, others_move = norms > 1e-9, other_norms > 1e-9
    cosine = (flat * others).sum(axis=1) / np.where(moves & others_move, norms * other_norms, 1)
    return float(np.where(moves & others_move, cosine, moves == others_move).mean())


def explained_by_code(motion: Float[np.ndarray, "codes p *s"]) -> float:
    """Return the share of the variance that the code explains, corrected for chance, in [0, 1].

    Args:
        motion: Motion by code and prompt, minus the mean of all codes on the same prompt.
    """
    prompts = motion.shape[1]
    total = np.square(motion).sum()
    if total < 1e-9:
        return 0.0
    explained = prompts * np.square(motion.mean(axis=1)).sum() / total
    return float(max(0.0, (explained - 1 / prompts) / (1 - 1 / prompts)))


def _differences(
    frames: UInt8[np.ndarray, "codes p t h w 3"],
) -> tuple[Float[np.ndarray, " codes"], Float[np.ndarray, "codes codes"]]:
    """Return the mean difference of each code from the medoid, and between every two codes."""
    codes, prompts = frames.shape[:2]
    from_medoid, pairwise = np.empty((codes, prompts)), np.zeros((codes, codes))
    for p in range(prompts):
        generated = frames[:, p, 1:].reshape(codes, -1).astype(np.int16)
        distances = np.stack([np.abs(generated - one).mean(axis=1) for one in generated])
        from_medoid[:, p] = distances[distances.sum(axis=1).argmin()]
        pairwise += distances / prompts
    return from_medoid.mean(axis=1), pairwise
