"""Multi-head attention over space or over time, with QK-norm and rotary time positions.

Shapes: b batch, t frames, n positions in a frame, d model width, h heads, k width of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from djinn.nn.cache import CacheLayer

MAX_SDPA_BATCH = 65_535
"""CUDA's attention kernels fail for a larger batch (pytorch#142228); attention over time has one of b * n."""


def attend(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None, causal: bool = False) -> Tensor:
    """Scaled dot-product attention over `(batch, heads, length, width)`, chunked so that the batch stays legal on CUDA."""
    if (
        mask is not None and q.shape[2] <= 2 and q.device.type == "cpu"
    ):  # a new frame and its cache: too few queries to tile
        scores = torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(-1, -2)).masked_fill(~mask, -torch.inf)
        return torch.softmax(scores, dim=-1) @ v
    if q.shape[0] <= MAX_SDPA_BATCH:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
    parts = zip(q.split(MAX_SDPA_BATCH), k.split(MAX_SDPA_BATCH), v.split(MAX_SDPA_BATCH), strict=True)
    return torch.cat([F.scaled_dot_product_attention(*p, attn_mask=mask, is_causal=causal) for p in parts])


class _Attention(nn.Module):
    """Projections and QK-norm, shared by both directions; the inner width is `heads * head_dim`.

    Queries and keys are normalised per head and a learned scale per head sets how sharp attention is (Henry et al. 2020, the
    source of the paper's QK-norm, section 3).
    """

    def __init__(self, d_model: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, head_dim
        self.qkv = nn.Linear(d_model, 3 * heads * head_dim, bias=False)
        self.out = nn.Linear(heads * head_dim, d_model, bias=False)
        self.sharpness = nn.Parameter(torch.ones(heads, 1))

    def project(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised queries and keys `(..., 2, heads, head_dim)` in fp32, and values `(..., heads, head_dim)`."""
        qk, v = self.qkv(x).unflatten(-1, (3, self.heads, self.head_dim)).split((2, 1), dim=-3)
        qk = qk.float()
        length = torch.linalg.vector_norm(qk, dim=-1, keepdim=True) + 1e-6
        scale = self.head_dim**0.5 * torch.stack([self.sharpness, torch.ones_like(self.sharpness)])
        return qk * (scale / length), v.squeeze(-3)


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
        mask: Bool[Tensor, "t s"] | None = None,
        cache: CacheLayer | None = None,
    ) -> Float[Tensor, "b t n d"]:
        """Every token sees its own position in this frame and in those before it.

        Args:
            x: tokens.
            rotary: cosine and sine of each frame's time (`rotary_table`).
            mask: which frames (columns) a frame (row) sees; None is causal. With a cache the columns are its slots.
            cache: keys and values of earlier frames; those of `x` are written to it first.
        """
        qk, v = self.project(x)
        q, k = rotate(qk, rotary[:, :, None, None, None]).to(v.dtype).unbind(-3)
        q, k, v = (y.permute(0, 2, 3, 1, 4) for y in (q, k, v))  # b n h t k
        if cache is not None:
            k, v = cache.write(k, v)
        y = attend(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), mask=mask, causal=mask is None)
        y = y.unflatten(0, (x.shape[0], x.shape[2]))  # b n h t k
        return self.out(y.permute(0, 3, 1, 2, 4).flatten(3))


def rotary_table(times: Tensor, head_dim: int, base: float = 100.0) -> Float[Tensor, "2 t k"]:
    """Cosines and signed sines that turn a vector by its frame's time (see `rotate`).

    The slowest turn has a wavelength of about `2 * pi * base` frames, well beyond any window used. Angles are computed in
    float64, so that a session's ever-growing time costs no precision.
    """
    half = head_dim // 2
    speed = base ** -(torch.arange(half, dtype=torch.float64, device=times.device) / half)
    angle = times.to(torch.float64)[:, None] * speed
    sine = angle.sin()
    return torch.stack([angle.cos().repeat(1, 2), torch.cat([-sine, sine], dim=1)]).float()


def rotate(x: Float[Tensor, "*s k"], rotary: Float[Tensor, "2 *#s k"]) -> Float[Tensor, "*s k"]:
    """Rotary position embedding (Su et al. 2021): dot products then depend on time differences alone.

    Dimension i turns together with dimension i + k/2.
    """
    return torch.addcmul(x * rotary[0], x.roll(x.shape[-1] // 2, -1), rotary[1])
