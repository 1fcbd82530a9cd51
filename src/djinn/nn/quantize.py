"""Codebooks: vectors to the nearest of a few codes, with a gradient that passes straight through."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from djinn.config import QuantizerConfig

ROWS_AT_ONCE = 65_536
"""Vectors compared with the codebook in one product, which bounds the memory of the distances."""


class Quantized(NamedTuple):
    """What a quantizer makes of vectors."""

    vectors: Tensor
    """The chosen codes, `(..., dim)`; gradients pass to the input unchanged (straight-through)."""
    indices: Tensor
    """int64 index of each chosen code, `(...)`."""
    loss: Tensor
    """Commitment loss, and the codebook loss where the codebook learns by gradient; a scalar."""
    counts: Tensor
    """How often each code was chosen in this call, over all ranks in training, float `(codes,)`."""


STATISTICS_DECAY = 0.9
"""Decay of the running mean and spread of a standardized quantizer, which have to keep up with the encoder."""


def _ranks() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _sum_over_ranks(x: Tensor) -> Tensor:
    # Decided at call time: a model may well be built before the process group.
    if _ranks() > 1:
        dist.all_reduce(x)
    return x


def _mean_over_ranks(x: Tensor) -> Tensor:
    """The mean of all ranks' values, with the gradient of one's own."""
    return x if _ranks() == 1 else x + (_sum_over_ranks(x.detach().clone()) / _ranks() - x.detach())


def _from_first_rank(x: Tensor) -> Tensor:
    if _ranks() > 1:
        dist.broadcast(x, 0)
    return x


class VectorQuantizer(nn.Module):
    """The VQ-VAE codebook (van den Oord et al. 2017), learned by moving averages or by gradient.

    With `kind="ema"` the codebook starts from vectors of the first training batch, follows the mean of the vectors that
    choose each code, and a code that almost nothing chooses restarts at a random vector of the batch. With
    `kind="gradient"` the codebook loss of the VQ-VAE moves it. Distances and averages are kept in fp32; counts and sums are
    added over all ranks. There is no branch on data, so a compiled model has no graph break here.

    Args:
        config: size and learning.
    """

    def __init__(self, config: QuantizerConfig) -> None:
        super().__init__()
        assert config.kind in ("ema", "gradient")
        self.config = config
        codebook = torch.randn(config.codes, config.dim)
        if config.kind == "gradient":
            self.codebook = nn.Parameter(codebook * config.dim**-0.5)
        else:
            self.register_buffer("codebook", codebook)
            self.register_buffer("ema_sums", torch.zeros(config.codes, config.dim))
            self.register_buffer("initialized", torch.zeros((), dtype=torch.bool))
        self.register_buffer("ema_counts", torch.zeros(config.codes))
        if config.standardize:
            self.register_buffer("mean", torch.zeros(config.dim))
            self.register_buffer("variance", torch.ones(config.dim))
            self.register_buffer("seen", torch.zeros(()))

    def codes(self) -> Float[Tensor, "codes dim"]:
        """The codebook as it is looked up (unit length with `l2`)."""
        return F.normalize(self.codebook, dim=-1) if self.config.l2 else self.codebook

    def lookup(self, indices: Int[Tensor, "*s"]) -> Float[Tensor, "*s dim"]:
        """The codes at `indices`."""
        return F.embedding(indices, self.codes())

    def forward(self, z: Float[Tensor, "*s dim"]) -> Quantized:
        """Replaces each vector by its nearest code; in training mode the codebook learns."""
        with torch.autocast(z.device.type, enabled=False):
            flat = z.float().flatten(0, -2)
            flat = self._standardize(flat) if self.config.standardize else flat
            flat = F.normalize(flat, dim=-1) if self.config.l2 else flat
            if self.training and self.config.kind == "ema":
                self._start(flat.detach())
            codes = self.codes()
            indices = self._nearest(flat.detach(), codes.detach())
            chosen = F.embedding(indices, codes)
            loss = self.config.commitment * F.mse_loss(flat, chosen.detach())
            if self.config.kind == "gradient":
                loss = loss + F.mse_loss(chosen, flat.detach())
            vectors = flat + (chosen - flat).detach()
            counts = torch.zeros_like(self.ema_counts).index_add_(0, indices, torch.ones_like(flat[:, 0]))
            if self.training:
                self._learn(flat.detach(), indices, counts)
        return Quantized(vectors.view(z.shape), indices.view(z.shape[:-1]), loss, counts)

    def _standardize(self, flat: Tensor) -> Tensor:
        """Zero mean and unit spread in each dimension: the batch's in training, the running ones otherwise."""
        if self.training:
            # The gradient passes through the statistics: without that, nothing would keep the mean, which does not matter
            # to any loss, from running away faster than the running one can follow.
            mean = _mean_over_ranks(flat.mean(0))
            variance = _mean_over_ranks((flat - mean).square().mean(0))
            with torch.no_grad():
                self.seen.add_(1)  # at first the plain mean of what was seen, then a moving average
                weight = torch.maximum(1 / self.seen, torch.full_like(self.seen, 1 - STATISTICS_DECAY))
                self.mean.lerp_(mean, weight)
                self.variance.lerp_(variance, weight)
        else:
            mean, variance = self.mean, self.variance
        return (flat - mean) * (variance + 1e-10).rsqrt()

    @staticmethod
    def _nearest(flat: Tensor, codes: Tensor) -> Tensor:
        bias = -0.5 * codes.square().sum(-1)  # the nearest code has the largest z . c - |c|^2 / 2
        return torch.cat([torch.addmm(bias, part, codes.T).argmax(-1) for part in flat.split(ROWS_AT_ONCE)])

    def _random_rows(self, flat: Tensor) -> Tensor:
        rows = torch.randint(flat.shape[0], (self.config.codes,), device=flat.device)
        return _from_first_rank(flat[rows])

    @torch.no_grad()
    def _start(self, flat: Tensor) -> None:
        rows = self._random_rows(flat)
        self.codebook.copy_(torch.where(self.initialized, self.codebook, rows))
        fresh = float(flat.shape[0]) / self.config.codes
        self.ema_counts.copy_(torch.where(self.initialized, self.ema_counts, torch.full_like(self.ema_counts, fresh)))
        self.ema_sums.copy_(torch.where(self.initialized, self.ema_sums, rows * fresh))
        self.initialized.fill_(True)

    @torch.no_grad()
    def _learn(self, flat: Tensor, indices: Tensor, counts: Tensor) -> None:
        decay = self.config.decay
        _sum_over_ranks(counts)
        self.ema_counts.lerp_(counts, 1 - decay)
        if self.config.kind == "gradient":
            return
        sums = _sum_over_ranks(torch.zeros_like(self.ema_sums).index_add_(0, indices, flat))
        self.ema_sums.lerp_(sums, 1 - decay)
        mean_use = self.ema_counts.mean()
        dead = self.ema_counts < self.config.dead_code_threshold * mean_use
        self.ema_counts.copy_(torch.where(dead, mean_use, self.ema_counts))
        rows = self._random_rows(flat) * mean_use
        self.ema_sums.copy_(torch.where(dead[:, None], rows, self.ema_sums))
        codebook = self.ema_sums / self.ema_counts.clamp_min(1e-6)[:, None]
        self.codebook.copy_(F.normalize(codebook, dim=-1) if self.config.l2 else codebook)


