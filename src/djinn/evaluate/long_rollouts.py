"""How far the actions of a real video carry: long roll-outs held against the video itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from tqdm import tqdm

from djinn.config import SamplerConfig
from djinn.data.dataset import Dataset
from djinn.errors import UserError
from djinn.evaluate.clips import FrameMetrics, Sample, infer_actions, measuring, spread_over_sources
from djinn.evaluate.fidelity import psnr
from djinn.generate.rollout import rollout
from djinn.models.world import World

CLIPS = 64
"""Most clips that are played."""
HORIZONS = (1, 10, 25, 50, 100, 250, 500, 1_000)
"""Made frames whose figures are given, and the last one."""


@dataclass(frozen=True)
class LongPlay:
    """How close long roll-outs stay to the real clips; a row for each clip, a column for each made frame."""

    psnr: Float[np.ndarray, "clips t"]
    """In dB, with the actions inferred from the clip."""
    ssim: Float[np.ndarray, "clips t"]
    random_psnr: Float[np.ndarray, "clips t"]
    """With random actions."""
    repeat_psnr: Float[np.ndarray, "clips t"]
    """Of the prompt frame, repeated."""
    protocol: str

    def summary(self) -> dict[str, Any]:
        """Plain values, ready for JSON: means over clips.

        `psnr`, `ssim`, `random_psnr` and `repeat_psnr` at some of the made frames ("1", "10", ..., the last), and each of
        them as a list over all frames under its name with `_curve`.
        """
        clips, frames = self.psnr.shape
        names = ("psnr", "ssim", "random_psnr", "repeat_psnr")
        curves = {name: getattr(self, name).mean(0).tolist() for name in names}
        return {
            "frames": frames,
            "clips": clips,
            **{name: {str(t): curve[t - 1] for t in horizons(frames)} for name, curve in curves.items()},
            **{f"{name}_curve": curve for name, curve in curves.items()},
            "protocol": self.protocol,
        }


def horizons(frames: int) -> list[int]:
    """The made frames at which a roll-out's figures are given, counted from 1."""
    return [*(t for t in HORIZONS if t < frames), frames]


def draw_long(dataset: Dataset, split: str, frames: int, seed: int) -> Sample:
    """Draws clips of a prompt frame and the frames to make, without overlap, from as many sources as there are.

    Args:
        dataset: the data set.
        split: `train`, `val` or `test`.
        frames: frames to make.
        seed: of the draw.

    Returns:
        At most `CLIPS` clips.

    Raises:
        UserError: the split is missing, or none of its episodes is long enough.
    """
    longest = max((e.length for e in dataset.episodes if e.split == split), default=frames + 1)
    if longest <= frames:
        raise UserError(
            f"--long {frames} needs an episode of {frames + 1} frames, a prompt and {frames} to compare with, but the longest "
            f"of split '{split}' in {dataset.path} has {longest}: use --long {longest - 1} or less, or import longer videos"
        )
    clips = dataset.clips(split, frames + 1, stride=frames + 1)
    drawn = Sample(clips, np.random.default_rng(seed).permutation(len(clips)))
    return Sample(clips, drawn.indices[spread_over_sources(drawn.sources, CLIPS)])


def play_long(
    world: World,
    sample: Sample,
    *,
    sampler: SamplerConfig | None = None,
    seed: int = 0,
    batch: int = 16,
    progress: bool = True,
) -> LongPlay:
    """Plays clips from their first frames to their ends, with the actions inferred from them and with random ones.

    Both roll-outs of a clip draw from the same seed.

    Args:
        world: the world, with its latent action model.
        sample: clips of one prompt frame and the frames to make.
        sampler: how tokens are drawn; the world's own setting by default.
        seed: of the random actions and the draws.
        batch: clips played at once; it takes part in the draws.
        progress: show a progress bar.
    """
    frames = sample.clips.frames - 1
    random = np.random.default_rng([seed, 3]).integers(world.num_actions, size=(len(sample), frames))
    close, randoms, repeats = [], [], []
    bar = tqdm(total=len(sample), desc="playing long", unit=" clips", disable=not progress)
    with measuring(world), bar:
        for i, indices in enumerate(sample.batches(batch)):
            video = sample.clips.batch(indices)
            prompt, future = torch.from_numpy(video[:, :1]), video[:, 1:]

            def play(actions: np.ndarray, prompt: torch.Tensor = prompt, seed: int = seed + i) -> np.ndarray:
                made = rollout(world, prompt, torch.from_numpy(actions), sampler=sampler, seed=seed)
                return made[:, 1:].cpu().numpy()

            close.append(FrameMetrics.of(future, play(infer_actions(world, video))))
            randoms.append(psnr(future, play(random[i * batch : i * batch + len(indices)])))
            repeats.append(psnr(future, video[:, :1]))
            bar.update(len(indices))
    inferred = FrameMetrics.joined(close)
    sources = len(set(sample.sources))
    protocol = (
        f"{len(sample)} clips from {sources} source(s) drawn with seed {seed}, one from each source before a second from any; "
        f"1 real frame as the prompt, then {frames} made ones; actions inferred in windows of {world.config.context_frames} frames "
        "that overlap by half; random ones uniform over all codes, one draw a frame"
    )
    return LongPlay(inferred.psnr, inferred.ssim, np.concatenate(randoms), np.concatenate(repeats), protocol)
