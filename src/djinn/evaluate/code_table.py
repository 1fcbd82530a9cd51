"""Latent actions compared with the ground-truth actions of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from djinn.evaluate.statistics import entropy_bits, mutual_information_bits
from djinn.evaluate.text import action_label, align


@dataclass(frozen=True)
class GroundTruthActions:
    """Ground-truth actions of a data set, grouped by their effect."""

    names: list[str]
    """Name of each group."""
    group_of: dict[int, int]
    """Group of each action id, an index in `names`."""

    @classmethod
    def from_names(cls, action_names: Sequence[str], actions: Int[np.ndarray, "*s"]) -> GroundTruthActions:
        """Group actions by the names that the data set gives them.

        A name that ends in another one in brackets has the effect of that one. In CoinRun `d
        (none)` does what `none` does, so that 15 action ids form 9 groups. Without names each id is
        a group.

        Args:
            action_names: Names by action id, from the metadata of the data set.
            actions: Action ids that occur.
        """
        ids = [int(i) for i in np.unique(actions) if i >= 0]
        effect = {i: str(name).rsplit("(", 1)[-1].removesuffix(")") for i, name in enumerate(action_names)}
        effect |= {i: f"action {i}" for i in ids if i not in effect}
        names = list(dict.fromkeys(effect.values()))
        return cls(names, {i: names.index(name) for i, name in effect.items()})

    def __call__(self, actions: Int[np.ndarray, "*s"]) -> Int[np.ndarray, "*s"]:
        """Return the groups of action ids, -1 for unknown ids."""
        lookup = np.full(max(self.group_of, default=0) + 2, -1)  # last entry: unknown ids
        lookup[list(self.group_of)] = list(self.group_of.values())
        known = (actions >= 0) & (actions < len(lookup) - 1)
        return lookup[np.where(known, actions, len(lookup) - 1)]


@dataclass(frozen=True)
class Agreement:
    """Agreement of latent actions with ground-truth actions over a set of transitions."""

    transitions: int
    mutual_information_bits: float
    action_entropy_bits: float
    """Entropy of the ground-truth actions, the largest possible mutual information."""
    accuracy: float
    """Code-to-action accuracy, in [0, 1]: each code predicts its most frequent ground-truth action.

    The prediction is fitted on the same transitions (majority vote).
    """
    majority_accuracy: float
    """Accuracy of always predicting the most frequent ground-truth action, in [0, 1]."""


@dataclass(frozen=True)
class CodeTable:
    """Counts of latent actions against ground-truth actions."""

    ground_truth_actions: list[str]
    counts: list[list[int]]
    """One row per code, one column per ground-truth action."""
    labels: list[str]
    """Most frequent ground-truth action of each code, empty for a code that never occurs."""
    overall: Agreement
    changed: Agreement
    """Over the transitions in which a pixel changes."""

    def summary(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return asdict(self)

    def columns(self) -> list[int]:
        """Return the indices of the ground-truth actions that occur."""
        return [j for j in range(len(self.ground_truth_actions)) if any(row[j] for row in self.counts)]

    def lines(self, names: Sequence[str]) -> list[str]:
        """Return the table as text for the terminal.

        Args:
            names: Names of the latent actions.
        """
        columns = self.columns()
        rows = [["action", *(self.ground_truth_actions[j] for j in columns), "majority"]]
        for code, counts in enumerate(self.counts):
            cells = [f"{100 * counts[j] / max(sum(counts), 1):.0f}" for j in columns]
            rows.append([action_label(code, names), *cells, self.labels[code] or "never used"])
        lines = ["ground-truth actions of each latent action, in percent of its transitions", *align(rows, left=1)]
        for where, agreement in (("all transitions", self.overall), ("transitions with change", self.changed)):
            lines.append(
                f"{where} ({agreement.transitions:,}): code-to-action accuracy (majority vote) "
                f"{100 * agreement.accuracy:.1f} %, most frequent action alone "
                f"{100 * agreement.majority_accuracy:.1f} %; mutual information "
                f"{agreement.mutual_information_bits:.2f} of {agreement.action_entropy_bits:.2f} bits"
            )
        return lines


def code_table(
    codes: Int[np.ndarray, "*s"],
    actions: Int[np.ndarray, "*s"],
    changed: Bool[np.ndarray, "*s"],
    names: list[str],
    num_codes: int,
) -> CodeTable:
    """Count latent actions against ground-truth actions.

    Args:
        codes: Latent action of each transition.
        actions: Ground-truth action of each transition, an index in `names`. Transitions with -1
            are left out.
        changed: Whether a pixel changes in the transition.
        names: Names of the ground-truth actions.
        num_codes: Number of codes of the world.
    """
    known = actions >= 0
    tables = []
    for chosen in (known, known & changed):
        table = np.zeros((num_codes, len(names)), dtype=np.int64)
        np.add.at(table, (codes[chosen], actions[chosen]), 1)
        tables.append(table)
    labels = [names[row.argmax()] if row.sum() else "" for row in tables[0]]
    return CodeTable(names, tables[0].tolist(), labels, _agreement(tables[0]), _agreement(tables[1]))


def _agreement(table: Int[np.ndarray, "codes actions"]) -> Agreement:
    total = max(int(table.sum()), 1)
    return Agreement(
        transitions=int(table.sum()),
        mutual_information_bits=mutual_information_bits(table),
        action_entropy_bits=entropy_bits(table.sum(0)),
        accuracy=float(table.max(1).sum() / total),
        majority_accuracy=float(table.sum(0).max() / total),
    )
