"""Description of a world for the page and for other clients, as JSON-compatible data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from djinn.images import MAX_PIXELS
from djinn.play import images, naming, protocol
from djinn.play.player import UNDO_DEPTH

if TYPE_CHECKING:
    from djinn.models.training_summary import TrainingSummary
    from djinn.models.world import World


def describe_world(world: World, *, name: str, fps: float, prompts: int, max_players: int) -> dict[str, Any]:
    """Return sizes, actions, defaults and limits of a world.

    Args:
        world: The world that is served.
        name: Name shown on the page.
        fps: Frame rate that players start with, in frames per second.
        prompts: Number of prompts to choose from.
        max_players: Largest number of simultaneous players.
    """
    config = world.config
    return {
        "name": name,
        "height": config.height,
        "width": config.width,
        "fps": fps,
        "context_frames": config.context_frames,
        "tokens_per_frame": config.tokens_per_frame,
        "actions": describe_actions(world),
        "training": describe_training(world.training_summary),
        "sampler": {"steps": config.sampler.steps, "temperature": config.sampler.temperature},
        "prompts": prompts,
        "image_formats": list(protocol.IMAGE_FORMATS),
        "limits": {
            "players": max_players,
            "upload_bytes": images.MAX_BYTES,
            "upload_pixels": MAX_PIXELS,
            "steps": protocol.MAX_STEPS,
            "temperature": protocol.MAX_TEMPERATURE,
            "undo": UNDO_DEPTH,
            "name": naming.MAX_NAME_LENGTH,
        },
    }


def describe_actions(world: World) -> list[dict[str, Any]]:
    """Return code, name and keys of every latent action."""
    pairs = zip(world.action_names, world.action_keys, strict=True)
    return [{"index": code, "name": name, "keys": list(keys)} for code, (name, keys) in enumerate(pairs)]


def describe_training(summary: TrainingSummary | None) -> dict[str, Any]:
    """Return training steps and controllability of a world.

    Returns:
        `controllability`, a sentence `text`, `warning` (whether players should be warned that the
        actions may have no effect), and the steps of both stages, None if they were not recorded.
    """
    controllability = "unknown" if summary is None else summary.controllability
    text = training_text(summary)
    return {
        "controllability": controllability,
        "text": text,
        "warning": controllability in ("unknown", "none"),
        "tokenizer_steps": None if summary is None else summary.tokenizer_steps,
        "dynamics_steps": None if summary is None else summary.dynamics_steps,
    }


def training_text(summary: TrainingSummary | None) -> str:
    """Return one or two sentences on the training of a world."""
    if summary is None:
        return "This world has no training summary: the effect of its actions is unknown."
    text = summary.describe()
    text = f"{text[0].upper()}{text[1:]}."
    if summary.controllability == "none":
        text += " Train this world for longer to control it."
    return text
