"""Protection of forked processes against thread pools that exist only in their parent.

`os.fork` copies the calling thread alone. OpenMP in the child still refers to the parent's thread
pool, and a parallel operation would wait for its threads forever. A child process therefore
computes with one thread.
"""

from __future__ import annotations

import os

import torch

from djinn.errors import UserError


def check_device(device: torch.device) -> None:
    """Refuse to use CUDA in a process forked from one that has used it.

    Raises:
        UserError: CUDA cannot be initialized in this process.
    """
    if device.type == "cuda" and torch.cuda._is_in_bad_fork():
        raise UserError(
            "CUDA was used before this process was forked and cannot be used in it: start the process with the "
            "method 'spawn', for example multiprocessing.get_context('spawn') or "
            "AsyncVectorEnv(..., context='spawn')"
        )


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))
