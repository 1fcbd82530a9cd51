"""What an evaluation tells about a run that goes wrong, with the remedy; and whether the actions act."""

from __future__ import annotations

from djinn.models.code_usage import min_used_share

EARLIEST_STEP = 500
EARLIEST_SHARE = 0.25
"""All actions often sit on one code for the first few hundred steps, so nothing is said before these."""
LATE_SHARE = 0.5
NO_GAIN = 0.2
"""dB of PSNR below which inferred actions are no better than random ones."""


def diagnose_world(figures: dict[str, float], actions: int, step: int, share: float, kind: str = "ema") -> str | None:
    """A warning where the latent actions have collapsed or do nothing, else None.

    Args:
        figures: of `WorldStage.evaluate`.
        actions: number of latent actions.
        step: steps done.
        share: share of training done.
        kind: of the quantizer of latent actions, on which the remedy depends.
    """
    if step < EARLIEST_STEP or share < EARLIEST_SHARE:
        return None
    top, used, gain = figures["val_action_top"], int(figures["val_actions_used"]), figures["val_gain"]
    quantizer = "--world.latent-action.quantizer"
    remedies = {
        "ema": f"a higher {quantizer}.dead-code-threshold (for instance 0.3), a lower --dynamics.lr, "
        f"another {quantizer}.commitment, or fewer {quantizer}.codes",
        "gradient": f"{quantizer}.kind ema, which restarts dead codes, a lower --dynamics.lr, "
        f"another {quantizer}.commitment, or fewer {quantizer}.codes",
        "fsq": "a lower --dynamics.lr, or fewer levels",
    }
    remedy = f"start a new run with {remedies[kind]}"
    if top > 0.9:
        return f"the latent actions have collapsed: one code has {top:.0%} of all use at step {step}; {remedy}"
    if used < actions / 2:
        least = min_used_share(actions)
        return (
            f"most latent actions are dead: only {used} of {actions} codes have {least:.1%} of the use or more "
            f"at step {step}; {remedy}"
        )
    if share >= LATE_SHARE and gain < NO_GAIN:
        return (
            f"the latent actions do nothing yet: at step {step}, with {share:.0%} of training done, roll-outs with "
            f"inferred actions are only {gain:+.2f} dB better than with random ones: "
            "train longer (--minutes, --steps), raise --dynamics.lr if the loss still falls slowly, "
            "or check that things move in the videos from one frame to the next (import with a lower --fps)"
        )
    return None


def diagnose_tokenizer(figures: dict[str, float], codes: int, step: int, share: float, kind: str = "ema") -> str | None:
    """A warning where hardly any code of the tokenizer is in use, else None; arguments as of `diagnose_world`."""
    if step < EARLIEST_STEP or share < EARLIEST_SHARE:
        return None
    perplexity = figures["val_perplexity"]
    if perplexity >= max(2.0, codes / 100):
        return None
    learned = (
        "--world.tokenizer.quantizer.kind ema and a higher --world.tokenizer.quantizer.dead-code-threshold (for instance 0.3), "
        "a lower --tokenizer.lr, or another --world.tokenizer.quantizer.commitment"
    )
    return (
        f"the tokenizer's codebook has collapsed: at step {step} it works as if it had {perplexity:.1f} of its {codes} "
        f"codes; start a new run with {'a lower --tokenizer.lr' if kind == 'fsq' else learned}"
    )


def in_words(gain: float) -> str:
    """Whether the latent actions act, by the gain in dB of inferred over random actions in roll-outs."""
    if gain < NO_GAIN:
        return "the latent actions do not act yet"
    if gain < 1:
        return "the latent actions begin to act"
    if gain < 3:
        return "the latent actions act"
    return "the latent actions act strongly"
