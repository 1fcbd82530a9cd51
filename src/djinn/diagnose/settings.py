"""Settings of a diagnosis."""

from __future__ import annotations

from dataclasses import dataclass

from djinn.errors import UserError

MIN_CLIPS = 16
"""Fewest clips from which a verdict is given."""


@dataclass(frozen=True)
class DiagnosisSettings:
    """Settings of `djinn.diagnose.verdict.diagnose`."""

    clips: int = 64
    """Number of clips, at least 16."""
    seed: int = 0
    """Seed of the choice of clips, the random actions and the sampling."""
    batch: int = 16
    """Clips per batch. The samples depend on it."""

    def __post_init__(self) -> None:
        for name, least in (("clips", MIN_CLIPS), ("batch", 1)):
            if getattr(self, name) < least:
                raise UserError(f"{name} must be at least {least} for a diagnosis, got {getattr(self, name)}")
