"""Training steps and last evaluation of a world, stored in `training.yaml`."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from djinn.config.model import check
from djinn.config.yaml import load_yaml, save_yaml

FILE = "training.yaml"
NO_GAIN = 0.2
"""Gain in dB below which inferred actions are no better than random ones."""
CLEAR_GAIN = 1.0
"""Gain in dB from which the actions clearly control the roll-outs."""
MIN_STEPS = 500
"""Steps of a stage below which a world is untrained: often all latent actions share one code."""
ENOUGH_STEPS = 3_000
"""Steps of a stage below which a world may be undertrained.

Latent actions of CoinRun worlds needed up to this many steps to take effect.
"""

Controllability = Literal["unknown", "none", "weak", "clear"]
TrainingLevel = Literal["unknown", "untrained", "undertrained", "trained"]


@dataclass(frozen=True)
class TrainingSummary:
    """Training steps and last held-out evaluation of a world; None if not recorded."""

    tokenizer_steps: int | None = None
    """Optimizer steps of the tokenizer stage."""
    dynamics_steps: int | None = None
    """Optimizer steps of the dynamics stage."""
    val_gain: float | None = None
    """Roll-out PSNR with inferred minus PSNR with random actions, mean over frames, in dB."""
    val_gain4: float | None = None
    """The same difference at frame 4 (the paper's delta-t PSNR with t = 4, section 3), in dB."""
    val_rollout_psnr: float | None = None
    """PSNR of roll-outs with inferred actions, in dB."""
    actions_used: int | None = None
    """Number of latent actions in use on the held-out clips."""
    val_clips: int | None = None
    """Number of held-out clips of the evaluation."""

    def __post_init__(self) -> None:
        for name in ("tokenizer_steps", "dynamics_steps", "actions_used", "val_clips"):
            value = getattr(self, name)
            check(value is None or value >= 0, f"{name} must not be negative, got {value}")
        for name in ("val_gain", "val_gain4", "val_rollout_psnr"):
            value = getattr(self, name)
            check(value is None or math.isfinite(value), f"{name} must be finite, got {value}")

    @property
    def gain(self) -> float | None:
        """`val_gain`, or `val_gain4` if only that was recorded."""
        return self.val_gain4 if self.val_gain is None else self.val_gain

    @property
    def untrained_stages(self) -> dict[str, int]:
        """Stages with fewer than `MIN_STEPS` steps, with their steps."""
        steps = {"tokenizer": self.tokenizer_steps, "dynamics": self.dynamics_steps}
        return {name: count for name, count in steps.items() if count is not None and count < MIN_STEPS}

    @property
    def controllability(self) -> Controllability:
        """Effect of the latent actions, judged by `gain` and by the number of codes in use.

        `none` below `NO_GAIN` or with fewer than two codes in use, `clear` from `CLEAR_GAIN`,
        `weak` between them, `unknown` without a recorded gain.
        """
        if self.actions_used is not None and self.actions_used < 2:
            return "none"
        if self.gain is None:
            return "unknown"
        return "none" if self.gain < NO_GAIN else "weak" if self.gain < CLEAR_GAIN else "clear"

    @property
    def level(self) -> TrainingLevel:
        """Amount of training, judged by the steps of the stage with the fewest.

        `untrained` below `MIN_STEPS`, `undertrained` below `ENOUGH_STEPS`, else `trained`;
        `unknown` without recorded steps.
        """
        recorded = [steps for steps in (self.tokenizer_steps, self.dynamics_steps) if steps is not None]
        if not recorded:
            return "unknown"
        return (
            "untrained" if min(recorded) < MIN_STEPS else "undertrained" if min(recorded) < ENOUGH_STEPS else "trained"
        )

    def describe(self) -> str:
        """Return one sentence, without a full stop, on the effect of the latent actions.

        It begins with the untrained stages, if there are any.
        """
        effect = {
            "unknown": "the effect of the latent actions was not evaluated in training",
            "none": "the latent actions have no effect yet",
            "weak": "the latent actions have a weak effect",
            "clear": "the latent actions control the roll-outs",
        }[self.controllability]
        details = []
        if self.gain is not None:
            details.append(f"inferred actions gain {self.gain:+.2f} dB PSNR over random ones")
        if self.actions_used is not None:
            details.append(f"{self.actions_used} codes in use")
        if self.dynamics_steps is not None and "dynamics" not in self.untrained_stages:
            details.append(f"after {self.dynamics_steps:,} training steps")
        text = effect + (f" ({', '.join(details)})" if details else "")
        untrained = ", ".join(f"{name}: {count:,} steps" for name, count in self.untrained_stages.items())
        return f"the world is barely trained ({untrained}); {text}" if untrained else text


def save_training_summary(summary: TrainingSummary, folder: Path) -> None:
    """Write the recorded fields to `training.yaml` in a world folder.

    Raises:
        UserError: The file cannot be written.
    """
    recorded = {key: value for key, value in dataclasses.asdict(summary).items() if value is not None}
    save_yaml(recorded, folder / FILE)


def load_training_summary(folder: Path) -> TrainingSummary | None:
    """Read `training.yaml` of a world folder, or return None if it has none.

    Raises:
        UserError: The file is not valid; the message names the file and the key.
    """
    path = folder / FILE
    return load_yaml(TrainingSummary, path) if path.is_file() else None
