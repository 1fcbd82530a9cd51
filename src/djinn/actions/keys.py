"""Keys of latent actions: arrow keys by direction, and the space bar."""

from __future__ import annotations

from collections.abc import Sequence

from djinn.actions.labels import ActionLabel

ARROWS = (("left", "ArrowLeft"), ("right", "ArrowRight"), ("up", "ArrowUp"), ("jump", "ArrowUp"), ("down", "ArrowDown"))
SPACE = ("fire", "shoot", "jump", "up")
"""Words for the space bar, in the order of preference."""


def by_strength(labels: Sequence[ActionLabel]) -> list[int]:
    """Return the codes, strongest first."""
    return sorted(range(len(labels)), key=lambda code: (-labels[code].strength, code))


def assign_keys(labels: Sequence[ActionLabel]) -> list[list[str]]:
    """Assign arrow keys to the strongest code of each direction, and the space bar.

    A code with a single direction takes precedence over one with several, which is played by
    holding both arrow keys. Codes without a distinct effect get no keys.

    Args:
        labels: Label of each code.

    Returns:
        Keys of each code as values of `KeyboardEvent.key`, `A+B` for two at once. Each is assigned
        once.
    """
    keys: list[list[str]] = [[] for _ in labels]
    assigned: set[str] = set()
    order = [code for code in by_strength(labels) if labels[code].has_effect]
    for alone in (True, False):
        for word, key in ARROWS:
            matches = [
                code
                for code in order
                if word in labels[code].words and (labels[code].words == (word,) if alone else not keys[code])
            ]
            if key not in assigned and matches:
                keys[matches[0]].append(key)
                assigned.add(key)
    arrow = dict(ARROWS)
    for code in order:
        parts = [arrow[word] for word in labels[code].words if word in arrow]
        chord = "+".join(parts)
        complete = 1 < len(parts) == len(labels[code].words) and assigned.issuperset(parts)
        if complete and chord not in assigned and not keys[code]:
            keys[code].append(chord)
            assigned.add(chord)
    for word in SPACE:
        matches = [code for code in order if word in labels[code].words]
        matches.sort(key=lambda code: len(labels[code].words))
        if matches:
            keys[matches[0]].append("Space")
            break
    return keys
