"""Cores of a CPU that train on clips of their own, side by side.

Torch splits every single operation over its threads, which wait for each other after each. A loss that is a sum over clips
needs no such waiting: each core goes forward and backward through some of the clips alone, and they meet once a step.
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

LEAST = 1 << 18
"""Numbers in a thread's share of what a transformer takes in; with fewer, Python takes longer than the products."""


@contextmanager
def torch_threads(count: int) -> Iterator[int]:
    """Lets torch split an operation over `count` threads within it; MKL has one such number for the whole process."""
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
    """A loss that is a sum over clips, each core of a CPU working on some of them where they are large enough.

    With several threads gradients are made at once and not on the way back, so that they wait for each other only once.

    Args:
        loss: takes clips and `rest`, and returns a loss and a figure without gradient, both sums over clips.
        parameters: what `loss` depends on besides its arguments.
        clips: what belongs to the clips, along the first dimension; gradients go to the first of these.
        rest: further arguments, without gradients.

    Returns:
        Loss and figure, summed over all clips.
    """
    threads = _threads_for(clips[0])
    if threads == 1:
        return loss(*clips, *rest)
    parts = list(zip(*(part.tensor_split(threads) for part in clips), strict=True))
    arguments = [(*own, *rest) for _, *own in parts]
    return _ParallelLoss.apply(loss, arguments, *(x for x, *_ in parts), *(p for p in parameters if p.requires_grad))


def _threads_for(x: Tensor) -> int:
    """How many threads should share clips: 1 where torch had better split each operation itself."""
    if x.device.type != "cpu" or not torch.is_grad_enabled():
        return 1
    return max(1, min(torch.get_num_threads(), len(x), x.numel() // LEAST))


class _ParallelLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, loss: Callable[..., tuple[Tensor, Tensor]], arguments: list[tuple[Any, ...]], *tensors: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Each thread builds a graph of its own, from a leaf of its own, and goes back through it."""
        count = len(arguments)
        clips, parameters = tensors[:count], tensors[count:]
        dtype, enabled = torch.get_autocast_dtype("cpu"), torch.is_autocast_enabled("cpu")

        def part(i: int) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
            with torch.enable_grad(), torch.autocast("cpu", dtype, enabled=enabled):  # each thread has its own
                leaf = clips[i].detach().requires_grad_()
                value, figure = loss(leaf, *arguments[i])
            return value.detach(), figure, torch.autograd.grad(value, (leaf, *parameters))

        values, figures, gradients = zip(*_in_threads(part, count), strict=True)
        of_clips, *of_parameters = zip(*gradients, strict=True)
        ctx.gradients = (*of_clips, *(sum(own[1:], start=own[0]) for own in of_parameters))
        figure = torch.stack(figures).sum()
        ctx.mark_non_differentiable(figure)
        return torch.stack(values).sum(), figure

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Any, ...]:  # pyrefly: ignore[bad-override]
        """What is there, scaled."""
        gradients, ctx.gradients = ctx.gradients, None
        return (None, None, *torch._foreach_mul(gradients, gradient))


def _in_threads(job: Callable[[int], Any], count: int) -> list[Any]:
    """`job(0)`, `job(1)`, ... side by side, each with its share of torch's threads."""
    with torch_threads(max(1, torch.get_num_threads() // count)) as threads:

        def own(i: int) -> Any:
            torch.set_num_threads(threads)  # each thread has a number of its own, but for MKL
            return job(i)

        return list(_pool(os.getpid(), count).map(own, range(count)))


@lru_cache(maxsize=1)
def _pool(process: int, count: int) -> ThreadPoolExecutor:
    """The threads of a process; one that it forks has none of them and makes its own."""
    return ThreadPoolExecutor(count, thread_name_prefix="djinn-clips")
