"""Sections of the HTML report that show frames: example clips and drift."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import UInt8

from djinn.evaluate.rollouts import Examples
from djinn.evaluate.text import action_label
from djinn.report.animation import png_uri, side_by_side
from djinn.report.charts import Line, line_chart
from djinn.report.html_parts import animation, missing, origin_text
from djinn.report.markup import Html, join, table, tag

DRIFT_ROLLOUTS = 4
"""Largest number of drift roll-outs shown."""
DRIFT_TIMES = (1, 25, 50, 100, 150, 200)
"""Frames of drift roll-outs shown, counted from 1."""
_CLIP_WIDTH = 592
FLAGS = {
    "freezes": ("freezes", "Toward the end the frames stop changing, whatever the action."),
    "blurs": ("blurs", "Toward the end the frames have lost their sharpness."),
    "noise": ("noise", "Toward the end the frames have turned into noise."),
    "discolors": ("wrong colors", "Toward the end the colors differ from those of real frames."),
    "repeats": ("repeats", "Earlier stretches recur, whatever the action."),
}
"""Each flag of `Drift.flags` as a short label and as a sentence."""


def clips(results: dict[str, Any], examples: Examples | None) -> Html:
    """Return real clips beside their roll-outs, animated in sync, with the actions below."""
    names, protocol = results.get("action_names"), results.get("protocol") or {}
    if examples is None or len(examples.real) == 0:
        return missing("No example clips were stored.")
    count = len(examples.real)
    origins = [origin_text(clip) for clip in protocol.get("examples") or []]
    origins += [""] * (count - len(origins))
    elements = [_clip(examples, i, names, origin) for i, origin in enumerate(origins[:count])]
    reading = (
        "From left to right: the real clip, and roll-outs from its first frame with the actions inferred from the clip "
        "and with random actions. The number below a real frame counts frames, the others are the action that led to "
        "the frame. The roll-out with inferred actions should follow the real clip, the one with random actions should "
        "not."
    )
    selection = (
        f"The {count} clips are not selected by quality: they are the first of the draw with seed "
        f"{protocol.get('seed', '?')}, one from each level or video before a second from any. The title of a clip is "
        "its source, its first frame within the episode (counted from 0), and the mean PSNR of the roll-out with "
        "inferred actions."
    )
    parts = [tag("p", reading), tag("p", selection)] if any(origins) else [tag("p", reading)]
    return join(*parts, tag("div", *elements, class_="clips"))


def _clip(examples: Examples, i: int, names: list[str] | None, origin: str) -> Html:
    actions = {"inferred": examples.inferred_actions[i].tolist(), "random": examples.random_actions[i].tolist()}
    frames = examples.real.shape[1]
    video = side_by_side(
        [examples.real[i], examples.inferred[i], examples.random[i]],
        [list(range(1, frames + 1)), *([None, *codes] for codes in actions.values())],
    )
    heads = tag(
        "div", *(tag("span", head) for head in ("real", "inferred", "random")), class_="heads", aria_hidden="true"
    )
    rows = [[label, *(action_label(code, names) for code in codes)] for label, codes in actions.items()]
    listed = table("Actions that led to each frame", ["frame", *map(str, range(2, frames + 1))], rows, class_="steps")
    caption = tag("figcaption", origin, style="overflow-wrap: anywhere") if origin else Html()
    suffix = f" ({origin})" if origin else ""
    alt = (
        f"Clip of {frames} frames{suffix}: the real video, a roll-out with inferred actions and one with random "
        "actions, side by side"
    )
    return tag("figure", caption, heads, animation(video, alt, _CLIP_WIDTH), listed, class_="clip")


def drift(results: dict[str, Any], frames: UInt8[np.ndarray, "clips t h w 3"] | None) -> Html:
    """Return frames of long roll-outs, their faults, and curves."""
    found = results.get("drift") or {}
    parts: list[Html] = []
    if found:
        flags = found.get("flags") or []
        sentences = [FLAGS.get(flag, (flag, flag))[1] for flag in flags]
        sentences = sentences or ["The last quarter of the roll-outs shows no fault."]
        parts.append(tag("ul", *(tag("li", s) for s in sentences), class_="flags bad" if flags else "flags"))
    else:
        parts.append(missing("Drift was not measured."))
    if frames is None or frames.size == 0:
        parts.append(missing("No frames of long roll-outs were stored."))
    else:
        parts.append(_strip(frames))
    limits = found.get("limits") or {}
    charts = []
    for key, title, scale, flag in (
        ("sharpness", "Sharpness relative to the prompts (fault below the dashed line)", 1, "blurs"),
        ("color", "Distance from the colors of real frames, grey levels (fault above)", 1, "discolors"),
        ("change", "Pixels that change from the previous frame, in % (fault below)", 100, "freezes"),
        ("repetition", "Roll-outs that repeat an earlier stretch, in % (fault above)", 100, "repeats"),
    ):
        if values := found.get(key):
            threshold = scale * limits[flag] if flag in limits else None
            lines = [Line(key, [scale * v for v in values], "inferred")]
            charts.append(line_chart(key, title, lines, x_label="generated frame", threshold=threshold, zero=True))
    reading = "Faults are detected on the mean over the last quarter of the roll-outs. Dashed lines are thresholds."
    curves = (tag("p", reading), tag("div", *charts, class_="charts four")) if charts else ()
    return join(*parts, *curves)


def _strip(frames: UInt8[np.ndarray, "clips t h w 3"]) -> Html:
    length, width = frames.shape[1], frames.shape[3]
    times = [t for t in DRIFT_TIMES if t <= length] or [1]
    size = width * max(1, 160 // width)
    rows = []
    for i, video in enumerate(frames[:DRIFT_ROLLOUTS], start=1):
        cells = []
        for t in times:
            image = tag("img", src=png_uri(video[t - 1]), alt=f"roll-out {i}, frame {t}", width=size)
            cells.append(tag("td", image))
        rows.append([f"roll-out {i}", *cells])
    caption = "Roll-outs with random actions, each held for a few frames"
    return table(caption, ["", *(f"frame {t}" for t in times)], rows, class_="strip")
