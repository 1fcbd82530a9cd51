"""Sections of the HTML report on latent actions: grid, usage, ground truth, effects."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Float

from djinn.evaluate.action_effects import ActionEffects
from djinn.evaluate.text import action_label, percent, signed
from djinn.report.animation import action_rows, side_by_side, stack_vertically
from djinn.report.html_parts import animation, missing
from djinn.report.markup import Html, join, table, tag

PROMPTS = 6
"""Rows of the action grid."""
_GRID_WIDTH = 1200
_HEAT = 55
"""Opacity in percent of a cell that contains its whole row, low enough to keep its text
readable.
"""


def grid(results: dict[str, Any], effects: ActionEffects | None) -> Html:
    """Return the effect of each action from the same prompts (paper, Fig. 13, 15 and 17)."""
    if effects is None:
        return missing("The effect of each action was not measured.")
    names = results.get("action_names")
    rows = action_rows(effects.frames, PROMPTS)
    video = stack_vertically([side_by_side(row) for row in rows])
    columns = ["prompt", *(action_label(code, names) for code in range(len(effects.frames)))]
    alt = f"{len(rows)} rows, one for each prompt: the still prompt at the left, then the roll-out of each action"
    width = video.shape[2] * max(1, _GRID_WIDTH // video.shape[2])
    reading = (
        f"Each row starts from one real frame. Each column holds one action for {effects.frames.shape[2] - 1} frames. "
        "A column should have the same effect in every row, and the columns of a row should differ."
    )
    heads = tag("div", *(tag("span", name) for name in columns), class_="heads")
    style = f"--columns:{len(columns)};width:{width}px;min-width:min({width}px,{72 * len(columns)}px)"
    figure = tag("figure", heads, animation(video, alt, _GRID_WIDTH), class_="grid", style=style)
    scrollable = tag("div", figure, class_="scroll", tabindex=0, role="region", aria_label="Action grid")
    return join(tag("p", reading), scrollable)


def actions(results: dict[str, Any], effects: ActionEffects | None) -> Html:
    """Return the usage of the codes, their ground-truth actions, and their effect on the frames."""
    return join(
        tag("h3", "Usage"),
        _usage(results),
        tag("h3", "Ground-truth actions"),
        _ground_truth(results),
        tag("h3", "Motion"),
        _effects(results, effects),
    )


def _usage(results: dict[str, Any]) -> Html:
    usage = results.get("action_usage") or {}
    if not usage:
        return missing("The usage of the actions was not measured.")
    top = max(max(usage["shares"]), 1e-9)
    rows = []
    for code, share in enumerate(usage["shares"]):
        bar = tag("td", tag("span", class_="bar", style=f"width:{100 * share / top:.1f}%"), class_="wide")
        rows.append([action_label(code, results.get("action_names")), bar, f"{100 * share:.1f} %"])
    reading = (
        f"Inferred from {usage['transitions']:,} transitions of real videos: {usage['num_used']} of {len(rows)} codes in "
        f"use (at least {percent(usage['min_share'])}), entropy {usage['entropy_bits']:.2f} of "
        f"{math.log2(max(len(rows), 1)):.2f} bits, perplexity {usage['perplexity']:.2f}."
    )
    return join(tag("p", reading), table("Share of each latent action", ["action", "", "share"], rows, class_="use"))


def _ground_truth(results: dict[str, Any]) -> Html:
    found = results.get("code_table")
    if not found:
        return missing("The data set has no ground-truth actions to compare with.")
    truth = found["ground_truth_actions"]
    columns = [j for j in range(len(truth)) if any(row[j] for row in found["counts"])]
    rows = []
    for code, counts in enumerate(found["counts"]):
        cells = [_heat(counts[j] / max(sum(counts), 1)) for j in columns]
        label = found["labels"][code] or "never used"
        rows.append([action_label(code, results.get("action_names")), *cells, label])
    sentences = []
    for where, key in (("all transitions", "overall"), ("transitions in which pixels change", "changed")):
        if a := found.get(key):
            sentences.append(
                f"Code-to-action accuracy (majority vote) over {where}: {100 * a['accuracy']:.1f} %. Always predicting "
                f"the most frequent action: {100 * a['majority_accuracy']:.1f} %. Mutual information: "
                f"{a['mutual_information_bits']:.2f} of {a['action_entropy_bits']:.2f} bits."
            )
    head = ["action", *(truth[j] for j in columns), "majority"]
    caption = "Ground-truth actions of each latent action, in percent of its transitions"
    return join(table(caption, head, rows, class_="heat"), *(tag("p", sentence) for sentence in sentences))


def _heat(share: float) -> Html:
    return tag("td", f"{100 * share:.0f}", style=f"--heat:{_HEAT * share:.1f}%")


def _effects(results: dict[str, Any], effects: ActionEffects | None) -> Html:
    if effects is None or not effects.codes:
        return missing("The effect of each action was not measured.")
    fields = effects.flows.mean(axis=1)
    longest = float(np.hypot(fields[..., 0], fields[..., 1]).max())
    rows = [
        [
            action_label(effect.code, results.get("action_names")),
            tag("td", _field(field, longest)),
            _pixels(effect.shift),
            f"{100 * effect.shift_agreement:.0f} %",
            _pixels(effect.relative_shift),
            f"{effect.flow_agreement:+.2f}",
            f"{effect.relative_flow_agreement:+.2f}",
            f"{effect.change:.1f}",
        ]
        for effect, field in zip(effects.codes, fields, strict=True)
    ]
    head = [
        "action",
        "flow",
        "shift x, y",
        "prompts that agree",
        "relative shift",
        "flow agreement",
        "relative flow agreement",
        "change",
    ]
    reading = (
        "The arrows show the mean motion of the content of each block over the prompts. Where the camera follows the "
        "player, running to the right moves the content to the left. Shift is the motion of the whole frame in pixels per "
        "frame, median over prompts (+x right, +y down). Flow agreement is the mean cosine between the flow of a prompt "
        "and that of the others: 1 if the motion is the same from every prompt, 0 if it is unrelated. Relative values "
        "subtract the motion that all actions have in common. Change is the difference in grey levels from the most "
        "common outcome of all actions."
    )
    caption = f"Effect of each latent action; the longest arrow is {longest:.1f} pixels per frame"
    return join(tag("p", reading), table(caption, head, rows, class_="numbers"))


def _pixels(shift: list[float]) -> str:
    return ", ".join(signed(v) for v in shift)


def _field(field: Float[np.ndarray, "rows columns 2"], longest: float) -> Html:
    """Return a motion field as SVG: one arrow per block, a dot without motion."""
    rows, columns = field.shape[:2]
    cell = max(12, min(18, 96 // columns))
    marks = []
    for y, x in np.ndindex(rows, columns):
        dx, dy = field[y, x].tolist()
        length = cell * math.hypot(dx, dy) / max(longest, 1e-9)
        position = f"translate({cell * (x + 0.5):.0f} {cell * (y + 0.5):.0f})"
        if length < 2:
            marks.append(tag("circle", r=1, transform=position))
        else:
            line = f"M{-length / 2:.1f} 0H{length / 2:.1f}m-3.5 -2.5l3.5 2.5l-3.5 2.5"
            marks.append(tag("path", d=line, transform=f"{position} rotate({math.degrees(math.atan2(dy, dx)):.0f})"))
    dx, dy = field.mean(axis=(0, 1)).tolist()
    alt = f"mean motion {_pixels([dx, dy])} pixels per frame"
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
