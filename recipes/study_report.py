"""Tables and plots of the studies: Markdown, and points and curves with matplotlib."""

from __future__ import annotations

import importlib.util
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from djinn.atomic import atomic_write
from djinn.errors import UserError

TEXT_COLOR = "#30343b"
ARM_COLORS = ("#3b6ea5", "#c8553d", "#6a994e", "#8a5a9e", "#d9a441", "#5b8e8e")
"""Colors of the arms, in their order."""


@dataclass(frozen=True)
class Column:
    """One metric of every arm."""

    heading: str
    key: str
    """Dotted key in a result, for example `delta_psnr.4`."""
    digits: int = 2
    interval: str = ""
    """Dotted key of its interval `[low, high]`, if it has one."""
    plotted: bool = False
    """Whether the plot has a panel for it."""


@dataclass(frozen=True)
class Value:
    """A metric of one arm, with its interval if it has one."""

    mean: float
    low: float | None = None
    high: float | None = None

    def format(self, digits: int) -> str:
        """Return the text of a table cell."""
        interval = "" if self.low is None else f" ({self.low:,.{digits}f} to {self.high:,.{digits}f})"
        return f"{self.mean:,.{digits}f}{interval}"


def lookup(metrics: Mapping[str, Any], key: str) -> Any:
    """Return the value at a dotted key; None if it, or a level above it, was not measured.

    Raises:
        KeyError: The key does not exist.
    """
    found: Any = metrics
    for part in key.split("."):
        found = None if found is None else found[part]
    return found


def summarize(results: Sequence[Mapping[str, Any]], column: Column) -> Value | None:
    """Summarize a column for one arm: mean and range of several seeds, or the interval of one.

    Args:
        results: Metrics of the arm, one mapping per seed.
        column: The metric.

    Returns:
        The value, or None if it was not measured.
    """
    values = [lookup(metrics, column.key) for metrics in results]
    if not values or any(value is None for value in values):
        return None
    if len(values) > 1:
        return Value(sum(values) / len(values), min(values), max(values))
    interval = lookup(results[0], column.interval) if column.interval else None
    return Value(values[0]) if interval is None else Value(values[0], *interval)


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; the first row is the header."""
    header, *body = rows
    lines = [header, ["---"] * len(header), *body]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def wrap_text(text: str) -> str:
    """Wrap a paragraph of Markdown to lines of at most 99 characters."""
    return textwrap.fill(text, 99, break_long_words=False, break_on_hyphens=False)


def require_matplotlib() -> None:
    """Check before the work starts that the plot can be drawn.

    Raises:
        UserError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise UserError("the plot needs matplotlib, which is in the extra 'plot': pip install 'djinn[plot]'")


def draw_panels(
    path: Path,
    title: str,
    points: Mapping[str, Mapping[str, Value]],
    curves: Mapping[str, Mapping[str, Sequence[float]]],
    x: Sequence[float],
    labels: tuple[str, str],
) -> None:
    """Draw panels of points and panels of curves side by side, as a PNG.

    Args:
        path: File to write; it appears when it is complete.
        title: Title above all panels.
        points: Points by panel and name; whiskers are the intervals.
        curves: Curves by panel and name, with values at `x`.
        x: Horizontal positions of all curves.
        labels: Axis labels of the curves.
    """
    from matplotlib.figure import Figure

    count = len(points) + len(curves)
    figure = Figure(figsize=(3.2 * count + 0.4, 3.4), dpi=130, layout="constrained")
    axes = figure.subplots(1, count, squeeze=False)[0]
    for axis, (heading, values) in zip(axes, points.items(), strict=False):
        for i, value in enumerate(values.values()):
            color = ARM_COLORS[i % len(ARM_COLORS)]
            if value.low is not None and value.high is not None:
                axis.vlines(i, value.low, value.high, color=color, linewidth=2)
            axis.plot(i, value.mean, marker="o", markersize=8, color=color)
        axis.set_title(heading, fontsize=10)
        axis.set_xticks(range(len(values)), list(values), rotation=15 if len(values) > 2 else 0)
        axis.margins(x=0.35, y=0.15)
    for axis, (heading, lines) in zip(axes[len(points) :], curves.items(), strict=True):
        for i, (name, values) in enumerate(lines.items()):
            axis.plot(x, values, marker="o", markersize=3.5, color=ARM_COLORS[i % len(ARM_COLORS)], label=name)
        axis.set_title(heading, fontsize=10)
        axis.set_xlabel(labels[0])
        axis.set_ylabel(labels[1])
        axis.legend(fontsize=8, frameon=False)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", alpha=0.25)
        axis.set_axisbelow(True)
    figure.suptitle(title, fontsize=11, color=TEXT_COLOR)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png")


def publish(page: Path, name: str, text: str, figure: Path) -> None:
    """Write a study into a page, between `<!-- begin NAME -->` and `<!-- end NAME -->`.

    Args:
        page: Markdown file with the two markers. The plot is copied to a
            folder of its name beside it.
        name: Name of the study.
        text: Text to insert; links to `figure.png` become links to the copy.
        figure: The PNG.

    Raises:
        UserError: The page or its markers are missing.
    """
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    old = page.read_text(encoding="utf-8") if page.is_file() else ""
    head, begin_found, rest = old.partition(begin)
    _, end_found, tail = rest.partition(end)
    if not begin_found or not end_found:
        raise UserError(f"{page} has no lines '{begin}' and '{end}' to put the table between: add them")
    folder = page.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(figure, folder / f"{name}.png")
    text = text.replace("(figure.png)", f"({folder.name}/{name}.png)")
    write_text(page, f"{head}{begin}\n{text.strip()}\n{end}{tail}")


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
