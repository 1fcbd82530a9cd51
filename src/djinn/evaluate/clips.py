"""Held-out clips, and what a world makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8

from djinn.config import SamplerConfig
from djinn.data.dataset import Clips, Dataset
from djinn.errors import UserError
from djinn.evaluate.fidelity import frame_mse
from djinn.generate.rollout import rollout
from djinn.models.world import World

Video = UInt8[np.ndarray, "b t h w 3"]


@dataclass(frozen=True)
class Sample:
    """Clips drawn from one split."""

    clips: Clips
    indices: np.ndarray
    """Which of them, in the order of measuring."""

    def __len__(self) -> int:
        return len(self.indices)

    def batches(self, size: int) -> Iterator[np.ndarray]:
        """The indices, `size` at a time."""
        yield from (self.indices[start : start + size] for start in range(0, len(self), size))


def draw_clips(dataset: Dataset, split: str, count: int, frames: int, seed: int) -> Sample:
    """Draws clips at random, without overlap where there are enough of them.

    Args:
        dataset: the data set.
        split: `train`, `val` or `test`.
        count: how many; fewer where the split has fewer.
        frames: frames in a clip.
        seed: of the draw.

    Raises:
        UserError: the split is missing, or none of its episodes is long enough.
    """
    clips = dataset.clips(split, frames, stride=frames)
    if len(clips) < count:
        clips = dataset.clips(split, frames, stride=1)
    indices = np.random.default_rng(seed).permutation(len(clips))[:count]
    return Sample(clips, indices)


def check_match(world: World, dataset: Dataset) -> None:
    """Refuses a data set that a world cannot be measured on.

    Raises:
        UserError: frames differ in size, or the world has no latent action model.
    """
    size = (world.config.height, world.config.width)
    if (dataset.height, dataset.width) != size:
        raise UserError(
            f"data set {dataset.path} has frames of {dataset.width}x{dataset.height}, but the world makes "
            f"{size[1]}x{size[0]}: import the videos again with --size {size[1]}x{size[0]}"
        )
    if world.latent_action is None:
        raise UserError(
            "this world has no latent_action.safetensors, which measuring needs to infer actions: "
            "use the world folder of its training run"
        )


@contextmanager
def measuring(world: World) -> Iterator[None]:
    """Puts a world into evaluation mode without gradients, and every module back into its own mode afterwards."""
    modes = [(module, module.training) for module in world.modules()]
    world.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, training in modes:
            module.training = training


def infer_actions(world: World, video: Video) -> Int[np.ndarray, "b steps"]:
    """Latent actions of clips of any length: never more frames at once than the world was trained on."""
    pieces = _windows(video.shape[1], world.config.frames, overlap=1)
    tensor = torch.from_numpy(video)
    return np.concatenate([world.infer_actions(tensor[:, piece]).cpu().numpy() for piece in pieces], axis=1)


def reconstruct(world: World, video: Video) -> Video:
    """Clips of any length through the tokenizer and back: never more frames at once than it was trained on."""
    pieces = _windows(video.shape[1], world.config.frames, overlap=0)
    tensor = torch.from_numpy(video)
    return np.concatenate([world.decode(world.encode(tensor[:, piece])).cpu().numpy() for piece in pieces], axis=1)


def _windows(frames: int, window: int, overlap: int) -> list[slice]:
    return [slice(start, start + window) for start in range(0, max(frames - overlap, 1), window - overlap)]


@dataclass(frozen=True)
class Shown:
    """A few clips with what was made of them, for pictures."""

    real: Video
    inferred: Video
    random: Video
    inferred_actions: Int[np.ndarray, "b steps"]
    random_actions: Int[np.ndarray, "b steps"]


@dataclass(frozen=True)
class Errors:
    """Errors of a world on clips, in squared grey levels; the mean over pixels of each frame."""

    tokenizer: Float[np.ndarray, "clips t"]
    """Of reconstructions, prompt frames included."""
    inferred: Float[np.ndarray, "clips horizon"]
    """Of roll-outs with actions inferred from the real clip."""
    random: Float[np.ndarray, "clips horizon"]
    """Of roll-outs with actions drawn uniformly."""
    repeat: Float[np.ndarray, "clips horizon"]
    """Of the last prompt frame, repeated."""


def play_clips(
    world: World,
    video: Video,
    random_actions: Int[np.ndarray, "b k"],
    *,
    sampler: SamplerConfig | None = None,
    seed: int = 0,
) -> tuple[Errors, Shown]:
    """Reconstructs clips, and plays them from their first frames with inferred and with random actions.

    Both roll-outs draw from the same seed, so that a world that ignores its actions makes the same frames twice.

    Args:
        world: the world.
        video: real clips of p + k frames; the first p are the prompt.
        random_actions: the actions of the second roll-out.
        sampler: how tokens are drawn; the world's own setting by default.
        seed: of the draws.
    """
    horizon = random_actions.shape[1]
    prompt_frames = video.shape[1] - horizon
    assert prompt_frames >= 1
    inferred_actions = infer_actions(world, video)
    led, chosen = np.split(inferred_actions, [prompt_frames - 1], axis=1)
    prompt = torch.from_numpy(video[:, :prompt_frames])

    def play(actions: np.ndarray) -> Video:
        made = rollout(
            world, prompt, torch.from_numpy(actions), sampler=sampler, seed=seed, prompt_actions=torch.from_numpy(led)
        )
        return made.cpu().numpy()

    inferred, random = play(chosen), play(random_actions)
    future = np.s_[:, prompt_frames:]
    errors = Errors(
        tokenizer=frame_mse(video, reconstruct(world, video)),
        inferred=frame_mse(video[future], inferred[future]),
        random=frame_mse(video[future], random[future]),
        repeat=frame_mse(video[future], video[:, prompt_frames - 1, None]),
    )
    shown = Shown(video, inferred, random, inferred_actions, np.concatenate([led, random_actions], axis=1))
    return errors, shown
