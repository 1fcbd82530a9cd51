"""The latent action model: what moved from one frame to the next, as one of a few codes (paper section 2.1, Table 5)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from djinn.config import WorldConfig
from djinn.nn import FromPatches, GridPosition, STTransformer, ToPatches, build_quantizer
from djinn.nn.quantize import Quantized
from djinn.nn.st_transformer import init_linear


class LatentActionOutput(NamedTuple):
    """What the latent action model makes of a clip of t frames."""

    prediction: Tensor
    """Frames 2..t as the decoder predicts them, float in [0, 1], `(b, t-1, h, w, 3)`."""
    actions: Tensor
    """int64 `(b, t-1)`; action i moves frame i to frame i+1."""
    vectors: Tensor
    """The actions' codes, `(b, t-1, dim)`, with a straight-through gradient to the encoder."""
    loss: Tensor
    """The quantizer's own loss."""
    counts: Tensor
    """How often each action was chosen."""


class LatentActionModel(nn.Module):
    """Infers latent actions from pixels, trained by a decoder that must predict the next frame from the past and the action.

    The encoder reads a clip through a causal mask, one learned action token beside the patches of each frame; the token of
    frame t+1 has seen frames 1..t+1 and becomes action t. The decoder sees frames 1..t with action t added to the patches of
    frame t, and predicts frame t+1: whatever it cannot know from the past must come through the action. Playing needs only
    the codebook.

    Args:
        config: the world's sizes.
    """

    def __init__(self, config: WorldConfig) -> None:
        super().__init__()
        sizes = config.latent_action
        rows, columns = -(-config.height // sizes.patch), -(-config.width // sizes.patch)
        d_in, d_out = sizes.encoder.d_model, sizes.decoder.d_model
        self.motion, self.residual = sizes.motion, sizes.residual
        self.encoder_patches = ToPatches(sizes.patch, d_in, channels=6 if sizes.motion else 3)
        self.encoder_position = GridPosition(rows, columns, d_in)
        self.action_token = nn.Parameter(0.02 * torch.randn(d_in))  # small, so that what it reads stands out
        self.encoder = STTransformer(sizes.encoder)
        self.to_code = nn.Linear(d_in, sizes.quantizer.dim)
        self.quantizer = build_quantizer(sizes.quantizer)
        self.decoder_patches = ToPatches(sizes.patch, d_out)
        self.decoder_position = GridPosition(rows, columns, d_out)
        self.from_code = nn.Linear(sizes.quantizer.dim, d_out)
        self.decoder = STTransformer(sizes.decoder)
        self.from_patches = FromPatches(sizes.patch, d_out, config.height, config.width)
        for module in (self.encoder_patches, self.to_code, self.decoder_patches, self.from_code, self.from_patches):
            module.apply(init_linear)

    def encode(self, video: Float[Tensor, "b t h w 3"]) -> Quantized:
        """The quantized latent actions between the frames of clips with pixels in [0, 1]."""
        seen = torch.cat([video, 0.5 + video.diff(dim=1, prepend=video[:, :1])], dim=-1) if self.motion else video
        x = self.encoder_position(self.encoder_patches(seen))
        token = self.action_token.to(x.dtype).expand(*x.shape[:2], 1, -1)
        x = self.encoder(torch.cat([token, x], dim=2))
        return self.quantizer(self.to_code(x[:, 1:, 0]))

    def infer(self, video: Float[Tensor, "b t h w 3"]) -> tuple[Int[Tensor, "b t-1"], Float[Tensor, "b t-1 d"]]:
        """Latent actions between the frames of clips: indices and codes."""
        quantized = self.encode(video)
        return quantized.indices, self.quantizer.lookup(quantized.indices)

    def decode(self, past: Float[Tensor, "b t h w 3"], vectors: Float[Tensor, "b t d"]) -> Float[Tensor, "b t h w 3"]:
        """Predicts the frame after each frame of `past`, given the code of the action taken in it."""
        x = self.decoder_position(self.decoder_patches(past)) + self.from_code(vectors)[:, :, None]
        pixels = self.from_patches(self.decoder(x)).float()
        if self.residual:
            pixels = pixels + torch.logit(past.float(), eps=0.02)
        return torch.sigmoid(pixels)

    def predict(self, video: Float[Tensor, "b t h w 3"], actions: Int[Tensor, "b t-1"]) -> Float[Tensor, "b t-1 h w 3"]:
        """Predicts frames 2..t of clips from the frame before and the given actions."""
        return self.decode(video[:, :-1], self.quantizer.lookup(actions))

    def forward(self, video: Float[Tensor, "b t h w 3"]) -> LatentActionOutput:
        """Predicts frames 2..t of clips through inferred actions, for training."""
        quantized = self.encode(video)
        prediction = self.decode(video[:, :-1], quantized.vectors)
        return LatentActionOutput(prediction, quantized.indices, quantized.vectors, quantized.loss, quantized.counts)
