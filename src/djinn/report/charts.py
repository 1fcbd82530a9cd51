"""Line charts as SVG that stands inside an HTML page and takes its colours from the page's style."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

from djinn.errors import UserError
from djinn.report.markup import Html, tag

TONES = {
    "ink": "#010203",
    "soft": "#020304",
    "edge": "#030405",
    "inferred": "#040506",
    "random": "#050607",
    "repeat": "#060708",
    "delta": "#070809",
}
"""Colours that matplotlib draws with, each replaced by the CSS variable of its name."""
_SIZE = (4.4, 2.75)
_POINTS = 8.5


@dataclass(frozen=True)
class Line:
    """One line of a chart."""

    label: str
    values: Sequence[float]
    tone: str
    low: Sequence[float] | None = None
    """Lower and upper edge of a band around the line."""
    high: Sequence[float] | None = None


def require_plot() -> None:
    """Refuses to go on without matplotlib, before the long part rather than after it.

    Raises:
        UserError: it is missing; the message names the extra.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise UserError("the HTML report needs the extra 'plot': pip install 'djinn[plot]'") from None


def line_chart(
    name: str,
    title: str,
    lines: Sequence[Line],
    *,
    across: str,
    first: int = 1,
    at: float | None = None,
    zero: bool = False,
) -> Html:
    """A figure with a caption and lines over the whole numbers from `first` on.

    Args:
        name: unique in the page; ids inside the chart begin with it.
        title: the caption, which names the quantity and its unit.
        lines: what to draw; values that are None or not finite leave a gap.
        across: label of the horizontal axis.
        first: where the horizontal axis starts.
        at: draw a thin horizontal line here, to compare with.
        zero: start the vertical axis at 0.

    Raises:
        UserError: matplotlib is missing.
    """
    require_plot()
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    style = {"svg.fonttype": "none", "svg.hashsalt": name, "font.size": _POINTS, "axes.unicode_minus": False}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=_SIZE)
        axes = figure.add_axes((0.1, 0.16, 0.89, 0.74))
        for line in lines:
            color = TONES[line.tone]
            times = range(first, first + len(line.values))
            marker = "o" if len(line.values) <= 32 else None
            axes.plot(times, line.values, color=color, label=line.label, marker=marker, markersize=3, linewidth=1.6)
            if line.low is not None and line.high is not None:
                axes.fill_between(times, line.low, line.high, color=color, alpha=0.18, linewidth=0)
        if at is not None:
            axes.axhline(at, color=TONES["soft"], linewidth=0.8, linestyle=(0, (3, 3)))
        axes.set_xlabel(across, color=TONES["soft"])
        if zero:
            axes.set_ylim(0, 1.05 * max([*_finite(lines), at or 0]) or 1)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
        axes.tick_params(colors=TONES["soft"], length=0)
        axes.grid(axis="y", color=TONES["edge"], linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[:].set_visible(False)
        axes.spines["bottom"].set(visible=True, color=TONES["edge"])
        if len(lines) > 1:
            axes.legend(
                loc="lower left",
                bbox_to_anchor=(-0.02, 1.0),
                ncols=len(lines),
                frameon=False,
                labelcolor=TONES["ink"],
                borderpad=0,
                handlelength=1.2,
                columnspacing=1.2,
            )
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return tag("figure", _inline(buffer.getvalue(), name, _told(title, lines, across)), tag("figcaption", title))


def _inline(svg: str, name: str, alt: str) -> Html:
    """The SVG without what a page does not need: declarations, addresses, a fixed size, ids that another chart has too."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    head, body = svg.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', head)
    assert box
    body = re.sub(r"<style.*?</style>", "", body, flags=re.DOTALL)  # would hold for the whole page
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = body.replace("url(#", f"url(#{name}-").replace('xlink:href="#', f'href="#{name}-')
    body = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px system-ui, sans-serif", body)
    for tone, color in TONES.items():
        body = body.replace(color, f"var(--{tone})")
    return Html(str(tag("svg", role="img", aria_label=alt)).replace("></svg>", f" {box[0]}>{body}"))


def _finite(lines: Sequence[Line]) -> list[float]:
    return [v for line in lines for v in line.values if v is not None and v == v]


def _told(title: str, lines: Sequence[Line], across: str) -> str:
    """The chart in words, for who cannot see it."""
    parts = []
    for line in lines:
        values = _finite([line])
        if values:
            parts.append(f"{line.label}: {values[0]:.3g} at first, {values[-1]:.3g} at last")
    return f"{title}, by {across}. " + "; ".join(parts)
