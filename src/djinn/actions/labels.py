"""Labels of latent actions, and their derivation from the ground-truth actions of a data set."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from djinn.evaluate.code_table import CodeTable
from djinn.evaluate.text import percent

MIN_SHARE = 0.5
"""Share of the ground-truth actions, or of the prompts, that must have a word."""
MIN_LIFT = 1.3
"""A word must be this many times as frequent for a code as among all transitions."""
MIN_OVER_OPPOSITE = 1.5
"""A direction must be this many times as frequent for a code as its opposite."""
MIN_TRANSITIONS = 30
"""Minimum number of transitions of a code for its ground-truth actions to count."""

STAY = "stay"
NO_ACTION = ("none", "noop", "no-op", "nothing", "idle", "stay")
AXES = (("left", "right"), ("up", "down"))
"""Words for the negative and the positive direction along x and y."""
OPPOSITE = {word: other for low, high in AXES for word, other in ((low, high), (high, low))}


@dataclass(frozen=True)
class ActionLabel:
    """Description of a latent action, from which its name and keys are derived."""

    words: tuple[str, ...]
    """What the action does, for example `("right", "jump")`; empty if unclear."""
    strength: float = 0.0
    """Rank among the actions with the same words."""
    evidence: str = "no clear effect"
    """One clause on the measurement behind the words."""
    has_effect: bool = True
    """Whether the action has a distinct effect. Actions without one get no keys."""


def words_of(action: str) -> frozenset[str]:
    """Split the name of a ground-truth action: `right+up` has `right` and `up`, `none` no words."""
    text = action.strip()
    # names of the Arcade Learning Environment, such as UPRIGHTFIRE
    compound = re.fullmatch(r"(?:UP|DOWN|LEFT|RIGHT|FIRE|NOOP)+", text)
    parts = re.findall(r"UP|DOWN|LEFT|RIGHT|FIRE|NOOP", text) if compound else re.split(r"\s*\+\s*", text)
    return frozenset(part.lower() for part in parts) - set(NO_ACTION)


def labels_from_ground_truth(table: CodeTable, split: str) -> list[ActionLabel]:
    """Label each code with the words that its ground-truth actions have in common.

    A word is clear if at least `MIN_SHARE` of the transitions of a code have it, at least
    `MIN_LIFT` times its share among all transitions, and `MIN_OVER_OPPOSITE` times that of its
    opposite. A code for jumps to the left and to the right is thus labelled `jump`. A code is
    `stay` if the ground-truth actions without words are clear.

    Args:
        table: Counts of codes against ground-truth actions.
        split: Split of the data set that was counted.
    """
    counts = np.array(table.counts)
    parts = [words_of(action) for action in table.ground_truth_actions]
    words = sorted(set().union(*parts))
    # the last column stands for no action
    has = np.array([[word in part for word in words] + [not part] for part in parts])
    opposite = np.array([[OPPOSITE.get(word) in part for word in words] + [False] for part in parts])
    by_word, total = counts @ has, max(int(counts.sum()), 1)
    base = by_word.sum(axis=0) / total
    labels = []
    for row, against, transitions in zip(by_word, counts @ opposite, counts.sum(axis=1), strict=True):
        share = row / max(int(transitions), 1)
        lift = share / np.maximum(base, 1e-9)
        clear = (share >= MIN_SHARE) & (lift >= MIN_LIFT) & (row >= MIN_OVER_OPPOSITE * against)
        clear &= transitions >= MIN_TRANSITIONS
        if not clear.any():
            labels.append(ActionLabel(()))
            continue
        found = [(word, float(share[i]), float(base[i])) for i, word in enumerate([*words, STAY]) if clear[i]]
        shares = ", ".join(f"{word} {percent(s)} (of all transitions {percent(b)})" for word, s, b in found)
        labels.append(
            ActionLabel(
                sort_words(word for word, _, _ in found),
                min(s / b * s for _, s, b in found),
                f"ground-truth actions of its {int(transitions):,} transitions in {split}: {shares}",
            )
        )
    return labels


def sort_words(words: Iterable[str]) -> tuple[str, ...]:
    """Sort words as in a name: left and right first, `stay` last."""
    rank = {word: i for i, word in enumerate(("left", "right"))}
    return tuple(sorted(set(words), key=lambda word: (word == STAY, rank.get(word, len(rank)), word)))
