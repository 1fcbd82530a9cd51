"""Multi-head attention over space or over time, with QK-norm and rotary positions in time.

Shapes: b batch, t frames, n tokens of a frame, d model width, h heads, k width of a head.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from djinn.nn.kernels import attention, qk_norm, rotate
from djinn.nn.kv_cache import LayerKVCache


class QKNormAttention(nn.Module):
    """Projections of multi-head attention with QK-norm; the inner width is `heads * head_dim`.

    Queries and keys are normalized per head. Learned scales per head control how peaked the
    attention is (Henry et al. 2020, cited by the paper for its QK-norm, section 3).
    """

    def __init__(self, d_model: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, head_dim
        self.qkv = nn.Linear(d_model, 3 * heads * head_dim, bias=False)
        self.out = nn.Linear(heads * head_dim, d_model, bias=False)
        self.qk_scale = nn.Parameter(torch.ones(2, heads, 1))

    def project(self, x: Float[Tensor, "*s d"]) -> tuple[Float[Tensor, "*s 2 h k"], Float[Tensor, "*s h k"]]:
        """Return normalized queries and keys in fp32, and values."""
        qk, v = self.qkv(x).unflatten(-1, (3, self.heads, self.head_dim)).split((2, 1), dim=-3)
        return qk_norm(qk.float(), self.qk_scale), v.squeeze(-3)


class SpatialAttention(QKNormAttention):
    """Full attention among the tokens of each frame (paper section 2: over 1 x H x W)."""

    def forward(self, x: Float[Tensor, "b t n d"]) -> Float[Tensor, "b t n d"]:
        """Attend from each token to all tokens of its frame."""
        b, t = x.shape[:2]
        qk, v = self.project(x)
        q, k = qk.to(v.dtype).unbind(-3)
        y = attention(*(y.flatten(0, 1).transpose(1, 2) for y in (q, k, v)))  # (b t) h n k
        return self.out(y.transpose(1, 2).flatten(2).unflatten(0, (b, t)))


class TemporalAttention(QKNormAttention):
    """Causal attention along time at each position (paper section 2: over T x 1 x 1)."""

    def forward(
        self,
        x: Float[Tensor, "b t n d"],
        rotary: Float[Tensor, "2 t k"],
        bias: Float[Tensor, "t s"] | None = None,
        cache: LayerKVCache | None = None,
    ) -> Float[Tensor, "b t n d"]:
        """Attend from each token to the tokens at its position in this frame and earlier ones.

        Args:
            x: Tokens of `t` frames.
            rotary: Rotary table of the frames' times (`rotary_table`).
            bias: Added to the scores of a frame (row) for another (column): 0 or minus infinity
                (`mask_to_bias`). With a cache, columns are its slots. None is causal attention.
            cache: Keys and values of earlier frames. Those of `x` are written to it first.
        """
        qk, v = self.project(x)
        q, k = rotate(qk, rotary[:, :, None, None, None]).to(v.dtype).unbind(-3)
        q, k, v = (y.permute(0, 2, 3, 1, 4) for y in (q, k, v))  # b n h t k
        if cache is not None:
            k, v = cache.write(k, v)  # b n h s k
        y = attention(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), bias=bias, causal=bias is None)
        y = y.unflatten(0, (x.shape[0], x.shape[2]))  # b n h t k
        return self.out(y.permute(0, 3, 1, 2, 4).flatten(3))
