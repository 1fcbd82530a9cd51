"""One verdict on a world that a person understands, the evidence for it, and what to change."""

from __future__ import annotations

import textwrap
from dataclasses import asdict
from typing import Any

import numpy as np
from tqdm import tqdm

from djinn.config import SamplerConfig
from djinn.data.dataset import Dataset
from djinn.diagnose.checks import (
    Check,
    code_checks,
    control_checks,
    drift_checks,
    effect_checks,
    response_checks,
    tokenizer_checks,
)
from djinn.diagnose.interventions import CLIP_FRAMES, HORIZON, probe
from djinn.diagnose.recommendations import remedies_for
from djinn.errors import UserError
from djinn.evaluate.action_effects import measure_effects
from djinn.evaluate.clips import Sample, check_match, draw_clips, measuring
from djinn.evaluate.drift import REAL, measure_drift
from djinn.models.psnr import MSE_FLOOR
from djinn.models.world import World

FEWEST_CLIPS = 16
EFFECT_PROMPTS = 16
DRIFT_GAMES = 8
DRIFT_FRAMES = 80

FAULTS: dict[str, tuple[str, ...]] = {
    "tokenizer too coarse": ("tokenizer_change_kept",),
    "codes collapsed": ("code_perplexity",),
    "actions describe pictures, not motion": ("still_codes",),
    "actions ignored": ("dynamics_response", "decoder_response"),
    "actions shifted in time": ("time_shift",),
    "actions mismatched": ("gain_at_any_time",),
    "weak control": ("gain_over_shuffled", "gain_over_random", "moves_ahead", "effect_consistency", "codes_in_use"),
    "drift": ("drift_flags",),
}
"""Faults and the checks that each fails, root causes first: the first fault that is found explains those after it.
Checks that are not here support what the others say."""
PLAYABLE = "playable"

_SUMMARIES = {
    "tokenizer too coarse": "The tokens hold too little of what moves, so nothing built on them can show it.",
    "codes collapsed": "All latent actions are one and the same, so there is nothing to choose between.",
    "actions describe pictures, not motion": (
        "A latent action says what the frame looks like and not how it changes, so no key can mean the same everywhere."
    ),
    "actions ignored": "{who} the same whatever the action is.",
    "actions shifted in time": "An action acts, but one frame early or late: it moves another frame than it was inferred from.",
    "actions mismatched": "Actions do something, but not what happened in the clip from which they were inferred.",
    "weak control": "Actions act, but too little, too seldom or not in the same way everywhere to steer by.",
    "drift": "Actions act, but a long game does not hold.",
    PLAYABLE: "Actions act and mean the same in different pictures, and a long game holds.",
}
_DEAF = {"dynamics_response": "the dynamics model", "decoder_response": "the latent action model's decoder"}


