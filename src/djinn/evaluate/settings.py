"""Settings of an evaluation."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from djinn.errors import UserError

MIN_DRIFT_FRAMES = 24
"""Shortest roll-out in which drift can be measured."""
EXAMPLES = 20
"""Clips in a report."""
DRIFT_FRAMES = 200
"""Frames of the drift roll-outs in a report."""


@dataclass(frozen=True)
class EvaluationSettings:
    """Settings of `djinn.evaluate.evaluation.evaluate`."""

    clips: int = 64
    """Number of clips to roll out."""
    horizon: int = 7
    """Frames to generate from each prompt."""
    prompt_frames: int = 1
    """Real frames at the start of each roll-out."""
    steps: int | None = None
    """MaskGIT steps per frame. The default is the world's own."""
    temperature: float | None = None
    """Sampling temperature, 0 for the most likely token. The default is the world's own."""
    seed: int = 0
    """Seed of the choice of clips, the actions, the sampling, the masks and the bootstrap."""
    batch: int = 16
    """Clips per batch. The samples depend on it."""
    code_clips: int = 512
    """Clips whose latent actions are inferred, for their usage and their ground-truth actions."""
    effect_prompts: int = 12
    """Prompts from which each action is held to measure its effect, 0 for none."""
    drift_frames: int | None = None
    """Frames of 4 roll-outs in which drift is measured, 0 for none. The default is 200 with a
    report, else 0.
    """
    long_rollouts: int | None = None
    """Also generate this many frames (for example 100) with the actions inferred from the real
    video, in as many episodes as are long enough, and measure PSNR and SSIM at frames 1, 10, 25, 50
    and so on."""
    examples: int | None = None
    """Clips in the report, the first of the draw, spread over the sources. The default is 20 with a
    report, else 0.
    """
    fvd_detector: str | None = None
    """Also measure FVD with this TorchScript file or MODULE:FUNCTION. The file is executed: use
    only files that you trust."""
    random_frechet: bool = False
    """Also measure the Frechet distance of a network with random weights, which needs no file. It
    is not FVD.
    """

    def __post_init__(self) -> None:
        for name in ("clips", "horizon", "prompt_frames", "batch", "code_clips", "long_rollouts"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name} must be at least 1, got {value}")
        for name, least in (("effect_prompts", 2), ("drift_frames", MIN_DRIFT_FRAMES), ("examples", 1)):
            value = getattr(self, name)
            if value is not None and value != 0 and value < least:
                raise UserError(f"{name} must be 0 or at least {least}, got {value}")

    @property
    def clip_frames(self) -> int:
        """Frames per clip."""
        return self.prompt_frames + self.horizon

    def for_report(self) -> EvaluationSettings:
        """Return the settings with the defaults of a report."""
        return dataclasses.replace(
            self,
            drift_frames=DRIFT_FRAMES if self.drift_frames is None else self.drift_frames,
            examples=EXAMPLES if self.examples is None else self.examples,
        )
