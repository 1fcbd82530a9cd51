"""Which files and levels are trained on and which are held out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def share(name: str) -> float:
    """A number in [0, 1) that depends on the name only, evenly spread over names."""
    return int.from_bytes(hashlib.sha256(name.encode("utf-8")).digest()[:8], "big") / 2**64


def assign(names: Sequence[str], *, val: float, test: float) -> list[str]:
    """Deals names into `train`, `val` and `test` by their hash.

    A name's split does not depend on the other names, except that two names or more always have one in `val`,
    and ten or more one in `test`, so that training can always be measured.

    Args:
        names: what is split, each name once.
        val: share of names for `val`.
        test: share of names for `test`.

    Returns:
        The split of each name.
    """
    splits = ["val" if share(n) < val else "test" if share(n) < val + test else "train" for n in names]
    order = sorted(range(len(names)), key=lambda i: share(names[i]))
    if len(names) >= 2 and "val" not in splits:
        splits[order[0]] = "val"
    if len(names) >= 10 and test > 0 and "test" not in splits:
        splits[next(i for i in order if splits[i] == "train")] = "test"
    if names and "train" not in splits:
        splits[order[-1]] = "train"
    return splits
