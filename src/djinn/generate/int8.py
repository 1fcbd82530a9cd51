"""Playing in eight bits on a CPU, where reading and multiplying weights is most of a frame's time."""

from __future__ import annotations

import copy
import warnings
from typing import Literal

from torch import nn

from djinn.errors import UserError
from djinn.models.world import World

WORTH_IT_FROM = 256
"""Width from which eight bits pay: quantizing the activations of smaller layers costs more than it saves."""

LEAST_WEIGHTS = WORTH_IT_FROM**2
"""Layers with fewer weights stay in fp32 for the same reason."""


def for_play(world: World, int8: Literal["auto", "on", "off"] = "auto") -> World:
    """The world as it is played: on a CPU with int8 products in a dynamics model that is wide enough to gain from it.

    Weights are quantized once, activations in each call (`torch.ao.quantization.quantize_dynamic`). The tokenizer stays as
    it is. docs/log.md has what it costs and gains; training and measuring never use it.

    Args:
        world: the world; it is not changed.
        int8: `on` or `off` to insist; `auto` is where it pays.

    Returns:
        The world itself or, with int8, one that shares everything but the dynamics with it.

    Raises:
        UserError: int8 was asked for on a GPU.
    """
    on_cpu = world.device.type == "cpu"
    if int8 == "on" and not on_cpu:
        raise UserError("int8 is for playing on a CPU: leave --int8 out, or pass --device cpu")
    if int8 == "off" or not on_cpu or (int8 == "auto" and world.config.dynamics.transformer.d_model < WORTH_IT_FROM):
        return world
    from torch.ao.quantization import default_dynamic_qconfig, quantize_dynamic

    layers = world.dynamics.named_modules()
    wide = {
        name: default_dynamic_qconfig
        for name, layer in layers
        if isinstance(layer, nn.Linear) and layer.weight.numel() >= LEAST_WEIGHTS
    }

    played = copy.copy(world)
    played._modules = dict(world._modules)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchao is where this will live one day; torch < 2.14 has it
        played.dynamics = quantize_dynamic(world.dynamics, wide)
    return played
