"""Multi-head attention over space or over time, with QK-norm and rotary time positions.

Shapes: b batch, t frames, n positions in a frame, d model width, h heads, k width of a head.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from djinn.nn.kv_cache import LayerKVCache
from djinn.nn.rotary import rotate

MAX_SDPA_BATCH = 65_535
"""CUDA's attention kernels fail for a larger batch (pytorch#142228); attention over time has one of b * n."""


def attend(q: Tensor, k: Tensor, v: Tensor, *, bias: Tensor | None = None, causal: bool = False) -> Tensor:
    """Attention of queries and keys of a learned length, `(batch, heads, length, width)`; chunked so that CUDA takes the batch.

    Scores are multiplied by the root of the width, so that they start in its usual range; `bias` is added to them.
    """
    if q.device.type == "cpu" and torch.is_autocast_enabled("cpu"):  # in bf16 it takes 16 times as long there
        with torch.autocast("cpu", enabled=False):
            return attend(q.float(), k.float(), v.float(), bias=bias, causal=causal)
    scale = q.shape[-1] ** 0.5
    if bias is not None and q.shape[2] <= 2 and q.device.type == "cpu":  # a new frame and its cache: too few to tile
        scores = torch.baddbmm(bias, q.flatten(0, 1), k.flatten(0, 1).transpose(1, 2), alpha=scale)
        return torch.bmm(scores.softmax(-1), v.flatten(0, 1)).view_as(q)
    if q.shape[0] <= MAX_SDPA_BATCH:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, is_causal=causal, scale=scale)
    parts = zip(q.split(MAX_SDPA_BATCH), k.split(MAX_SDPA_BATCH), v.split(MAX_SDPA_BATCH), strict=True)
    return torch.cat([attend(*part, bias=bias, causal=causal) for part in parts])


class QKNorm(torch.autograd.Function):
    """Scales vectors to length `qk_scale`, with a backward pass of half the memory traffic of the one derived from it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, qk_scale: Tensor) -> Tensor:
        """Vectors `(..., k)` and their lengths, broadcast against `(..., 1)`."""
        inverse = (torch.linalg.vector_norm(x, dim=-1, keepdim=True) + 1e-6).reciprocal_()
        scale = qk_scale * inverse
        ctx.save_for_backward(x, inverse, scale)
        return x * scale

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:  # pyrefly: ignore[bad-override]
        """With u the unit vector: `(g - u (g.u)) * scale` for the vectors, and g.u for the lengths."""
        x, inverse, scale = ctx.saved_tensors
        along = (gradient * x).sum(-1, keepdim=True) * inverse
        of_x = (gradient * scale).addcmul_(x, along * inverse * scale, value=-1)
        return of_x, along.flatten(0, -4).sum(0)


def qk_norm(x: Float[Tensor, "*s h k"], qk_scale: Float[Tensor, "*#s h 1"]) -> Float[Tensor, "*s h k"]:
    """Vectors of length `qk_scale` in the direction of `x`."""
    if torch.is_grad_enabled():
        return QKNorm.apply(x, qk_scale)
    return x * (qk_scale / (torch.linalg.vector_norm(x, dim=-1, keepdim=True) + 1e-6))


class _Attention(nn.Module):
    """Projections and QK-norm, shared by both directions; the inner width is `heads * head_dim`.

    Queries and keys are normalised per head, and learned lengths per head set how sharp attention is (Henry et al. 2020, the
    source of the paper's QK-norm, section 3).
    """

    def __init__(self, d_model: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, head_dim
        self.qkv = nn.Linear(d_model, 3 * heads * head_dim, bias=False)
        self.out = nn.Linear(heads * head_dim, d_model, bias=False)
        self.qk_scale = nn.Parameter(torch.ones(2, heads, 1))

    def project(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised queries and keys `(..., 2, heads, head_dim)` in fp32, and values `(..., heads, head_dim)`."""
        qk, v = self.qkv(x).unflatten(-1, (3, self.heads, self.head_dim)).split((2, 1), dim=-3)
        return qk_norm(qk.float(), self.qk_scale), v.squeeze(-3)


class SpatialAttention(_Attention):
    """Full attention among the tokens of one frame (paper section 2: over 1 x H x W)."""

    def forward(self, x: Float[Tensor, "b t n d"]) -> Float[Tensor, "b t n d"]:
        """Every token sees every token of its own frame, and none of another frame."""
        b, t = x.shape[:2]
        qk, v = self.project(x)
        q, k = qk.to(v.dtype).unbind(-3)
        y = attend(*(y.flatten(0, 1).transpose(1, 2) for y in (q, k, v)))  # (b t) h n k
        return self.out(y.transpose(1, 2).flatten(2).unflatten(0, (b, t)))


class TemporalAttention(_Attention):
    """Causal attention along time at one position (paper section 2: over T x 1 x 1), with rotary relative positions."""

    def forward(
        self,
        x: Float[Tensor, "b t n d"],
        rotary: Float[Tensor, "2 t k"],
        bias: Float[Tensor, "t s"] | None = None,
        cache: LayerKVCache | None = None,
    ) -> Float[Tensor, "b t n d"]:
        """Every token sees its own position in this frame and in those before it.

        Args:
            x: tokens.
            rotary: cosine and sine of each frame's time (`rotary_table`).
            bias: added to the scores of a frame (row) for another (column): 0 where it sees it and minus infinity where it
                does not; None is causal. With a cache the columns are its slots.
            cache: keys and values of earlier frames; those of `x` are written to it first.
        """
        qk, v = self.project(x)
        q, k = rotate(qk, rotary[:, :, None, None, None]).to(v.dtype).unbind(-3)
        q, k, v = (y.permute(0, 2, 3, 1, 4) for y in (q, k, v))  # b n h t k
        if cache is not None:
            k, v = cache.write(k, v)
        y = attend(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), bias=bias, causal=bias is None)
        y = y.unflatten(0, (x.shape[0], x.shape[2]))  # b n h t k
        return self.out(y.permute(0, 3, 1, 2, 4).flatten(3))
