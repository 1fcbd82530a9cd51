"""Whether latent actions act: the PSNR that the right actions gain over random ones, and what each code stands for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from djinn.models import code_usage


@dataclass(frozen=True)
class Interval:
    """A mean over clips with its bootstrap 95 % interval."""

    mean: float
    low: float
    high: float


def bootstrap(values: Float[np.ndarray, "clips ..."], seed: int = 0, resamples: int = 2_000) -> list[Interval]:
    """Means over clips, each with the 2.5 % and 97.5 % quantiles of the means of resampled clips.

    Args:
        values: one row for each clip.
        seed: of the resampling.
        resamples: how many.

    Returns:
        One interval for each column, in order.
    """
    clips = len(values)
    columns = values.reshape(clips, -1)
    weights = np.random.default_rng(seed).multinomial(clips, np.full(clips, 1 / clips), size=resamples) / clips
    low, high = np.quantile(weights @ columns, [0.025, 0.975], axis=0)
    return [Interval(*map(float, row)) for row in zip(columns.mean(0), low, high, strict=True)]


def delta_psnr(
    inferred: Float[np.ndarray, "clips horizon"], random: Float[np.ndarray, "clips horizon"], seed: int = 0
) -> list[Interval]:
    """Controllability, the paper's delta-t PSNR (section 3), for t = 1, 2, ...

    Args:
        inferred: PSNR in dB of roll-outs whose actions were inferred from the real clips.
        random: PSNR of roll-outs of the same clips whose actions were drawn at random.
        seed: of the bootstrap.
    """
    return bootstrap(inferred - random, seed)


@dataclass(frozen=True)
class CodeUse:
    """How the latent actions of real clips spread over the codes."""

    shares: list[float]
    entropy_bits: float
    perplexity: float
    """Effective number of codes, 2 to the entropy."""
    used: int
    """Codes with a share of at least `used_from`."""
    used_from: float
    """As in training: 2 % for up to 8 codes, 0.16 of an equal share for more."""
    transitions: int


def code_use(codes: Int[np.ndarray, "*s"], num_codes: int) -> CodeUse:
    """Shares, entropy and number of codes in use.

    Args:
        codes: latent actions of transitions.
        num_codes: number of codes there are.
    """
    counts = np.bincount(codes.ravel(), minlength=num_codes)
    shares = counts / max(counts.sum(), 1)
    entropy, least = entropy_bits(counts), code_usage.min_used_share(num_codes)
    return CodeUse(shares.tolist(), entropy, 2**entropy, int((shares >= least).sum()), least, int(counts.sum()))


def percent(share: float) -> str:
    """A share as text, with as many digits as a small one needs."""
    return f"{100 * share:.2g} %"


def entropy_bits(counts: Int[np.ndarray, "*s"]) -> float:
    """Return the entropy in bits of the distribution given by `counts`, the joint one for a table."""
    return max(0.0, float(code_usage.entropy_bits(torch.from_numpy(counts.ravel()).double())))


def mutual_information_bits(table: Int[np.ndarray, "codes moves"]) -> float:
    """Mutual information in bits between rows and columns of a table of counts (plug-in estimate).

    With few transitions it comes out too high, by about (codes - 1) * (moves - 1) / (1.4 * transitions).
    """
    return max(entropy_bits(table.sum(0)) + entropy_bits(table.sum(1)) - entropy_bits(table), 0.0)


@dataclass(frozen=True)
class Moves:
    """True actions of a data set, collapsed to those that differ in effect."""

    names: list[str]
    of_action: dict[int, int]
    """Index in `names` of each action id."""

    @classmethod
    def of(cls, action_names: Sequence[str], actions: Int[np.ndarray, "*s"]) -> Moves:
        """Groups actions by the names that their data set gives them (`about["action_names"]`, by action id).

        A name that ends in another in brackets says that this action has that one's effect, as `d (none)` does in
        CoinRun, where 15 action ids have 9 effects. Without names each action id is a move of its own.
        """
        ids = [int(i) for i in np.unique(actions) if i >= 0]
        effect = {i: str(name).rsplit("(", 1)[-1].removesuffix(")") for i, name in enumerate(action_names)}
        effect |= {i: f"action {i}" for i in ids if i not in effect}
        names = list(dict.fromkeys(effect.values()))
        return cls(names, {i: names.index(name) for i, name in effect.items()})

    def __call__(self, actions: Int[np.ndarray, "*s"]) -> Int[np.ndarray, "*s"]:
        """Indices of moves for action ids; -1 for ids that are unknown."""
        lookup = np.full(max(self.of_action, default=0) + 2, -1)  # the last place stands for all that is unknown
        lookup[list(self.of_action)] = list(self.of_action.values())
        known = (actions >= 0) & (actions < len(lookup) - 1)
        return lookup[np.where(known, actions, len(lookup) - 1)]


@dataclass(frozen=True)
class Agreement:
    """How well codes tell moves, when each code is read as the move it most often stands for."""

    transitions: int
    mutual_information_bits: float
    move_entropy_bits: float
    """The mutual information of codes that tell all."""
    accuracy: float
    """Share of transitions whose code's move is the true one; the reading is fitted on the same transitions."""
    majority: float
    """The accuracy of always answering the most frequent move."""


@dataclass(frozen=True)
class CodeTable:
    """Counts of latent codes against true moves."""

    moves: list[str]
    counts: list[list[int]]
    """A row for each code, a column for each move."""
    reading: list[str]
    """The most frequent move of each code; empty for a code that is never used."""
    overall: Agreement
    changed: Agreement
    """Over those transitions only in which a pixel changes."""


def agreement(table: Int[np.ndarray, "codes moves"]) -> Agreement:
    """Figures of a table of counts."""
    total = max(int(table.sum()), 1)
    return Agreement(
        transitions=int(table.sum()),
        mutual_information_bits=mutual_information_bits(table),
        move_entropy_bits=entropy_bits(table.sum(0)),
        accuracy=float(table.max(1).sum() / total),
        majority=float(table.sum(0).max() / total),
    )


def code_table(
    codes: Int[np.ndarray, "*s"],
    moves: Int[np.ndarray, "*s"],
    changed: Bool[np.ndarray, "*s"],
    names: list[str],
    num_codes: int,
) -> CodeTable:
    """Compares latent codes with true moves.

    Args:
        codes: latent action of each transition.
        moves: true move of each transition, an index in `names`; transitions with -1 are left out.
        changed: whether a pixel changes in the transition.
        names: names of the moves.
        num_codes: number of codes there are.
    """
    known = moves >= 0
    tables = []
    for chosen in (known, known & changed):
        table = np.zeros((num_codes, len(names)), dtype=np.int64)
        np.add.at(table, (codes[chosen], moves[chosen]), 1)
        tables.append(table)
    reading = [names[row.argmax()] if row.sum() else "" for row in tables[0]]
    return CodeTable(names, tables[0].tolist(), reading, agreement(tables[0]), agreement(tables[1]))
