"""Roll-outs with inferred and with random actions: fidelity and controllability."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from djinn.config import SamplerConfig
from djinn.evaluate.fidelity import FrameMetrics
from djinn.evaluate.inference import Video, infer_actions, reconstruct
from djinn.evaluate.statistics import Interval, bootstrap
from djinn.evaluate.text import align
from djinn.generate.rollout import rollout
from djinn.models.world import World

ROLLOUTS = ("inferred", "random", "empirical", "repeat")
"""Predictions that are compared with the rest of a clip: roll-outs with actions inferred from the
clip, drawn uniformly, and drawn from the distribution of inferred actions; and the last prompt
frame, repeated."""
ROLLOUTS_PER_CLIP = 3
"""Roll-outs that `rollout_clips` generates for each clip."""


@dataclass(frozen=True)
class Examples:
    """Clips with their roll-outs, to be shown."""

    real: Video
    inferred: Video
    random: Video
    inferred_actions: Int[np.ndarray, "b steps"]
    random_actions: Int[np.ndarray, "b steps"]

    def rows(self, chosen: slice | list[int]) -> Examples:
        """Select clips."""
        return Examples(**{field.name: getattr(self, field.name)[chosen] for field in fields(self)})

    @classmethod
    def concatenate(cls, parts: Sequence[Examples]) -> Examples:
        """Concatenate several batches of clips."""
        return cls(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)})


def rollout_clips(
    world: World,
    video: Video,
    random_actions: Int[np.ndarray, "b k"],
    empirical_actions: Int[np.ndarray, "b k"],
    *,
    sampler: SamplerConfig | None = None,
    seed: int = 0,
    on_frame: Callable[[], object] | None = None,
) -> tuple[dict[str, FrameMetrics], Examples]:
    """Reconstruct clips, and roll them out with inferred and with drawn actions.

    All roll-outs use the same seed, so that a world that ignores its actions generates the same
    frames each time.

    Args:
        world: The world.
        video: Real clips of p + k frames, of which the first p are the prompt.
        random_actions: Actions drawn uniformly.
        empirical_actions: Actions drawn from the distribution of inferred actions.
        sampler: Sampler settings, by default those of the world.
        seed: Seed of the sampling.
        on_frame: Called after each time step of each roll-out.

    Returns:
        Metrics of each of `ROLLOUTS` on the last k frames and, under `tokenizer`, of the
        reconstructions on all frames; and the clips with their roll-outs.
    """
    horizon = random_actions.shape[1]
    prompt_frames = video.shape[1] - horizon
    assert prompt_frames >= 1
    inferred_actions = infer_actions(world, video)
    prompt_actions, future_actions = np.split(inferred_actions, [prompt_frames - 1], axis=1)
    prompt = torch.from_numpy(video[:, :prompt_frames])

    def generate(actions: np.ndarray) -> Video:
        frames = rollout(
            world,
            prompt,
            torch.from_numpy(actions),
            sampler=sampler,
            seed=seed,
            prompt_actions=torch.from_numpy(prompt_actions),
            on_frame=on_frame,
        )
        return frames.cpu().numpy()

    future = np.s_[:, prompt_frames:]
    inferred, random = generate(future_actions), generate(random_actions)
    predictions = {
        "inferred": inferred[future],
        "random": random[future],
        "empirical": generate(empirical_actions)[future],
        "repeat": video[:, prompt_frames - 1, None],
    }
    metrics = {name: FrameMetrics.compare(video[future], predictions[name]) for name in ROLLOUTS}
    metrics["tokenizer"] = FrameMetrics.compare(video, reconstruct(world, video))
    examples = Examples(
        video, inferred, random, inferred_actions, np.concatenate([prompt_actions, random_actions], axis=1)
    )
    return metrics, examples


def draw_actions(
    shape: tuple[int, int], shares: Sequence[float], seed: int
) -> tuple[Int[np.ndarray, "clips k"], Int[np.ndarray, "clips k"]]:
    """Draw actions for each clip and frame, uniformly and with the given shares of the codes."""
    uniform, empirical = (np.random.default_rng([seed, stream]) for stream in (1, 2))
    return uniform.integers(len(shares), size=shape), empirical.choice(len(shares), p=shares, size=shape)


def delta_psnr(
    inferred: Float[np.ndarray, "clips horizon"], random: Float[np.ndarray, "clips horizon"], seed: int = 0
) -> list[Interval]:
    """Return the delta-t PSNR of the paper (section 3) in dB, for t = 1, 2, ...

    Args:
        inferred: PSNR of roll-outs whose actions were inferred from the real clips.
        random: PSNR of roll-outs of the same clips with random actions.
        seed: Seed of the bootstrap.
    """
    return bootstrap(inferred - random, seed)


@dataclass(frozen=True)
class RolloutMetrics:
    """Fidelity of reconstructions and roll-outs, and controllability."""

    metrics: dict[str, FrameMetrics]
    """Metrics of `tokenizer` and of each of `ROLLOUTS`."""
    delta: list[Interval]
    """Delta-t PSNR in dB over uniformly random actions, for t = 1, 2, ..."""
    delta_empirical: list[Interval]
    """Delta-t PSNR in dB over actions drawn from the distribution of inferred actions."""

    @classmethod
    def from_batches(cls, batches: Sequence[dict[str, FrameMetrics]], seed: int) -> RolloutMetrics:
        """Combine the metrics of batches of clips.

        Args:
            batches: As returned by `rollout_clips`.
            seed: Seed of the bootstrap.
        """
        metrics = {name: FrameMetrics.concatenate([batch[name] for batch in batches]) for name in batches[0]}
        inferred = metrics["inferred"].psnr
        return cls(
            metrics,
            delta_psnr(inferred, metrics["random"].psnr, seed),
            delta_psnr(inferred, metrics["empirical"].psnr, seed),
        )

    def summary(self) -> dict[str, Any]:
        """Return plain values, ready for JSON. PSNR is in dB, all are means over clips."""
        tokenizer, inferred = self.metrics["tokenizer"], self.metrics["inferred"]
        return {
            "tokenizer_psnr": float(tokenizer.psnr.mean()),
            "tokenizer_ssim": float(tokenizer.ssim.mean()),
            "rollout_psnr": float(inferred.psnr.mean()),
            "rollout_ssim": float(inferred.ssim.mean()),
            "rollout": {
                name: {
                    "psnr": self.metrics[name].psnr.mean(0).tolist(),
                    "ssim": self.metrics[name].ssim.mean(0).tolist(),
                }
                for name in ("inferred", "random", "repeat")
            },
            **_by_frame("delta_psnr", self.delta),
            **_by_frame("delta_psnr_empirical", self.delta_empirical),
        }

    def lines(self, names: Sequence[str]) -> list[str]:
        """Return text for the terminal; the names of actions do not matter."""
        results = self.summary()
        horizon = len(self.delta)
        t = min(4, horizon)
        return [
            f"tokenizer PSNR {results['tokenizer_psnr']:.2f} dB, SSIM {results['tokenizer_ssim']:.3f}",
            f"roll-out PSNR  {results['rollout_psnr']:.2f} dB, SSIM {results['rollout_ssim']:.3f} over {horizon} "
            "frames, inferred actions",
            f"delta-{t} PSNR   {_with_interval(self.delta[t - 1])} over uniformly random actions",
            f"delta-{t} PSNR   {_with_interval(self.delta_empirical[t - 1])} over actions drawn as often as inferred",
            "",
            *self._table(),
        ]

    def _table(self) -> list[str]:
        columns = {name: self.metrics[name].psnr.mean(0) for name in ("inferred", "random", "repeat")}
        ssim = self.metrics["inferred"].ssim.mean(0)
        head = ["frame", *columns, "delta", "95 % interval", "empirical", "95 % interval", "SSIM"]
        rows = []
        for i, (delta, empirical) in enumerate(zip(self.delta, self.delta_empirical, strict=True)):
            values = [f"{column[i]:.2f}" for column in columns.values()]
            gains = [
                text
                for interval in (delta, empirical)
                for text in (f"{interval.mean:.2f}", f"{interval.low:.2f} to {interval.high:.2f}")
            ]
            rows.append([str(i + 1), *values, *gains, f"{ssim[i]:.3f}"])
        return ["PSNR of roll-outs and delta PSNR in dB, SSIM with inferred actions", *align([head, *rows])]


def _with_interval(interval: Interval) -> str:
    return f"{interval.mean:.2f} dB (95 % interval {interval.low:.2f} to {interval.high:.2f})"


def _by_frame(name: str, intervals: list[Interval]) -> dict[str, Any]:
    frames = [str(t) for t in range(1, len(intervals) + 1)]
    return {
        name: dict(zip(frames, [i.mean for i in intervals], strict=True)),
        f"{name}_interval": dict(zip(frames, [[i.low, i.high] for i in intervals], strict=True)),
    }
