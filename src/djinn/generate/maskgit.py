"""MaskGIT decoding of one frame (paper section 2.2; Chang et al. 2022).

All tokens start masked; each step unmasks those predicted with the highest confidence. The model is
a function from tokens to logits, so nothing here depends on an architecture.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from djinn.config import SamplerConfig

Predict = Callable[[Int[Tensor, "b n"], Bool[Tensor, "b n"], Int[Tensor, "b m"]], Float[Tensor, "b m v"]]

_MIN_TEMPERATURE = 1e-6
"""Lower temperatures count as 0, since the division of logits by them would overflow."""


def num_unmasked(step: int, steps: int, tokens: int) -> int:
    """Return the number of unmasked tokens of a frame after a MaskGIT step, by the cosine schedule.

    Each step unmasks at least one token and the last step all that remain. Steps beyond the number
    of tokens are not used.

    Args:
        step: Index of the step, from 0.
        steps: Number of steps.
        tokens: Number of tokens of the frame.
    """
    steps = min(steps, tokens)
    done = min(step + 1, steps)
    if done == steps:
        return tokens
    masked = math.floor(tokens * math.cos(math.pi / 2 * done / steps))
    return max(tokens - masked, done)


def fill_frame(
    predict: Predict,
    batch: int,
    tokens: int,
    sampler: SamplerConfig,
    generator: torch.Generator,
    device: torch.device | str,
) -> Int[Tensor, "b n"]:
    """Sample the tokens of one frame, for a batch of games.

    Each step samples every masked token from the softmax of its logits divided by the temperature,
    and unmasks the samples of highest confidence. The confidence is the log-probability of the
    sample at temperature 1, plus Gumbel noise scaled by `sampler.choice_temperature`, which is
    annealed linearly to 0 at the last step. With log-probabilities at a low temperature, all
    confidences would be 0 and tokens would be unmasked in the order of their positions.

    Args:
        predict: Returns the logits `(B, M, V)` of the masked tokens, from the tokens `(B, N)` so
            far, their mask, and the positions `(B, M)` of the masked tokens in each row. Values of
            masked tokens have no meaning.
        batch: Number of games, B.
        tokens: Number of tokens of the frame, N.
        sampler: Sampling settings.
        generator: Random generator on `device`. The number of draws does not depend on the logits.
        device: Device of the tokens.
    """
    filled = torch.zeros(batch, tokens, dtype=torch.int64, device=device)
    masked = torch.ones(batch, tokens, dtype=torch.bool, device=device)
    unknown = torch.arange(tokens, device=device).expand(batch, tokens)  # positions of masked tokens
    steps = min(sampler.steps, tokens)
    for step in range(steps):
        logits = predict(filled, masked, unknown)
        samples, confidence = _sample(logits.flatten(0, 1).float(), sampler, generator)
        if step == steps - 1:
            return filled.scatter(1, unknown, samples.view_as(unknown))
        noise = sampler.choice_temperature * (1 - (step + 1) / steps)
        if noise > 0:
            confidence = confidence - noise * torch.empty_like(confidence).exponential_(generator=generator).log_()
        order = confidence.view_as(unknown).argsort(dim=1, descending=True)
        count = num_unmasked(step, steps, tokens) - (tokens - unknown.shape[1])
        chosen = unknown.gather(1, order[:, :count])
        filled = filled.scatter(1, chosen, samples.view_as(unknown).gather(1, order[:, :count]))
        masked = masked.scatter(1, chosen, False)
        unknown = unknown.gather(1, order[:, count:])
    return filled  # a frame without tokens


def _sample(
    logits: Float[Tensor, "rows v"], sampler: SamplerConfig, generator: torch.Generator
) -> tuple[Int[Tensor, " rows"], Float[Tensor, " rows"]]:
    """Sample a token for each row and return it with its log-probability at temperature 1.

    Sampling inverts the cumulative distribution, with one random number per row; the Gumbel-max
    trick needs one per code.
    """
    probabilities = logits.softmax(1)
    if sampler.temperature < _MIN_TEMPERATURE or sampler.top_k == 1:
        samples = logits.argmax(1, keepdim=True)  # `max` returns both results but takes three times as long
        return samples.squeeze(1), probabilities.gather(1, samples).squeeze(1).log()
    candidates, weights = None, probabilities
    if 0 < sampler.top_k < logits.shape[1]:
        logits, candidates = logits.topk(sampler.top_k, dim=1)
        weights = probabilities.gather(1, candidates)
    if sampler.temperature != 1:
        weights = (logits / sampler.temperature).softmax(1)
    cumulative = weights.cumsum(1)
    total = cumulative[:, -1:]
    point = torch.rand(total.shape, generator=generator, device=logits.device) * total
    point = torch.minimum(point, total.nextafter(torch.zeros_like(total)))  # the product may round up to the total
    samples = torch.searchsorted(cumulative, point, right=True)
    if candidates is not None:
        samples = candidates.gather(1, samples)
    return samples.squeeze(1), probabilities.gather(1, samples).squeeze(1).log()
