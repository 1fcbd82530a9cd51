"""Spatiotemporal transformer, the backbone of all three models (paper section 2, Figure 4)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from djinn.config import TransformerConfig
from djinn.nn.attention import SpatialAttention, TemporalAttention
from djinn.nn.init import init_linear, init_residual
from djinn.nn.kernels import squared_relu
from djinn.nn.kv_cache import KVCache, LayerKVCache
from djinn.nn.rotary import mask_to_bias, rotary_table


class STBlock(nn.Module):
    """Spatial attention, temporal attention and one feed-forward layer (paper section 2, Figure 4).

    Each is pre-normed and added to the residual stream. As in the paper, there is no feed-forward
    layer after the spatial attention. The paper does not state the activation: the squared ReLU (So
    et al. 2021) was the fastest on a CPU at equal loss.

    Args:
        config: Size of the block.
        attends_time: Whether the block has a temporal attention.
    """

    def __init__(self, config: TransformerConfig, *, attends_time: bool = True) -> None:
        super().__init__()
        d, hidden = config.d_model, round(config.d_model * config.ffn_mult)
        self.space_norm = nn.LayerNorm(d, bias=False)
        self.space = SpatialAttention(d, config.heads, config.head_dim)
        self.time_norm = nn.LayerNorm(d, bias=False) if attends_time else None
        self.time = TemporalAttention(d, config.heads, config.head_dim) if attends_time else None
        self.ffn_norm = nn.LayerNorm(d, bias=False)
        self.ffn_in = nn.Linear(d, hidden, bias=False)
        self.ffn_out = nn.Linear(hidden, d, bias=False)

    def residual_layers(self) -> list[nn.Linear]:
        """Return the layers whose outputs are added to the residual stream."""
        return [self.space.out, *([] if self.time is None else [self.time.out]), self.ffn_out]

    def forward(
        self,
        x: Float[Tensor, "b t n d"],
        rotary: Float[Tensor, "2 t k"],
        bias: Float[Tensor, "t s"] | None = None,
        query_positions: Int[Tensor, "m"] | None = None,
        cache: LayerKVCache | None = None,
    ) -> Float[Tensor, "b t n d"] | Float[Tensor, "m d"]:
        """Transform the tokens of `t` frames.

        Args:
            x: Tokens `(b, t, n, d)`.
            rotary: Rotary table of the frames' times (`rotary_table`).
            bias: Temporal attention bias; causal if None. See `TemporalAttention.forward`.
            query_positions: Flat indices into `(b, t, n)`. The feed-forward layer runs on these
                tokens only, and the result has shape `(m, d)`. None selects all tokens.
            cache: Keys and values of earlier frames, for the temporal attention.
        """
        x = x + self.space(self.space_norm(x))
        if self.time is not None and self.time_norm is not None:
            x = x + self.time(self.time_norm(x), rotary, bias, cache)
        if query_positions is not None:
            x = x.flatten(0, 2).index_select(0, query_positions)
        return x + self.ffn_out(squared_relu(self.ffn_in(self.ffn_norm(x))))


class STTransformer(nn.Module):
    """Stack of `STBlock` and a final norm: causal in time, cost linear in the number of frames.

    Args:
        config: Size of the transformer. Every `time_every`-th block has a temporal attention.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        blocks = [STBlock(config, attends_time=i % config.time_every == 0) for i in range(config.blocks)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(config.d_model, bias=False)
        self.apply(init_linear)
        for block in blocks:
            init_residual(block.residual_layers(), 3 * config.blocks)

    def forward(
        self,
        x: Float[Tensor, "b t n d"],
        *,
        times: Int[Tensor, "t"] | None = None,
        mask: Bool[Tensor, "t t"] | None = None,
        query_positions: Int[Tensor, "m"] | None = None,
        cache: KVCache | None = None,
        first: int = 0,
    ) -> Float[Tensor, "b t n d"] | Float[Tensor, "m d"]:
        """Transform whole clips or, with a cache, the next frames of a video.

        A cached pass adds the frames of `x` to the cache. Its results equal those of an uncached
        pass over the whole video while the video fits the cache's window. Later frames attend to
        the last `window` frames only; the cached keys and values of these still depend on frames
        that have left the window. A second pass with the same `first` replaces the frames.

        Args:
            x: Tokens `(b, t, n, d)` of `t` frames. With a full cache, `t` is at most 2.
            times: Time of each frame; `first, first + 1, ...` by default. Uncached passes only.
            mask: Frames (columns) that each frame (row) attends to in time; causal by default.
                Uncached passes only.
            query_positions: Flat indices into `(b, t, n)` of the tokens to return, as `(m, d)`; the
                last feed-forward layer skips all others. None returns all tokens.
            cache: Keys and values of earlier frames; modified in place.
            first: Time of the first frame of `x`.
        """
        if cache is None:
            times = torch.arange(first, first + x.shape[1], device=x.device) if times is None else times
            rotary = rotary_table(times, self.config.head_dim)
            bias = None if mask is None else mask_to_bias(mask)
            layers = None
        else:
            assert times is None and mask is None
            attentions = sum(block.time is not None for block in self.blocks)
            rotary, bias = cache.reserve_slots(attentions, first, x.shape[1], self.config.head_dim, x.device)
            layers = iter(cache.layers)
        last = len(self.blocks) - 1
        for i, block in enumerate(self.blocks):
            layer = next(layers) if layers is not None and block.time is not None else None
            x = block(x, rotary, bias, query_positions if i == last else None, layer)
        return self.norm(x)
