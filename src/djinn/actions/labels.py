"""What speaks for the name of a latent action, and what the true moves of a data set say of it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from djinn.evaluate.controllability import CodeTable

SURE_FROM = 0.5
"""Share of true moves, or of all prompts, that must speak for a word."""
LIFT_FROM = 1.3
"""A true move speaks for a code where it is this many times as frequent as among all transitions."""
OPPOSED_FROM = 1.5
"""A true move to one side speaks for a code where it is this many times as frequent as the one to the other side."""
LEAST_SEEN = 30
"""Transitions from which a code's true moves count."""

STAY = "stay"
NOTHING = ("none", "noop", "no-op", "nothing", "idle", "stay")
AXES = (("left", "right"), ("up", "down"))
"""Words for less and for more along x and y."""
OPPOSITE = {word: other for low, high in AXES for word, other in ((low, high), (high, low))}


@dataclass(frozen=True)
class ActionLabel:
    """What speaks for a code's name."""

    words: tuple[str, ...]
    """What it does at once, as `("right", "jump")`; empty where nothing is clear."""
    strength: float = 0.0
    """Tells which of two codes with the same words has the name first."""
    evidence: str = "nothing that it does is clear"


def words_of(move: str) -> frozenset[str]:
    """What a true move does at once: `right+up` does `right` and `up`, and a move that does nothing has no words."""
    text = move.strip()  # of the Arcade Learning Environment: UPRIGHTFIRE
    compound = re.fullmatch(r"(?:UP|DOWN|LEFT|RIGHT|FIRE|NOOP)+", text)
    parts = re.findall(r"UP|DOWN|LEFT|RIGHT|FIRE|NOOP", text) if compound else re.split(r"\s*\+\s*", text)
    return frozenset(part.lower() for part in parts) - set(NOTHING)


def read_table(table: CodeTable, split: str) -> list[ActionLabel]:
    """Reads each code as the words of the true moves that it stands for, where these are clear.

    A word is clear if at least `SURE_FROM` of a code's transitions have it, at least `LIFT_FROM` times its share among all
    transitions and `OPPOSED_FROM` times that of its opposite: who jumps to the left and to the right jumps. A code that does
    nothing is clear if the moves without words are.

    Args:
        table: counts of codes against true moves.
        split: part of the data set they are from.
    """
    counts = np.array(table.counts)
    parts = [words_of(move) for move in table.moves]
    words = sorted(set().union(*parts))
    has = np.array([[word in part for word in words] + [not part] for part in parts])  # the last column: does nothing
    opposed = np.array([[OPPOSITE.get(word) in part for word in words] + [False] for part in parts])
    by_word, total = counts @ has, max(int(counts.sum()), 1)
    base = by_word.sum(axis=0) / total
    action_labels = []
    for row, against, seen in zip(by_word, counts @ opposed, counts.sum(axis=1), strict=True):
        share = row / max(int(seen), 1)
        lift = share / np.maximum(base, 1e-9)
        clear = (share >= SURE_FROM) & (lift >= LIFT_FROM) & (row >= OPPOSED_FROM * against) & (seen >= LEAST_SEEN)
        if not clear.any():
            action_labels.append(ActionLabel(()))
            continue
        found = [(word, float(share[i]), float(base[i])) for i, word in enumerate([*words, STAY]) if clear[i]]
        said = ", ".join(f"{word} {s:.0%} (of all transitions {b:.0%})" for word, s, b in found)
        action_labels.append(
            ActionLabel(
                ordered(word for word, _, _ in found),
                min(s / b * s for _, s, b in found),
                f"true moves of its {int(seen):,} transitions in {split}: {said}",
            )
        )
    return action_labels


def ordered(words: Iterable[str]) -> tuple[str, ...]:
    """Words as one says them: to the side first, and `stay` last."""
    rank = {word: i for i, word in enumerate(("left", "right"))}
    return tuple(sorted(set(words), key=lambda word: (word == STAY, rank.get(word, len(rank)), word)))
