"""`djinn plan`: what a preset would cost, counted on models that exist in name only (torch's meta device)."""

from __future__ import annotations

import torch
from torch import nn

from djinn.config import StageConfig, WorldConfig
from djinn.config.presets import PAPER_PARAMETERS, get_preset
from djinn.models.world import World, build

TRAINING_BYTES = 16
"""Bytes a parameter takes in training: weight, gradient and AdamW's two moments in fp32."""
PARTS = ("tokenizer", "latent_action", "dynamics")


def count_parameters(config: WorldConfig) -> dict[str, int]:
    """Parameters of each part of a world, without building it: `tokenizer`, `latent_action`, `dynamics`."""
    with torch.device("meta"):
        world: World = build(config)
    return {name: _count(getattr(world, name)) for name in PARTS}


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def format_plan(name: str) -> str:
    """A few lines on a preset, for people.

    Args:
        name: the preset.

    Raises:
        UserError: there is no such preset.
    """
    config = get_preset(name)
    world = config.world
    parts = count_parameters(world)
    rows, columns = world.tokenizer_grid
    frames = world.context_frames
    lines = [
        f"preset {name}: {world.width}x{world.height} at {world.fps:g} frames/s, {frames} frames of memory, "
        f"{world.num_actions} latent actions",
        f"tokens: {rows} x {columns} = {world.tokens_per_frame:,} a frame, {frames * world.tokens_per_frame:,} a clip",
        "",
        "parameters",
    ]
    lines += [
        f"  {part.replace('_', ' '):<15}{_short(count):>8}{_printed(name, part)}" for part, count in parts.items()
    ]
    playing = parts["tokenizer"] + parts["dynamics"]
    lines += [
        f"  {'in all':<15}{_short(sum(parts.values())):>8}{_printed(name, '')}",
        f"  {'to play':<15}{_short(playing):>8}, {_size(2 * playing)} as a file (fp16), {_size(4 * playing)} in memory",
        "",
        f"memory in training for weights, gradients and AdamW in fp32 ({TRAINING_BYTES} bytes a parameter), to which",
        "the activations come, which grow with the batch and are not counted here",
    ]
    if config.init_from is None:
        size = _size(TRAINING_BYTES * parts["tokenizer"])
        lines.append(f"  tokenizer stage   {size:>9}   {_stage(config.tokenizer, frames)}")
    lines.append(f"  world stage       {_size(_world_bytes(parts)):>9}   {_stage(config.dynamics, frames)}")
    return "\n".join(lines)


def print_plan(name: str) -> None:
    """Prints `format_plan`."""
    print(format_plan(name))


def _world_bytes(parts: dict[str, int]) -> int:
    """Latent action model and dynamics are trained; the tokenizer only lies beside them."""
    return TRAINING_BYTES * (parts["latent_action"] + parts["dynamics"]) + 4 * parts["tokenizer"]


def _printed(preset: str, part: str) -> str:
    """What the paper says to that count, if anything."""
    general = {"tokenizer": "tokenizer", "latent_action": "latent action model"}
    name = general.get(part, preset) if preset.startswith("genie-") else preset
    if name not in PAPER_PARAMETERS:
        return ""
    parts, count = PAPER_PARAMETERS[name]
    matches = parts == (part,) or (part == "" and len(parts) > 1)
    return f"   (the paper prints {_short(count)})" if matches else ""


def _stage(stage: StageConfig, frames: int) -> str:
    clips = stage.steps * stage.batch
    return f"{stage.steps:,} steps of {stage.batch} clips = {_short(clips * frames)} frames"


def _short(count: float) -> str:
    for limit, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= limit:
            return f"{count / limit:.3g}{unit}"
    return f"{count:g}"


def _size(size: float) -> str:
    for limit, unit in ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB")):
        if size >= limit:
            return f"{size / limit:.3g} {unit}"
    return f"{size / 2**10:.3g} KiB"
