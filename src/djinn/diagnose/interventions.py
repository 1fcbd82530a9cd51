"""What `djinn diagnose` asks of a world: the same clips with the right actions, with wrong ones, and held still."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from tqdm import tqdm

from djinn.config import SamplerConfig
from djinn.errors import UserError
from djinn.evaluate.clips import Sample, Video, infer_actions, reconstruct
from djinn.evaluate.fidelity import frame_mse
from djinn.generate.rollout import rollout
from djinn.models.latent_action import inside_border
from djinn.models.world import World

HORIZON = 4
"""Frames of each roll-out."""
CLIP_FRAMES = HORIZON + 4
"""Frames of a clip: one before the prompt, the prompt of two, those to be met, and one after, so that actions can be shifted.
Two frames of prompt have an action between them, which a world that acts late needs."""
PLAYS = ("right", "random", "shuffled", "previous", "next")
"""Actions of the roll-outs: inferred from the clip; drawn uniformly; inferred from another clip; and the clip's own, each,
that of the prompt too, replaced by the one before it or after it."""


@dataclass(frozen=True)
class Probe:
    """What was measured: a row for each clip, errors in squared grey levels."""

    codes: Int[np.ndarray, "clips steps"]
    """Inferred actions; action t moves frame t to frame t+1."""
    still: Int[np.ndarray, "clips steps+1"]
    """The action inferred from each frame when it is followed by itself."""
    tokens: Int[np.ndarray, " tokenizer_codes"]
    """How often the tokenizer chose each of its codes."""
    tokenizer: Float[np.ndarray, "clips steps+1"]
    """Error of reconstructions."""
    repeat: Float[np.ndarray, "clips steps"]
    """Error of each frame as a prediction of the one after it."""
    change_lost: Float[np.ndarray, "clips steps"]
    """Error of the reconstructions' change from frame to frame as the change of the real frames, which is `repeat`."""
    plays: dict[str, Float[np.ndarray, "clips horizon"]]
    """Error of the roll-outs of `PLAYS` against the real frames."""
    prompt: Float[np.ndarray, "clips horizon"]
    """Error of the prompt's last frame as a prediction of the real frames."""
    response: Float[np.ndarray, "clips horizon"]
    """Difference of the roll-outs with right and with shuffled actions."""
    first_to_prompt: Float[np.ndarray, " clips"]
    """Difference of the first frame that was made with right actions and the prompt's last."""
    decoder: dict[str, Float[np.ndarray, " clips"]]
    """The latent action model's own prediction of the next frame: its error with the `right` and with `shuffled` actions,
    the `response` (difference of the two), and the error of `repeat`, which predicts the frame before."""


def probe(world: World, sample: Sample, *, sampler: SamplerConfig, seed: int, batch: int, bar: tqdm) -> Probe:
    """Measures a world on clips of `CLIP_FRAMES` frames; to be called inside `measuring`.

    All roll-outs of a clip start from the same frames and the same seed, so that they differ by their actions alone.

    Args:
        world: the world.
        sample: the clips.
        sampler: how tokens are drawn.
        seed: of the draws and the random actions.
        batch: clips played at once; it takes part in the draws.
        bar: moves by one for each clip in each of two passes.

    Raises:
        UserError: no pixel changes in any clip.
    """
    parts = []
    for indices in sample.batches(batch):
        parts.append(_watch(world, sample.clips.batch(indices)))
        bar.update(len(indices))
    watched = _joined(parts)
    if not watched["repeat"].any():
        raise UserError(
            f"no pixel changes in the clips of {sample.clips.dataset.path}, so there is nothing that an action could do: "
            "import videos in which something moves"
        )
    codes = watched["codes"]
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
        chosen = {name: actions[name][rows] for name in PLAYS}
        made = _play(world, video, chosen, sampler, seed + i)
        parts.append(made | _decode(world, video, codes[rows], codes[other[rows]]))
        bar.update(len(indices))
    played_parts = _joined(parts)
    names = ("right", "shuffled", "response", "repeat")
    return Probe(
        **{name: watched[name] for name in ("codes", "still", "tokenizer", "repeat", "change_lost")},
        tokens=watched["tokens"].sum(0),
        plays={name: played_parts[name] for name in PLAYS},
        **{name: played_parts[name] for name in ("prompt", "response", "first_to_prompt")},
        decoder={name: played_parts[f"decoder_{name}"] for name in names},
    )


def _joined(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _watch(world: World, video: Video) -> dict[str, np.ndarray]:
    """Actions, also of frames held still, and what the tokenizer keeps."""
    clips, frames = video.shape[:2]
    held = video.reshape(clips * frames, 1, *video.shape[2:]).repeat(2, axis=1)
    made = reconstruct(world, video)
    tokens = world.encode(torch.from_numpy(video[:, : world.config.context_frames])).cpu().numpy()
    change, made_change = (np.diff(x.astype(np.float32), axis=1) for x in (video, made))
    return {
        "codes": infer_actions(world, video),
        "still": infer_actions(world, held).reshape(clips, frames),
        "tokens": np.bincount(tokens.ravel(), minlength=world.config.tokenizer.quantizer.codes)[None],
        "tokenizer": frame_mse(video, made),
        "repeat": frame_mse(video[:, 1:], video[:, :-1]),
        "change_lost": np.square(made_change - change).mean(axis=(2, 3, 4), dtype=np.float64),
    }


def _play(
    world: World, video: Video, actions: dict[str, np.ndarray], sampler: SamplerConfig, seed: int
) -> dict[str, np.ndarray]:
    """Roll-outs from the second and third frame of clips; `actions` begin with the one between these."""
    prompt, real = video[:, 1:3], video[:, 3:-1]

    def play(chosen: np.ndarray) -> np.ndarray:
        led, played = torch.from_numpy(chosen).split([1, HORIZON], dim=1)
        made = rollout(world, torch.from_numpy(prompt), played, sampler=sampler, seed=seed, prompt_actions=led)
        return made.numpy()[:, 2:]

    made = {name: play(chosen) for name, chosen in actions.items()}
    return {name: frame_mse(real, frames) for name, frames in made.items()} | {
        "prompt": frame_mse(real, prompt[:, 1:]),
        "response": frame_mse(made["right"], made["shuffled"]),
        "first_to_prompt": frame_mse(made["right"][:, 0], prompt[:, 1]),
    }


def _decode(world: World, video: Video, right: np.ndarray, wrong: np.ndarray) -> dict[str, np.ndarray]:
    """The latent action model's decoder with the right and with wrong actions, without its ignored_border."""
    seen = video[:, : world.config.context_frames]

    def predict(actions: np.ndarray) -> np.ndarray:
        chosen = torch.from_numpy(actions[:, : seen.shape[1] - 1])
        return 255 * world.predict_next(torch.from_numpy(seen), chosen).float().cpu().numpy()

    def error(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.square((a - b)[inside_border(world.config.latent_action.ignored_border)]).mean(
            axis=(1, 2, 3, 4), dtype=np.float64
        )

    a, b, real = predict(right), predict(wrong), seen[:, 1:].astype(np.float32)
    return {
        "decoder_right": error(a, real),
        "decoder_shuffled": error(b, real),
        "decoder_response": error(a, b),
        "decoder_repeat": error(seen[:, :-1].astype(np.float32), real),
    }
