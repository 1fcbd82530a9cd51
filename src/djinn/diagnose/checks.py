"""What the figures of a probe mean: one check each, against a threshold, in a person's words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from djinn.diagnose.interventions import Probe
from djinn.evaluate.action_effects import Effects, explained_by_code
from djinn.evaluate.controllability import (
    Interval,
    bootstrap,
    code_use,
    entropy_bits,
    mutual_information_bits,
    percent,
)
from djinn.models.psnr import psnr_from_mse

CHANGE_KEPT = 0.3
"""Share of the change from frame to frame that a tokenizer must keep at least."""
PERPLEXITY = 1.5
"""Effective number of latent actions below which they count as one; about that of one code with 90 % of the use."""
SAME_CODE = 0.01
"""Codes closer than this share of their mean length are one and the same to the dynamics."""
STILL_TELLS = 0.5
"""Share of a code's information that may be there already when nothing moves."""
RESPONSE = 0.05
"""Least difference that other actions must make, as a share of what really changes."""
STRONG_RESPONSE = 0.3
"""Difference from which on the clip's own actions must also be the better ones."""
SHIFT_GAIN = 0.2
"""dB by which shifted actions may be better than the right ones."""
ANY_GAIN = 0.2
"""dB of PSNR below which actions are no better than those of another clip, as in the warnings of training."""
CONTROL_GAIN = 1.0
"""dB of PSNR from which the latent actions act, as in the words of training."""
CONSISTENCY = 0.1
"""Share of the motion that the code must explain at least."""


@dataclass(frozen=True)
class Check:
    """One piece of evidence."""

    check: str
    value: float
    bound: Literal["at least", "at most"]
    """What `value` must be: at least or at most `threshold`."""
    threshold: float
    passed: bool
    meaning: str


def at_least(check: str, value: float, threshold: float, meaning: str) -> Check:
    """A check that passes from its threshold on."""
    return Check(check, float(value), "at least", float(threshold), bool(value >= threshold), meaning)


def at_most(check: str, value: float, threshold: float, meaning: str) -> Check:
    """A check that passes up to its threshold."""
    return Check(check, float(value), "at most", float(threshold), bool(value <= threshold), meaning)


def tokenizer_checks(probe: Probe) -> list[Check]:
    """Whether the tokens hold what moves: nothing that comes after them can be better."""
    kept = 1 - probe.change_lost.sum() / probe.repeat.sum()
    made, copy = _psnr(probe.tokenizer).mean(), _psnr(probe.repeat).mean()
    codes, used = len(probe.tokens), 2 ** entropy_bits(probe.tokens)
    return [
        at_least(
            "tokenizer_change_kept",
            kept,
            CHANGE_KEPT,
            f"reconstructions keep {max(kept, 0):.0%} of what changes from frame to frame; they have {made:.1f} dB, "
            f"the ceiling of every roll-out, where repeating the frame before has {copy:.1f} dB",
        ),
        at_least(
            "tokenizer_perplexity",
            used,
            max(2.0, codes / 100),
            f"the tokenizer works as if it had {used:.1f} of its {codes} codes",
        ),
    ]


def code_checks(probe: Probe, vectors: Float[np.ndarray, "codes dim"]) -> list[Check]:
    """Whether the latent actions use their codes, and whether these tell what moves or what is in the picture.

    Args:
        probe: what was measured.
        vectors: the codes as the dynamics receives them.
    """
    merged = same_codes(vectors)
    use = code_use(merged[probe.codes], len(vectors))
    distinct = len(np.unique(merged))
    tells = still_share(merged[probe.codes], merged[probe.still])
    alike = "" if distinct == len(vectors) else f"; only {distinct} of their vectors differ at all"
    return [
        at_least(
            "code_perplexity",
            use.perplexity,
            PERPLEXITY,
            f"the latent actions work as if there were {use.perplexity:.1f} of {len(vectors)}, "
            f"the most frequent one has {max(use.shares):.0%} of {use.transitions} transitions{alike}",
        ),
        at_least(
            "codes_in_use",
            use.used,
            len(vectors) / 2,
            f"{use.used} of {len(vectors)} latent actions have at least {percent(use.used_from)} of the use",
        ),
        at_most(
            "still_codes",
            tells,
            STILL_TELLS,
            f"a frame that stands still already tells {tells:.0%} of the action inferred beside it: "
            "near 0 % where actions describe motion, near 100 % where they describe pictures",
        ),
    ]


def same_codes(vectors: Float[np.ndarray, "codes dim"]) -> Int[np.ndarray, " codes"]:
    """For each code the first one whose vector is the same to within `SAME_CODE`."""
    apart = np.linalg.norm(vectors[:, None] - vectors[None], axis=-1)
    return (apart <= SAME_CODE * np.linalg.norm(vectors, axis=-1).mean()).argmax(axis=1)


def still_share(codes: Int[np.ndarray, "clips steps"], still: Int[np.ndarray, "clips steps+1"]) -> float:
    """How much of the information in the codes of moving clips is in the codes of their frames held still, 0 to 1.

    Motion gives every still frame the same code, which tells nothing. The larger figure of two counts: of the frame before
    each transition and of the frame after it.
    """
    entropy = entropy_bits(np.bincount(codes.ravel()))
    if entropy == 0:
        return 0.0
    return max(_shared_bits(codes, still[:, side]) for side in (slice(None, -1), slice(1, None))) / entropy


def _shared_bits(a: Int[np.ndarray, "clips steps"], b: Int[np.ndarray, "clips steps"]) -> float:
    """Mutual information, less what the plug-in estimate finds by chance."""
    table = np.zeros((a.max() + 1, b.max() + 1), np.int64)
    np.add.at(table, (a.ravel(), b.ravel()), 1)
    rows, columns = (int((table.sum(axis) > 0).sum()) for axis in (1, 0))
    by_chance = (rows - 1) * (columns - 1) / (2 * np.log(2) * a.size)
    return max(mutual_information_bits(table) - by_chance, 0.0)


