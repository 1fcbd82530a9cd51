"""Training settings of each stage and of a whole run."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal

from djinn.config.model import WorldConfig, check, check_seed
from djinn.errors import UserError


@dataclass(frozen=True)
class StageConfig:
    """Training settings of one stage."""

    steps: int = 200_000
    """Optimizer steps. The stage ends at `steps` or after `minutes`, whichever comes first."""
    minutes: float | None = None
    """Minutes of training, pauses not counted. The learning rate schedule then follows the elapsed
    share of this time."""
    min_steps: int = 0
    """Minimum number of optimizer steps, even after `minutes` have passed."""
    batch: int = 36
    """Clips per optimizer step, in total over ranks and accumulated passes."""
    grad_accum_steps: int = 1
    """Forward and backward passes per optimizer step."""
    lr: float = 3e-4
    """Peak learning rate."""
    min_lr: float = 3e-5
    """Learning rate at the end of the schedule."""
    warmup: int = 5_000
    """Steps of linear warm-up."""
    schedule: Literal["cosine", "wsd", "constant"] = "cosine"
    """Learning rate after the warm-up. `cosine`: cosine to `min_lr`. `wsd`: constant, then linear
    to `min_lr` over the last fraction `decay`. `constant`: constant."""
    decay: float = 0.1
    """Fraction of training, at its end, over which `wsd` decays."""
    betas: tuple[float, float] = (0.9, 0.9)
    """Decay rates of AdamW."""
    weight_decay: float = 1e-4
    """Weight decay of AdamW."""
    grad_clip: float = 1.0
    """Maximum gradient norm; 0 disables clipping."""
    ema_decay: float = 0.0
    """Decay of the moving average of the weights, which is evaluated and saved; 0 disables it."""
    log_every: int = 20
    """Steps between log records."""
    eval_every: int = 1_000
    """Steps between evaluations."""
    save_every: int = 1_000
    """Steps between checkpoints."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "grad_accum_steps", "log_every", "eval_every", "save_every"):
            check(getattr(self, name) >= 1, f"{name} must be at least 1, got {getattr(self, name)}")
        check(
            self.batch % self.grad_accum_steps == 0,
            f"batch {self.batch} must be a multiple of grad_accum_steps {self.grad_accum_steps}",
        )
        check(self.min_steps >= 0, f"min_steps must not be negative, got {self.min_steps}")
        check(self.minutes is None or self.minutes > 0, f"minutes must be positive, got {self.minutes}")
        check(self.lr > 0 and 0 <= self.min_lr <= self.lr, f"need 0 <= min_lr <= lr, got {self.min_lr} and {self.lr}")
        for name in ("warmup", "weight_decay", "grad_clip"):
            check(getattr(self, name) >= 0, f"{name} must not be negative, got {getattr(self, name)}")
        check(0 <= self.decay <= 1, f"decay must lie in [0, 1], got {self.decay}")
        check(all(0 <= beta < 1 for beta in self.betas), f"betas must lie in [0, 1), got {self.betas}")
        check(0 <= self.ema_decay < 1, f"ema_decay must lie in [0, 1), got {self.ema_decay}")


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a whole run: sizes of the world and training of each stage."""

    world: WorldConfig = field(default_factory=WorldConfig)
    """Sizes of the world."""
    tokenizer: StageConfig = StageConfig(lr=3e-4, min_lr=3e-4, warmup=10_000, batch=48, steps=300_000)
    """Training of the video tokenizer."""
    dynamics: StageConfig = StageConfig(lr=3e-5, min_lr=3e-6)
    """Training of latent action model and dynamics model together."""
    init_from: str | None = None
    """World to fine-tune: a world folder, a run folder or the name of a shipped world. Its sizes
    replace those of the preset, except `fps`. Its tokenizer is kept, so only the dynamics stage is
    trained."""
    tokenizer_share: float = 0.3
    """Share of `--minutes` for the tokenizer stage when both stages are trained."""
    seed: int = 0
    """Random seed."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """`auto`: bf16 autocast on CUDA, fp32 on a CPU. With bf16 matrix units (AMX), `bf16` is faster
    for wide models on a CPU."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Compile each transformer block with `torch.compile`; `auto`: on CUDA only."""
    loggers: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    """Loggers of metrics besides the file `metrics.jsonl`."""

    def __post_init__(self) -> None:
        check_seed(self.seed)
        check(0 < self.tokenizer_share < 1, f"tokenizer_share must lie between 0 and 1, got {self.tokenizer_share}")


UNLIMITED = 1_000_000_000
"""Optimizer steps of a stage that is limited by time only."""


def with_limits(
    config: TrainConfig,
    stage: str = "all",
    *,
    minutes: float | None = None,
    steps: int | None = None,
) -> TrainConfig:
    """Return a config whose stages end at the given limits.

    Args:
        config: Config to change.
        stage: `all` or the stage that is trained; the settings of the others are kept.
        minutes: Minutes of training of all stages, divided by `tokenizer_share`.
        steps: Optimizer steps of each stage. With `minutes` only, steps are unlimited.

    Raises:
        UserError: A limit is not positive, or the config has no settings of this stage.
    """
    check(minutes is None or 0 < minutes < math.inf, f"minutes must be a positive number, got {minutes}")
    shares = {stage: 1.0}
    if stage == "all":
        shares = {"tokenizer": config.tokenizer_share, "dynamics": 1.0 - config.tokenizer_share}
    if minutes is None and steps is None:
        return config
    if not shares.keys() <= set(stage_settings(config)):
        limit = "--minutes" if steps is None else "--steps"
        raise UserError(f"{limit} has no effect on the stage '{stage}', which sets its own limits: leave it out")

    def limited(settings: StageConfig, share: float) -> StageConfig:
        if minutes is not None:
            settings = dataclasses.replace(settings, minutes=minutes * share, steps=UNLIMITED)
        return settings if steps is None else dataclasses.replace(settings, steps=steps)

    changed: dict[str, Any] = {name: limited(getattr(config, name), share) for name, share in shares.items()}
    return dataclasses.replace(config, **changed)


def stage_settings(config: TrainConfig) -> dict[str, StageConfig]:
    """Return the settings of each stage that has a field in the config, by its name."""
    values = {part.name: getattr(config, part.name) for part in dataclasses.fields(config)}
    return {name: value for name, value in values.items() if isinstance(value, StageConfig)}
