"""How often each latent action is inferred from real clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from djinn.evaluate.statistics import entropy_bits
from djinn.evaluate.text import action_label, align, percent
from djinn.models.code_usage import MIN_ACTION_PERPLEXITY, min_used_share

COLLAPSED = (
    "WARNING: the latent actions have collapsed: almost all have one code, so metrics of control have no meaning"
)


@dataclass(frozen=True)
class ActionUsage:
    """Distribution of the latent actions inferred from real clips."""

    shares: list[float]
    """Share of the transitions of each code, in [0, 1]."""
    entropy_bits: float
    perplexity: float
    """Effective number of codes, 2 to the power of the entropy."""
    num_used: int
    """Number of codes with a share of at least `min_share`."""
    min_share: float
    """Share from which a code counts as used, see `djinn.models.code_usage.min_used_share`."""
    transitions: int

    @property
    def collapsed(self) -> bool:
        """Whether almost all transitions have one code, so that actions cannot be distinguished."""
        return self.perplexity < MIN_ACTION_PERPLEXITY

    def summary(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return asdict(self) | {"collapsed": self.collapsed}

    def lines(self, names: Sequence[str]) -> list[str]:
        """Return the usage as text for the terminal.

        Args:
            names: Names of the latent actions.
        """
        rows = [[action_label(code, names), f"{100 * share:.1f} %"] for code, share in enumerate(self.shares)]
        return [
            f"latent actions: {self.num_used} of {len(self.shares)} codes in use (at least "
            f"{percent(self.min_share)}), entropy {self.entropy_bits:.2f} bits, perplexity {self.perplexity:.2f}, "
            f"{self.transitions:,} transitions",
            "",
            *align([["action", "share"], *rows], left=1),
        ]


def action_usage(codes: Int[np.ndarray, "*s"], num_codes: int) -> ActionUsage:
    """Return the distribution of latent actions.

    Args:
        codes: Latent actions of transitions.
        num_codes: Number of codes of the world.
    """
    counts = np.bincount(codes.ravel(), minlength=num_codes)
    shares = counts / max(counts.sum(), 1)
    entropy, min_share = entropy_bits(counts), min_used_share(num_codes)
    return ActionUsage(
        shares.tolist(), entropy, 2**entropy, int((shares >= min_share).sum()), min_share, int(counts.sum())
    )
