"""When a code of a codebook counts as used: one threshold for training's figures and for reports."""

from __future__ import annotations


def min_used_share(codes: int) -> float:
    """Share of use from which a code counts as used: 2 % for up to 8 codes, 0.16 of an equal share for more."""
    return min(0.02, 0.16 / codes)
