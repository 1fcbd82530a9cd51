"""Summary of a run from its last evaluations."""

from __future__ import annotations

from pathlib import Path

from djinn.models.training_summary import TrainingSummary, load_training_summary
from djinn.train.evaluation import GREEDY_STEPS
from djinn.train.loggers import last_evaluation


def training_summary(run: Path, tokenizer_steps: int | None, dynamics_steps: int | None) -> TrainingSummary:
    """Return the summary that a world is exported with.

    Args:
        run: Run folder, whose last evaluation of the dynamics is used.
        tokenizer_steps: Optimizer steps of the tokenizer, None if unknown.
        dynamics_steps: Optimizer steps of the dynamics, None if unknown.
    """
    metrics = last_evaluation(run, "dynamics")
    return TrainingSummary(
        tokenizer_steps=tokenizer_steps,
        dynamics_steps=dynamics_steps,
        val_gain=metrics.get("val_gain"),
        val_gain4=metrics.get("val_gain4"),
        val_rollout_psnr=metrics.get("val_rollout_psnr"),
        actions_used=metrics.get("val_actions_used"),
        val_clips=metrics.get("val_clips"),
    )


def summarize(run: Path) -> str:
    """Return a few lines on the quality that a run has reached."""
    lines = []
    tokenizer = last_evaluation(run, "tokenizer")
    if tokenizer:
        lines.append(
            f"tokenizer: {tokenizer['val_psnr']:.1f} dB PSNR, {tokenizer['val_code_usage']:.0%} of the codes occur "
            f"(step {tokenizer['step']}, {tokenizer['val_clips']} evaluation clips)"
        )
    dynamics = last_evaluation(run, "dynamics")
    if dynamics:
        lines += [
            f"dynamics: next frame {dynamics['val_lam_psnr']:.1f} dB PSNR with inferred actions, "
            f"{dynamics['val_lam_random_psnr']:.1f} with random ones, "
            f"{dynamics['val_lam_repeat_psnr']:.1f} if the last frame is repeated",
            f"          roll-outs from one frame over {dynamics['val_frames']} frames: "
            f"{dynamics['val_rollout_psnr']:.1f} dB with inferred actions, "
            f"{dynamics['val_rollout_random_psnr']:.1f} with random ones "
            f"(step {dynamics['step']}, {dynamics['val_clips']} evaluation clips, "
            f"at most {GREEDY_STEPS} greedy MaskGIT steps)",
        ]
    world = load_training_summary(run / "world")
    if world is not None:
        lines.append(world.describe())
    return "\n".join(lines)
