"""Masks and token noise that the dynamics model is trained with (paper section 2.1)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from djinn.config import DynamicsConfig

Shape = tuple[int, int, int] | torch.Size


class TrainingMasks(NamedTuple):
    """Random draws of one optimizer step for a batch of clips.

    `f` is `t - 1` with `masking="clean_past"` (masks of frames 2..t, noise of frames 1..t-1), and
    `t` otherwise.
    """

    masked: Bool[Tensor, "b f n"]
    """Tokens to predict."""
    noise: Int[Tensor, "b f n"] | None
    """Random codes that replace tokens of the past; -1 keeps the token. None: no token noise."""
    count: Float[Tensor, ""] | Int[Tensor, ""]
    """Divisor of the summed cross-entropy: masked tokens of the batch, at least 1."""

    def select(self, clips: slice) -> TrainingMasks:
        """Return the draws of some clips, with their equal share of the whole batch's `count`.

        The mean of the losses of equally large parts is then the loss of the whole batch, although
        the parts have different numbers of masked tokens.
        """
        masked = self.masked[clips]
        if len(masked) == len(self.masked):
            return self
        noise = None if self.noise is None else self.noise[clips]
        return TrainingMasks(masked, noise, self.count * (len(masked) / len(self.masked)))


def draw_training_masks(
    config: DynamicsConfig, shape: Shape, codes: int, generator: torch.Generator | None, device: torch.device
) -> TrainingMasks:
    """Draw the masks and the token noise of a batch.

    Args:
        config: Masking mode and noise rate.
        shape: Shape `(B, T, N)` of the batch's tokens.
        codes: Size of the token codebook.
        generator: Random generator on `device`; None is the default generator.
        device: Device of the result.
    """
    b, t, n = shape
    if config.masking == "paper":
        masked, noise = paper_mask(shape, generator, device), None
    elif config.masking == "per_frame":
        cut = torch.randint(1, t, (b, 1, 1), generator=generator, device=device)
        hidden = torch.arange(t, device=device)[:, None] >= cut
        masked = frame_mask(shape, generator, device) & hidden
        noise = draw_token_noise(shape, config.token_noise, codes, generator, device)
        noise = None if noise is None else noise.masked_fill(hidden, -1)
    else:
        masked = frame_mask((b, t - 1, n), generator, device)
        noise = draw_token_noise((b, t - 1, n), config.token_noise, codes, generator, device)
    return TrainingMasks(masked, noise, masked.sum().clamp_min(1))


def paper_mask(shape: Shape, generator: torch.Generator | None, device: torch.device) -> Bool[Tensor, "b t n"]:
    """Mask every frame but the first at one rate U(0.5, 1) per clip (paper section 2.1)."""
    rate = 0.5 + 0.5 * torch.rand(shape[0], 1, 1, generator=generator, device=device)
    masked = torch.rand(shape, generator=generator, device=device) < rate
    masked[:, 0] = False
    return masked


def frame_mask(shape: Shape, generator: torch.Generator | None, device: torch.device) -> Bool[Tensor, "b t n"]:
    """Mask each frame at a rate cos(pi/2 * U(0, 1)), distributed as in MaskGIT decoding."""
    rate = torch.cos(torch.rand(*shape[:2], 1, generator=generator, device=device) * (math.pi / 2))
    return torch.rand(shape, generator=generator, device=device) < rate


def draw_token_noise(
    shape: Shape, max_rate: float, codes: int, generator: torch.Generator | None, device: torch.device
) -> Int[Tensor, "b t n"] | None:
    """Draw random codes at a rate U(0, max_rate) per clip, -1 elsewhere; None if `max_rate` is 0.

    Token noise makes the model robust against errors in the frames that it generates in play.
    """
    if max_rate == 0:
        return None
    rate = max_rate * torch.rand(shape[0], 1, 1, generator=generator, device=device)
    replaced = torch.rand(shape, generator=generator, device=device) < rate
    codes_drawn = torch.randint(codes, shape, generator=generator, device=device)
    return codes_drawn.masked_fill(~replaced, -1)


def add_token_noise(tokens: Int[Tensor, "b t n"], noise: Int[Tensor, "b t n"] | None) -> Int[Tensor, "b t n"]:
    """Replace tokens by the drawn codes of `draw_token_noise`."""
    return tokens if noise is None else torch.where(noise >= 0, noise, tokens)
