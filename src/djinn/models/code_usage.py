"""Statistics of codebook usage, shared by training logs and reports."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float, Int, Num
from torch import Tensor

MIN_ACTION_PERPLEXITY = 1.5
"""Perplexity below which latent actions count as collapsed: one code with about 90 % of uses."""


class CodeUsage(NamedTuple):
    """Usage of a codebook. All fields are scalar tensors, so that training need not synchronize."""

    top_share: Float[Tensor, ""]
    """Share of the most frequent code, in [0, 1]."""
    num_used: Int[Tensor, ""]
    """Number of codes with a share of at least `min_used_share`."""
    entropy_bits: Float[Tensor, ""]
    """Entropy of the distribution over codes, in bits."""


def code_usage(counts: Num[Tensor, " codes"]) -> CodeUsage:
    """Return the usage of a codebook.

    Args:
        counts: Number of uses of each code.
    """
    shares = _shares(counts)
    return CodeUsage(shares.max(), (shares >= min_used_share(len(shares))).sum(), _entropy_bits(shares))


def entropy_bits(counts: Num[Tensor, " n"]) -> Float[Tensor, ""]:
    """Return the entropy in bits of the distribution given by `counts`."""
    return _entropy_bits(_shares(counts))


def min_used_share(codes: int) -> float:
    """Return the share from which a code counts as used.

    It is 2 % for up to 8 codes, and 0.16 of a uniform share for more.
    """
    return min(0.02, 0.16 / codes)


def min_tokenizer_perplexity(codes: int) -> float:
    """Return the perplexity below which the codebook of a tokenizer counts as collapsed."""
    return max(2.0, codes / 100)


def _shares(counts: Num[Tensor, " n"]) -> Float[Tensor, " n"]:
    counts = counts if counts.is_floating_point() else counts.float()
    return counts / counts.sum().clamp_min(1e-9)


def _entropy_bits(shares: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    return (shares * -shares.clamp_min(1e-12).log2()).sum()
