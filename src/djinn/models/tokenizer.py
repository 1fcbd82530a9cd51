"""Video tokenizer: a causal VQ-VAE, ST-ViViT (paper section 2.1, Tables 7 and 15)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from djinn.config import WorldConfig
from djinn.nn import (
    FullSpaceTimeTransformer,
    KVCache,
    PatchEmbed,
    PositionEmbedding2D,
    SpatialTransformer,
    STTransformer,
    Unpatchify,
    build_quantizer,
)
from djinn.nn.init import init_linear

TRANSFORMERS = {"st-vivit": STTransformer, "vit": SpatialTransformer, "c-vivit": FullSpaceTimeTransformer}
"""Transformer of encoder and decoder by kind of tokenizer (paper Table 3)."""


class TokenizerOutput(NamedTuple):
    """Output of the tokenizer in training."""

    reconstruction: Tensor
    """Pixels `(b, t, h, w, 3)`, not clamped: the training loss is their mean squared error."""
    tokens: Tensor
    """Tokens, int64 `(b, t, n)`."""
    loss: Tensor
    """Loss of the quantizer; a scalar."""
    counts: Tensor
    """Uses of each code, `(codes,)`."""


class VideoTokenizer(nn.Module):
    """VQ-VAE that encodes each frame as `n` discrete tokens, causally in time.

    Equations, with `sg` the stop-gradient and `e` the codebook:

        z_t   = Enc(x_1..t)                          `latents`
        k     = argmin_j |z - e_j|^2                 `encode`, the tokens
        z_q   = z + sg[e_k - z]                      straight-through estimator, `VectorQuantizer`
        x^_t  = Dec(z_q,1..t)                        `reconstruct`, `decode`
        loss  = |x - x^|^2 + |sg[z] - e_k|^2 + commitment * |z - sg[e_k]|^2

    The decoder is causal too, so in play the newest frame is decoded alone, with a cache of earlier
    frames.

    Args:
        config: Sizes of the world. `config.tokenizer.kind` selects the transformers.
    """

    def __init__(self, config: WorldConfig) -> None:
        super().__init__()
        sizes = config.tokenizer
        transformer = TRANSFORMERS[sizes.kind]
        rows, columns = config.tokenizer_grid
        d_in, d_out = sizes.encoder.d_model, sizes.decoder.d_model
        self.window = config.context_frames
        self.to_patches = PatchEmbed(sizes.patch, d_in)
        self.encoder_position = PositionEmbedding2D(rows, columns, d_in)
        self.encoder = transformer(sizes.encoder)
        self.to_code = nn.Linear(d_in, sizes.quantizer.dim)
        self.quantizer = build_quantizer(sizes.quantizer)
        self.from_code = nn.Linear(sizes.quantizer.dim, d_out)
        self.decoder_position = PositionEmbedding2D(rows, columns, d_out)
        self.decoder = transformer(sizes.decoder)
        self.from_patches = Unpatchify(sizes.patch, d_out, config.height, config.width)
        for module in (self.to_patches, self.to_code, self.from_code, self.from_patches):
            module.apply(init_linear)

    def latents(self, video: Float[Tensor, "b t h w 3"]) -> Float[Tensor, "b t n d"]:
        """Return the encoder's outputs before quantization.

        The projection runs in fp32 also under autocast.
        """
        x = self.encoder(self.encoder_position(self.to_patches(video)))
        with torch.autocast(x.device.type, enabled=False):
            return self.to_code(x.float())

    def encode(self, video: Float[Tensor, "b t h w 3"]) -> Int[Tensor, "b t n"]:
        """Encode clips with pixels in [0, 1].

        Runs in fp32 also under autocast, so that training, evaluation and play use the same tokens:
        in bf16, 14 % of the shipped world's tokens differ.
        """
        with torch.autocast(video.device.type, enabled=False):
            return self.quantizer(self.latents(video)).indices

    def decode(
        self, tokens: Int[Tensor, "b t n"], cache: KVCache | None = None, first: int = 0
    ) -> Float[Tensor, "b t h w 3"]:
        """Decode tokens to pixels in [0, 1].

        Args:
            tokens: Tokens `(b, t, n)` of whole clips or, with a cache, of the next frames.
            cache: The decoder's keys and values of earlier frames; modified in place.
            first: Time of the first frame of `tokens`.
        """
        return self.reconstruct(self.quantizer.lookup(tokens), cache, first).clamp(0, 1)

    def reconstruct(
        self, codes: Float[Tensor, "b t n d"], cache: KVCache | None = None, first: int = 0
    ) -> Float[Tensor, "b t h w 3"]:
        """Decode quantized vectors to pixels that are not clamped; see `decode`."""
        x = self.decoder(self.decoder_position(self.from_code(codes)), cache=cache, first=first)
        return (self.from_patches(x).float() + 1) / 2

    def forward(self, video: Float[Tensor, "b t h w 3"]) -> TokenizerOutput:
        """Encode, quantize and reconstruct clips with pixels in [0, 1], for training."""
        quantized = self.quantizer(self.latents(video))
        reconstruction = self.reconstruct(quantized.vectors)
        return TokenizerOutput(reconstruction, quantized.indices, quantized.loss, quantized.counts)
