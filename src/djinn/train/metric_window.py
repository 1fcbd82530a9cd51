"""Means of metrics over the steps between two log lines."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from djinn.train.stages.stage import Metrics


class MetricWindow:
    """Sums of metrics since the last `restart`, kept on the device so that no step waits for it.

    Args:
        device: Device of the metrics.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.restart()

    def restart(self) -> None:
        """Clear all sums and restart the timer."""
        self._sums: dict[str, Tensor] = {}
        self._is_finite = torch.ones((), dtype=torch.bool, device=self.device)
        self._frames = 0
        self._idle = 0.0
        self._began = time.monotonic()

    def __bool__(self) -> bool:
        return bool(self._sums)

    def add(self, metrics: Metrics, frames: int) -> None:
        """Add the metrics of one step.

        Args:
            metrics: Scalars by name; `loss` and `grad_norm` are checked by `is_finite`.
            frames: Frames trained on, over all ranks.
        """
        for name, value in metrics.items():
            value = torch.as_tensor(value, dtype=torch.float32, device=self.device)
            pair = torch.stack([value, torch.ones_like(value)])  # sum and number of steps
            self._sums[name] = pair + self._sums[name] if name in self._sums else pair
        for name in ("loss", "grad_norm"):
            self._is_finite = self._is_finite & torch.isfinite(torch.as_tensor(metrics[name]))
        self._frames += frames

    def add_idle(self, seconds: float) -> None:
        """Exclude time, for example that of an evaluation, from the frame rate."""
        self._idle += seconds

    def is_finite(self) -> bool:
        """Return whether all losses and gradient norms are finite; waits for the device."""
        return bool(self._is_finite)

    def names(self) -> list[str]:
        """Return the names of the metrics in the order of `means`."""
        return list(self._sums)

    def means(self) -> Tensor:
        """Return the means over the steps, in the order of `names`."""
        return torch.stack([pair[0] / pair[1] for pair in self._sums.values()])

    def frames_per_second(self) -> float:
        """Return the frame rate since the last restart, without idle time."""
        return self._frames / max(time.monotonic() - self._began - self._idle, 1e-9)
