"""Bootstrap intervals, entropy and mutual information."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from djinn.models import code_usage


@dataclass(frozen=True)
class Interval:
    """Mean over clips with its bootstrap 95 % interval."""

    mean: float
    low: float
    high: float


def bootstrap(values: Float[np.ndarray, "clips ..."], seed: int = 0, resamples: int = 2_000) -> list[Interval]:
    """Return the mean over clips of each column with its 95 % interval.

    The ends are the 2.5 % and 97.5 % quantiles of the means of resampled clips.

    Args:
        values: One row per clip.
        seed: Seed of the resampling.
        resamples: Number of resamples.
    """
    clips = len(values)
    columns = values.reshape(clips, -1)
    weights = np.random.default_rng(seed).multinomial(clips, np.full(clips, 1 / clips), size=resamples) / clips
    low, high = np.quantile(weights @ columns, [0.025, 0.975], axis=0)
    return [Interval(*map(float, row)) for row in zip(columns.mean(0), low, high, strict=True)]


def entropy_bits(counts: Int[np.ndarray, "*s"]) -> float:
    """Return the entropy in bits of the distribution `counts`, the joint one for a table."""
    return max(0.0, float(code_usage.entropy_bits(torch.from_numpy(counts.ravel()).double())))


def mutual_information_bits(table: Int[np.ndarray, "rows columns"]) -> float:
    """Return the mutual information in bits between rows and columns of a table of counts.

    This is the plug-in estimate. On few samples it is biased upwards, by about
    `(rows - 1) * (columns - 1) / (1.4 * samples)`.
    """
    return max(entropy_bits(table.sum(0)) + entropy_bits(table.sum(1)) - entropy_bits(table), 0.0)
