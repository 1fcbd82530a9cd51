"""Sections of the report on latent actions: the grid "same action, many prompts", their use, true moves and effects."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Float

from djinn.evaluate.action_effects import Effects
from djinn.evaluate.controllability import percent
from djinn.report.animation import action_columns, below, beside
from djinn.report.html_quality import action_name, image, missing
from djinn.report.markup import Html, join, table, tag

PROMPTS = 6
"""Prompts of the grid."""
_GRID_WIDTH = 1200
_HEAT = 55
"""Percent of the colour of a cell that holds all of its row: the text on it must stay readable."""


def grid(figures: dict[str, Any], effects: Effects | None) -> Html:
    """What each action does from the same prompts (the paper's Figures 13, 15 and 17)."""
    if effects is None:
        return missing("What each action does from many prompts was not measured.")
    names = figures.get("code_names")
    rows = action_columns(effects.frames, PROMPTS)
    moving = below([beside(row) for row in rows])
    columns = ["prompt", *(names or [f"action {code}" for code in range(len(effects.frames))])]
    alt = (
        f"{len(rows)} rows, one for each prompt, which stands still at the left; beside it what each action makes of it"
    )
    width = moving.shape[2] * max(1, _GRID_WIDTH // moving.shape[2])
    words = (
        f"Each row starts from one real frame; each column holds one action for {effects.frames.shape[2] - 1} frames. A column "
        "should do the same in every row, and the columns of a row should differ."
    )
    heads = tag("div", *(tag("span", name) for name in columns), class_="heads")
    style = f"--columns:{len(columns)};width:{width}px;min-width:min({width}px,{72 * len(columns)}px)"
    whole = tag("figure", heads, image(moving, alt, _GRID_WIDTH), class_="grid", style=style)
    return join(
        tag("p", words), tag("div", whole, class_="scroll", tabindex=0, role="region", aria_label="Action grid")
    )


def actions(figures: dict[str, Any], effects: Effects | None) -> Html:
    """Use of the codes, what they stand for, and how they move the picture."""
    return join(
        tag("h3", "How often each one occurs"),
        _use(figures),
        tag("h3", "What they stand for"),
        _moves(figures),
        tag("h3", "How they move the picture"),
        _effects(figures, effects),
    )


def _use(figures: dict[str, Any]) -> Html:
    use = figures.get("code_use") or {}
    if not use:
        return missing("How often each action occurs was not measured.")
    most = max(max(use["shares"]), 1e-9)
    rows = []
    for code, share in enumerate(use["shares"]):
        bar = tag("td", tag("span", class_="bar", style=f"width:{100 * share / most:.1f}%"), class_="wide")
        rows.append([action_name(code, figures.get("code_names")), bar, f"{100 * share:.1f} %"])
    words = (
        f"Inferred from {use['transitions']:,} transitions of real videos: {use['used']} of {len(rows)} codes in use (at least "
        f"{percent(use['used_from'])}), entropy {use['entropy_bits']:.2f} of {math.log2(max(len(rows), 1)):.2f} bits."
    )
    return join(tag("p", words), table("Share of each latent action", ["action", "", "share"], rows, class_="use"))


def _moves(figures: dict[str, Any]) -> Html:
    found = figures.get("code_table")
    if not found:
        return missing("The data set does not say what the player really did, so there is nothing to compare with.")
    seen = [j for j in range(len(found["moves"])) if any(row[j] for row in found["counts"])]
    rows = []
    for code, counts in enumerate(found["counts"]):
        cells = [_heat(counts[j] / max(sum(counts), 1)) for j in seen]
        rows.append([action_name(code, figures.get("code_names")), *cells, found["reading"][code] or "never used"])
    said = []
    for label, key in (("of all transitions", "overall"), ("of those whose pixels change", "changed")):
        if a := found.get(key):
            said.append(
                f"ActionLabel each code as its most frequent move is right in {100 * a['accuracy']:.1f} % {label} (always guessing "
                f"the most frequent move: {100 * a['majority']:.1f} %); codes tell {a['mutual_information_bits']:.2f} of the "
                f"{a['move_entropy_bits']:.2f} bits of a move."
            )
    head = ["action", *(found["moves"][j] for j in seen), "mostly"]
    shown = table("True moves of each latent action, in percent of its transitions", head, rows, class_="heat")
    return join(shown, *(tag("p", sentence) for sentence in said))


def _heat(share: float) -> Html:
    return tag("td", f"{100 * share:.0f}", style=f"--heat:{_HEAT * share:.1f}%")


def _effects(figures: dict[str, Any], effects: Effects | None) -> Html:
    if effects is None or not effects.codes:
        return missing("How each action moves the picture was not measured.")
    fields = effects.flows.mean(axis=1)
    longest = float(np.hypot(fields[..., 0], fields[..., 1]).max())
    rows = [
        [
            action_name(code.code, figures.get("code_names")),
            tag("td", _field(field, longest)),
            _pixels(code.shift),
            f"{100 * code.shift_agreement:.0f} %",
            _pixels(code.relative_shift),
            f"{code.flow_agreement:+.2f}",
            f"{code.relative_flow_agreement:+.2f}",
            f"{code.change:.1f}",
        ]
        for code, field in zip(effects.codes, fields, strict=True)
    ]
    head = [
        "action",
        "where things go",
        "shift x, y",
        "prompts that agree",
        "shift beyond all actions",
        "flow agrees",
        "flow beyond all agrees",
        "change",
    ]
    words = (
        "The arrows show where the content of each part of the picture goes, as the mean over prompts: with a camera that "
        "follows the player, running right moves it left. Shift is that of the whole picture in pixels a frame, as the median "
        "over prompts (+x right, +y down). Flow agrees at 1 where things move alike from every prompt, and at 0 where they do "
        'not. "Beyond all" leaves out what every action does from a prompt, so that only the action\'s own part is left. '
        "Change is the difference in grey levels from what most actions do."
    )
    caption = f"Effect of each latent action; the longest arrow is {longest:.1f} pixels a frame"
    return join(tag("p", words), table(caption, head, rows, class_="numbers"))


def _pixels(shift: list[float]) -> str:
    return ", ".join(f"{v:+.1f}" if abs(v) >= 0.05 else "0" for v in shift)


def _field(field: Float[np.ndarray, "rows columns 2"], longest: float) -> Html:
    """A field of arrows as SVG, one for each block, the longest in any field as long as a block; dots where nothing moves."""
    rows, columns = field.shape[:2]
    cell = max(12, min(18, 96 // columns))
    marks = []
    for y, x in np.ndindex(rows, columns):
        dx, dy = field[y, x].tolist()
        length = cell * math.hypot(dx, dy) / max(longest, 1e-9)
        place = f"translate({cell * (x + 0.5):.0f} {cell * (y + 0.5):.0f})"
        if length < 2:
            marks.append(tag("circle", r=1, transform=place))
        else:
            line = f"M{-length / 2:.1f} 0H{length / 2:.1f}m-3.5 -2.5l3.5 2.5l-3.5 2.5"
            marks.append(tag("path", d=line, transform=f"{place} rotate({math.degrees(math.atan2(dy, dx)):.0f})"))
    dx, dy = field.mean(axis=(0, 1)).tolist()
    alt = f"moves by {_pixels([dx, dy])} pixels a frame in the mean of all parts"
    size = {"width": cell * columns, "height": cell * rows}
    return tag(
        "svg",
        *marks,
        viewBox=f"0 0 {size['width']} {size['height']}",
        **size,
        role="img",
        aria_label=alt,
        class_="field",
    )
