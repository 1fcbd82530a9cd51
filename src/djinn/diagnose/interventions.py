"""Interventions: the same clips with their own actions, other actions, and still frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from tqdm import tqdm

from djinn.config import SamplerConfig
from djinn.errors import UserError
from djinn.evaluate.clips import ClipSample
from djinn.evaluate.fidelity import frame_mse
from djinn.evaluate.inference import Video, infer_actions, reconstruct
from djinn.generate.rollout import rollout
from djinn.models.latent_action import inside_border
from djinn.models.world import World

HORIZON = 4
"""Frames of each roll-out."""
CLIP_FRAMES = HORIZON + 4
"""Frames of a clip: one before the prompt, two of the prompt, `HORIZON` to predict, and one after.

The frames before and after allow actions to be shifted in time. A prompt of two frames has an
action between them, which reveals a world that reacts one frame late.
"""
ROLLOUTS = ("right", "random", "shuffled", "previous", "next")
"""Actions of the roll-outs: inferred from the clip; drawn uniformly; inferred from another clip;
and those of the clip shifted by one frame, including that of the prompt."""


@dataclass(frozen=True)
class InterventionResults:
    """Errors in squared grey levels and codes, one row per clip."""

    codes: Int[np.ndarray, "clips steps"]
    """Inferred actions. Action t leads from frame t to frame t+1."""
    still: Int[np.ndarray, "clips steps+1"]
    """Action inferred from each frame when it is repeated."""
    tokens: Int[np.ndarray, " tokenizer_codes"]
    """How often the tokenizer chose each code."""
    tokenizer: Float[np.ndarray, "clips steps+1"]
    """Error of the reconstructions."""
    repeat: Float[np.ndarray, "clips steps"]
    """Error of each frame as a prediction of the next one."""
    change_lost: Float[np.ndarray, "clips steps"]
    """Error of the change between reconstructed frames as the change between real frames, which is
    `repeat`.
    """
    rollouts: dict[str, Float[np.ndarray, "clips horizon"]]
    """Error of each of `ROLLOUTS` against the real frames."""
    prompt: Float[np.ndarray, "clips horizon"]
    """Error of the last prompt frame as a prediction of the real frames."""
    response: Float[np.ndarray, "clips horizon"]
    """Difference between the roll-outs with right and with shuffled actions."""
    first_to_prompt: Float[np.ndarray, " clips"]
    """Difference between the first frame generated with right actions and the last prompt frame."""
    decoder: dict[str, Float[np.ndarray, " clips"]]
    """Next-frame prediction of the latent action model: error with `right` and with `shuffled`
    actions, `response` (difference between the two), and the error of `repeat`, which predicts the
    previous frame."""


def intervene(
    world: World, sample: ClipSample, *, sampler: SamplerConfig, seed: int, batch: int, bar: tqdm
) -> InterventionResults:
    """Measure a world on clips of `CLIP_FRAMES` frames, in `evaluation_mode`.

    All roll-outs of a clip start from the same frames with the same seed, so that they differ only
    in their actions.

    Args:
        world: The world.
        sample: The clips.
        sampler: Sampler settings.
        seed: Seed of the sampling and of the random actions.
        batch: Clips per batch. The samples depend on it.
        bar: Progress bar, advanced by one per clip in each of two passes.

    Raises:
        UserError: No pixel changes in any clip.
    """
    parts = []
    for indices in sample.batches(batch):
        parts.append(_observe(world, sample.clips.batch(indices)))
        bar.update(len(indices))
    observed = _concatenate(parts)
    if not observed["repeat"].any():
        raise UserError(
            f"no pixel changes in the clips of {sample.clips.dataset.path}, so actions cannot have an effect: "
            "import videos with motion"
        )
    codes = observed["codes"]
    other = (np.arange(len(sample)) + len(sample) // 2) % len(sample)  # clips are in random order
    random = np.random.default_rng([seed, 1]).integers(world.num_actions, size=(len(sample), HORIZON))
    actions = {
        "right": codes[:, 1:-1],
        "random": np.concatenate([codes[:, 1:2], random], axis=1),
        "shuffled": np.concatenate([codes[:, 1:2], codes[other, 2:-1]], axis=1),
        "previous": codes[:, :-2],
        "next": codes[:, 2:],
    }
    parts = []
    for i, indices in enumerate(sample.batches(batch)):
        rows = slice(i * batch, i * batch + len(indices))
        video = sample.clips.batch(indices)
        chosen = {name: actions[name][rows] for name in ROLLOUTS}
        errors = _roll_out(world, video, chosen, sampler, seed + i)
        parts.append(errors | _predict_next(world, video, codes[rows], codes[other[rows]]))
        bar.update(len(indices))
    results = _concatenate(parts)
    return InterventionResults(
        **{name: observed[name] for name in ("codes", "still", "tokenizer", "repeat", "change_lost")},
        tokens=observed["tokens"].sum(0),
        rollouts={name: results[name] for name in ROLLOUTS},
        **{name: results[name] for name in ("prompt", "response", "first_to_prompt")},
        decoder={name: results[f"decoder_{name}"] for name in ("right", "shuffled", "response", "repeat")},
    )


def _concatenate(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _observe(world: World, video: Video) -> dict[str, np.ndarray]:
    """Infer actions, also of still frames, and measure the reconstructions."""
    clips, frames = video.shape[:2]
    still = video.reshape(clips * frames, 1, *video.shape[2:]).repeat(2, axis=1)
    reconstructed = reconstruct(world, video)
    tokens = world.encode(torch.from_numpy(video[:, : world.config.context_frames])).cpu().numpy()
    change, reconstructed_change = (np.diff(x.astype(np.float32), axis=1) for x in (video, reconstructed))
    return {
        "codes": infer_actions(world, video),
        "still": infer_actions(world, still).reshape(clips, frames),
        "tokens": np.bincount(tokens.ravel(), minlength=world.config.tokenizer.quantizer.codes)[None],
        "tokenizer": frame_mse(video, reconstructed),
        "repeat": frame_mse(video[:, 1:], video[:, :-1]),
        "change_lost": np.square(reconstructed_change - change).mean(axis=(2, 3, 4), dtype=np.float64),
    }


def _roll_out(
    world: World, video: Video, actions: dict[str, np.ndarray], sampler: SamplerConfig, seed: int
) -> dict[str, np.ndarray]:
    """Roll out from the second and third frame; `actions` start between these two."""
    prompt, real = video[:, 1:3], video[:, 3:-1]

    def generate(chosen: np.ndarray) -> np.ndarray:
        prompt_actions, future_actions = torch.from_numpy(chosen).split([1, HORIZON], dim=1)
        frames = rollout(
            world,
            torch.from_numpy(prompt),
            future_actions,
            sampler=sampler,
            seed=seed,
            prompt_actions=prompt_actions,
        )
        return frames.numpy()[:, 2:]

    generated = {name: generate(chosen) for name, chosen in actions.items()}
    return {name: frame_mse(real, frames) for name, frames in generated.items()} | {
        "prompt": frame_mse(real, prompt[:, 1:]),
        "response": frame_mse(generated["right"], generated["shuffled"]),
        "first_to_prompt": frame_mse(generated["right"][:, 0], prompt[:, 1]),
    }


def _predict_next(world: World, video: Video, right: np.ndarray, wrong: np.ndarray) -> dict[str, np.ndarray]:
    """Decode with the latent action model, with right and with wrong actions."""
    window = video[:, : world.config.context_frames]

    def predict(actions: np.ndarray) -> np.ndarray:
        chosen = torch.from_numpy(actions[:, : window.shape[1] - 1])
        return 255 * world.predict_next(torch.from_numpy(window), chosen).float().cpu().numpy()

    def error(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        inside = (a - b)[inside_border(world.config.latent_action.ignored_border)]
        return np.square(inside).mean(axis=(1, 2, 3, 4), dtype=np.float64)

    with_right, with_wrong, real = predict(right), predict(wrong), window[:, 1:].astype(np.float32)
    return {
        "decoder_right": error(with_right, real),
        "decoder_shuffled": error(with_wrong, real),
        "decoder_response": error(with_right, with_wrong),
        "decoder_repeat": error(window[:, :-1].astype(np.float32), real),
    }
