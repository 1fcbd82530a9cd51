"""Kernels with a hand-written backward pass or a CPU-specific path, each beside its plain formula.

Layers call `attention`, `qk_norm`, `rotate` and `squared_relu`. Each is equal to the `plain_`
function above it, in value and gradient (tests/nn/test_kernels.py), and needs less time or memory
traffic.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

MAX_SDPA_BATCH = 65_535
"""Largest batch of CUDA's attention kernels (pytorch#142228). Temporal attention has a batch of
`b * n`."""


def plain_attention(
    q: Float[Tensor, "b h q k"],
    k: Float[Tensor, "b h s k"],
    v: Float[Tensor, "b h s k"],
    *,
    bias: Float[Tensor, "q s"] | None = None,
    causal: bool = False,
) -> Float[Tensor, "b h q k"]:
    """Compute `softmax(sqrt(k) * q k^T + bias) v`.

    Queries and keys have the learned length of `qk_norm`, so scores are scaled up, not down: at the
    initial length of 1 they have the standard deviation of scaled dot-product attention.
    """
    scores = q.shape[-1] ** 0.5 * q @ k.transpose(-1, -2)
    if causal:
        scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -torch.inf)
    return (scores if bias is None else scores + bias).softmax(-1) @ v


def attention(q: Tensor, k: Tensor, v: Tensor, *, bias: Tensor | None = None, causal: bool = False) -> Tensor:
    """Compute `plain_attention` with torch's fused kernels.

    On a CPU it runs in fp32 even under autocast, because the fused kernel takes 16 times as long in
    bf16. One or two queries, which do not fill the tiles of the fused kernel, bypass it. On CUDA
    large batches are split.
    """
    if q.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        with torch.autocast("cpu", enabled=False):
            return attention(q.float(), k.float(), v.float(), bias=bias, causal=causal)
    scale = q.shape[-1] ** 0.5
    if bias is not None and q.shape[2] <= 2 and q.device.type == "cpu":
        scores = torch.baddbmm(bias, q.flatten(0, 1), k.flatten(0, 1).transpose(1, 2), alpha=scale)
        return torch.bmm(scores.softmax(-1), v.flatten(0, 1)).view_as(q)
    if q.shape[0] <= MAX_SDPA_BATCH:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, is_causal=causal, scale=scale)
    parts = zip(q.split(MAX_SDPA_BATCH), k.split(MAX_SDPA_BATCH), v.split(MAX_SDPA_BATCH), strict=True)
    return torch.cat([attention(*part, bias=bias, causal=causal) for part in parts])


def plain_qk_norm(x: Float[Tensor, "*s h k"], qk_scale: Float[Tensor, "*#s h 1"]) -> Float[Tensor, "*s h k"]:
    """Scale vectors to the length `qk_scale` (Henry et al. 2020)."""
    return x * (qk_scale / (torch.linalg.vector_norm(x, dim=-1, keepdim=True) + 1e-6))


class _QKNorm(torch.autograd.Function):
    """QK-norm whose backward pass has half the memory traffic of autograd's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, qk_scale: Tensor) -> Tensor:
        inverse = (torch.linalg.vector_norm(x, dim=-1, keepdim=True) + 1e-6).reciprocal_()
        scale = qk_scale * inverse
        ctx.save_for_backward(x, inverse, scale)
        return x * scale

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:  # pyrefly: ignore[bad-override]
        """Return `(g - u (g . u)) s / |x|` for `x` and `g . u` for `s`, with `u = x / |x|`."""
        x, inverse, scale = ctx.saved_tensors
        along = (gradient * x).sum(-1, keepdim=True) * inverse
        x_gradient = (gradient * scale).addcmul_(x, along * inverse * scale, value=-1)
        return x_gradient, along.flatten(0, -4).sum(0)


def qk_norm(x: Float[Tensor, "*s h k"], qk_scale: Float[Tensor, "*#s h 1"]) -> Float[Tensor, "*s h k"]:
    """Scale vectors to the length `qk_scale`, as `plain_qk_norm`."""
    return _QKNorm.apply(x, qk_scale) if torch.is_grad_enabled() else plain_qk_norm(x, qk_scale)


def plain_rotate(x: Float[Tensor, "*s k"], rotary: Float[Tensor, "2 *#s k"]) -> Float[Tensor, "*s k"]:
    """Apply the rotary position embedding (Su et al. 2021) to pairs of dimensions `i, i + k / 2`.

    Args:
        x: Queries or keys.
        rotary: Cosines and signed sines of the angles; see `djinn.nn.rotary.rotary_table`.
    """
    return torch.addcmul(x * rotary[0], x.roll(x.shape[-1] // 2, -1), rotary[1])


class _Rotate(torch.autograd.Function):
    """Rotation that saves the table only: its gradient is the opposite rotation."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rotary: Tensor) -> Tensor:
        ctx.save_for_backward(rotary)
        return plain_rotate(x, rotary)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # pyrefly: ignore[bad-override]
        (rotary,) = ctx.saved_tensors
        return plain_rotate(gradient, torch.stack([rotary[0], -rotary[1]])), None


def rotate(x: Float[Tensor, "*s k"], rotary: Float[Tensor, "2 *#s k"]) -> Float[Tensor, "*s k"]:
    """Apply the rotary position embedding, as `plain_rotate`."""
    return _Rotate.apply(x, rotary) if torch.is_grad_enabled() else plain_rotate(x, rotary)


def plain_squared_relu(x: Float[Tensor, "*s d"]) -> Float[Tensor, "*s d"]:
    """Compute `relu(x) ** 2` (So et al. 2021)."""
    return F.relu(x).square()


class _SquaredReLU(torch.autograd.Function):
    """Squared ReLU that saves the ReLU only: half the memory traffic of autograd's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        relu = F.relu(x)
        ctx.save_for_backward(relu)
        return relu * relu

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # pyrefly: ignore[bad-override]
        (relu,) = ctx.saved_tensors
        return (gradient * relu).mul_(2)


def squared_relu(x: Float[Tensor, "*s d"]) -> Float[Tensor, "*s d"]:
    """Compute `plain_squared_relu`; in place, overwriting `x`, when gradients are disabled."""
    return _SquaredReLU.apply(x) if torch.is_grad_enabled() else x.relu_().square_()
