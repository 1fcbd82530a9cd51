"""One verdict on a world, with evidence and recommendations."""

from __future__ import annotations

import textwrap
from dataclasses import asdict
from typing import Any

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
from djinn.diagnose.interventions import CLIP_FRAMES, HORIZON, intervene
from djinn.diagnose.recommendations import LONGER, recommendations_for
from djinn.diagnose.settings import MIN_CLIPS, DiagnosisSettings
from djinn.errors import UserError
from djinn.evaluate.action_effects import measure_action_effects
from djinn.evaluate.clips import check_match, draw_clips
from djinn.evaluate.drift import REAL_FRAMES, measure_drift
from djinn.evaluate.fidelity import PSNR_PROTOCOL
from djinn.evaluate.inference import evaluation_mode
from djinn.evaluate.text import training_text
from djinn.models.training_summary import ENOUGH_STEPS, MIN_STEPS, TrainingSummary
from djinn.models.world import World

EFFECT_PROMPTS = 16
DRIFT_ROLLOUTS = 8
DRIFT_FRAMES = 80
PROMPT_FRAME = 1
"""Frame of a clip that serves as a prompt."""

FAULTS: dict[str, tuple[str, ...]] = {
    "tokenizer too coarse": ("tokenizer_change_kept",),
    "codes collapsed": ("code_perplexity",),
    "actions encode the scene, not motion": ("still_codes",),
    "actions ignored": ("dynamics_response", "decoder_response"),
    "actions shifted in time": ("time_shift",),
    "actions mismatched": ("gain_at_any_time",),
    "weak control": ("gain_over_shuffled", "gain_over_random", "predicts_motion", "effect_consistency", "codes_in_use"),
    "drift": ("drift_flags",),
}
"""Faults and the checks that indicate them, root causes first: the first fault explains those after
it. Other checks only support the summary."""
PLAYABLE = "playable"
NOT_TRAINED = "not trained yet"
UNDERTRAINED = "undertrained"

_SUMMARIES = {
    "tokenizer too coarse": "The tokens represent too little of the motion, so no roll-out can show it.",
    "codes collapsed": "All latent actions are the same, so there is no choice between actions.",
    "actions encode the scene, not motion": (
        "A latent action describes the content of a frame instead of its change, so no key has the same effect "
        "everywhere."
    ),
    "actions ignored": "The output of {ignoring} does not depend on the action.",
    "actions shifted in time": "An action takes effect one frame too early or too late.",
    "actions mismatched": "Actions have an effect, but not the one of the clip from which they were inferred.",
    "weak control": "Actions have an effect, but it is too small, too rare or too inconsistent to control the world.",
    "drift": "Actions have an effect, but long roll-outs are not stable.",
    PLAYABLE: "Actions have the same effect from different frames, and long roll-outs are stable.",
}
_IGNORING = {"dynamics_response": "the dynamics model", "decoder_response": "the latent action model's decoder"}


