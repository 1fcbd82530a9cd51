"""Settings of the naming of actions."""

from __future__ import annotations

from dataclasses import dataclass

from djinn.errors import UserError


@dataclass(frozen=True)
class NamingSettings:
    """Settings of `djinn.actions.naming.name_actions`."""

    prompts: int = 32
    """Held-out frames from which each action is held."""
    frames: int = 4
    """Frames for which each action is held."""
    clips: int = 256
    """Held-out clips whose actions are inferred."""
    seed: int = 0
    """Seed of the choice of frames and clips, and of the sampling."""

    def __post_init__(self) -> None:
        for name, least in (("prompts", 2), ("frames", 1), ("clips", 1)):
            if getattr(self, name) < least:
                raise UserError(f"{name} must be at least {least}, got {getattr(self, name)}")
