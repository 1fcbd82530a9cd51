"""How a world is trained: settings of each stage and of a whole run."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from djinn.config.model import WorldConfig, check, check_seed


@dataclass(frozen=True)
class StageConfig:
    """How one stage is trained."""

    steps: int = 200_000
    """Optimizer steps; the stage ends at `steps` or after `minutes`, whichever comes first."""
    minutes: float | None = None
    """Training minutes, pauses not counted; the learning rate then follows the share of time that has passed."""
    min_steps: int = 0
    """Optimizer steps before which `minutes` does not end the stage."""
    batch: int = 36
    """Clips per optimizer step, over all ranks and accumulated passes."""
    grad_accum_steps: int = 1
    """Forward and backward passes per optimizer step."""
    lr: float = 3e-4
    min_lr: float = 3e-5
    warmup: int = 5_000
    """Steps of linear warm-up."""
    schedule: Literal["cosine", "wsd", "constant"] = "cosine"
    """After the warm-up: cosine to `min_lr`; constant, then linear to `min_lr` over the last `decay`; or constant."""
    decay: float = 0.1
    """Last share of training in which `wsd` decays."""
    betas: tuple[float, float] = (0.9, 0.9)
    weight_decay: float = 1e-4
    grad_clip: float = 1.0
    """Largest gradient norm; 0 does not clip."""
    ema_decay: float = 0.0
    """Decay of the moving average of the weights that is evaluated and saved; 0 keeps none."""
    log_every: int = 20
    eval_every: int = 1_000
    save_every: int = 1_000

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
    """A whole run: the world's sizes and how each stage is trained."""

    world: WorldConfig = WorldConfig()
    tokenizer: StageConfig = StageConfig(lr=3e-4, min_lr=3e-4, warmup=10_000, batch=48, steps=300_000)
    dynamics: StageConfig = StageConfig(lr=3e-5, min_lr=3e-6)
    """Stage `dynamics`: latent action model and dynamics together."""
    init_from: str | None = None
    """A world to go on from: its folder, a run folder, or the name of a shipped world. Its sizes count, not the preset's,
    but for `fps`, and its tokenizer stays as it is, so that tokens keep their meaning: only the dynamics stage is trained."""
    tokenizer_share: float = 0.3
    """Share of `--minutes` that the tokenizer gets when both stages run."""
    seed: int = 0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """`auto`: bf16 autocast on CUDA, fp32 elsewhere. On a CPU with bf16 matrix units (AMX) `bf16` is faster for wide models."""
    compile: Literal["auto", "on", "off"] = "auto"
    """`torch.compile` per block; `auto`: on CUDA only."""
    loggers: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    """Where metrics go besides `metrics.jsonl`."""

    def __post_init__(self) -> None:
        check_seed(self.seed)
        check(0 < self.tokenizer_share < 1, f"tokenizer_share must lie between 0 and 1, got {self.tokenizer_share}")


UNLIMITED = 1_000_000_000
"""Optimizer steps of a stage whose only limit is time."""


def with_limits(
    config: TrainConfig,
    stage: Literal["all", "tokenizer", "dynamics"] = "all",
    *,
    minutes: float | None = None,
    steps: int | None = None,
) -> TrainConfig:
    """The config with a limit on a whole run, in place of the steps that it has.

    Args:
        config: what to change.
        stage: what is to be trained; a stage that is not stays as it is.
        minutes: training minutes in all, shared by `tokenizer_share` where both stages are trained.
        steps: optimizer steps of each stage that is trained; with `minutes` alone there is no limit on them.

    Raises:
        UserError: a limit is not positive.
    """

    def limit(part: StageConfig, share: float) -> StageConfig:
        if minutes is not None:
            part = dataclasses.replace(part, minutes=minutes * share, steps=UNLIMITED)
        return part if steps is None else dataclasses.replace(part, steps=steps)

    share = config.tokenizer_share if stage == "all" else 0.0
    if stage != "dynamics":
        config = dataclasses.replace(config, tokenizer=limit(config.tokenizer, share or 1.0))
    if stage != "tokenizer":
        config = dataclasses.replace(config, dynamics=limit(config.dynamics, 1.0 - share))
    return config
