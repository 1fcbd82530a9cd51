"""Text for the terminal: aligned tables, shares, labels of actions, and the training of a world."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from djinn.models.action_names import default_name
from djinn.models.training_summary import TrainingSummary


def align(rows: Sequence[Sequence[str]], *, left: int = 0) -> list[str]:
    """Return the rows of a table as lines with aligned columns.

    Args:
        rows: Cells of each row.
        left: Number of columns aligned to the left; the others are aligned to the right.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def percent(share: float) -> str:
    """Format a share as a percentage, with two significant digits below 10 %: `0.16 %`."""
    return f"{100 * share:.0f} %" if share >= 0.095 else f"{100 * share:.2g} %"


def signed(value: float) -> str:
    """Format a number with its sign and one decimal, zero without a sign."""
    return f"{value:+.1f}" if abs(value) >= 0.05 else "0.0"


def action_label(code: int, names: Sequence[str] | None) -> str:
    """Format an action as code and name, for example `3 jump`; the code alone if unnamed."""
    name = names[code] if names and code < len(names) else ""
    return str(code) if name in ("", default_name(code)) else f"{code} {name}"


def training_text(training: dict[str, Any] | None) -> str:
    """Return one sentence on the training of a world.

    Args:
        training: Fields of its `TrainingSummary`, None if it has none.
    """
    if training is None:
        return "not recorded (the world has no training.yaml)"
    return TrainingSummary(**training).describe()
