"""Exponential moving average of a model's weights."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class WeightAverage:
    """Moving average of the floating-point entries of a module's state, codebooks included.

    The decay after n updates is `min(decay, (1 + n) / (10 + n))`, so that the initial weights are
    soon forgotten.

    Args:
        module: Module whose weights are averaged.
        decay: Weight of the past.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.average = {name: value.detach().clone() for name, value in _float_state(module).items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Add the weights after one more step."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        current = _float_state(module)
        torch._foreach_lerp_(list(self.average.values()), [current[name] for name in self.average], 1 - decay)
        self.updates += 1

    @contextmanager
    def applied(self, module: nn.Module) -> Generator[None]:
        """Replace the weights of `module` by the average inside the block."""
        own = {name: value.detach().clone() for name, value in _float_state(module).items()}
        self._copy(module, self.average)
        try:
            yield
        finally:
            self._copy(module, own)

    @staticmethod
    @torch.no_grad()
    def _copy(module: nn.Module, values: dict[str, Tensor]) -> None:
        for name, value in _float_state(module).items():
            value.copy_(values[name])

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {"updates": self.updates, "average": self.average}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state of `state_dict`."""
        self.updates = int(state["updates"])
        for name, value in self.average.items():
            value.copy_(state["average"][name])


def _float_state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in module.state_dict().items() if value.is_floating_point()}
