"""Latent action model: the change between two frames as one of a few codes (paper section 2.1)."""

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
"""Input of the model: pixels in [0, 1] or, with `input="tokens"`, tokens."""
Prediction = Float[Tensor, "b p h w 3"] | Float[Tensor, "b p n v"]
"""Predicted frames: pixels in [0, 1] or, with `input="tokens"`, logits of tokens."""


def inside_border(ignored_border: int) -> tuple[Any, ...]:
    """Return an index that crops `ignored_border` pixels at each edge of `(..., h, w, 3)`."""
    inner = slice(ignored_border, -ignored_border or None)
    return ..., inner, inner, slice(None)


class LatentActionOutput(NamedTuple):
    """Output of the latent action model for clips of t frames."""

    prediction: Tensor
    """Predictions of frames 2..t: pixels in [0, 1] `(b, t-1, h, w, 3)`, or logits
    `(b, t-1, n, codes)`."""
    actions: Tensor
    """Latent actions, int64 `(b, t-1)`; action i leads from frame i to frame i+1."""
    vectors: Tensor
    """Codes of the actions, `(b, t-1, dim)`, with a straight-through gradient."""
    loss: Tensor
    """Loss of the quantizer; a scalar."""
    counts: Tensor
    """Uses of each action, `(codes,)`."""


