"""Stages with a quantizer, whose batch statistics and codebook couple the clips of a step."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from djinn.nn.quantize import Quantized, Quantizer
from djinn.train.stages.stage import ForwardContext, Metrics, Stage, StepBatch, mean_metrics

Inputs = TypeVar("Inputs")


class QuantizingStage(Stage, Generic[Inputs]):
    """A stage whose model has an encoder, a quantizer and layers after it.

    The quantizer runs once per optimizer step, on the latents of all clips. Its batch statistics
    (`standardize`), codebook updates and restarts are then those of the global batch, however it is
    divided into passes and ranks.
    """

    @property
    @abstractmethod
    def quantizer(self) -> Quantizer:
        """Quantizer that is trained."""

    @abstractmethod
    def prepare(self, batch: StepBatch) -> Inputs:
        """Return the model's inputs, without gradient."""

    @abstractmethod
    def latents(self, inputs: Inputs) -> Tensor:
        """Return the encoder's outputs before quantization, `(B, ..., dim)`."""

    @abstractmethod
    def loss_after_quantizer(self, inputs: Inputs, quantized: Quantized) -> tuple[Tensor, Metrics]:
        """Return the loss, `quantized.loss` included, and metrics to log."""

    @abstractmethod
    def code_metrics(self, quantized: Quantized) -> Metrics:
        """Return metrics of the quantizer to log, called once per optimizer step."""

    def loss(self, batch: StepBatch) -> tuple[Tensor, Metrics]:
        """Return the loss of one pass with all of this rank's clips, and metrics to log."""
        inputs = self.prepare(batch)
        quantized = self.quantizer(self.latents(inputs))
        loss, metrics = self.loss_after_quantizer(inputs, quantized)
        return loss, {**metrics, **self.code_metrics(quantized)}

    def accumulate(self, batches: Sequence[StepBatch], forward_context: ForwardContext) -> tuple[Tensor, Metrics]:
        """Accumulate the gradients of the loss of all clips; see `Stage.accumulate`.

        The encoder runs on each part with activation checkpointing, and the quantizer on the
        latents of all parts. What follows the quantizer runs part by part, forward and backward.
        The gradients of the quantized vectors then go through the quantizer and, part by part,
        through the recomputed encoder. Memory is that of one part, and the encoder's forward pass
        runs twice.
        """
        with forward_context():
            inputs = [self.prepare(batch) for batch in batches]
            latents = [checkpoint(self.latents, part, use_reentrant=False, preserve_rng_state=False) for part in inputs]
            quantized = self.quantizer(torch.cat(latents))
        vectors = quantized.vectors.detach().requires_grad_()
        size, passes = len(batches[0]), []
        for part, codes, indices in zip(inputs, vectors.split(size), quantized.indices.split(size), strict=True):
            with forward_context():
                loss, metrics = self.loss_after_quantizer(
                    part, Quantized(codes, indices, quantized.loss.detach(), quantized.counts)
                )
            (loss / len(batches)).backward()
            passes.append({**metrics, "loss": loss.detach()})
        outputs, gradients = [quantized.vectors], [vectors.grad]
        if quantized.loss.requires_grad:
            outputs, gradients = [*outputs, quantized.loss], [*gradients, None]
        torch.autograd.backward(outputs, gradients)
        means = mean_metrics(passes)
        return torch.as_tensor(means.pop("loss")), {**means, **self.code_metrics(quantized)}
