"""Checks on the results of interventions: one value, its threshold and its meaning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from djinn.diagnose.interventions import InterventionResults
from djinn.evaluate.action_effects import ActionEffects, explained_by_code
from djinn.evaluate.action_usage import action_usage
from djinn.evaluate.statistics import Interval, bootstrap, entropy_bits, mutual_information_bits
from djinn.evaluate.text import percent
from djinn.models.code_usage import MIN_ACTION_PERPLEXITY, min_tokenizer_perplexity
from djinn.models.psnr import psnr_from_mse
from djinn.models.training_summary import CLEAR_GAIN, NO_GAIN

CHANGE_KEPT = 0.3
"""Smallest share of the change between frames that a tokenizer must preserve."""
SAME_CODE = 0.01
"""Codes closer than this share of their mean norm are identical to the dynamics."""
STILL_INFORMATION = 0.5
"""Largest share of the information of a code that may be present in a still frame."""
RESPONSE = 0.05
"""Smallest difference that other actions must make, relative to the real change."""
STRONG_RESPONSE = 0.3
"""Difference from which a clip's own actions must also be better than those of another clip."""
SHIFT_GAIN = 0.2
"""Largest gain in dB of time-shifted over correctly timed actions."""
CONSISTENCY = 0.1
"""Smallest share of the motion that the code must explain."""


@dataclass(frozen=True)
class Check:
    """One value of the evidence, compared with a threshold."""

    check: str
    value: float | None
    """None if the value is not defined for the clips; the check then passes."""
    bound: Literal["at least", "at most"]
    """Whether `value` must be at least or at most `threshold`."""
    threshold: float
    passed: bool
    meaning: str


def at_least(check: str, value: float | None, threshold: float, meaning: str) -> Check:
    """Return a check that passes from its threshold on."""
    passed = value is None or bool(value >= threshold)
    return Check(check, None if value is None else float(value), "at least", float(threshold), passed, meaning)


def at_most(check: str, value: float, threshold: float, meaning: str) -> Check:
    """Return a check that passes up to its threshold."""
    return Check(check, float(value), "at most", float(threshold), bool(value <= threshold), meaning)


def tokenizer_checks(results: InterventionResults) -> list[Check]:
    """Check whether the tokens represent motion, which is an upper bound for roll-outs."""
    lost = results.change_lost.sum() / results.repeat.sum()
    reconstructed, repeated = _psnr(results.tokenizer).mean(), _psnr(results.repeat).mean()
    codes, perplexity = len(results.tokens), 2 ** entropy_bits(results.tokens)
    kept = f"{percent(1 - lost)}" if lost < 1 else f"none (its error is {lost:.3g} times the change)"
    return [
        at_least(
            "tokenizer_change_kept",
            max(1 - lost, 0.0),
            CHANGE_KEPT,
            f"share of the change between frames that reconstructions preserve: {kept}; they reach "
            f"{reconstructed:.1f} dB, the upper bound of every roll-out; repeating the previous frame reaches "
            f"{repeated:.1f} dB",
        ),
        at_least(
            "tokenizer_perplexity",
            perplexity,
            min_tokenizer_perplexity(codes),
            f"effective number of tokenizer codes: {perplexity:.1f} of {codes}",
        ),
    ]


def code_checks(results: InterventionResults, vectors: Float[np.ndarray, "codes dim"]) -> list[Check]:
    """Check whether the codes are in use, and whether they describe motion or the scene.

    Args:
        results: Results of the interventions.
        vectors: The codes as the dynamics receives them.
    """
    merged = identical_codes(vectors)
    usage = action_usage(merged[results.codes], len(vectors))
    distinct = len(np.unique(merged))
    information = still_information(merged[results.codes], merged[results.still])
    identical = "" if distinct == len(vectors) else f"; only {distinct} of their vectors are distinct"
    return [
        at_least(
            "code_perplexity",
            usage.perplexity,
            MIN_ACTION_PERPLEXITY,
            f"effective number of latent actions: {usage.perplexity:.1f} of {len(vectors)}; the most frequent one has "
            f"{percent(max(usage.shares))} of {usage.transitions} transitions{identical}",
        ),
        at_least(
            "codes_in_use",
            usage.num_used,
            len(vectors) / 2,
            f"{usage.num_used} of {len(vectors)} latent actions have a share of at least {percent(usage.min_share)}",
        ),
        at_most(
            "still_codes",
            information,
            STILL_INFORMATION,
            f"share of the information of an inferred action that is present in a still frame beside it: "
            f"{percent(information)}; near 0 % if actions describe motion, near 100 % if they describe the scene",
        ),
    ]


