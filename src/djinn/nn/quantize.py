"""Vector quantization: nearest-neighbor codebooks and finite scalar quantization."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from djinn.config import QuantizerConfig

DISTANCE_CHUNK = 65_536
"""Vectors compared with the codebook in one matrix product; bounds the memory of the distances."""
STATISTICS_DECAY = 0.9
"""Decay of the running mean and variance with `standardize`, low enough to follow the encoder."""


class Quantized(NamedTuple):
    """Result of a quantizer."""

    vectors: Tensor
    """Codes of the inputs, `(..., dim)`, with a straight-through gradient."""
    indices: Tensor
    """Indices of the codes, int64 `(...)`."""
    loss: Tensor
    """Commitment loss, plus the codebook loss with `kind="gradient"`; a scalar."""
    counts: Tensor
    """Number of inputs with each code, float `(codes,)`; in training mode summed over all ranks."""


def _world_size() -> int:
    # Read in each call: a model may be built before the process group is.
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _sum_over_ranks(x: Tensor) -> Tensor:
    if _world_size() > 1:
        dist.all_reduce(x)
    return x


class _MeanOverRanks(torch.autograd.Function):
    """Mean over ranks, whose gradient is the mean of the ranks' gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _sum_over_ranks(x.clone()) / _world_size()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # pyrefly: ignore[bad-override]
        return _sum_over_ranks(gradient.clone()) / _world_size()


def _mean_over_ranks(x: Tensor) -> Tensor:
    return x if _world_size() == 1 else _MeanOverRanks.apply(x)


