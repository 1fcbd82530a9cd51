"""Several processes as `torchrun` starts them: who am I, what do we agree on.

Data parallel only. Each rank draws its own share of the global batch; rank 0 alone writes.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from djinn.errors import UserError


@dataclass(frozen=True)
class Ranks:
    """This process among all that train together."""

    rank: int = 0
    count: int = 1
    local: int = 0
    """Rank on this machine, which picks the GPU."""

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def agree(self, signal: int, seconds: float) -> tuple[int, float]:
        """Makes all ranks see the same: the largest signal number and the longest time of any of them."""
        if self.count == 1:
            return signal, seconds
        both = torch.tensor([signal, seconds], dtype=torch.float64)  # on the CPU: gloo, no wait for the GPU
        dist.all_reduce(both, dist.ReduceOp.MAX)
        return int(both[0]), float(both[1])

    def mean(self, values: Tensor) -> Tensor:
        """The mean of a tensor over all ranks."""
        if self.count > 1:
            dist.all_reduce(values)
        return values / self.count

    def wait(self) -> None:
        """Waits until all ranks are here."""
        if self.count > 1:
            dist.barrier()

    def share(self, batch: int, accumulate: int) -> int:
        """Clips of one optimizer step that fall to this rank.

        Raises:
            UserError: they cannot be split evenly.
        """
        if batch % (self.count * accumulate):
            raise UserError(
                f"a batch of {batch} clips does not split over {self.count} processes with grad_accum_steps {accumulate}: "
                f"make batch a multiple of {self.count * accumulate}"
            )
        return batch // self.count


def find_ranks() -> Ranks:
    """Reads what `torchrun` says in the environment; one process alone where it says nothing."""
    read = {name: int(os.environ.get(name, default)) for name, default in [("RANK", 0), ("WORLD_SIZE", 1)]}
    return Ranks(read["RANK"], read["WORLD_SIZE"], int(os.environ.get("LOCAL_RANK", read["RANK"])))


@contextmanager
def process_group() -> Generator[Ranks]:
    """Joins the process group for its duration where there is more than one process and none has joined yet."""
    ranks = find_ranks()
    joins = ranks.count > 1 and not dist.is_initialized()
    if joins:
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield ranks
    finally:
        if joins:
            dist.destroy_process_group()


def pick_device(ranks: Ranks) -> torch.device:
    """The GPU of this rank, or the CPU where there is none."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", ranks.local % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


def data_parallel(module: nn.Module, ranks: Ranks) -> nn.Module:
    """`module`, wrapped so that its gradients are averaged over all ranks; itself where there is only one.

    Buffers are not broadcast: codebooks add up their statistics over ranks themselves and stay equal.
    """
    if ranks.count == 1:
        return module
    known = inspect.signature(DistributedDataParallel).parameters
    sync = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"  # torch renames it
    options: dict[str, Any] = {sync: False}
    return DistributedDataParallel(module, find_unused_parameters=False, **options)