def response_checks(probe: Probe, seed: int) -> list[Check]:
    """Whether anything depends on the action at all, right or wrong."""
    dynamics = _response(probe)
    decoder = probe.decoder["response"].sum() / probe.decoder["repeat"].sum()
    right, shuffled = (_psnr(probe.decoder[name]) for name in ("right", "shuffled"))
    gain = bootstrap(right - shuffled, seed)[0]
    return [
        at_least(
            "dynamics_response",
            dynamics,
            RESPONSE,
            f"actions of another clip change what is played by {dynamics:.0%} of what really changes",
        ),
        at_least(
            "decoder_response",
            decoder,
            RESPONSE,
            "actions of another clip change what the latent action model's own decoder predicts by "
            f"{decoder:.0%} of what really changes",
        ),
        at_least(
            "decoder_gain",
            gain.mean,
            ANY_GAIN,
            f"that decoder predicts the next frame {_db(gain)} better with the right action than with another clip's",
        ),
    ]


def _response(probe: Probe) -> float:
    """What other actions change in the roll-outs, as a share of what really changes."""
    return float(probe.response.sum() / probe.prompt.sum())


def control_checks(probe: Probe, seed: int) -> list[Check]:
    """Whether the right actions lead back to the real frames, and those of other clips or other times do not."""
    played = {name: _psnr(mse).mean(axis=1) for name, mse in probe.plays.items()}
    right = played["right"]
    over = {name: bootstrap(right - played[name], seed)[0] for name in ("random", "shuffled")}
    shifts = {name: played[name] - right for name in ("previous", "next")}
    best = max(shifts, key=lambda name: shifts[name].mean())
    shift = bootstrap(shifts[best], seed)[0]
    any_time = max(_certain(played[name] - played["shuffled"]) for name in ("right", *shifts))
    ahead = bootstrap(_psnr(probe.plays["right"][:, 0]) - _psnr(probe.first_to_prompt), seed)[0]
    horizon = probe.prompt.shape[1]
    return [
        at_most(
            "time_shift",
            _certain(shifts[best]),
            SHIFT_GAIN,
            f"with the action of the {best} frame in place of its own, roll-outs gain {_db(shift)}",
        ),
        at_least(
            "gain_at_any_time",
            any_time,
            ANY_GAIN if _response(probe) >= STRONG_RESPONSE else 0.0,  # what hardly acts cannot act wrongly
            "the clip's own actions, in time or shifted, are "
            + (f"{any_time:.2f} dB better" if any_time else "no better beyond chance")
            + " than another clip's",
        ),
        at_least(
            "gain_over_shuffled",
            over["shuffled"].mean,
            CONTROL_GAIN,
            f"over {horizon} frames the clip's own actions come {_db(over['shuffled'])} closer to the truth than another "
            f"clip's ({right.mean():.1f} dB; repeating the prompt has {_psnr(probe.prompt).mean():.1f} dB)",
        ),
        at_least(
            "gain_over_random",
            over["random"].mean,
            CONTROL_GAIN,
            f"over {horizon} frames the clip's own actions come {_db(over['random'])} closer to the truth than random ones",
        ),
        at_least(
            "moves_ahead",
            ahead.mean,
            0.0,
            f"the first frame that is made lies {_db(ahead)} closer to the true next frame than to the one before it: "
            "below 0 dB the world rather repeats its picture",
        ),
    ]


def effect_checks(effects: Effects) -> list[Check]:
    """Whether a code does the same in every picture."""
    net = effects.flows.mean(axis=(2, 3))  # the same wherever in the picture a figure stands, as motion by place is not
    value = max(effects.consistency, explained_by_code(net - net.mean(axis=0)))
    return [
        at_least(
            "effect_consistency",
            value,
            CONSISTENCY,
            f"which action is held explains {value:.0%} of what moves otherwise than with the other actions, "
            f"from {effects.frames.shape[1]} pictures: 100 % where each does the same everywhere",
        )
    ]


def drift_checks(summary: dict[str, Any]) -> list[Check]:
    """Whether a long game stays what it was, from what `Drift.summary` gives."""
    flags, late = summary["flags"], summary["late"]
    said = f"goes wrong: it {', it '.join(_FLAGS.get(flag, flag) for flag in flags)}" if flags else "holds"
    return [
        at_most(
            "drift_flags",
            len(flags),
            0,
            f"a game of {summary['frames']} frames {said} (at its end: sharpness {late['sharpness']:.2f} of the start's, "
            f"colours {late['colour']:.0f} grey levels off, {late['change']:.1%} of pixels change from frame to frame, "
            f"{late['repetition']:.0%} of games repeat themselves)",
        )
    ]


_FLAGS = {
    "freezes": "freezes",
    "melts": "melts into a blur",
    "noise": "breaks up into noise",
    "discolours": "loses its colours",
    "repeats": "repeats itself",
}


def _certain(gains: Float[np.ndarray, " clips"]) -> float:
    """The mean, if it lies three standard errors above 0, else 0."""
    mean = gains.mean()
    return float(mean) if mean > 3 * gains.std() / len(gains) ** 0.5 else 0.0


def _db(interval: Interval) -> str:
    return f"{interval.mean:+.2f} dB (95 % interval {interval.low:+.2f} to {interval.high:+.2f})"


def _psnr(mse: Float[np.ndarray, "*s"]) -> Float[np.ndarray, "*s"]:
    """Return the PSNR in dB of errors in squared grey levels."""
    return psnr_from_mse(mse, max_value=255)