class FSQ(nn.Module):
    """Finite scalar quantization (Mentzer et al. 2023): each dimension is bounded and rounded to one of its levels.

    The codebook is the fixed grid of all combinations, so there is nothing to learn and nothing to collapse.

    Args:
        config: `levels` of each dimension.
    """

    def __init__(self, config: QuantizerConfig) -> None:
        super().__init__()
        assert config.kind == "fsq"
        self.config = config
        levels = torch.tensor(config.levels)
        strides = torch.cat([torch.ones(1, dtype=torch.int64), levels.cumprod(0)[:-1]])
        self.register_buffer("levels", levels, persistent=False)
        self.register_buffer("strides", strides, persistent=False)
        self.register_buffer("ema_counts", torch.zeros(config.codes))

    def codes(self) -> Float[Tensor, "codes dim"]:
        """The whole grid, each dimension in [-1, 1]."""
        return self.lookup(torch.arange(self.config.codes, device=self.ema_counts.device))

    def lookup(self, indices: Int[Tensor, "*s"]) -> Float[Tensor, "*s dim"]:
        """The grid points at `indices`."""
        steps = indices[..., None] // self.strides % self.levels
        return steps / (self.levels - 1) * 2 - 1

    def forward(self, z: Float[Tensor, "*s dim"]) -> Quantized:
        """Rounds each dimension to its nearest level; the gradient passes through the bounding tanh."""
        with torch.autocast(z.device.type, enabled=False):
            unit = (torch.tanh(z.float()) + 1) / 2 * (self.levels - 1)
            steps = unit.detach().round().to(torch.int64)
            indices = (steps * self.strides).sum(-1)
            scaled = unit + (steps - unit).detach()
            vectors = scaled / (self.levels - 1) * 2 - 1
            flat = indices.flatten()
            counts = torch.zeros_like(self.ema_counts).index_add_(0, flat, torch.ones_like(flat, dtype=torch.float32))
            if self.training:
                self.ema_counts.lerp_(_sum_over_ranks(counts), 1 - self.config.decay)
        return Quantized(vectors, indices, z.new_zeros((), dtype=torch.float32), counts)


Quantizer = VectorQuantizer | FSQ


def build_quantizer(config: QuantizerConfig) -> Quantizer:
    """The quantizer that `config` asks for."""
    return FSQ(config) if config.kind == "fsq" else VectorQuantizer(config)
