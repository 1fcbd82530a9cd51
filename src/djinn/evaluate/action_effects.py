"""What each latent action does to the picture, and whether it does the same from many prompts (paper, Figures 13 and 17)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from tqdm import tqdm

from djinn.config import SamplerConfig
from djinn.errors import UserError
from djinn.evaluate.clips import measuring
from djinn.evaluate.motion import block_flow, global_shift, grey
from djinn.generate.session import Session
from djinn.models.world import World

NEAR = 1.0
"""Shifts that differ by no more than this many pixels a frame agree."""
AT_ONCE = 32
"""Prompts played side by side."""

Vectors = Float[np.ndarray, "codes p 2"]
Fields = Float[np.ndarray, "codes p rows columns 2"]


@dataclass(frozen=True)
class CodeEffect:
    """What one latent action does. Motion is of the picture's content, in pixels a frame; +x is right and +y is down."""

    code: int
    shift: list[float]
    """`[dx, dy]` of the whole picture: the median over prompts."""
    shift_agreement: float
    """Share of prompts whose shift is within `NEAR` of that."""
    relative_shift: list[float]
    """Median over prompts of the shift less the median shift of all codes on the same prompt."""
    flow_agreement: float
    """Mean cosine, from -1 to 1, of a prompt's block flow with the mean flow of all other prompts."""
    relative_flow_agreement: float
    """The same of the flow less the mean flow of all codes on the same prompt."""
    change: float
    """Mean absolute difference, in grey levels, from the most common outcome of all codes on the same prompt."""


@dataclass(frozen=True)
class Effects:
    """All codes, played from the same prompts with the same draws."""

    frames: UInt8[np.ndarray, "codes p t h w 3"]
    """What was made; the prompt first."""
    codes: list[CodeEffect]
    shifts: Vectors
    """Shift of the whole picture by code and prompt, the median over frames."""
    flows: Fields
    """Block flow by code and prompt, the mean over frames."""
    consistency: float
    """Share of the motion apart from what all codes do on a prompt that the code alone explains, from 0 to 1."""

    def summary(self) -> dict[str, Any]:
        """Plain values, ready for JSON: `consistency`, `prompts`, `frames` and, for each of `codes`, its `CodeEffect`."""
        return {
            "consistency": self.consistency,
            "prompts": self.frames.shape[1],
            "frames": self.frames.shape[2] - 1,
            "codes": [asdict(effect) for effect in self.codes],
        }


