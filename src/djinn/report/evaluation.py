"""All figures of a world on a data set, with the protocol that made them."""

from __future__ import annotations

from dataclasses import asdict
from json import dumps
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

import djinn
from djinn.atomic import atomic_write
from djinn.config import SamplerConfig
from djinn.data.dataset import Dataset
from djinn.errors import UserError
from djinn.evaluate.action_effects import measure_effects
from djinn.evaluate.clips import (
    Examples,
    FrameMetrics,
    Sample,
    check_match,
    draw_clips,
    measuring,
    play_clips,
    read_codes,
    spread_over_sources,
)
from djinn.evaluate.controllability import Interval, code_use, delta_psnr
from djinn.evaluate.detectors import load_detector, random_detector
from djinn.evaluate.drift import FEWEST, REAL, measure_drift
from djinn.evaluate.fidelity import ssim_window
from djinn.evaluate.fvd import VideoDistance
from djinn.evaluate.long_rollouts import draw_long, play_long
from djinn.evaluate.token_metrics import TokenScores
from djinn.image_grid import save_png
from djinn.models.psnr import MSE_FLOOR
from djinn.models.world import World
from djinn.report.charts import require_plot
from djinn.report.html import ReportPictures, write_report
from djinn.report.image_grid import rollout_grid

SHOWN = 20
"""Clips in a report."""
PICTURED = 4
"""Clips in `rollouts.png`."""
EFFECT_FRAMES = 4
"""Frames for which each action is held to see its effect."""
DRIFT_FRAMES = 200
DRIFT_GAMES = 4


