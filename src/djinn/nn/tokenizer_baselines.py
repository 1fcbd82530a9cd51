"""Transformers of the tokenizer baselines ViT and C-ViViT (paper Table 3).

Both have the interface of `STTransformer`: whole clips or, with a cache, the next frames of a
video.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from djinn.config import TransformerConfig
from djinn.nn.attention import QKNormAttention
from djinn.nn.init import init_linear, init_residual
from djinn.nn.kernels import attention, rotate, squared_relu
from djinn.nn.kv_cache import KVCache, LayerKVCache
from djinn.nn.rotary import mask_to_bias, rotary_table
from djinn.nn.st_transformer import STBlock


class SpatialTransformer(nn.Module):
    """Spatial attention only: each frame is independent of all others (paper Table 3, "ViT").

    Args:
        config: Size of the transformer; `time_every` must be 1.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        assert config.time_every == 1
        self.config = config
        blocks = [STBlock(config, attends_time=False) for _ in range(config.blocks)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(config.d_model, bias=False)
        self.apply(init_linear)
        for block in blocks:
            init_residual(block.residual_layers(), 2 * config.blocks)

    def forward(
        self, x: Float[Tensor, "b t n d"], *, cache: KVCache | None = None, first: int = 0
    ) -> Float[Tensor, "b t n d"]:
        """Transform each frame independently of all others; `cache` and `first` are unused."""
        rotary = rotary_table(torch.arange(x.shape[1], device=x.device), self.config.head_dim)  # unused by the blocks
        for block in self.blocks:
            x = block(x, rotary)
        return self.norm(x)


class FullSpaceTimeTransformer(nn.Module):
    """Attention over all tokens of this frame and of all earlier frames (paper Table 3, "C-ViViT").

    Phenaki's C-ViViT (Villegas et al. 2022) has spatial layers followed by causal temporal layers.
    The paper instead describes its C-ViViT baseline as full space-time attention, whose cost is
    quadratic in the number of frames, and that is what this class implements, causal over frames so
    that it can be played. The paper reports overfitting and strong regularization without details:
    only the stage's `weight_decay` is available here.

    Args:
        config: Size of the transformer; `time_every` must be 1.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        assert config.time_every == 1
        self.config = config
        blocks = [FullSpaceTimeBlock(config) for _ in range(config.blocks)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(config.d_model, bias=False)
        self.apply(init_linear)
        for block in blocks:
            init_residual([block.attention.out, block.ffn_out], 2 * config.blocks)

    def forward(
        self, x: Float[Tensor, "b t n d"], *, cache: KVCache | None = None, first: int = 0
    ) -> Float[Tensor, "b t n d"]:
        """Transform whole clips or, with a cache, the next frames of a video.

        See `STTransformer.forward` for cached passes.

        Args:
            x: Tokens `(b, t, n, d)` of `t` frames. With a full cache, `t` is at most 2.
            cache: Keys and values of earlier frames; modified in place.
            first: Time of the first frame of `x`.
        """
        t, n = x.shape[1:3]
        if cache is None:
            rotary = rotary_table(torch.arange(first, first + t, device=x.device), self.config.head_dim)
            bias = mask_to_bias(torch.ones(t, t, dtype=torch.bool, device=x.device).tril())
            layers = [None] * len(self.blocks)
        else:
            rotary, bias = cache.reserve_slots(len(self.blocks), first, t, self.config.head_dim, x.device)
            layers = cache.layers
        bias = bias.repeat(n, n)
        for block, layer in zip(self.blocks, layers, strict=True):
            x = block(x, rotary, bias, layer)
        return self.norm(x)


class FullSpaceTimeBlock(nn.Module):
    """Full space-time attention and one feed-forward layer, each pre-normed, with residuals."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        d, hidden = config.d_model, round(config.d_model * config.ffn_mult)
        self.norm = nn.LayerNorm(d, bias=False)
        self.attention = FullSpaceTimeAttention(d, config.heads, config.head_dim)
        self.ffn_norm = nn.LayerNorm(d, bias=False)
        self.ffn_in = nn.Linear(d, hidden, bias=False)
        self.ffn_out = nn.Linear(hidden, d, bias=False)

    def forward(
        self,
        x: Float[Tensor, "b t n d"],
        rotary: Float[Tensor, "2 t k"],
        bias: Float[Tensor, "q s"],
        cache: LayerKVCache | None = None,
    ) -> Float[Tensor, "b t n d"]:
        """Transform the tokens of `t` frames; see `FullSpaceTimeAttention.forward`."""
        x = x + self.attention(self.norm(x), rotary, bias, cache)
        return x + self.ffn_out(squared_relu(self.ffn_in(self.ffn_norm(x))))


class FullSpaceTimeAttention(QKNormAttention):
    """Attention to all tokens of this frame and of earlier frames, with rotary positions in time.

    Positions in the frame come only from the `PositionEmbedding2D` at the input.
    """

    def forward(
        self,
        x: Float[Tensor, "b t n d"],
        rotary: Float[Tensor, "2 t k"],
        bias: Float[Tensor, "q s"],
        cache: LayerKVCache | None = None,
    ) -> Float[Tensor, "b t n d"]:
        """Attend from each token to all tokens of its frame and of earlier ones.

        Args:
            x: Tokens of `t` frames.
            rotary: Rotary table of the frames' times (`rotary_table`).
            bias: Added to the scores of a token (row) for another (column): the bias of frames,
                repeated `n` times along both dimensions. With a cache, the columns' frames are its
                slots.
            cache: Keys and values of earlier frames. Those of `x` are written to it first.
        """
        qk, v = self.project(x)
        q, k = rotate(qk, rotary[:, :, None, None, None]).to(v.dtype).unbind(-3)
        q, k, v = (y.permute(0, 3, 2, 1, 4) for y in (q, k, v))  # b h n t k
        if cache is not None:
            k, v = cache.write(k, v)
        y = attention(*(y.flatten(2, 3) for y in (q, k, v)), bias=bias)  # b h (n t) k
        return self.out(y.unflatten(2, q.shape[2:4]).permute(0, 3, 2, 1, 4).flatten(3))
