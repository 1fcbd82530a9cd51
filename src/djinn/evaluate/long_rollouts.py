"""Long roll-outs compared with the real video: PSNR and SSIM by the number of generated frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from tqdm import tqdm

from djinn.config import SamplerConfig
from djinn.data.dataset import Dataset
from djinn.errors import UserError
from djinn.evaluate.clips import ClipSample, spread_over_sources
from djinn.evaluate.fidelity import FrameMetrics, psnr
from djinn.evaluate.inference import evaluation_mode, infer_actions
from djinn.evaluate.text import align
from djinn.generate.rollout import rollout
from djinn.models.world import World

MAX_CLIPS = 64
"""Largest number of clips."""
HORIZONS = (1, 10, 25, 50, 100, 250, 500, 1_000)
"""Generated frames at which metrics are listed, besides the last one."""
_METRICS = ("psnr", "ssim", "random_psnr", "repeat_psnr")


@dataclass(frozen=True)
class LongRollouts:
    """Similarity of long roll-outs to the real clips, by clip and generated frame."""

    psnr: Float[np.ndarray, "clips t"]
    """In dB, with the actions inferred from the clip."""
    ssim: Float[np.ndarray, "clips t"]
    random_psnr: Float[np.ndarray, "clips t"]
    """In dB, with random actions."""
    repeat_psnr: Float[np.ndarray, "clips t"]
    """In dB, of the prompt frame, repeated."""
    protocol: str

    def summary(self) -> dict[str, Any]:
        """Return plain values, ready for JSON: means over clips.

        `psnr`, `ssim`, `random_psnr` and `repeat_psnr` are given at some frames ("1", "10", ...,
        the last), and as lists over all frames under their names with the suffix `_curve`.
        """
        clips, frames = self.psnr.shape
        curves = {name: getattr(self, name).mean(0).tolist() for name in _METRICS}
        return {
            "frames": frames,
            "clips": clips,
            **{name: {str(t): curve[t - 1] for t in horizons(frames)} for name, curve in curves.items()},
            **{f"{name}_curve": curve for name, curve in curves.items()},
            "protocol": self.protocol,
        }

    def lines(self, names: Sequence[str]) -> list[str]:
        """Return text for the terminal; the names of actions do not matter."""
        results = self.summary()
        rows = [
            [t, *(f"{results[key][t]:.2f}" for key in ("psnr", "random_psnr", "repeat_psnr")), f"{ssim:.3f}"]
            for t, ssim in results["ssim"].items()
        ]
        return [
            f"long roll-outs: PSNR in dB over {results['clips']} clips of {results['frames']} generated frames",
            *align([["frame", "inferred", "random", "repeat", "SSIM"], *rows]),
        ]


def horizons(frames: int) -> list[int]:
    """Return the generated frames at which metrics are listed, counted from 1."""
    return [*(t for t in HORIZONS if t < frames), frames]


def draw_long_clips(dataset: Dataset, split: str, frames: int, seed: int) -> ClipSample:
    """Draw clips of a prompt and `frames` frames, without overlap, from all sources.

    Args:
        dataset: The data set.
        split: `train`, `val` or `test`.
        frames: Frames to generate.
        seed: Seed of the draw.

    Returns:
        At most `MAX_CLIPS` clips.

    Raises:
        UserError: The split is missing, or none of its episodes is long enough.
    """
    longest = max((e.length for e in dataset.episodes if e.split == split), default=frames + 1)
    if longest <= frames:
        raise UserError(
            f"long roll-outs of {frames} frames need an episode of {frames + 1} frames, but the longest of split "
            f"'{split}' in {dataset.path} has {longest}: use {longest - 1} or less, or import longer videos"
        )
    clips = dataset.clips(split, frames + 1, stride=frames + 1)
    drawn = ClipSample(clips, np.random.default_rng(seed).permutation(len(clips)))
    return ClipSample(clips, drawn.indices[spread_over_sources(drawn.sources, MAX_CLIPS)])


def measure_long_rollouts(
    world: World,
    sample: ClipSample,
    *,
    sampler: SamplerConfig | None = None,
    seed: int = 0,
    batch: int = 16,
    progress: bool = True,
) -> LongRollouts:
    """Roll clips out from their first frames to their ends, with inferred and with random actions.

    Both roll-outs of a clip use the same seed.

    Args:
        world: The world, with its latent action model.
        sample: Clips of one prompt frame and the frames to generate.
        sampler: Sampler settings, by default those of the world.
        seed: Seed of the random actions and the sampling.
        batch: Clips per batch. The samples depend on it.
        progress: Show a progress bar.
    """
    frames = sample.clips.frames - 1
    random = np.random.default_rng([seed, 3]).integers(world.num_actions, size=(len(sample), frames))
    inferred, random_psnr, repeat_psnr = [], [], []
    bar = tqdm(total=2 * len(sample) * frames, desc="long roll-outs", unit=" frames", disable=not progress)
    with evaluation_mode(world), bar:
        for i, indices in enumerate(sample.batches(batch)):
            video = sample.clips.batch(indices)
            prompt, future = torch.from_numpy(video[:, :1]), video[:, 1:]

            def generate(actions: np.ndarray, prompt: torch.Tensor = prompt, seed: int = seed + i) -> np.ndarray:
                generated = rollout(
                    world,
                    prompt,
                    torch.from_numpy(actions),
                    sampler=sampler,
                    seed=seed,
                    on_frame=lambda: bar.update(len(prompt)),
                )
                return generated[:, 1:].cpu().numpy()

            inferred.append(FrameMetrics.compare(future, generate(infer_actions(world, video))))
            random_psnr.append(psnr(future, generate(random[i * batch : i * batch + len(indices)])))
            repeat_psnr.append(psnr(future, video[:, :1]))
    metrics = FrameMetrics.concatenate(inferred)
    sources = len(set(sample.sources))
    protocol = (
        f"{len(sample)} clips from {sources} source(s) drawn with seed {seed}, one from each source before a second "
        f"from any; 1 real frame as the prompt, then {frames} generated frames; actions inferred in windows of "
        f"{world.config.context_frames} frames that overlap by half; random actions uniform over all codes, drawn for "
        "each frame"
    )
    return LongRollouts(metrics.psnr, metrics.ssim, np.concatenate(random_psnr), np.concatenate(repeat_psnr), protocol)
