"""MaskGIT decoding of one frame (paper section 2.2): all tokens start masked, each step fixes the most confident ones.

Nothing here knows a model: `fill_frame` is given a function from tokens to logits.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from djinn.config import SamplerConfig

Predict = Callable[[Int[Tensor, "b n"], Bool[Tensor, "b n"], Int[Tensor, "b m"]], Float[Tensor, "b m v"]]

_GREEDY_BELOW = 1e-6
"""Temperatures below this draw the most likely token, as 0 does: dividing logits by them would overflow."""


def num_unmasked(step: int, steps: int, tokens: int) -> int:
    """Number of tokens of a frame that are known after a MaskGIT step: the cosine schedule.

    Each step makes at least one more token known and the last one all that are left. Where there are more steps than
    tokens, `tokens` steps are enough and the surplus does nothing.

    Args:
        step: the step, counted from 0.
        steps: steps in all.
        tokens: tokens of the frame.
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
    """Fills in one frame's tokens for a batch of worlds at once.

    In each step every masked token is drawn from its logits divided by the temperature; those drawn with the highest
    confidence stay. Confidence is the log-probability of the drawn token *without* temperature (with it, confidences
    tie at 1 and the order would be that of position), plus Gumbel noise that falls linearly to zero at the last step.

    Args:
        predict: gives logits of the unknown tokens, from the tokens so far, the mask of those still unknown, whose values
            mean nothing, and the positions of these, row by row.
        batch: number of worlds.
        tokens: tokens of the frame.
        sampler: steps, temperature, top-k and noise.
        generator: source of all randomness, on `device`; consumed in the same order whatever the logits are.
        device: where the tokens live.

    Returns:
        Token indices, all known.
    """
    filled = torch.zeros(batch, tokens, dtype=torch.int64, device=device)
    masked = torch.ones(batch, tokens, dtype=torch.bool, device=device)
    unknown = torch.arange(tokens, device=device).expand(batch, tokens)  # positions still masked, row by row
    steps = min(sampler.steps, tokens)
    for step in range(steps):
        logits = predict(filled, masked, unknown)
        drawn, confidence = _draw(logits.flatten(0, 1).float(), sampler, generator)
        if step == steps - 1:
            return filled.scatter(1, unknown, drawn.view_as(unknown))
        noise = sampler.choice_temperature * (1 - (step + 1) / steps)
        if noise > 0:
            confidence = confidence - noise * torch.empty_like(confidence).exponential_(generator=generator).log_()
        order = confidence.view_as(unknown).argsort(dim=1, descending=True)
        count = num_unmasked(step, steps, tokens) - (tokens - unknown.shape[1])
        chosen = unknown.gather(1, order[:, :count])
        filled = filled.scatter(1, chosen, drawn.view_as(unknown).gather(1, order[:, :count]))
        masked = masked.scatter(1, chosen, False)
        unknown = unknown.gather(1, order[:, count:])
    return filled  # a frame without tokens


def _draw(
    logits: Float[Tensor, "rows v"], sampler: SamplerConfig, generator: torch.Generator
) -> tuple[Int[Tensor, " rows"], Float[Tensor, " rows"]]:
    """Draws a token for each row, and gives its log-probability without temperature.

    The draw inverts the cumulative distribution: one random number a row, where Gumbel noise would need one a token.
    """
    probabilities = logits.softmax(1)
    if sampler.temperature < _GREEDY_BELOW or sampler.top_k == 1:
        drawn = logits.argmax(1, keepdim=True)  # `max` would give both at once, at thrice the time
        return drawn.squeeze(1), probabilities.gather(1, drawn).squeeze(1).log()
    kept, tokens = probabilities, None
    if 0 < sampler.top_k < logits.shape[1]:
        logits, tokens = logits.topk(sampler.top_k, dim=1)
        kept = probabilities.gather(1, tokens)
    if sampler.temperature != 1:
        kept = (logits / sampler.temperature).softmax(1)
    cumulative = kept.cumsum(1)
    total = cumulative[:, -1:]
    point = torch.rand(total.shape, generator=generator, device=logits.device) * total
    point = torch.minimum(point, total.nextafter(torch.zeros_like(total)))  # the product may round up to the total
    drawn = torch.searchsorted(cumulative, point, right=True)
    if tokens is not None:
        drawn = tokens.gather(1, drawn)
    return drawn.squeeze(1), probabilities.gather(1, drawn).squeeze(1).log()
