"""Learning-rate schedules by the progress of training."""

from __future__ import annotations

import math

from djinn.config import StageConfig

LONGEST_WARMUP = 0.1
"""Maximum share of training that the warm-up takes, regardless of its number of steps."""


def progress(config: StageConfig, step: int, seconds: float) -> float:
    """Return the share of training that is done, in [0, 1].

    Args:
        config: Settings with `steps`, `minutes` and `min_steps`.
        step: Optimizer steps done.
        seconds: Training time so far.
    """
    share = step / config.steps
    if config.minutes is not None:
        timed = seconds / (60 * config.minutes)
        share = max(share, min(timed, step / config.min_steps) if config.min_steps else timed)
    return min(share, 1.0)


def learning_rate(config: StageConfig, step: int, share: float) -> float:
    """Return the learning rate of the next optimizer step.

    Linear warm-up over `config.warmup` steps, or over a tenth of training if that is shorter, times
    the schedule: cosine from `lr` at the end of the warm-up to `min_lr` at the end of training;
    `wsd`, constant and then linear to `min_lr` over the last `decay`; or constant.

    Args:
        config: Settings with `lr`, `min_lr`, `warmup`, `schedule` and `decay`.
        step: Optimizer steps done.
        share: Result of `progress`.
    """
    if config.schedule == "cosine":
        height = 0.5 * (1 + math.cos(math.pi * _share_after_warmup(config, step, share)))
    elif config.schedule == "wsd":
        height = min(1.0, (1 - share) / config.decay) if config.decay > 0 else 1.0
    else:
        height = 1.0
    rate = config.min_lr + (config.lr - config.min_lr) * height
    if step < config.warmup:
        rate *= min(1.0, max((step + 1) / config.warmup, share / LONGEST_WARMUP))
    return rate


def _share_after_warmup(config: StageConfig, step: int, share: float) -> float:
    """Return the share of the time after the warm-up that is done, in [0, 1].

    With a limit on minutes the share at which the warm-up ended is estimated from the mean time per
    step so far. The result never decreases, even if that time varies.
    """
    if step <= config.warmup and share <= LONGEST_WARMUP:
        return 0.0
    warmup = min(LONGEST_WARMUP, config.warmup * share / step) if step > 0 else 0.0
    return max(0.0, (share - warmup) / (1 - warmup))