def evaluate(
    world: World,
    dataset: Dataset,
    *,
    split: str = "test",
    clips: int = 64,
    horizon: int = 7,
    prompt_frames: int = 1,
    sampler: SamplerConfig | None = None,
    seed: int = 0,
    batch: int = 16,
    code_clips: int = 512,
    effect_prompts: int = 12,
    drift_frames: int | None = None,
    long: int | None = None,
    shown: int | None = None,
    fvd_detector: str | None = None,
    random_frechet: bool = False,
    picture: Path | None = None,
    report: Path | None = None,
    name: str | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Measures a world on held-out clips.

    Args:
        world: the world, with its latent action model.
        dataset: an open data set with frames of the world's size.
        split: which part of it.
        clips: clips to play.
        horizon: frames to generate from each prompt.
        prompt_frames: real frames at the start.
        sampler: how tokens are drawn; the world's own setting by default.
        seed: of the choice of clips, the random actions, the draws, the masks and the bootstrap.
        batch: clips played at once; it takes part in the draws.
        code_clips: clips whose latent actions are inferred for `code_use`, `code_table` and the empirical distribution.
        effect_prompts: pictures from which each action is tried for `effects`; 0 leaves them out.
        drift_frames: length of the games of `drift`; 0 leaves them out. By default `DRIFT_FRAMES` for a report, else 0.
        long: also play so many frames, from episodes that are long enough, and compare them with the real ones.
        shown: clips that the report shows, spread_over_sources (see `djinn.evaluate.clips.spread_over_sources`), `SHOWN` by default; fewer where
            there are fewer.
        fvd_detector: network for `fvd`, a TorchScript file or `module:callable` (see `djinn.evaluate.detectors`).
        random_frechet: also give the distance of a network with random weights, which is not FVD.
        picture: where to save some clips and their roll-outs as a PNG.
        report: folder for `report.html`, `results.json` and `rollouts.png`.
        name: what to call the world in the protocol.
        progress: show progress bars.

    Returns:
        Plain values, ready for JSON. PSNR and its differences are in dB, means over clips and frames; `..._interval` are
        bootstrap 95 % intervals over clips.

        - `tokenizer_psnr`, `tokenizer_ssim`: reconstructions.
        - `rollout_psnr`, `rollout_ssim`: roll-outs with inferred actions; `rollout`: for `inferred`, `random` and
          `repeat` (the last prompt frame again) the lists `psnr` and `ssim` by frame.
        - `delta_psnr`, `delta_psnr_interval`, by frame ("1", "2", ...; the paper reports "4"): what inferred actions gain
          over uniformly random ones; `delta_psnr_empirical` and its interval: over random ones with the distribution of
          inferred ones.
        - `code_use`, `code_names`, `code_table` (None where true actions are not known).
        - `tokens`: see `TokenScores`. `effects`: see `Effects`, or None. `drift`: see `Drift`, or None.
        - `long`: see `LongPlay`; `fvd` and `fvd_protocol`, `random_frechet`: None where not asked for.
        - `protocol`: how all of it was made; `shown` in it names the clips of the report, or of `picture` without one.

    Raises:
        UserError: the split is missing or too short, also for `long`, sizes do not match, the world cannot infer actions,
            the detector cannot be used, or `shown` is given without a report.
    """
    if shown is not None and report is None:
        raise UserError(
            f"--shown {shown} is for a report, and none is asked for: pass --report FOLDER, or leave it out"
        )
    shown = SHOWN if shown is None else shown
    wanted = {"clips": clips, "horizon": horizon, "prompt_frames": prompt_frames, "batch": batch}
    wanted |= {"code_clips": code_clips, "shown": shown} | ({} if long is None else {"long": long})
    for key, value in wanted.items():
        if value < 1:
            raise UserError(f"{key} must be at least 1, got {value}")
    if drift_frames is None:
        drift_frames = 0 if report is None else DRIFT_FRAMES
    for key, value, least in (("effect_prompts", effect_prompts, 2), ("drift_frames", drift_frames, FEWEST)):
        if value != 0 and value < least:
            raise UserError(f"{key} must be 0 or at least {least}, got {value}")
    if report is not None:
        require_plot()
    check_match(world, dataset)
    sampler = sampler or world.config.sampler
    length = prompt_frames + horizon
    sample = draw_clips(dataset, split, clips, length, seed)
    for_codes = draw_clips(dataset, split, code_clips, length, seed)
    for_long = None if long is None else draw_long(dataset, split, long, seed)
    pictured = [] if picture is None and report is None else spread_over_sources(sample.sources, PICTURED)
    chosen = pictured if report is None else spread_over_sources(sample.sources, shown)
    kept = sorted({*pictured, *chosen})
    distances = _distances(world, sample, fvd_detector, random_frechet)
    scores = TokenScores(world, seed)
    parts: list[dict[str, FrameMetrics]] = []
    pictures: list[Examples] = []
    progress_bar = tqdm(total=len(sample) + len(for_codes), desc="measuring", unit=" clips", disable=not progress)
    with measuring(world), progress_bar as bar:
        codes = _codes_of(world, for_codes, batch, bar)
        random, empirical = _drawn_actions((len(sample), horizon), codes["code_use"]["shares"], seed)
        for i, indices in enumerate(sample.batches(batch)):
            video, rows = sample.clips.batch(indices), slice(i * batch, i * batch + len(indices))
            close, played = play_clips(world, video, random[rows], empirical[rows], sampler=sampler, seed=seed + i)
            parts.append(close)
            scores.add(video, played.inferred_actions)
            for distance in distances.values():
                distance.add(video, played.inferred)
            pictures.append(played.rows([place - rows.start for place in kept if rows.start <= place < rows.stop]))
            bar.update(len(indices))
    prompts = draw_clips(dataset, split, max(effect_prompts, DRIFT_GAMES), length, seed)
    settings = {"sampler": sampler, "seed": seed, "progress": progress}
    effects = drift = played_long = None
    if effect_prompts:
        effects = measure_effects(world, _prompts(prompts, effect_prompts), frames=EFFECT_FRAMES, **settings)
    if drift_frames:
        real = _prompts(for_codes, REAL)[:, 0]
        drift = measure_drift(world, _prompts(prompts, DRIFT_GAMES), frames=drift_frames, real=real, **settings)
    if for_long is not None:
        played_long = play_long(world, for_long, batch=batch, **settings)
    close = {key: FrameMetrics.joined([part[key] for part in parts]) for key in parts[0]}
    protocol = {
        "world": name,
        "dataset": str(dataset.path),
        "dataset_identity": dataset.identity,
        "split": split,
        "clips": len(sample),
        "clips_asked": clips,
        "code_clips": len(for_codes),
        **_of_clips(sample, prompt_frames),
        "horizon": horizon,
        "sampler": asdict(sampler),
        "random_actions": "uniform over all codes, drawn for each frame",
        "empirical_actions": "drawn as often as they are inferred from the code_clips, drawn for each frame",
        "psnr": f"uint8 RGB, mean over frames of each frame's PSNR, squared error at least {MSE_FLOOR:.4f}",
        "ssim": _ssim_protocol(dataset),
        "interval": "bootstrap over clips, 2,000 resamples, 95 %",
        "tokens": (
            f"frames 2 to {min(length, world.config.context_frames)} of the clips from true past tokens and inferred actions; "
            f"masked at the rates of '{world.config.dynamics.masking}', nothing corrupted"
        ),
        "effects": effects and f"each code held {EFFECT_FRAMES} frames from {effects.frames.shape[1]} first frames",
        "drift": drift
        and f"{len(drift.frames)} games of {drift_frames} frames from first frames, random actions, held",
        "random_frechet": _distance_protocol(distances, "random_frechet", sample, prompt_frames),
        "shown": [{**asdict(sample.origin(i)), "psnr": float(close["inferred"].psnr[i].mean())} for i in chosen],
        "seed": seed,
        "batch": batch,
        "device": str(world.device),
        "djinn": djinn.__version__,
        "torch": torch.__version__,
    }
    figures = {
        **_quality(close, seed),
        **codes,
        "tokens": scores.summary(),
        "effects": effects and effects.summary(),
        "drift": drift and drift.summary(),
        "long": played_long and played_long.summary(),
        **{key: distances[key].distance() if key in distances else None for key in ("fvd", "random_frechet")},
        "fvd_protocol": _distance_protocol(distances, "fvd", sample, prompt_frames),
        "protocol": protocol,
    }
    seen = Examples.joined(pictures)
    for path in (picture, report and report / "rollouts.png"):
        if path is not None:
            save_png(rollout_grid(seen.rows([kept.index(place) for place in pictured])), path)
    if report is not None:
        clips_shown = seen.rows([kept.index(place) for place in chosen])
        shown_too = ReportPictures(clips_shown, effects, None if drift is None else drift.frames)
        write_report(report / "report.html", figures, shown_too, progress=progress)
        write_json(report / "results.json", figures)
    return figures


def _prompts(sample: Sample, count: int) -> np.ndarray:
    """First frames of clips."""
    return sample.clips.batch(sample.indices[:count])[:, :1]


def _distances(world: World, sample: Sample, source: str | None, random: bool) -> dict[str, VideoDistance]:
    """The Frechet distances that are asked for; their networks are tried on a clip, before the long part."""
    networks = {}
    if source is not None:
        networks["fvd"] = load_detector(source, world.device)
    if random:
        networks["random_frechet"] = random_detector(world.device)
    if networks and len(sample) < 2:
        raise UserError("a Frechet distance needs at least 2 clips: raise --clips")
    for network in networks.values():
        network(sample.clips.batch(sample.indices[:1]))
    return {key: VideoDistance(network) for key, network in networks.items()}


def _of_clips(sample: Sample, prompt_frames: int) -> dict[str, Any]:
    clips = sample.clips
    return {
        "clip_frames": clips.frames,
        "prompt_frames": prompt_frames,
        "frame_stride": 1,
        "clip_stride": clips.stride,
        "resolution": f"{clips.dataset.width}x{clips.dataset.height}",
        "fps": clips.dataset.fps,
    }


def _distance_protocol(
    distances: dict[str, VideoDistance], key: str, sample: Sample, prompt_frames: int
) -> dict[str, Any] | None:
    if key not in distances:
        return None
    clips = "roll-outs with inferred actions against the real clips, prompt frames included in both"
    return {**distances[key].protocol(), **_of_clips(sample, prompt_frames), "compared": clips}


def _ssim_protocol(dataset: Dataset) -> str:
    window = ssim_window(dataset.height, dataset.width)
    return (
        f"Wang et al. 2004: Gaussian window {window}x{window}, sigma 1.5, K1 0.01, K2 0.03, range 255, valid region, "
        "mean of the RGB channels, mean over frames"
    )


def _drawn_actions(shape: tuple[int, int], shares: list[float], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Actions for each clip and frame, drawn uniformly and drawn with the shares of the codes."""
    uniform, empirical = (np.random.default_rng([seed, stream]) for stream in (1, 2))
    return uniform.integers(len(shares), size=shape), empirical.choice(len(shares), p=shares, size=shape)


def _codes_of(world: World, sample: Sample, batch: int, bar: tqdm) -> dict[str, Any]:
    """Use of the latent codes, and what they stand for where true actions are known."""
    inferred, table = read_codes(world, sample, batch, bar)
    use = asdict(code_use(inferred, world.num_actions))
    return {"code_use": use, "code_names": list(world.action_names), "code_table": table and asdict(table)}


def _quality(close: dict[str, FrameMetrics], seed: int) -> dict[str, Any]:
    """Figures of reconstructions and roll-outs."""
    inferred = close["inferred"]
    return {
        "tokenizer_psnr": float(close["tokenizer"].psnr.mean()),
        "tokenizer_ssim": float(close["tokenizer"].ssim.mean()),
        "rollout_psnr": float(inferred.psnr.mean()),
        "rollout_ssim": float(inferred.ssim.mean()),
        "rollout": {
            key: {"psnr": close[key].psnr.mean(0).tolist(), "ssim": close[key].ssim.mean(0).tolist()}
            for key in ("inferred", "random", "repeat")
        },
        **_by_frame("delta_psnr", delta_psnr(inferred.psnr, close["random"].psnr, seed)),
        **_by_frame("delta_psnr_empirical", delta_psnr(inferred.psnr, close["empirical"].psnr, seed)),
    }


def _by_frame(name: str, intervals: list[Interval]) -> dict[str, Any]:
    frames = [str(t) for t in range(1, len(intervals) + 1)]
    return {
        name: dict(zip(frames, [i.mean for i in intervals], strict=True)),
        f"{name}_interval": dict(zip(frames, [[i.low, i.high] for i in intervals], strict=True)),
    }


def write_json(path: Path, figures: dict[str, Any]) -> None:
    """Writes figures to a file, whole or not at all.

    Raises:
        UserError: the file cannot be written.
    """
    with atomic_write(path) as temporary:
        temporary.write_text(dumps(figures, indent=2) + "\n", encoding="utf-8")