def measure_effects(
    world: World,
    prompts: UInt8[np.ndarray, "p 1 h w 3"],
    *,
    frames: int = 4,
    sampler: SamplerConfig | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Effects:
    """Holds each latent action for some frames from each prompt, and measures what moves.

    Args:
        world: the world.
        prompts: first frames; at least two.
        frames: how long to hold an action.
        sampler: how tokens are drawn; the world's own setting by default.
        seed: of the draws, the same for each code.
        progress: show a progress bar.

    Raises:
        UserError: there are fewer than two prompts, no frames are asked for, or the prompts do not have the world's size.
    """
    if len(prompts) < 2 or frames < 1:
        raise UserError(f"effects need 2 prompts and 1 frame or more, got {len(prompts)} and {frames}: ask for more")
    made = hold_actions(
        world, prompts, range(world.num_actions), frames=frames, sampler=sampler, seed=seed, progress=progress
    )
    return effects_of(made, progress=progress)


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
    """Holds latent actions for some frames from each prompt.

    Args:
        world: the world.
        prompts: first frames.
        codes: the actions.
        frames: how long to hold an action.
        sampler: how tokens are drawn; the world's own setting by default.
        seed: of the draws, the same for each code.
        progress: show a progress bar.

    Returns:
        What was made; the prompt first.
    """
    made = np.empty((len(codes), len(prompts), frames + 1, *prompts.shape[2:]), np.uint8)
    made[:, :, 0] = prompts[:, 0]
    total = len(codes) * len(prompts) * frames
    with measuring(world), tqdm(total=total, desc="trying actions", unit=" frames", disable=not progress) as bar:
        for start in range(0, len(prompts), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            session = Session(world, prompts[part], sampler=sampler, seed=seed + start, undo_depth=0)
            for place, code in enumerate(codes):
                session.reset()
                for t in range(1, frames + 1):
                    made[place, part, t] = session.step(code)
                    bar.update(len(prompts[part]))
    return made


def effects_of(frames: UInt8[np.ndarray, "codes p t h w 3"], *, progress: bool = False) -> Effects:
    """Measures frames that all codes made from the same prompts.

    Args:
        frames: what each code made of each of at least two prompts; the prompt first.
        progress: show a progress bar.
    """
    codes, prompts, length = frames.shape[:3]
    moved = []
    for code in tqdm(range(codes), desc="measuring motion", unit=" codes", disable=not progress):
        pictures = grey(frames[code])
        moved.append((median_shift(pictures), block_flow(*_pairs(pictures))))
    shifts = np.stack([m[0] for m in moved])
    flows = np.stack([m[1] for m in moved])
    flows = flows.reshape(codes, prompts, length - 1, *flows.shape[2:]).mean(axis=2, dtype=np.float64)
    change = _change(frames)
    own = flows - flows.mean(axis=0)
    relative = shifts - np.median(shifts, axis=0)
    effects = []
    for code in range(codes):
        middle = np.median(shifts[code], axis=0)
        near = np.hypot(*(shifts[code] - middle).T) <= NEAR
        effects.append(
            CodeEffect(
                code=code,
                shift=middle.tolist(),
                shift_agreement=float(near.mean()),
                relative_shift=np.median(relative[code], axis=0).tolist(),
                flow_agreement=_agreement(flows[code]),
                relative_flow_agreement=_agreement(own[code]),
                change=float(change[code]),
            )
        )
    return Effects(frames, effects, shifts, flows, explained_by_code(own))


def median_shift(pictures: Float[np.ndarray, "p t h w"]) -> Float[np.ndarray, "p 2"]:
    """Shift of the whole picture of each film of grey pictures, in pixels a frame: the median over its frames."""
    prompts, length = pictures.shape[:2]
    return np.median(global_shift(*_pairs(pictures)).reshape(prompts, length - 1, 2), axis=1)


def _pairs(pictures: Float[np.ndarray, "p t h w"]) -> tuple[Float[np.ndarray, "n h w"], Float[np.ndarray, "n h w"]]:
    """Pictures, and those that follow them."""
    return pictures[:, :-1].reshape(-1, *pictures.shape[2:]), pictures[:, 1:].reshape(-1, *pictures.shape[2:])


def _agreement(fields: Float[np.ndarray, "p rows columns 2"]) -> float:
    """Mean cosine of each prompt's field with the mean of the others; two that are both still agree."""
    flat = fields.reshape(len(fields), -1)
    others = (flat.sum(axis=0) - flat) / (len(flat) - 1)
    norms, other_norms = np.linalg.norm(flat, axis=1), np.linalg.norm(others, axis=1)
    moves, others_move = norms > 1e-9, other_norms > 1e-9
    cosine = (flat * others).sum(axis=1) / np.where(moves & others_move, norms * other_norms, 1)
    return float(np.where(moves & others_move, cosine, moves == others_move).mean())


def explained_by_code(own: Float[np.ndarray, "codes p *s"]) -> float:
    """Share of the variance between codes on the same prompt that the code explains, less what chance would explain.

    Args:
        own: motion by code and prompt, less the mean of all codes on the same prompt.
    """
    prompts = own.shape[1]
    total = np.square(own).sum()
    if total < 1e-9:
        return 0.0
    explained = prompts * np.square(own.mean(axis=1)).sum() / total
    return float(max(0.0, (explained - 1 / prompts) / (1 - 1 / prompts)))


def _change(frames: UInt8[np.ndarray, "codes p t h w 3"]) -> Float[np.ndarray, " codes"]:
    """Mean difference of each code's frames from those of the code that is nearest to all others on a prompt."""
    codes, prompts = frames.shape[:2]
    change = np.empty((codes, prompts))
    for p in range(prompts):
        made = frames[:, p, 1:].reshape(codes, -1).astype(np.int16)
        apart = np.stack([np.abs(made - one).mean(axis=1) for one in made])
        change[:, p] = apart[apart.sum(axis=1).argmin()]
    return change.mean(axis=1)
