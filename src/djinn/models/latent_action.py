"""The latent action model: what moved from one frame to the next, as one of a few codes (paper section 2.1, Table 5)."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from djinn.config import WorldConfig
from djinn.models.tokenizer import VideoTokenizer
from djinn.nn import PatchEmbed, PositionEmbedding2D, STTransformer, Unpatchify, build_quantizer, warp
from djinn.nn.init import init_linear
from djinn.nn.quantize import Quantized

Clip = Float[Tensor, "b t h w 3"] | Int[Tensor, "b t n"]
"""Clips as a latent action model reads them: pixels in [0, 1] or, with `input="tokens"`, tokens."""
Prediction = Float[Tensor, "b p h w 3"] | Float[Tensor, "b p n v"]
"""Frames as its decoder predicts them: pixels in [0, 1] or, with `input="tokens"`, logits of each token."""


def inside_border(ignored_border: int) -> tuple[Any, ...]:
    """Index of what is left of frames `(..., h, w, 3)`, tensor or array, without `ignored_border` pixels at each edge."""
    inner = slice(ignored_border, -ignored_border or None)
    return ..., inner, inner, slice(None)


class LatentActionOutput(NamedTuple):
    """What the latent action model makes of a clip of t frames."""

    prediction: Tensor
    """Frames 2..t as the decoder predicts them: pixels in [0, 1], `(b, t-1, h, w, 3)`, or logits of tokens,
    `(b, t-1, n, codes)`."""
    actions: Tensor
    """int64 `(b, t-1)`; action i moves frame i to frame i+1."""
    vectors: Tensor
    """The actions' codes, `(b, t-1, dim)`, with a straight-through gradient to the encoder."""
    loss: Tensor
    """The quantizer's own loss."""
    counts: Tensor
    """How often each action was chosen."""


