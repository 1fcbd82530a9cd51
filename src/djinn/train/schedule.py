"""The learning rate as a function of the share of training that is done."""

from __future__ import annotations

import math

from djinn.config import StageConfig

LONGEST_WARMUP = 0.1
"""A warm-up never takes more than this share of training, however many steps it was given."""


def progress(config: StageConfig, step: int, seconds: float) -> float:
    """Share of training that is done, in [0, 1].

    Args:
        config: with `steps`, and `minutes` if time counts as well.
        step: optimizer steps done.
        seconds: time trained so far.
    """
    share = step / config.steps
    if config.minutes is not None:
        timed = seconds / (60 * config.minutes)
        share = max(share, min(timed, step / config.min_steps) if config.min_steps else timed)
    return min(share, 1.0)


def learning_rate(config: StageConfig, step: int, share: float) -> float:
    """Learning rate of the step that follows `step` done ones.

    Linear warm-up over `config.warmup` steps (cut short at a tenth of training, so that a short run reaches its rate),
    times the shape of the schedule at `share` of training: cosine from `lr` to `min_lr`; `wsd`, `lr` and then linear to
    `min_lr` over the last `decay`; or constant.

    Args:
        config: with `lr`, `min_lr`, `warmup`, `schedule` and `decay`.
        step: optimizer steps done.
        share: as of `progress`.
    """
    if config.schedule == "cosine":
        height = 0.5 * (1 + math.cos(math.pi * share))
    elif config.schedule == "wsd":
        height = min(1.0, (1 - share) / config.decay) if config.decay > 0 else 1.0
    else:
        height = 1.0
    rate = config.min_lr + (config.lr - config.min_lr) * height
    if step < config.warmup:
        rate *= min(1.0, max((step + 1) / config.warmup, share / LONGEST_WARMUP))
    return rate
