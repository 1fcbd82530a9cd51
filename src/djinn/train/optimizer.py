"""The optimizer of every stage."""

from __future__ import annotations

import torch
from torch import nn

from djinn.config import StageConfig


def build_optimizer(module: nn.Module, config: StageConfig) -> torch.optim.AdamW:
    """Build a fused AdamW optimizer.

    Weight decay applies to the weight matrices of linear and convolution layers only, not to norms,
    biases, embeddings or codebooks.

    Args:
        module: Module to train.
        config: Settings with `lr`, `betas` and `weight_decay`.
    """
    matrices = {
        id(layer.weight)
        for layer in module.modules()
        if isinstance(layer, nn.Linear | nn.Conv2d) and layer.weight.ndim >= 2
    }
    trained = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if id(p) in matrices], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if id(p) not in matrices], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True)
