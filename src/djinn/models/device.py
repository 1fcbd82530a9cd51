"""Device selection."""

from __future__ import annotations

import torch

from djinn.errors import UserError


def select_device(name: str | torch.device | None = None) -> torch.device:
    """Return a device of this machine.

    Args:
        name: For example `cpu`, `cuda` or `cuda:1`; by default `cuda` where there is a GPU, else
            `cpu`.

    Raises:
        UserError: This machine has no such device.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # fails on "meta", whose tensors hold no values
    except (RuntimeError, AssertionError):
        available = "cpu and cuda" if torch.cuda.is_available() else "cpu only"
        raise UserError(f"no device '{name}' on this machine: PyTorch finds {available}") from None
    return device
