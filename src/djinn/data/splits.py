"""Assignment of sources and episodes to the splits train, val and test."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from djinn.data.store.index import EpisodeRecord

SPLITS = ("train", "val", "test")
_VAL_FRACTION_OF_SINGLE_SOURCE = 0.1


def hash_fraction(name: str) -> float:
    """Map a name to a number in [0, 1) that depends on the name only and is uniform over names."""
    return int.from_bytes(hashlib.sha256(name.encode("utf-8")).digest()[:8], "big") / 2**64


def assign(names: Sequence[str], *, val: float, test: float) -> list[str]:
    """Assign names to splits by their hash.

    The split of a name does not depend on the other names, with three exceptions: of two or more
    names at least one is in `val`, of ten or more at least one is in `test`, and at least one is in
    `train`.

    Args:
        names: Distinct names of sources, such as files or levels.
        val: Fraction of names for `val`.
        test: Fraction of names for `test`.

    Returns:
        The split of each name.
    """
    hashes = [hash_fraction(name) for name in names]
    splits = ["val" if h < val else "test" if h < val + test else "train" for h in hashes]
    order = sorted(range(len(names)), key=lambda i: hashes[i])
    if len(names) >= 2 and "val" not in splits:
        splits[order[0]] = "val"
    if len(names) >= 10 and test > 0 and "test" not in splits:
        splits[next(i for i in order if splits[i] == "train")] = "test"
    if names and "train" not in splits:
        splits[order[-1]] = "train"
    return splits


def hold_out_end(episodes: Sequence[EpisodeRecord]) -> list[EpisodeRecord]:
    """Assign the last tenth of consecutive episodes of one source to `val` and the rest to `train`.

    The episode at the boundary is cut in two. No part is shorter than 2 frames, so `val` is empty
    if the source has fewer than 15 frames.

    Args:
        episodes: Episodes of one source, in the order of time.
    """
    total = sum(episode.length for episode in episodes)
    held_out = round(total * _VAL_FRACTION_OF_SINGLE_SOURCE)
    remaining = total - held_out if held_out >= 2 else total  # frames for `train`
    parts = []
    for episode in episodes:
        length = episode.length
        train = min(max(remaining, 0), length)
        remaining -= length
        if train == 1:
            train = 0
        elif length - train == 1:
            train = length
        if train:
            parts.append(replace(episode, split="train", length=train))
        if train < length:
            parts.append(replace(episode, split="val", start=episode.start + train, length=length - train))
    return parts
