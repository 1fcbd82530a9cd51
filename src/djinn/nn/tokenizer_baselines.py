"""The transformers of the two tokenizers that the paper measures its own against (Table 3): one attention in each block.

Both have the interface of `STTransformer`: whole clips or, with a cache, the next frames of a video.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from djinn.config import TransformerConfig
from djinn.nn.attention import _Attention, attend
from djinn.nn.kv_cache import KVCache, LayerKVCache
from djinn.nn.rotary import as_bias, rotary_table, rotate
from djinn.nn.st_transformer import STBlock, init_linear, squared_relu


class SpatialTransformer(nn.Module):
    """Attention over space alone, as in ViT: each frame by itself (paper Table 3, "ViT").

    Args:
        config: its size; `time_every` has no meaning here and must be 1.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        assert config.time_every == 1
        self.config = config
        blocks = [STBlock(config, attends_time=False) for _ in range(config.blocks)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(config.d_model, bias=False)
        self.apply(init_linear)
        _start([layer for block in blocks for layer in (block.space.out, block.ffn_out)])

    def forward(
        self, x: Float[Tensor, "b t n d"], *, cache: KVCache | None = None, first: int = 0
    ) -> Float[Tensor, "b t n d"]:
        """Transform each frame independently of all others; `cache` and `first` are unused."""
        rotary = rotary_table(torch.arange(x.shape[1], device=x.device), self.config.head_dim)  # turns nothing here
        for block in self.blocks:
            x = block(x, rotary)
        return self.norm(x)


class FullSpaceTimeTransformer(nn.Module):
    """Attention over all tokens of this frame and of those before it at once, as the paper has it of C-ViViT (Table 3).

    Phenaki's C-ViViT (Villegas et al. 2022) attends over space in its first layers and causally over time in its last ones.
    The paper, though, compares with "full space-time attention", which takes more memory than its own and whose cost grows
    with the square of the number of frames; so that is what this is, causal by frames so that it can be played. The paper
    found that it overfits and needs strong regularisation, but does not say which: none is built in, `weight_decay` of the
    stage is there.

    Args:
        config: its size; `time_every` has no meaning here and must be 1.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        assert config.time_every == 1
        self.config = config
        blocks = [FullSpaceTimeBlock(config) for _ in range(config.blocks)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(config.d_model, bias=False)
        self.apply(init_linear)
        _start([layer for block in blocks for layer in (block.attention.out, block.ffn_out)])

    def forward(
        self, x: Float[Tensor, "b t n d"], *, cache: KVCache | None = None, first: int = 0
    ) -> Float[Tensor, "b t n d"]:
        """Transform whole clips or, with a cache, the next frames of a video; see `STTransformer.forward`.

        Args:
            x: Tokens `(b, t, n, d)` of `t` frames. With a full cache, `t` is at most 2.
            cache: Keys and values of earlier frames; modified in place.
            first: Time of the first frame of `x`.
        """
        t, n = x.shape[1:3]
        if cache is None:
            rotary = rotary_table(torch.arange(first, first + t, device=x.device), self.config.head_dim)
            bias = as_bias(torch.ones(t, t, dtype=torch.bool, device=x.device).tril())
            layers = [None] * len(self.blocks)
        else:
            rotary, bias = cache.reserve_slots(len(self.blocks), first, t, self.config.head_dim, x.device)
            layers = cache.layers
        bias = bias.repeat(n, n)
        for block, layer in zip(self.blocks, layers, strict=True):
            x = block(x, rotary, bias, layer)
        return self.norm(x)


class FullSpaceTimeBlock(nn.Module):
    """Attention over space and time at once and one feed-forward layer, each pre-normed with a residual around it."""

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
        """Arguments as of `FullSpaceTimeAttention`."""
        x = x + self.attention(self.norm(x), rotary, bias, cache)
        return x + self.ffn_out(squared_relu(self.ffn_in(self.ffn_norm(x))))


class FullSpaceTimeAttention(_Attention):
    """Attention among all tokens of a frame and of those before it, with rotary relative positions in time.

    Where a token stands in its frame is left to what was added to it at the input (`PositionEmbedding2D`).
    """

    def forward(
        self,
        x: Float[Tensor, "b t n d"],
        rotary: Float[Tensor, "2 t k"],
        bias: Float[Tensor, "q s"],
        cache: LayerKVCache | None = None,
    ) -> Float[Tensor, "b t n d"]:
        """Every token sees its own frame and those before it.

        Args:
            x: tokens.
            rotary: cosine and sine of each frame's time (`rotary_table`).
            bias: what is added to the scores of a token (row) for another (column): the bias of frames for frames,
                `n` times over in both directions. With a cache the columns' frames are its slots.
            cache: keys and values of earlier frames; those of `x` are written to it first.
        """
        qk, v = self.project(x)
        q, k = rotate(qk, rotary[:, :, None, None, None]).to(v.dtype).unbind(-3)
        q, k, v = (y.permute(0, 3, 2, 1, 4) for y in (q, k, v))  # b h n t k, so that all slots of a cache are one row
        if cache is not None:
            k, v = cache.write(k, v)
        y = attend(*(y.flatten(2, 3) for y in (q, k, v)), bias=bias)
        return self.out(y.unflatten(2, q.shape[2:4]).permute(0, 3, 2, 1, 4).flatten(3))


def _start(layers: list[nn.Linear]) -> None:
    """Weights of the layers that add to a residual stream, which keeps its scale however many there are."""
    for layer in layers:
        nn.init.normal_(layer.weight, std=(len(layers) * layer.in_features) ** -0.5)