class VectorQuantizer(nn.Module):
    """VQ-VAE codebook (van den Oord et al. 2017), updated by moving averages or by gradient.

    With `kind="ema"` the codebook is initialized with vectors of the first training batch. Each
    code then follows the mean of the vectors assigned to it, and a rarely used code is restarted at
    a random vector of the batch. With `kind="gradient"` the codebook loss updates it.

    In training mode a call is one step over the batches of all ranks: statistics, updates and
    random draws are those of the concatenated batch. Call it once per optimizer step. The
    arithmetic is fp32. There is no branch on data, so compilation needs no graph break.

    Args:
        config: Size of the codebook and its update rule.
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
        """Return the codebook that `lookup` reads, normalized to unit length with `l2`."""
        return F.normalize(self.codebook, dim=-1) if self.config.l2 else self.codebook

    def lookup(self, indices: Int[Tensor, "*s"]) -> Float[Tensor, "*s dim"]:
        """Return the codes at `indices`."""
        return F.embedding(indices, self.codes())

    def forward(self, z: Float[Tensor, "*s dim"]) -> Quantized:
        """Replace each vector by its nearest code; in training mode, update the codebook."""
        with torch.autocast(z.device.type, enabled=False):
            flat = z.float().flatten(0, -2)
            flat = self._standardize(flat) if self.config.standardize else flat
            flat = F.normalize(flat, dim=-1) if self.config.l2 else flat
            if self.training and self.config.kind == "ema":
                self._initialize(flat.detach())
            codes = self.codes()
            indices = self._nearest(flat.detach(), codes.detach())
            chosen = F.embedding(indices, codes)
            loss = self.config.commitment * F.mse_loss(flat, chosen.detach())
            if self.config.kind == "gradient":
                loss = loss + F.mse_loss(chosen, flat.detach())
            vectors = flat + (chosen - flat).detach()
            counts = torch.zeros_like(self.ema_counts).index_add_(0, indices, torch.ones_like(flat[:, 0]))
            if self.training:
                self._update_codebook(flat.detach(), indices, counts)
        return Quantized(vectors.view(z.shape), indices.view(z.shape[:-1]), loss, counts)

    def _standardize(self, flat: Tensor) -> Tensor:
        """Shift and scale each dimension to zero mean and unit variance.

        In training mode with the statistics of the batch, else with the running ones.
        """
        if self.training:
            # The gradient flows through the statistics. No loss depends on the mean, so without
            # this gradient it could drift faster than the running mean follows.
            mean = _mean_over_ranks(flat.mean(0))
            variance = _mean_over_ranks((flat - mean).square().mean(0))
            with torch.no_grad():
                self.seen.add_(1)  # a cumulative mean at first, a moving average later
                weight = torch.maximum(1 / self.seen, torch.full_like(self.seen, 1 - STATISTICS_DECAY))
                self.mean.lerp_(mean, weight)
                self.variance.lerp_(variance, weight)
        else:
            mean, variance = self.mean, self.variance
        return (flat - mean) * (variance + 1e-10).rsqrt()

    @staticmethod
    def _nearest(flat: Tensor, codes: Tensor) -> Tensor:
        bias = -0.5 * codes.square().sum(-1)  # argmin |z - c|^2 = argmax (z . c - |c|^2 / 2)
        return torch.cat([torch.addmm(bias, part, codes.T).argmax(-1) for part in flat.split(DISTANCE_CHUNK)])

    def _random_rows(self, flat: Tensor) -> Tensor:
        """Draw one vector per code from the batch of all ranks, `(codes, dim)`."""
        ranks, rows = _world_size(), len(flat)
        drawn = torch.randint(rows * ranks, (self.config.codes,), device=flat.device)
        if ranks == 1:
            return flat[drawn]
        dist.broadcast(drawn, 0)
        local = drawn - dist.get_rank() * rows
        held = (local >= 0) & (local < rows)  # each drawn row is held by exactly one rank
        return _sum_over_ranks(torch.where(held[:, None], flat[local.clamp(0, rows - 1)], 0.0))

    @torch.no_grad()
    def _initialize(self, flat: Tensor) -> None:
        """Initialize the codebook from the first batch; no effect in later calls."""
        rows = self._random_rows(flat)
        count = float(flat.shape[0] * _world_size()) / self.config.codes
        self.codebook.copy_(torch.where(self.initialized, self.codebook, rows))
        self.ema_counts.copy_(torch.where(self.initialized, self.ema_counts, torch.full_like(self.ema_counts, count)))
        self.ema_sums.copy_(torch.where(self.initialized, self.ema_sums, rows * count))
        self.initialized.fill_(True)

    @torch.no_grad()
    def _update_codebook(self, flat: Tensor, indices: Tensor, counts: Tensor) -> None:
        """Update moving averages and codebook, and restart dead codes; sums `counts` over ranks."""
        decay = self.config.decay
        _sum_over_ranks(counts)
        self.ema_counts.lerp_(counts, 1 - decay)
        if self.config.kind == "gradient":
            return
        sums = _sum_over_ranks(torch.zeros_like(self.ema_sums).index_add_(0, indices, flat))
        self.ema_sums.lerp_(sums, 1 - decay)
        mean_count = self.ema_counts.mean()
        dead = self.ema_counts < self.config.dead_code_threshold * mean_count
        self.ema_counts.copy_(torch.where(dead, mean_count, self.ema_counts))
        rows = self._random_rows(flat) * mean_count
        self.ema_sums.copy_(torch.where(dead[:, None], rows, self.ema_sums))
        codebook = self.ema_sums / self.ema_counts.clamp_min(1e-6)[:, None]
        self.codebook.copy_(F.normalize(codebook, dim=-1) if self.config.l2 else codebook)


class FSQ(nn.Module):
    """Finite scalar quantization (Mentzer et al. 2023): round each dimension to one of its levels.

    The codebook is the fixed grid of all combinations of levels, so it can neither be trained nor
    collapse.

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
        """Return all points of the grid, each coordinate in [-1, 1]."""
        return self.lookup(torch.arange(self.config.codes, device=self.ema_counts.device))

    def lookup(self, indices: Int[Tensor, "*s"]) -> Float[Tensor, "*s dim"]:
        """Return the grid points at `indices`."""
        steps = indices[..., None] // self.strides % self.levels
        return steps / (self.levels - 1) * 2 - 1

    def forward(self, z: Float[Tensor, "*s dim"]) -> Quantized:
        """Bound each dimension by tanh and round it, with a straight-through gradient."""
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
    """Build the quantizer of `config.kind`."""
    return FSQ(config) if config.kind == "fsq" else VectorQuantizer(config)
