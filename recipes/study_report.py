"""Tables and figures of the studies: Markdown, and points and lines with matplotlib."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from djinn.errors import UserError

INK, FILL = "#30343b", ("#3b6ea5", "#c8553d", "#6a994e", "#8a5a9e", "#d9a441", "#5b8e8e")
"""Colours of lines and text, and of arms in their order."""


@dataclass(frozen=True)
class Column:
    """One figure of every arm."""

    head: str
    key: str
    """Where it stands in a result, for instance `delta_psnr.4`."""
    digits: int = 2
    interval: str = ""
    """Where its interval `[low, high]` stands, if it has one."""
    drawn: bool = False
    """It has a panel in the figure."""


@dataclass(frozen=True)
class Value:
    """A figure of one arm, with its interval if there is one."""

    mean: float
    low: float | None = None
    high: float | None = None

    def text(self, digits: int) -> str:
        """For a table."""
        around = "" if self.low is None else f" ({self.low:,.{digits}f} to {self.high:,.{digits}f})"
        return f"{self.mean:,.{digits}f}{around}"


def find(figures: Mapping[str, Any], key: str) -> Any:
    """What stands at a dotted key; None where it, or something above it, was not measured.

    Raises:
        KeyError: there is no such key.
    """
    found: Any = figures
    for part in key.split("."):
        found = None if found is None else found[part]
    return found


def summarize(results: Sequence[Mapping[str, Any]], column: Column) -> Value | None:
    """A column's figure of one arm: with several seeds their mean and range, with one its own interval.

    Args:
        results: figures of the arm, one for each seed.
        column: which figure.

    Returns:
        None where it was not measured.
    """
    values = [find(figures, column.key) for figures in results]
    if not values or any(value is None for value in values):
        return None
    if len(values) > 1:
        return Value(sum(values) / len(values), min(values), max(values))
    interval = find(results[0], column.interval) if column.interval else None
    return Value(values[0]) if interval is None else Value(values[0], *interval)


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first row is its head."""
    head, *body = rows
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def need_plot() -> None:
    """Refuses to start what could not draw its figure in the end.

    Raises:
        UserError: matplotlib is missing; the message names the extra.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise UserError("the figure needs matplotlib, which is in the extra 'plot': pip install 'djinn[plot]'")


def draw(
    path: Path,
    title: str,
    points: Mapping[str, Mapping[str, Value]],
    curves: Mapping[str, Mapping[str, Sequence[float]]],
    x: Sequence[float],
    labels: tuple[str, str],
) -> None:
    """Draws panels of points and panels of curves side by side, as a PNG.

    Args:
        path: file to write; it appears when it is complete.
        title: above all panels.
        points: by panel and name of the point; whiskers are the intervals.
        curves: by panel and name of the curve, values at `x`.
        x: shared by all curves.
        labels: of the curves' axes.
    """
    from matplotlib.figure import Figure

    count = len(points) + len(curves)
    picture = Figure(figsize=(3.2 * count + 0.4, 3.4), dpi=130, layout="constrained")
    axes = picture.subplots(1, count, squeeze=False)[0]
    for axis, (head, values) in zip(axes, points.items(), strict=False):
        for i, value in enumerate(values.values()):
            colour = FILL[i % len(FILL)]
            if value.low is not None and value.high is not None:
                axis.vlines(i, value.low, value.high, color=colour, linewidth=2)
            axis.plot(i, value.mean, marker="o", markersize=8, color=colour)
        axis.set_title(head, fontsize=10)
        axis.set_xticks(range(len(values)), list(values), rotation=15 if len(values) > 2 else 0)
        axis.margins(x=0.35, y=0.15)
    for axis, (head, lines) in zip(axes[len(points) :], curves.items(), strict=True):
        for i, (name, values) in enumerate(lines.items()):
            axis.plot(x, values, marker="o", markersize=3.5, color=FILL[i % len(FILL)], label=name)
        axis.set_title(head, fontsize=10)
        axis.set_xlabel(labels[0])
        axis.set_ylabel(labels[1])
        axis.legend(fontsize=8, frameon=False)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", alpha=0.25)
        axis.set_axisbelow(True)
    picture.suptitle(title, fontsize=11, color=INK)
    temporary = path.with_name(path.name + ".tmp")
    picture.savefig(temporary, format="png")
    temporary.replace(path)


def publish(page: Path, name: str, text: str, figure: Path) -> None:
    """Puts a study's table and figure into a page, between `<!-- begin NAME -->` and `<!-- end NAME -->`.

    Args:
        page: a Markdown file that has the two marks; the figure is copied to a folder of the page's name beside it.
        name: of the study.
        text: what to put there; `figure.png` in it becomes the copy's name.
        figure: the PNG.

    Raises:
        UserError: the page or its marks are missing.
    """
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    before = page.read_text(encoding="utf-8") if page.is_file() else ""
    head, found, rest = before.partition(begin)
    _, closed, tail = rest.partition(end)
    if not found or not closed:
        raise UserError(f"{page} has no lines '{begin}' and '{end}' to put the table between: add them")
    folder = page.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(figure, folder / f"{name}.png")
    text = text.replace("(figure.png)", f"({folder.name}/{name}.png)")
    write(page, f"{head}{begin}\n{text.strip()}\n{end}{tail}")


def write(path: Path, text: str) -> None:
    """Writes a file, whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