def diagnose(
    world: World,
    dataset: Dataset,
    settings: DiagnosisSettings | None = None,
    *,
    split: str = "test",
    sampler: SamplerConfig | None = None,
    name: str | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Find the main fault of a world, if there is one.

    Args:
        world: The world, with its latent action model.
        dataset: Data set with frames of the size of the world.
        settings: Settings, by default those of `DiagnosisSettings`.
        split: Split to measure on.
        sampler: Sampler settings, by default those of the world.
        name: Name of the world in the protocol.
        progress: Show progress bars.

    Returns:
        Plain values, ready for JSON: `verdict` (see `verdict_of`), `fault` (a key of `FAULTS` or
        None), `summary` (a few sentences), `training` (recorded steps and gains, or None),
        `evidence` (for each check `check`, `value`, `bound`, `threshold`, `passed` and `meaning`),
        `recommendations` (most promising first, empty for a playable world) and `protocol`.

    Raises:
        UserError: The split is missing, too short or has too few clips, the sizes do not match, the
            clips have no motion, or the world cannot infer actions.
    """
    settings = settings or DiagnosisSettings()
    seed = settings.seed
    check_match(world, dataset)
    sampler = sampler or world.config.sampler
    sample = draw_clips(dataset, split, settings.clips, CLIP_FRAMES, seed)
    if len(sample) < MIN_CLIPS:
        raise UserError(
            f"split '{split}' of {dataset.path} has only {len(sample)} clips of {CLIP_FRAMES} frames, but a diagnosis "
            f"needs at least {MIN_CLIPS}: use another --split or import more videos"
        )
    with (
        evaluation_mode(world),
        tqdm(total=2 * len(sample), desc="interventions", unit=" clips", disable=not progress) as bar,
    ):
        results = intervene(world, sample, sampler=sampler, seed=seed, batch=settings.batch, bar=bar)
    sampling = {"sampler": sampler, "seed": seed, "progress": progress}
    effects = measure_action_effects(world, sample.first_frames(EFFECT_PROMPTS, PROMPT_FRAME), **sampling)
    real = sample.first_frames(REAL_FRAMES, PROMPT_FRAME)[:, 0]
    prompts = sample.first_frames(DRIFT_ROLLOUTS, PROMPT_FRAME)
    drift = measure_drift(world, prompts, frames=DRIFT_FRAMES, real=real, **sampling)
    checks = [
        *tokenizer_checks(results),
        *code_checks(results, world.action_vectors.float().cpu().numpy()),
        *response_checks(results, seed),
        *control_checks(results, seed),
        *effect_checks(effects),
        *drift_checks(drift.summary()),
    ]
    training = world.training_summary
    fault = fault_of(checks)
    verdict = verdict_of(fault, training)
    failed = {check.check for check in checks if not check.passed}
    return {
        "verdict": verdict,
        "fault": fault,
        "summary": summary_of(verdict, fault, checks, training),
        "training": training and asdict(training),
        "evidence": [asdict(check) for check in checks],
        "recommendations": _recommendations(verdict, fault, failed, world),
        "protocol": {
            "world": name,
            "dataset": str(dataset.path),
            "dataset_identity": dataset.identity,
            "split": split,
            "clips": len(sample),
            "clips_requested": settings.clips,
            "clip_frames": CLIP_FRAMES,
            "horizon": HORIZON,
            "effect_prompts": effects.frames.shape[1],
            "drift_rollouts": len(drift.frames),
            "drift_frames": DRIFT_FRAMES,
            "sampler": asdict(sampler),
            "psnr": PSNR_PROTOCOL,
            "seed": seed,
            "batch": settings.batch,
            "device": str(world.device),
        },
    }


def fault_of(checks: list[Check]) -> str | None:
    """Return the first fault that a failed check indicates, None without one."""
    failed = {check.check for check in checks if not check.passed}
    return next((fault for fault, indicators in FAULTS.items() if failed.intersection(indicators)), None)


def verdict_of(fault: str | None, training: TrainingSummary | None) -> str:
    """Return the verdict on a world.

    It is `playable` without a fault, `not trained yet` or `undertrained` if there is a fault and
    one of the stages has too few steps to expect anything else, and the fault otherwise.

    Args:
        fault: A key of `FAULTS`, or None.
        training: The training of the world, None if it was not recorded.
    """
    if fault is None:
        return PLAYABLE
    level = "unknown" if training is None else training.level
    return {"untrained": NOT_TRAINED, "undertrained": UNDERTRAINED}.get(level, fault)


def summary_of(verdict: str, fault: str | None, checks: list[Check], training: TrainingSummary | None) -> str:
    """Return the verdict in a few sentences, with the decisive evidence."""
    found = {check.check: check for check in checks}
    decisive = [found[name] for name in FAULTS[fault] if not found[name].passed] if fault else []
    ignoring = " and ".join(_IGNORING[check.check] for check in decisive if check.check in _IGNORING)
    sentences = []
    if verdict in (NOT_TRAINED, UNDERTRAINED):
        assert training is not None
        sentences.append(_training_sentence(verdict, training))
    sentences.append(_SUMMARIES[fault or PLAYABLE].format(ignoring=ignoring))
    sentences += [f"{check.meaning}." for check in decisive or [found["gain_over_shuffled"]]]
    return " ".join(f"{sentence[0].upper()}{sentence[1:]}" for sentence in sentences)


def _training_sentence(verdict: str, training: TrainingSummary) -> str:
    steps = {"tokenizer": training.tokenizer_steps, "dynamics": training.dynamics_steps}
    counts = " and ".join(f"{count:,} {stage} steps" for stage, count in steps.items() if count is not None)
    if verdict == NOT_TRAINED:
        return f"The world has only {counts}; below {MIN_STEPS} per stage, metrics do not show other faults."
    return f"The world has only {counts}; actions may need {ENOUGH_STEPS:,} per stage to take effect."


def _recommendations(verdict: str, fault: str | None, failed: set[str], world: World) -> list[str]:
    if fault is None:
        return []
    if verdict == NOT_TRAINED:
        return [LONGER]
    others = recommendations_for(fault, failed, world)
    return [LONGER, *(text for text in others if text != LONGER)] if verdict == UNDERTRAINED else others


def format_diagnosis(diagnosis: dict[str, Any]) -> str:
    """Return what `diagnose` returns as text for the terminal."""
    protocol = diagnosis["protocol"]
    lines = [
        f"verdict: {diagnosis['verdict']}",
        *textwrap.wrap(diagnosis["summary"], 110),
        *textwrap.wrap(f"training: {training_text(diagnosis['training'])}", 110),
        "",
        f"evidence ({protocol['clips']} clips of split '{protocol['split']}' of {protocol['dataset']}, "
        f"seed {protocol['seed']}):",
    ]
    for check in diagnosis["evidence"]:
        mark = "ok  " if check["passed"] else "FAIL"
        value = "n/a" if check["value"] is None else f"{check['value']:.3g}"
        lines.append(f"  {mark} {check['check']} {value} ({check['bound']} {check['threshold']:.3g})")
        lines += textwrap.wrap(check["meaning"], 104, initial_indent=" " * 7, subsequent_indent=" " * 7)
    if diagnosis["recommendations"]:
        lines += ["", "recommendations, most promising first:"]
    for text in diagnosis["recommendations"]:
        lines += textwrap.wrap(text, 108, initial_indent="  - ", subsequent_indent="    ")
    return "\n".join(lines)
