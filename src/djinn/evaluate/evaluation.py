"""Measurement of all metrics of a world on a data set."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from tqdm import tqdm

import djinn
from djinn.config import SamplerConfig, adjust
from djinn.data.dataset import Dataset
from djinn.errors import UserError
from djinn.evaluate.action_effects import measure_action_effects
from djinn.evaluate.action_usage import action_usage
from djinn.evaluate.clips import ClipSample, check_match, draw_clips, spread_over_sources
from djinn.evaluate.detectors import load_detector, random_detector
from djinn.evaluate.drift import REAL_FRAMES, measure_drift
from djinn.evaluate.fidelity import PSNR_PROTOCOL, FrameMetrics, ssim_protocol
from djinn.evaluate.fvd import VideoDistance
from djinn.evaluate.inference import evaluation_mode, infer_code_table
from djinn.evaluate.long_rollouts import draw_long_clips, measure_long_rollouts
from djinn.evaluate.results import Evaluation
from djinn.evaluate.rollouts import ROLLOUTS_PER_CLIP, Examples, RolloutMetrics, draw_actions, rollout_clips
from djinn.evaluate.settings import EvaluationSettings
from djinn.evaluate.token_metrics import TokenMetrics
from djinn.models.world import World

EFFECT_FRAMES = 4
"""Frames for which each action is held to measure its effect."""
DRIFT_ROLLOUTS = 4
"""Roll-outs in which drift is measured."""


def evaluate(
    world: World,
    dataset: Dataset,
    settings: EvaluationSettings | None = None,
    *,
    split: str = "test",
    sampler: SamplerConfig | None = None,
    name: str | None = None,
    progress: bool = True,
) -> Evaluation:
    """Measure a world on held-out clips.

    Args:
        world: The world, with its latent action model.
        dataset: Data set with frames of the size of the world.
        settings: Settings, by default those of `EvaluationSettings`.
        split: Split to measure on.
        sampler: Sampler settings, by default those of the world. `steps` and `temperature` of
            `settings` override it.
        name: Name of the world in the protocol.
        progress: Show progress bars.

    Returns:
        The metrics, and the protocol by which they were measured.

    Raises:
        UserError: The split is missing or too short, the sizes do not match, the world cannot infer
            actions, or the detector cannot be used.
    """
    settings = settings or EvaluationSettings()
    check_match(world, dataset)
    sampler = adjust(sampler or world.config.sampler, settings.steps, settings.temperature)
    seed, frames = settings.seed, settings.clip_frames
    sample = draw_clips(dataset, split, settings.clips, frames, seed)
    code_sample = draw_clips(dataset, split, settings.code_clips, frames, seed)
    long_frames = settings.long_rollouts
    long_sample = None if long_frames is None else draw_long_clips(dataset, split, long_frames, seed)
    chosen = spread_over_sources(sample.sources, settings.examples or 0)
    distances = _distances(world, sample, settings)
    with evaluation_mode(world):
        bar = tqdm(total=len(code_sample), desc="inferring actions", unit=" clips", disable=not progress)
        with bar:
            codes, table = infer_code_table(world, code_sample, settings.batch, bar)
        usage = action_usage(codes, world.num_actions)
        rollouts, tokens, examples = _roll_out(
            world, sample, usage.shares, settings, sampler, distances=distances, chosen=chosen, progress=progress
        )
    common = {"sampler": sampler, "seed": seed, "progress": progress}
    prompts = draw_clips(dataset, split, max(settings.effect_prompts, DRIFT_ROLLOUTS), frames, seed)
    effects = drift = long_rollouts = None
    if settings.effect_prompts:
        first = prompts.first_frames(settings.effect_prompts)
        effects = measure_action_effects(world, first, frames=EFFECT_FRAMES, **common)
    if settings.drift_frames:
        real = code_sample.first_frames(REAL_FRAMES)[:, 0]
        first = prompts.first_frames(DRIFT_ROLLOUTS)
        drift = measure_drift(world, first, frames=settings.drift_frames, real=real, **common)
    if long_sample is not None:
        long_rollouts = measure_long_rollouts(world, long_sample, batch=settings.batch, **common)
    protocol = {
        "world": name,
        "training": world.training_summary and asdict(world.training_summary),
        **_protocol(world, sample, split, settings, sampler),
        "code_clips": len(code_sample),
        "action_effects": effects
        and f"each code held for {EFFECT_FRAMES} frames from {effects.frames.shape[1]} first frames",
        "drift": drift
        and f"{len(drift.frames)} roll-outs of {drift.frames.shape[1]} frames from first frames, random held actions",
        "examples": [
            {**asdict(sample.origin(i)), "psnr": float(rollouts.metrics["inferred"].psnr[i].mean())} for i in chosen
        ],
    }
    return Evaluation(
        rollouts=rollouts,
        tokens=tokens,
        fvd=distances.get("fvd"),
        random_frechet=distances.get("random_frechet"),
        action_usage=usage,
        code_table=table,
        action_effects=effects,
        drift=drift,
        long_rollouts=long_rollouts,
        examples=examples,
        action_names=list(world.action_names),
        protocol=protocol,
    )


def _roll_out(
    world: World,
    sample: ClipSample,
    shares: Sequence[float],
    settings: EvaluationSettings,
    sampler: SamplerConfig,
    *,
    distances: dict[str, VideoDistance],
    chosen: list[int],
    progress: bool,
) -> tuple[RolloutMetrics, TokenMetrics, Examples | None]:
    """Roll out all clips, batch by batch, and keep the chosen ones as examples."""
    seed, batch, horizon = settings.seed, settings.batch, settings.horizon
    random, empirical = draw_actions((len(sample), horizon), shares, seed)
    tokens = TokenMetrics(world, seed)
    metrics: list[dict[str, FrameMetrics]] = []
    examples: list[Examples] = []
    total = ROLLOUTS_PER_CLIP * len(sample) * horizon
    with tqdm(total=total, desc="roll-outs", unit=" frames", disable=not progress) as bar:
        for i, indices in enumerate(sample.batches(batch)):
            count = len(indices)
            video, rows = sample.clips.batch(indices), slice(i * batch, i * batch + count)
            part, clips = rollout_clips(
                world,
                video,
                random[rows],
                empirical[rows],
                sampler=sampler,
                seed=seed + i,
                on_frame=functools.partial(bar.update, count),
            )
            metrics.append(part)
            tokens.add(video, clips.inferred_actions)
            for distance in distances.values():
                distance.add(video, clips.inferred)
            examples.append(clips.rows([k - rows.start for k in chosen if rows.start <= k < rows.stop]))
    return RolloutMetrics.from_batches(metrics, seed), tokens, Examples.concatenate(examples) if chosen else None


def _distances(world: World, sample: ClipSample, settings: EvaluationSettings) -> dict[str, VideoDistance]:
    """Load the networks of the requested Frechet distances and try them on one clip."""
    networks = {}
    if settings.fvd_detector is not None:
        networks["fvd"] = load_detector(settings.fvd_detector, world.device)
    if settings.random_frechet:
        networks["random_frechet"] = random_detector(world.device)
    if networks and len(sample) < 2:
        raise UserError("a Frechet distance needs at least 2 clips: raise --clips")
    for network in networks.values():
        network(sample.clips.batch(sample.indices[:1]))
    labels = {"fvd": "FVD", "random_frechet": "Frechet distance of a random network (not FVD)"}
    return {key: VideoDistance(network, labels[key]) for key, network in networks.items()}


def _protocol(
    world: World, sample: ClipSample, split: str, settings: EvaluationSettings, sampler: SamplerConfig
) -> dict[str, Any]:
    """Return how the metrics on the clips are measured."""
    clips, dataset = sample.clips, sample.clips.dataset
    config = world.config
    return {
        "dataset": str(dataset.path),
        "dataset_identity": dataset.identity,
        "split": split,
        "clips": len(sample),
        "clips_requested": settings.clips,
        "clip_frames": clips.frames,
        "prompt_frames": settings.prompt_frames,
        "frame_stride": 1,
        "clip_stride": clips.stride,
        "resolution": f"{dataset.width}x{dataset.height}",
        "fps": dataset.fps,
        "horizon": settings.horizon,
        "sampler": asdict(sampler),
        "random_actions": "uniform over all codes, drawn for each frame",
        "empirical_actions": "drawn with the distribution inferred on the code_clips, for each frame",
        "psnr": PSNR_PROTOCOL,
        "ssim": ssim_protocol(dataset.height, dataset.width),
        "interval": "bootstrap over clips, 2,000 resamples, 95 %",
        "tokens": (
            f"frames 2 to {min(settings.clip_frames, config.context_frames)} of the clips from true past tokens and "
            f"inferred actions; masked at the rates of '{config.dynamics.masking}', without token noise"
        ),
        "seed": settings.seed,
        "batch": settings.batch,
        "device": str(world.device),
        "djinn": djinn.__version__,
        "torch": torch.__version__,
    }