class LatentActionModel(nn.Module):
    """Infers latent actions from clips, trained by a decoder that must predict the next frame from the past and the action.

    The encoder reads a clip through a causal mask, one learned action token beside the patches of each frame; the token of
    frame t+1 has seen frames 1..t+1 and becomes action t. The decoder sees frames 1..t with action t added to the patches of
    frame t, and predicts frame t+1: whatever it cannot know from the past must come through the action. Playing needs only
    the codebook.

    With `input="tokens"` (the rival of Table 2) a frame is the picture that its tokens make: one point for each token, with
    the token's code in the place of a colour. The codes are constants that `set_token_codebook` takes over from the tokenizer, so
    no gradient reaches it. The decoder predicts logits of the next frame's tokens. The paper says no more of this model than
    that it takes tokens for pixels.

    Args:
        config: the world's sizes.
    """

    def __init__(self, config: WorldConfig) -> None:
        super().__init__()
        sizes = config.latent_action
        rows, columns = -(-config.height // sizes.patch), -(-config.width // sizes.patch)
        d_in, d_out = sizes.encoder.d_model, sizes.decoder.d_model
        self.input, self.frame_diff_input, self.residual, self.ignored_border = (
            sizes.input,
            sizes.frame_diff_input,
            sizes.residual,
            sizes.ignored_border,
        )
        patch, (height, width), colours, made = sizes.patch, (config.height, config.width), 3, 3
        if self.reads_tokens:
            codebook = config.tokenizer.quantizer
            patch, (height, width) = patch // config.tokenizer.patch, config.tokenizer_grid
            colours, made = codebook.dim, codebook.codes
            self.register_buffer("token_codes", torch.rand(codebook.codes, codebook.dim))
        self.size = height, width
        self.encoder_patches = PatchEmbed(patch, d_in, channels=2 * colours if sizes.frame_diff_input else colours)
        self.encoder_position = PositionEmbedding2D(rows, columns, d_in)
        self.action_token = nn.Parameter(0.02 * torch.randn(d_in))  # small, so that what it reads stands out
        self.encoder = STTransformer(sizes.encoder)
        self.to_code = nn.Linear(d_in, sizes.quantizer.dim)
        self.quantizer = build_quantizer(sizes.quantizer)
        self.decoder_patches = PatchEmbed(patch, d_out, channels=colours)
        self.decoder_position = PositionEmbedding2D(rows, columns, d_out)
        self.from_code = nn.Linear(sizes.quantizer.dim, d_out)
        self.decoder = STTransformer(sizes.decoder)
        self.from_patches = Unpatchify(patch, d_out, height, width, channels=made)
        self.to_flow = Unpatchify(patch, d_out, height, width, channels=2) if sizes.warp else None
        if self.to_flow is not None:
            nn.init.zeros_(self.to_flow.to_pixels.weight)  # nothing moves at first
            nn.init.zeros_(self.to_flow.to_pixels.bias)
        for module in (self.encoder_patches, self.to_code, self.decoder_patches, self.from_code, self.from_patches):
            module.apply(init_linear)

    @property
    def reads_tokens(self) -> bool:
        """Whether clips are tokens rather than pixels."""
        return self.input == "tokens"

    @torch.no_grad()
    def set_token_codebook(self, tokenizer: VideoTokenizer) -> None:
        """Takes the codes that tokens stand for over from the tokenizer; nothing to do where clips are pixels.

        Each dimension is brought to the middle and spread of a colour, 1/2 and 1/2, whatever the codebook's scale is.
        """
        if self.reads_tokens:
            codes = tokenizer.quantizer.codes()
            standard = (codes - codes.mean(0)) / codes.std(0).clamp_min(1e-6)
            self.token_codes.copy_((standard + 1) / 2)

    def _picture(self, clip: Tensor) -> Tensor:
        """Frames `(b, t, h, w, c)`: pixels as they are, tokens as the picture of their codes."""
        return F.embedding(clip, self.token_codes).unflatten(2, self.size) if self.reads_tokens else clip

    def encode(self, clip: Clip) -> Quantized:
        """The quantized latent actions between the frames of clips."""
        return self.quantizer(self.latents(clip))

    def latents(self, clip: Clip) -> Float[Tensor, "b a d"]:
        """Return the encoder's outputs between the frames of clips before quantization.

        The projection runs in fp32 also under autocast.
        """
        seen = self._picture(clip)
        seen = torch.cat([seen, 0.5 + seen.diff(dim=1, prepend=seen[:, :1])], dim=-1) if self.frame_diff_input else seen
        x = self.encoder_position(self.encoder_patches(seen))
        token = self.action_token.to(x.dtype).expand(*x.shape[:2], 1, -1)
        x = self.encoder(torch.cat([token, x], dim=2))
        with torch.autocast(x.device.type, enabled=False):
            return self.to_code(x[:, 1:, 0].float())

    def infer(self, clip: Clip) -> tuple[Int[Tensor, "b a"], Float[Tensor, "b a d"]]:
        """Infer the latent actions between the frames of clips, in fp32 also under autocast.

        Returns:
            Indices and codes.
        """
        with torch.autocast(clip.device.type, enabled=False):
            quantized = self.encode(clip)
            return quantized.indices, self.quantizer.lookup(quantized.indices)

    def decode(self, past: Clip, vectors: Float[Tensor, "b t d"]) -> Prediction:
        """Predicts the frame after each frame of `past`, given the code of the action taken in it; a ignored_border stays as it is."""
        x = self.decoder_position(self.decoder_patches(self._picture(past))) + self.from_code(vectors)[:, :, None]
        x = self.decoder(x)
        made = self.from_patches(x).float()
        if self.reads_tokens:
            logits = made.flatten(2, 3)
            odds = logits.new_full((*past.shape, 1), math.log(logits.shape[-1] - 1))  # even ones that a token stays
            return logits.scatter_add(3, past[..., None], odds) if self.residual else logits
        if self.residual:
            moved = past.float() if self.to_flow is None else warp(past.float(), self.to_flow(x).float())
            made = made + torch.logit(moved, eps=0.02)
        made = torch.sigmoid(made)
        if self.ignored_border == 0:
            return made
        whole = past.float().clone()
        whole[inside_border(self.ignored_border)] = made[inside_border(self.ignored_border)]
        return whole

    def error(self, prediction: Prediction, clip: Clip) -> Float[Tensor, ""]:
        """What the decoder learns by: squared error of frames 2..t inside the ignored_border, or cross-entropy of their tokens."""
        if self.reads_tokens:
            return F.cross_entropy(prediction.float().flatten(0, 2), clip[:, 1:].flatten())
        return F.mse_loss(
            prediction.float()[inside_border(self.ignored_border)], clip[:, 1:][inside_border(self.ignored_border)]
        )

    def predict(self, clip: Clip, actions: Int[Tensor, "b a"]) -> Prediction:
        """Predicts frames 2..t of clips from the frame before and the given actions."""
        return self.decode(clip[:, :-1], self.quantizer.lookup(actions))

    def forward(self, clip: Clip) -> LatentActionOutput:
        """Predicts frames 2..t of clips through inferred actions, for training."""
        quantized = self.encode(clip)
        prediction = self.decode(clip[:, :-1], quantized.vectors)
        return LatentActionOutput(prediction, quantized.indices, quantized.vectors, quantized.loss, quantized.counts)
