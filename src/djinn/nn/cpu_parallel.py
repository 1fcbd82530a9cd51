"""Data parallelism over the cores of one CPU, with threads.

Torch splits each operation over its threads, which synchronize after it. A loss that is a sum over
clips needs no such synchronization: each thread runs forward and backward for some of the clips,
and they synchronize once per step.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

MIN_ELEMENTS = 1 << 18
"""Smallest number of input elements per thread; with fewer, overhead exceeds the gain."""


@contextmanager
def torch_threads(count: int) -> Iterator[int]:
    """Set torch's number of threads inside the block; for MKL the setting is process-wide."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield count
    finally:
        torch.set_num_threads(before)


def parallel_loss(
    loss: Callable[..., tuple[Tensor, Tensor]],
    parameters: Iterable[Tensor],
    clips: tuple[Tensor, *tuple[Tensor, ...]],
    rest: tuple[Any, ...] = (),
) -> tuple[Tensor, Tensor]:
    """Compute a loss that is a sum over clips, with several threads if the clips are large enough.

    With several threads, gradients are computed in the forward pass, so that the threads
    synchronize only once.

    Args:
        loss: Takes clips and `rest`. Returns the loss and a metric without gradient, both summed
            over clips.
        parameters: Parameters that `loss` uses.
        clips: Tensors with clips along the first dimension. Gradients flow to the first tensor.
        rest: Further arguments of `loss`, without gradients.

    Returns:
        Loss and metric, summed over all clips.
    """
    threads = _threads_for(clips[0])
    if threads == 1:
        return loss(*clips, *rest)
    parts = list(zip(*(part.tensor_split(threads) for part in clips), strict=True))
    arguments = [(*own, *rest) for _, *own in parts]
    return _ParallelLoss.apply(loss, arguments, *(x for x, *_ in parts), *(p for p in parameters if p.requires_grad))


def _threads_for(x: Tensor) -> int:
    """Return the number of threads to divide the clips among; 1 leaves parallelism to torch."""
    if x.device.type != "cpu" or not torch.is_grad_enabled():
        return 1
    return max(1, min(torch.get_num_threads(), len(x), x.numel() // MIN_ELEMENTS))


class _ParallelLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, loss: Callable[..., tuple[Tensor, Tensor]], arguments: list[tuple[Any, ...]], *tensors: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Run forward and backward in each thread, on a graph that starts at a leaf of its own."""
        count = len(arguments)
        clips, parameters = tensors[:count], tensors[count:]
        dtype, enabled = torch.get_autocast_dtype("cpu"), torch.is_autocast_enabled("cpu")

        def run(i: int) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
            with torch.enable_grad(), torch.autocast("cpu", dtype, enabled=enabled):  # both are thread-local
                leaf = clips[i].detach().requires_grad_()
                value, metric = loss(leaf, *arguments[i])
            return value.detach(), metric, torch.autograd.grad(value, (leaf, *parameters))

        values, metrics, gradients = zip(*_run_in_threads(run, count), strict=True)
        clip_gradients, *parameter_gradients = zip(*gradients, strict=True)
        ctx.gradients = (*clip_gradients, *(sum(parts[1:], start=parts[0]) for parts in parameter_gradients))
        metric = torch.stack(metrics).sum()
        ctx.mark_non_differentiable(metric)
        return torch.stack(values).sum(), metric

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Any, ...]:  # pyrefly: ignore[bad-override]
        """Scale the gradients of the forward pass."""
        gradients, ctx.gradients = ctx.gradients, None
        return (None, None, *torch._foreach_mul(gradients, gradient))


def _run_in_threads(job: Callable[[int], Any], count: int) -> list[Any]:
    """Run `job(0), job(1), ...` concurrently, each with an equal share of torch's threads."""
    with torch_threads(max(1, torch.get_num_threads() // count)) as threads:

        def run(i: int) -> Any:
            torch.set_num_threads(threads)  # thread-local, except in MKL
            return job(i)

        return list(_pool(os.getpid(), count).map(run, range(count)))


@lru_cache(maxsize=1)
def _pool(process: int, count: int) -> ThreadPoolExecutor:
    """Return the thread pool of a process; a forked child inherits no threads."""
    return ThreadPoolExecutor(count, thread_name_prefix="djinn-clips")
