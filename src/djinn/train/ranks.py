"""Processes of a distributed run: rank, collectives, process group and device."""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from djinn.errors import UserError


@dataclass(frozen=True)
class Ranks:
    """Rank of this process and number of processes."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    """Rank on this machine, which selects the GPU."""

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def all_reduce_max(self, signal: int, seconds: float) -> tuple[int, float]:
        """Return the largest signal number and the longest time over all ranks."""
        if self.count == 1:
            return signal, seconds
        values = torch.tensor([signal, seconds], dtype=torch.float64)  # on the CPU: no wait for the GPU
        dist.all_reduce(values, dist.ReduceOp.MAX)
        return int(values[0]), float(values[1])

    def mean(self, values: Tensor) -> Tensor:
        """Average a tensor over all ranks, in place."""
        if self.count == 1:
            return values
        dist.all_reduce(values)
        return values.div_(self.count)

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.count > 1:
            dist.barrier()

    def local_batch_size(self, batch: int, grad_accum_steps: int) -> int:
        """Return the number of clips per optimizer step on this rank.

        Raises:
            UserError: The batch does not divide evenly among ranks and accumulated passes.
        """
        parts = self.count * grad_accum_steps
        if batch % parts:
            raise UserError(
                f"a batch of {batch} clips does not divide evenly among {self.count} processes with "
                f"grad_accum_steps {grad_accum_steps}: make batch a multiple of {parts}"
            )
        return batch // self.count


def find_ranks() -> Ranks:
    """Read the environment variables of `torchrun`; without them there is one process.

    Raises:
        UserError: A variable is not a number.
    """
    rank, count = _environment("RANK", 0), _environment("WORLD_SIZE", 1)
    return Ranks(rank, count, _environment("LOCAL_RANK", rank))


def _environment(name: str, default: int) -> int:
    value = os.environ.get(name, str(default))
    if not re.fullmatch("[0-9]+", value):
        raise UserError(f"the environment variable {name} must be an integer of 0 or more, got {value!r}: unset it")
    return int(value)


@contextmanager
def process_group() -> Generator[Ranks]:
    """Join the process group inside the block, unless there is only one process or it exists."""
    ranks = find_ranks()
    joins = ranks.count > 1 and not dist.is_initialized()
    if joins:
        missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
        if missing:
            raise UserError(
                f"WORLD_SIZE is {ranks.count}, but {' and '.join(missing)} {'are' if len(missing) > 1 else 'is'} not set: "
                "start the processes with torchrun, or unset WORLD_SIZE to train with one"
            )
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield ranks
    finally:
        if joins:
            dist.destroy_process_group()


def choose_device(requested: torch.device | str | None, local_rank: int, num_gpus: int) -> torch.device:
    """Return the device to train on.

    Args:
        requested: A device. `cuda` without an index is the GPU of the local rank; None is that GPU,
            or the CPU on a machine without GPUs.
        local_rank: Rank on this machine.
        num_gpus: GPUs of this machine.

    Raises:
        UserError: There is no such device.
    """
    if requested is None:
        requested = "cuda" if num_gpus else "cpu"
    try:
        device = torch.device(requested)
    except RuntimeError:
        raise UserError(f"no device is called '{requested}': use cpu, cuda or cuda:INDEX") from None
    if device.type != "cuda":
        return device
    if num_gpus == 0:
        raise UserError(f"device '{requested}' was requested, but PyTorch finds no GPU: use cpu")
    if device.index is None:
        return torch.device("cuda", local_rank % num_gpus)
    if device.index >= num_gpus:
        raise UserError(f"device '{requested}' was requested, but there are {num_gpus} GPUs, 0 to {num_gpus - 1}")
    return device


def select_device(requested: torch.device | str | None, ranks: Ranks) -> torch.device:
    """Choose this rank's device (see `choose_device`) and make it the current one."""
    device = choose_device(requested, ranks.local_rank, torch.cuda.device_count())
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device
