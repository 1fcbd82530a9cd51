"""Autocast and compilation."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import nn

from djinn.nn import FullSpaceTimeBlock, STBlock


def autocast(device: torch.device, precision: Literal["auto", "fp32", "bf16"]) -> torch.autocast:
    """Return bf16 autocast, enabled by `bf16`, and by `auto` on CUDA.

    The models keep norms, losses and codebooks in fp32.
    """
    enabled = precision == "bf16" or (precision == "auto" and device.type == "cuda")
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def compile_blocks(module: nn.Module, device: torch.device, when: Literal["auto", "on", "off"]) -> bool:
    """Compile each transformer block in place.

    Blocks of one size share a compilation, and the names in the state dict do not change.

    Args:
        module: Module with transformer blocks.
        device: Device of the module.
        when: `auto` compiles on CUDA only.

    Returns:
        Whether the blocks are compiled.
    """
    enabled = when == "on" or (when == "auto" and device.type == "cuda")
    if enabled:
        torch._dynamo.config.recompile_limit = 32  # blocks share code and are compiled once per size
        for block in module.modules():
            if isinstance(block, STBlock | FullSpaceTimeBlock):
                block.compile()
    return enabled


def eager(compiled: bool) -> AbstractContextManager[object]:
    """Return a context in which compiled blocks run eagerly.

    An evaluation has many shapes, and compiling each would take longer than running it.

    Args:
        compiled: Whether there are compiled blocks.
    """
    return torch.compiler.set_stance("force_eager") if compiled else nullcontext()
