"""Weight initialization."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


def init_linear(module: nn.Module) -> None:
    """Initialize a linear layer or patch convolution so that it preserves variance.

    Other modules are left unchanged, so it can be passed to `Module.apply`.
    """
    if isinstance(module, nn.Linear | nn.Conv2d):
        fan_in = module.weight[0].numel()
        nn.init.normal_(module.weight, std=fan_in**-0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def init_residual(layers: Sequence[nn.Linear], count: int) -> None:
    """Initialize the layers whose outputs are added to a residual stream.

    The variance of the stream is then independent of its depth.

    Args:
        layers: Output layers of attentions and feed-forward layers.
        count: Number of such layers that add to one stream.
    """
    for layer in layers:
        nn.init.normal_(layer.weight, std=(count * layer.in_features) ** -0.5)