class LatentActionModel(nn.Module):
    """Infer latent actions from clips, trained with a decoder that predicts the next frame.

    With `x` the frames and `a` the latent actions (paper Figure 5):

        a_t    = VQ(Enc(x_1..t+1))                    `encode`, `infer`
        x^_t+1 = Dec(x_1..t, a_1..t)                  `decode`, `predict`
        loss   = |x_2..T - x^_2..T|^2 + loss of VQ    `prediction_loss`, and `loss` of the output

    The encoder is causal. A learned action token is prepended to the patches of each frame; its
    output at frame `t+1` is quantized to action `t`. The decoder adds the code of action `t` to the
    patches of frame `t`. The codebook is a bottleneck: what cannot be predicted from the past must
    pass through one of a few codes. Play needs only the codebook.

    With `input="tokens"` (paper Table 2), pixels are replaced by tokens: the image of a frame has
    one point per token with the token's code vector as its channels, and the decoder predicts
    logits of the next frame's tokens. The code vectors are constants copied by
    `set_token_codebook`. The paper states only that this variant reads tokens.

    Args:
        config: Sizes of the world.
    """

    def __init__(self, config: WorldConfig) -> None:
        super().__init__()
        sizes = config.latent_action
        rows, columns = -(-config.height // sizes.patch), -(-config.width // sizes.patch)
        d_in, d_out = sizes.encoder.d_model, sizes.decoder.d_model
        self.input, self.frame_diff_input = sizes.input, sizes.frame_diff_input
        self.residual, self.ignored_border = sizes.residual, sizes.ignored_border
        patch, (height, width), channels, out_channels = sizes.patch, (config.height, config.width), 3, 3
        if self.reads_tokens:
            codebook = config.tokenizer.quantizer
            patch, (height, width) = patch // config.tokenizer.patch, config.tokenizer_grid
            channels, out_channels = codebook.dim, codebook.codes
            self.register_buffer("token_codes", torch.rand(codebook.codes, codebook.dim))
        self.size = height, width
        self.encoder_patches = PatchEmbed(patch, d_in, channels=2 * channels if sizes.frame_diff_input else channels)
        self.encoder_position = PositionEmbedding2D(rows, columns, d_in)
        self.action_token = nn.Parameter(0.02 * torch.randn(d_in))  # small relative to the patch embeddings
        self.encoder = STTransformer(sizes.encoder)
        self.to_code = nn.Linear(d_in, sizes.quantizer.dim)
        self.quantizer = build_quantizer(sizes.quantizer)
        self.decoder_patches = PatchEmbed(patch, d_out, channels=channels)
        self.decoder_position = PositionEmbedding2D(rows, columns, d_out)
        self.from_code = nn.Linear(sizes.quantizer.dim, d_out)
        self.decoder = STTransformer(sizes.decoder)
        self.from_patches = Unpatchify(patch, d_out, height, width, channels=out_channels)
        self.to_flow = Unpatchify(patch, d_out, height, width, channels=2) if sizes.warp else None
        if self.to_flow is not None:
            nn.init.zeros_(self.to_flow.to_pixels.weight)  # no motion at first
            nn.init.zeros_(self.to_flow.to_pixels.bias)
        for module in (self.encoder_patches, self.to_code, self.decoder_patches, self.from_code, self.from_patches):
            module.apply(init_linear)

    @property
    def reads_tokens(self) -> bool:
        """Whether clips are tokens rather than pixels."""
        return self.input == "tokens"

    @torch.no_grad()
    def set_token_codebook(self, tokenizer: VideoTokenizer) -> None:
        """Copy the codebook of the tokenizer; no effect if clips are pixels.

        Each dimension is scaled to mean and standard deviation 1/2, the range of pixels.
        """
        if self.reads_tokens:
            codes = tokenizer.quantizer.codes()
            standard = (codes - codes.mean(0)) / codes.std(0).clamp_min(1e-6)
            self.token_codes.copy_((standard + 1) / 2)

    def _image(self, clip: Clip) -> Float[Tensor, "b t h w c"]:
        """Return pixels unchanged, and tokens as the image of their code vectors."""
        return F.embedding(clip, self.token_codes).unflatten(2, self.size) if self.reads_tokens else clip

    def latents(self, clip: Clip) -> Float[Tensor, "b a d"]:
        """Return the encoder's outputs between the frames of clips before quantization.

        The projection runs in fp32 also under autocast.
        """
        image = self._image(clip)
        if self.frame_diff_input:
            image = torch.cat([image, 0.5 + image.diff(dim=1, prepend=image[:, :1])], dim=-1)
        x = self.encoder_position(self.encoder_patches(image))
        token = self.action_token.to(x.dtype).expand(*x.shape[:2], 1, -1)
        x = self.encoder(torch.cat([token, x], dim=2))  # b t (1 + n) d
        with torch.autocast(x.device.type, enabled=False):
            return self.to_code(x[:, 1:, 0].float())

    def encode(self, clip: Clip) -> Quantized:
        """Return the quantized latent actions between the frames of clips."""
        return self.quantizer(self.latents(clip))

    def infer(self, clip: Clip) -> tuple[Int[Tensor, "b a"], Float[Tensor, "b a d"]]:
        """Infer the latent actions between the frames of clips, in fp32 also under autocast.

        Returns:
            Indices and codes.
        """
        with torch.autocast(clip.device.type, enabled=False):
            quantized = self.encode(clip)
            return quantized.indices, self.quantizer.lookup(quantized.indices)

    def decode(self, past: Clip, vectors: Float[Tensor, "b t d"]) -> Prediction:
        """Predict the frame after each frame of `past`.

        Args:
            past: Frames 1..t.
            vectors: Code of the action that leads from each of them to the next frame.

        Returns:
            Frames 2..t+1. The ignored border is copied from `past`.
        """
        x = self.decoder_position(self.decoder_patches(self._image(past))) + self.from_code(vectors)[:, :, None]
        x = self.decoder(x)
        logits = self.from_patches(x).float()
        if self.reads_tokens:
            return self._token_logits(logits.flatten(2, 3), past)
        if self.residual:
            last = past.float() if self.to_flow is None else warp(past.float(), self.to_flow(x).float())
            logits = logits + torch.logit(last, eps=0.02)
        pixels = torch.sigmoid(logits)
        if self.ignored_border == 0:
            return pixels
        frame = past.float().clone()
        frame[inside_border(self.ignored_border)] = pixels[inside_border(self.ignored_border)]
        return frame

    def _token_logits(self, logits: Float[Tensor, "b t n v"], past: Int[Tensor, "b t n"]) -> Float[Tensor, "b t n v"]:
        """With `residual`, add the logit that gives each token even odds to stay unchanged."""
        if not self.residual:
            return logits
        odds = logits.new_full((*past.shape, 1), math.log(logits.shape[-1] - 1))
        return logits.scatter_add(3, past[..., None], odds)

    def prediction_loss(self, prediction: Prediction, clip: Clip) -> Float[Tensor, ""]:
        """Compute the prediction loss of frames 2..t.

        It is the mean squared error of pixels inside the ignored border, or the cross-entropy of
        tokens.
        """
        if self.reads_tokens:
            return F.cross_entropy(prediction.float().flatten(0, 2), clip[:, 1:].flatten())
        inside = inside_border(self.ignored_border)
        return F.mse_loss(prediction.float()[inside], clip[:, 1:][inside])

    def predict(self, clip: Clip, actions: Int[Tensor, "b a"]) -> Prediction:
        """Predict frames 2..t of clips, each from the true frames before it and an action."""
        return self.decode(clip[:, :-1], self.quantizer.lookup(actions))

    def forward(self, clip: Clip) -> LatentActionOutput:
        """Infer the actions of clips and predict frames 2..t from them, for training."""
        quantized = self.encode(clip)
        prediction = self.decode(clip[:, :-1], quantized.vectors)
        return LatentActionOutput(prediction, quantized.indices, quantized.vectors, quantized.loss, quantized.counts)
