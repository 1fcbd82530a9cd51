"""Gradients of one optimizer step over all ranks."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from djinn.train.ranks import Ranks
from djinn.train.stages.stage import ForwardContext, Metrics, Stage, StepBatch


class Parallel(Protocol):
    """A stage, replicated or sharded over ranks."""

    def backward(self, batches: Sequence[StepBatch], forward_context: ForwardContext) -> tuple[Tensor, Metrics]:
        """Run the forward and backward passes of one optimizer step.

        Afterwards the parameters have the gradient of the mean loss over the global batch.

        Args:
            batches: This rank's clips in equal parts, one per accumulated pass.
            forward_context: Context of the forward passes.

        Returns:
            Mean loss of this rank's clips, detached, and metrics to log.
        """
        ...


def parallelize(stage: Stage, ranks: Ranks) -> Parallel:
    """Prepare a stage for training on all ranks: one process, or data parallelism."""
    return SingleProcess(stage) if ranks.count == 1 else DataParallel(stage, ranks)


class SingleProcess:
    """Training in one process."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    def backward(self, batches: Sequence[StepBatch], forward_context: ForwardContext) -> tuple[Tensor, Metrics]:
        """Run the passes of one optimizer step; see `Parallel.backward`."""
        if len(batches) > 1:
            return self.stage.accumulate(batches, forward_context)
        with forward_context():
            loss, metrics = self.stage.loss(batches[0])
        loss.backward()
        return loss.detach(), metrics


class DataParallel:
    """Data-parallel training by `DistributedDataParallel`, each rank with a replica of the weights.

    With gradient accumulation the gradients are averaged once, after the last pass, without
    `DistributedDataParallel`: `Stage.accumulate` may run several backward passes over each weight.
    """

    def __init__(self, stage: Stage, ranks: Ranks) -> None:
        self.stage, self.ranks = stage, ranks
        # Buffers are not broadcast: quantizers sum their statistics over ranks and stay equal.
        known = inspect.signature(DistributedDataParallel).parameters
        sync = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"  # renamed in torch
        options: dict[str, Any] = {sync: False}
        self._replica = DistributedDataParallel(_StageLoss(stage), find_unused_parameters=False, **options)

    def backward(self, batches: Sequence[StepBatch], forward_context: ForwardContext) -> tuple[Tensor, Metrics]:
        """Run the passes of one optimizer step; see `Parallel.backward`."""
        if len(batches) == 1:
            with forward_context():
                loss, metrics = self._replica(batches[0])
            loss.backward()
            return loss.detach(), metrics
        loss, metrics = self.stage.accumulate(batches, forward_context)
        self._average_gradients()
        return loss, metrics

    def _average_gradients(self) -> None:
        gradients = [p.grad for p in self.stage.module.parameters() if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        flat /= self.ranks.count
        for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))


class _StageLoss(nn.Module):
    """A stage's loss as a module, the form that `DistributedDataParallel` wraps."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.module = stage.module
        self._loss = stage.loss

    def forward(self, batch: StepBatch) -> tuple[Tensor, Metrics]:
        return self._loss(batch)