def identical_codes(vectors: Float[np.ndarray, "codes dim"]) -> Int[np.ndarray, " codes"]:
    """Return for each code the first one with the same vector to within `SAME_CODE`."""
    distances = np.linalg.norm(vectors[:, None] - vectors[None], axis=-1)
    return (distances <= SAME_CODE * np.linalg.norm(vectors, axis=-1).mean()).argmax(axis=1)


def still_information(codes: Int[np.ndarray, "clips steps"], still: Int[np.ndarray, "clips steps+1"]) -> float:
    """Return the share of the codes' information that still frames have, in [0, 1].

    If codes describe motion, every still frame has the same code, which carries no information. The
    result is the larger of two values: for the frame before each transition and for the one after
    it.
    """
    entropy = entropy_bits(np.bincount(codes.ravel()))
    if entropy == 0:
        return 0.0
    shared = max(_shared_bits(codes, still[:, side]) for side in (slice(None, -1), slice(1, None)))
    return min(shared / entropy, 1.0)


def _shared_bits(a: Int[np.ndarray, "clips steps"], b: Int[np.ndarray, "clips steps"]) -> float:
    """Return the mutual information minus the bias of the plug-in estimate."""
    table = np.zeros((a.max() + 1, b.max() + 1), np.int64)
    np.add.at(table, (a.ravel(), b.ravel()), 1)
    rows, columns = (int((table.sum(axis) > 0).sum()) for axis in (1, 0))
    bias = (rows - 1) * (columns - 1) / (2 * np.log(2) * a.size)
    return max(mutual_information_bits(table) - bias, 0.0)


def response_checks(results: InterventionResults, seed: int) -> list[Check]:
    """Check whether the predictions depend on the action at all, correctly or not."""
    dynamics = _response(results)
    decoder = _ratio(results.decoder["response"].sum(), results.decoder["repeat"].sum())
    right, shuffled = (_psnr(results.decoder[name]) for name in ("right", "shuffled"))
    gain = bootstrap(right - shuffled, seed)[0]
    return [
        at_least(
            "dynamics_response",
            dynamics,
            RESPONSE,
            f"change of the roll-outs with the actions of another clip: {_relative(dynamics)}",
        ),
        at_least(
            "decoder_response",
            decoder,
            RESPONSE,
            "change of the predictions of the latent action model's decoder with the actions of another clip: "
            f"{_relative(decoder)}",
        ),
        at_least(
            "decoder_gain",
            gain.mean,
            NO_GAIN,
            f"gain of the decoder's next-frame prediction with its own over another clip's action: {_db(gain)}",
        ),
    ]


def _response(results: InterventionResults) -> float | None:
    """Return the change of the roll-outs by other actions, relative to the real change."""
    return _ratio(results.response.sum(), results.prompt.sum())


