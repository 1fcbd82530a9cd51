"""Line charts as inline SVG that uses the colors of the page."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

from djinn.errors import UserError
from djinn.report.markup import Html, tag

COLORS = {
    "text": "#010203",
    "muted": "#020304",
    "edge": "#030405",
    "inferred": "#040506",
    "random": "#050607",
    "repeat": "#060708",
    "delta": "#070809",
}
"""Placeholder colors of matplotlib, each replaced by the CSS variable of its name."""
_SIZE = (4.4, 2.75)
"""Width and height in inches."""
_FONT_SIZE = 8.5


@dataclass(frozen=True)
class Line:
    """One line of a chart."""

    label: str
    values: Sequence[float]
    color: str
    """A key of `COLORS`."""
    low: Sequence[float] | None = None
    """Lower edge of a band around the line."""
    high: Sequence[float] | None = None
    """Upper edge of a band around the line."""


def require_plot() -> None:
    """Check that matplotlib is installed.

    Raises:
        UserError: It is not; the message names the extra.
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
    x_label: str,
    threshold: float | None = None,
    zero: bool = False,
) -> Html:
    """Return a captioned figure with lines over the integers from 1 on.

    Args:
        name: Unique in the page, prefix of the ids inside the chart.
        title: Caption, which names the quantity and its unit.
        lines: The lines. Values that are None or not finite leave a gap.
        x_label: Label of the horizontal axis.
        threshold: Value of a dashed horizontal line.
        zero: Start the vertical axis at 0.

    Raises:
        UserError: Matplotlib is missing.
    """
    require_plot()
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    style = {"svg.fonttype": "none", "svg.hashsalt": name, "font.size": _FONT_SIZE, "axes.unicode_minus": False}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=_SIZE)
        axes = figure.add_axes((0.1, 0.16, 0.89, 0.74))
        for line in lines:
            color = COLORS[line.color]
            times = range(1, 1 + len(line.values))
            marker = "o" if len(line.values) <= 32 else None
            axes.plot(times, line.values, color=color, label=line.label, marker=marker, markersize=3, linewidth=1.6)
            if line.low is not None and line.high is not None:
                axes.fill_between(times, line.low, line.high, color=color, alpha=0.18, linewidth=0)
        if threshold is not None:
            axes.axhline(threshold, color=COLORS["muted"], linewidth=0.8, linestyle=(0, (3, 3)))
        axes.set_xlabel(x_label, color=COLORS["muted"])
        if zero:
            axes.set_ylim(0, 1.05 * max([*_finite(lines), threshold or 0]) or 1)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
        axes.tick_params(colors=COLORS["muted"], length=0)
        axes.grid(axis="y", color=COLORS["edge"], linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[:].set_visible(False)
        axes.spines["bottom"].set(visible=True, color=COLORS["edge"])
        if len(lines) > 1:
            axes.legend(
                loc="lower left",
                bbox_to_anchor=(-0.02, 1.0),
                ncols=len(lines),
                frameon=False,
                labelcolor=COLORS["text"],
                borderpad=0,
                handlelength=1.2,
                columnspacing=1.2,
            )
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return tag("figure", _inline(buffer.getvalue(), name, _alt_text(title, lines, x_label)), tag("figcaption", title))


def _inline(svg: str, name: str, alt: str) -> Html:
    """Remove declarations, URLs and the size from an SVG, and make its ids unique."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    head, body = svg.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', head)
    assert box
    body = re.sub(r"<style.*?</style>", "", body, flags=re.DOTALL)  # would apply to the whole page
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = body.replace("url(#", f"url(#{name}-").replace('xlink:href="#', f'href="#{name}-')
    body = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px system-ui, sans-serif", body)
    for variable, color in COLORS.items():
        body = body.replace(color, f"var(--{variable})")
    return Html(str(tag("svg", role="img", aria_label=alt)).replace("></svg>", f" {box[0]}>{body}"))


def _finite(lines: Sequence[Line]) -> list[float]:
    return [v for line in lines for v in line.values if v is not None and v == v]


def _alt_text(title: str, lines: Sequence[Line], x_label: str) -> str:
    """Describe the chart in words, for screen readers."""
    parts = []
    for line in lines:
        values = _finite([line])
        if values:
            parts.append(f"{line.label}: first {values[0]:.3g}, last {values[-1]:.3g}")
    return f"{title}, by {x_label}. " + "; ".join(parts)
