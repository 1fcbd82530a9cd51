"""Autocast and compilation, as the config and the device ask for."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import nn

from djinn.nn import FullSpaceTimeBlock, STBlock


def autocast(device: torch.device, precision: Literal["auto", "fp32", "bf16"]) -> torch.autocast:
    """bf16 where asked for, and on CUDA by default; the models keep norms, losses and codebooks in fp32 inside it."""
    enabled = precision == "bf16" or (precision == "auto" and device.type == "cuda")
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def compile_blocks(module: nn.Module, device: torch.device, when: Literal["auto", "on", "off"]) -> bool:
    """Compiles each transformer block by itself: one compilation serves all of a size, and state keeps its names.

    Returns:
        Whether it was asked for.
    """
    asked = when == "on" or (when == "auto" and device.type == "cuda")
    if asked:
        torch._dynamo.config.recompile_limit = 32  # blocks of all models share their code, and each size is compiled
        for block in module.modules():
            if isinstance(block, STBlock | FullSpaceTimeBlock):
                block.compile()
    return asked


def eager(compiled: bool) -> AbstractContextManager[object]:
    """Within it, compiled blocks run uncompiled: the many shapes of an evaluation are not worth a compilation each."""
    return torch.compiler.set_stance("force_eager") if compiled else nullcontext()
