"""Warnings, with a remedy, if an evaluation shows that training fails."""

from __future__ import annotations

from djinn.models.code_usage import min_tokenizer_perplexity, min_used_share
from djinn.models.training_summary import MIN_STEPS, NO_GAIN

EARLIEST_PROGRESS = 0.25
"""Share of training before which there is no warning.

All clips often share one action for the first few hundred steps; `MIN_STEPS` applies as well.
"""
LATE_PROGRESS = 0.5
"""Share of training from which a missing gain is reported."""


def warn_dynamics(
    metrics: dict[str, float],
    actions: int,
    step: int,
    progress: float,
    *,
    kind: str = "ema",
    tokenizer_steps: int | None = None,
) -> str | None:
    """Return a warning if the latent actions have collapsed or have no effect, else None.

    Args:
        metrics: Result of `DynamicsStage.evaluate`.
        actions: Number of latent actions.
        step: Optimizer steps done.
        progress: Share of training done.
        kind: Kind of the latent actions' quantizer, on which the remedy depends.
        tokenizer_steps: Steps that the tokenizer was trained for, None if unknown.
    """
    if step < MIN_STEPS or progress < EARLIEST_PROGRESS:
        return None
    top, used, gain = metrics["val_action_top"], int(metrics["val_actions_used"]), metrics["val_gain"]
    problem = None
    if top > 0.9:
        problem = f"the latent actions have collapsed: one code has {top:.0%} of all transitions at step {step}"
    elif used < actions / 2:
        problem = (
            f"most latent actions are dead: only {used} of {actions} codes have {min_used_share(actions):.1%} of the "
            f"use or more at step {step}"
        )
    elif progress >= LATE_PROGRESS and gain < NO_GAIN:
        problem = (
            f"the latent actions have no effect yet: at step {step}, with {progress:.0%} of training done, roll-outs "
            f"with inferred actions are only {gain:+.2f} dB better than with random ones"
        )
    if problem is None:
        return None
    if tokenizer_steps is not None and tokenizer_steps < MIN_STEPS:
        return (
            f"{problem}; the tokenizer was trained for {tokenizer_steps} steps only: start a new run with more "
            "--minutes or --steps"
        )
    return f"{problem}; {_dynamics_remedy(kind) if top > 0.9 or used < actions / 2 else _NO_EFFECT_REMEDY}"


_NO_EFFECT_REMEDY = (
    "train longer (--minutes, --steps), raise --dynamics.lr if the loss still falls slowly, "
    "or check that consecutive frames of the videos differ (import with a lower --fps)"
)


def _dynamics_remedy(kind: str) -> str:
    quantizer = "--world.latent-action.quantizer"
    remedies = {
        "ema": f"a higher {quantizer}.dead-code-threshold (for example 0.3), a lower --dynamics.lr, "
        f"another {quantizer}.commitment, or fewer {quantizer}.codes",
        "gradient": f"{quantizer}.kind ema, which restarts dead codes, a lower --dynamics.lr, "
        f"another {quantizer}.commitment, or fewer {quantizer}.codes",
        "fsq": "a lower --dynamics.lr, or fewer levels",
    }
    return f"start a new run with {remedies[kind]}"


def warn_tokenizer(metrics: dict[str, float], codes: int, step: int, progress: float, kind: str = "ema") -> str | None:
    """Return a warning if hardly any code of the tokenizer is used, else None.

    Args:
        metrics: Result of `TokenizerStage.evaluate`.
        codes: Size of the codebook.
        step: Optimizer steps done.
        progress: Share of training done.
        kind: Kind of the quantizer, on which the remedy depends.
    """
    if step < MIN_STEPS or progress < EARLIEST_PROGRESS:
        return None
    perplexity = metrics["val_perplexity"]
    if perplexity >= min_tokenizer_perplexity(codes):
        return None
    learned = (
        "--world.tokenizer.quantizer.kind ema and a higher --world.tokenizer.quantizer.dead-code-threshold "
        "(for example 0.3), a lower --tokenizer.lr, or another --world.tokenizer.quantizer.commitment"
    )
    return (
        f"the tokenizer's codebook has collapsed: at step {step} the perplexity is {perplexity:.1f} with {codes} codes; "
        f"start a new run with {'a lower --tokenizer.lr' if kind == 'fsq' else learned}"
    )
