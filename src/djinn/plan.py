"""Parameters, tokens and training memory of a preset, counted on torch's meta device."""

from __future__ import annotations

import torch
from torch import nn

from djinn.config import StageConfig, WorldConfig
from djinn.config.presets import PAPER_PARAMETERS, get_preset
from djinn.models.world import World, build

TRAINING_BYTES = 16
"""Bytes per parameter in training: weight, gradient and the two moments of AdamW in fp32."""
PARTS = ("tokenizer", "latent_action", "dynamics")


def print_plan(preset: str) -> None:
    """Print `format_plan`."""
    print(format_plan(preset))


def format_plan(preset: str) -> str:
    """Return a few lines on the size of a preset.

    Args:
        preset: Name of the preset.

    Raises:
        UserError: There is no such preset.
    """
    config = get_preset(preset)
    world = config.world
    parts = count_parameters(world)
    rows, columns = world.tokenizer_grid
    frames = world.context_frames
    lines = [
        f"preset {preset}: {world.width}x{world.height} at {world.fps:g} frames/s, context of {frames} frames, "
        f"{world.num_actions} latent actions",
        f"tokens: {rows} x {columns} = {world.tokens_per_frame:,} per frame, "
        f"{frames * world.tokens_per_frame:,} per clip",
        "",
        "parameters",
    ]
    for part, count in parts.items():
        lines.append(f"  {part.replace('_', ' '):<15}{_short(count):>8}{_paper_count(preset, part)}")
    playing = parts["tokenizer"] + parts["dynamics"]
    lines += [
        f"  {'total':<15}{_short(sum(parts.values())):>8}{_paper_count(preset, '')}",
        f"  {'to play':<15}{_short(playing):>8}, {_size(2 * playing)} as a file (fp16), {_size(4 * playing)} in memory",
        "",
        f"training memory for weights, gradients and AdamW in fp32 ({TRAINING_BYTES} bytes per parameter);",
        "activations, which grow with the batch, are not included",
    ]
    if config.init_from is None:
        size = _size(TRAINING_BYTES * parts["tokenizer"])
        lines.append(f"  tokenizer stage   {size:>9}   {_stage(config.tokenizer, frames)}")
    size = _size(_dynamics_stage_bytes(parts))
    lines.append(f"  dynamics stage    {size:>9}   {_stage(config.dynamics, frames)}")
    return "\n".join(lines)


def count_parameters(config: WorldConfig) -> dict[str, int]:
    """Count the parameters of `tokenizer`, `latent_action` and `dynamics` on the meta device."""
    with torch.device("meta"):
        world: World = build(config)
    return {name: _count(getattr(world, name)) for name in PARTS}


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _dynamics_stage_bytes(parts: dict[str, int]) -> int:
    """Return the bytes of the dynamics stage, which trains all parts but the tokenizer."""
    return TRAINING_BYTES * (parts["latent_action"] + parts["dynamics"]) + 4 * parts["tokenizer"]


def _paper_count(preset: str, part: str) -> str:
    """Return a remark with the paper's parameter count, where it prints one."""
    of_all_presets = {"tokenizer": "tokenizer", "latent_action": "latent action model"}
    name = of_all_presets.get(part, preset) if preset.startswith("genie-") else preset
    if name not in PAPER_PARAMETERS:
        return ""
    parts, count = PAPER_PARAMETERS[name]
    matches = parts == (part,) or (part == "" and len(parts) > 1)
    return f"   (paper: {_short(count)})" if matches else ""


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