def diagnose(
    world: World,
    dataset: Dataset,
    *,
    split: str = "test",
    clips: int = 64,
    sampler: SamplerConfig | None = None,
    seed: int = 0,
    batch: int = 16,
    progress: bool = True,
) -> dict[str, Any]:
    """Finds what is wrong with a world, if anything is.

    Args:
        world: the world, with its latent action model.
        dataset: an open data set with frames of the world's size.
        split: which part of it.
        clips: clips to measure on; at least `FEWEST_CLIPS`.
        sampler: how tokens are drawn; the world's own setting by default.
        seed: of the choice of clips, the random actions and the draws.
        batch: clips played at once; it takes part in the draws.
        progress: show progress bars.

    Returns:
        Plain values, ready for JSON: `verdict` (a key of `FAULTS`, or `playable`), `summary` (it in a sentence),
        `evidence` (of each check `check`, `value`, `bound`, `threshold`, `passed` and `meaning`), `remedies` (what to change,
        most promising first; empty for a playable world) and `protocol`.

    Raises:
        UserError: the split is missing, too short or has too few clips, sizes do not match, nothing moves in the clips, or
            the world cannot infer actions.
    """
    for name, value, least in (("clips", clips, FEWEST_CLIPS), ("batch", batch, 1)):
        if value < least:
            raise UserError(f"{name} must be at least {least} to tell anything, got {value}")
    check_match(world, dataset)
    sampler = sampler or world.config.sampler
    sample = draw_clips(dataset, split, clips, CLIP_FRAMES, seed)
    if len(sample) < FEWEST_CLIPS:
        raise UserError(
            f"split '{split}' of {dataset.path} has only {len(sample)} clips of {CLIP_FRAMES} frames, too few to tell "
            f"anything (at least {FEWEST_CLIPS}): name another --split or import more videos"
        )
    with (
        measuring(world),
        tqdm(total=2 * len(sample), desc="probing", unit=" clips", disable=not progress) as bar,
    ):
        measured = probe(world, sample, sampler=sampler, seed=seed, batch=batch, bar=bar)
    settings = {"sampler": sampler, "seed": seed, "progress": progress}
    effects = measure_effects(world, _prompts(sample, EFFECT_PROMPTS), **settings)
    real = _prompts(sample, REAL)[:, 0]
    drift = measure_drift(world, _prompts(sample, DRIFT_GAMES), frames=DRIFT_FRAMES, real=real, **settings)
    vectors = world.action_vectors.float().cpu().numpy()
    checks = [
        *tokenizer_checks(measured),
        *code_checks(measured, vectors),
        *response_checks(measured, seed),
        *control_checks(measured, seed),
        *effect_checks(effects),
        *drift_checks(drift.summary()),
    ]
    verdict = verdict_of(checks)
    return {
        "verdict": verdict,
        "summary": summary_of(verdict, checks),
        "evidence": [asdict(check) for check in checks],
        "remedies": remedies_for(verdict, {check.check for check in checks if not check.passed}, world),
        "protocol": {
            "dataset": str(dataset.path),
            "dataset_identity": dataset.identity,
            "split": split,
            "clips": len(sample),
            "clips_asked": clips,
            "clip_frames": CLIP_FRAMES,
            "horizon": HORIZON,
            "effect_prompts": effects.frames.shape[1],
            "drift_games": len(drift.frames),
            "drift_frames": DRIFT_FRAMES,
            "sampler": asdict(sampler),
            "psnr": f"uint8 RGB, mean over frames of each frame's PSNR, squared error at least {MSE_FLOOR:.4f}",
            "seed": seed,
            "batch": batch,
            "device": str(world.device),
        },
    }


def _prompts(sample: Sample, count: int) -> np.ndarray:
    return sample.clips.batch(sample.indices[:count])[:, 1:2]


def verdict_of(checks: list[Check]) -> str:
    """The first fault that a failed check tells of, or `playable`."""
    failed = {check.check for check in checks if not check.passed}
    return next((fault for fault, telling in FAULTS.items() if failed.intersection(telling)), PLAYABLE)


def summary_of(verdict: str, checks: list[Check]) -> str:
    """The verdict in a sentence, with the evidence that decided."""
    found = {check.check: check for check in checks}
    deciding = FAULTS.get(verdict, ("gain_over_shuffled",))
    told = [found[name] for name in deciding if verdict == PLAYABLE or not found[name].passed]
    deaf = [_DEAF[check.check] for check in told if check.check in _DEAF]
    said = _SUMMARIES[verdict].format(who=" and ".join(deaf) + (" makes" if len(deaf) == 1 else " make"))
    return " ".join(f"{part[0].upper()}{part[1:]}" for part in (said, *(f"{check.meaning}." for check in told)))


def format_diagnosis(diagnosis: dict[str, Any]) -> str:
    """What `diagnose` gives, for a person to read."""
    protocol = diagnosis["protocol"]
    lines = [
        f"verdict: {diagnosis['verdict']}",
        *textwrap.wrap(diagnosis["summary"], 110),
        "",
        f"evidence ({protocol['clips']} clips of split '{protocol['split']}' of {protocol['dataset']}, "
        f"seed {protocol['seed']}):",
    ]
    for check in diagnosis["evidence"]:
        mark = "ok  " if check["passed"] else "FAIL"
        head = f"  {mark} {check['check']} {check['value']:.3g} ({check['bound']} {check['threshold']:.3g})"
        lines += [head, *textwrap.wrap(check["meaning"], 104, initial_indent=" " * 7, subsequent_indent=" " * 7)]
    if diagnosis["remedies"]:
        lines += ["", "what to change, most promising first:"]
    for remedy in diagnosis["remedies"]:
        lines += textwrap.wrap(remedy, 108, initial_indent="  - ", subsequent_indent="    ")
    return "\n".join(lines)
