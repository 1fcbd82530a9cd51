"""Summary of a data set in a few lines of text."""

from __future__ import annotations

import math
from typing import Any

from djinn.data.dataset import Dataset
from djinn.data.splits import SPLITS


def summarize(dataset: Dataset) -> str:
    """Return a description of a data set: frames, episodes, splits, actions, size, origin."""
    lengths = sorted(episode.length for episode in dataset.episodes)
    num_sources = len({episode.source for episode in dataset.episodes})
    splits = []
    for name in SPLITS:
        in_split = [episode.length for episode in dataset.episodes if episode.split == name]
        if in_split:
            splits.append(f"{name} {sum(in_split):,} frames in {_count(len(in_split), 'episode')}")
    rows = [
        ("data set", str(dataset.path)),
        (
            "frames",
            f"{dataset.frames:,} of {dataset.width}x{dataset.height} at {dataset.fps:g}/s = "
            f"{_format_seconds(dataset.frames / dataset.fps)}",
        ),
        (
            "episodes",
            f"{len(lengths):,} of {lengths[0]:,} to {lengths[-1]:,} frames (median {lengths[len(lengths) // 2]:,}) "
            f"from {_count(num_sources, 'source')}",
        ),
        ("splits", "; ".join(splits)),
        ("actions", "ground-truth actions are stored, for evaluation only" if dataset.has_actions else "not known"),
        ("disk", f"{dataset.store.size_in_bytes / 2**20:,.1f} MB"),
        ("created", _format_metadata(dataset.metadata)),
        ("identity", dataset.identity),
    ]
    return "\n".join(f"{name:<10} {text}" for name, text in rows if text)


def _format_metadata(metadata: dict[str, Any]) -> str:
    return ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in metadata.items() if not isinstance(v, list | dict))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _format_seconds(seconds: float) -> str:
    minutes, seconds = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