def control_checks(results: InterventionResults, seed: int) -> list[Check]:
    """Check whether a clip's own actions predict better than those of other clips or times."""
    psnr = {name: _psnr(mse).mean(axis=1) for name, mse in results.rollouts.items()}
    right = psnr["right"]
    over = {name: bootstrap(right - psnr[name], seed)[0] for name in ("random", "shuffled")}
    shifts = {name: psnr[name] - right for name in ("previous", "next")}
    best = max(shifts, key=lambda name: shifts[name].mean())
    shift = bootstrap(shifts[best], seed)[0]
    any_time = max(_significant(psnr[name] - psnr["shuffled"]) for name in ("right", *shifts))
    first = bootstrap(_psnr(results.rollouts["right"][:, 0]) - _psnr(results.first_to_prompt), seed)[0]
    horizon = results.prompt.shape[1]
    response = _response(results)
    return [
        at_most(
            "time_shift",
            _significant(shifts[best]),
            SHIFT_GAIN,
            f"gain of roll-outs with the action of the {best} frame instead of the current one: {_db(shift)}",
        ),
        at_least(
            "gain_at_any_time",
            any_time,
            # a weak effect cannot be a wrong one
            NO_GAIN if response is not None and response >= STRONG_RESPONSE else 0.0,
            "gain of the clip's own actions, in time or shifted, over another clip's: "
            + (f"{any_time:.2f} dB" if any_time else "none beyond chance"),
        ),
        at_least(
            "gain_over_shuffled",
            over["shuffled"].mean,
            CLEAR_GAIN,
            f"gain over {horizon} frames of the clip's own over another clip's actions: {_db(over['shuffled'])} "
            f"(to {right.mean():.1f} dB; repeating the prompt reaches {_psnr(results.prompt).mean():.1f} dB)",
        ),
        at_least(
            "gain_over_random",
            over["random"].mean,
            CLEAR_GAIN,
            f"gain over {horizon} frames of the clip's own over random actions: {_db(over['random'])}",
        ),
        at_least(
            "predicts_motion",
            first.mean,
            0.0,
            f"the first generated frame is {_db(first)} closer to the next real frame than to the prompt; below 0 dB "
            "the world tends to repeat the prompt",
        ),
    ]


def effect_checks(effects: ActionEffects) -> list[Check]:
    """Check whether a code has the same effect from every prompt."""
    net = effects.flows.mean(axis=(2, 3))  # independent of the position in the frame
    value = max(effects.consistency, explained_by_code(net - net.mean(axis=0)))
    return [
        at_least(
            "effect_consistency",
            value,
            CONSISTENCY,
            f"share of the differences in motion between actions that the action explains: {percent(value)}, from "
            f"{effects.frames.shape[1]} prompts; 100 % if each has the same effect everywhere",
        )
    ]


def drift_checks(summary: dict[str, Any]) -> list[Check]:
    """Check whether long roll-outs stay stable, from `Drift.summary`."""
    flags, late = summary["flags"], summary["late"]
    faults = ", ".join(flags) or "no fault"
    return [
        at_most(
            "drift_flags",
            len(flags),
            0,
            f"faults of roll-outs of {summary['frames']} frames: {faults} (at the end: sharpness {late['sharpness']:.2f} "
            f"of the start, color distance {late['color']:.0f} grey levels, {percent(late['change'])} of the pixels change "
            f"per frame, {percent(late['repetition'])} of the roll-outs repeat)",
        )
    ]


def _significant(gains: Float[np.ndarray, " clips"]) -> float:
    """Return the mean if it is at least three standard errors above 0, else 0."""
    mean = gains.mean()
    return float(mean) if mean > 3 * gains.std() / len(gains) ** 0.5 else 0.0


def _ratio(value: float, reference: float) -> float | None:
    """Return a ratio, None if the reference is 0."""
    return float(value / reference) if reference > 0 else None


def _relative(ratio: float | None) -> str:
    """Format a change relative to that of the real clips: a percentage, or a factor above 1."""
    if ratio is None:
        return "n/a (the real clips do not change)"
    return f"{percent(ratio)} of the real change" if ratio <= 1 else f"{ratio:.3g} times the real change"


def _db(interval: Interval) -> str:
    return f"{interval.mean:+.2f} dB (95 % interval {interval.low:+.2f} to {interval.high:+.2f})"


def _psnr(mse: Float[np.ndarray, "*s"]) -> Float[np.ndarray, "*s"]:
    """Return the PSNR in dB of errors in squared grey levels."""
    return psnr_from_mse(mse, max_value=255)
