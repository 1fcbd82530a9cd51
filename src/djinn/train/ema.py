"""A moving average of a model's weights."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Moving average of all that is floating point in a module's state, codebooks included.

    The decay grows from 0.1 to its full value, `min(decay, (1 + n) / (10 + n))` after n updates, so that the average
    soon forgets where the weights began.

    Args:
        module: whose weights are averaged.
        decay: weight of the past.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.average = {name: value.detach().clone() for name, value in _floats(module).items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Takes in the weights as they are after one more step."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        current = _floats(module)
        torch._foreach_lerp_(list(self.average.values()), [current[name] for name in self.average], 1 - decay)
        self.updates += 1

    @contextmanager
    def applied(self, module: nn.Module) -> Generator[None]:
        """Within it, `module` has the averaged weights; after it, its own again, to the bit."""
        own = {name: value.detach().clone() for name, value in _floats(module).items()}
        self._copy(module, self.average)
        try:
            yield
        finally:
            self._copy(module, own)

    @staticmethod
    @torch.no_grad()
    def _copy(module: nn.Module, values: dict[str, Tensor]) -> None:
        for name, value in _floats(module).items():
            value.copy_(values[name])

    def state_dict(self) -> dict[str, object]:
        """What `load_state_dict` takes."""
        return {"updates": self.updates, "average": self.average}

    @torch.no_grad()
    def load_state_dict(self, state: dict) -> None:
        """Goes back to a state of `state_dict`."""
        self.updates = int(state["updates"])
        for name, value in self.average.items():
            value.copy_(state["average"][name])


def _floats(module: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in module.state_dict().items() if value.is_floating_point()}
