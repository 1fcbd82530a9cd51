"""Sections of the report on the quality of frames: by horizon, side by side, over long games, by token and by FVD."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from djinn.evaluate.clips import Examples
from djinn.report.animation import beside, film, still
from djinn.report.charts import Line, line_chart
from djinn.report.markup import Html, join, table, tag

GAMES = 4
"""Long games that are shown."""
TIMES = (1, 25, 50, 100, 150, 200)
"""Frames of long games that are shown, counted from 1."""
_FILM_WIDTH = 592
_LABELS = {"inferred": "inferred actions", "random": "random actions", "repeat": "prompt repeated"}
FLAGS = {
    "freezes": ("freezes", "Towards the end the picture stands still, whatever is pressed."),
    "melts": ("melts", "Towards the end the picture has lost its sharpness."),
    "noise": ("turns to noise", "Towards the end the picture has broken up into noise."),
    "discolours": ("loses its colours", "Towards the end the colours are not those of real frames any more."),
    "repeats": ("goes in circles", "Earlier stretches play again, whatever is pressed."),
}
"""Each flag of `Drift.flags` in a word or two and as a sentence."""


def missing(sentence: str) -> Html:
    """A sentence in the place of something that is not there."""
    return tag("p", sentence, class_="missing")


def image(moving: UInt8[np.ndarray, "t h w 3"], alt: str, width: int) -> Html:
    """An animation of about `width` pixels, whole multiples of its own; its last frame where the reader wants no motion."""
    shape = moving.shape[1:3]
    factor = max(1, width // shape[1])
    size = {"width": shape[1] * factor, "height": shape[0] * factor}
    img = tag("img", src=film(moving), alt=alt, **size, loading="lazy", decoding="async")
    calm = tag("source", media="(prefers-reduced-motion: reduce)", srcset=still(moving[-1]))
    return tag("picture", calm, img)


def flat(values: dict[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Keys, those of inner mappings behind dots, and values as text."""
    for key, value in values.items():
        name = f"{above}{key}"
        if isinstance(value, dict):
            yield from flat(value, f"{name}.")
        elif isinstance(value, list):
            yield name, "; ".join(map(str, value)) or "none"
        else:
            yield name, "none" if value is None else str(value)


def horizon(figures: dict[str, Any]) -> Html:
    """PSNR, SSIM and controllability by the number of frames since the prompt."""
    rollout = figures.get("rollout") or {}
    if not rollout:
        return missing("Roll-outs were not measured.")
    charts = []
    for key, title in (("psnr", "PSNR in dB, higher is better"), ("ssim", "SSIM, higher is better")):
        lines = [
            Line(label, rollout[kind][key], kind)
            for kind, label in _LABELS.items()
            if (rollout.get(kind) or {}).get(key)
        ]
        if lines:
            charts.append(line_chart(key, title, lines, across="made frame"))
    lines = []
    for suffix, label, tone in (("", "uniform random", "delta"), ("_empirical", "as they occur", "random")):
        if values := figures.get(f"delta_psnr{suffix}"):
            band = figures.get(f"delta_psnr{suffix}_interval") or {}
            edges = [[band[t][side] for t in values] if set(values) <= band.keys() else None for side in (0, 1)]
            lines.append(Line(label, list(values.values()), tone, *edges))
    if lines:
        title = "Δ PSNR in dB: inferred over random actions, with 95 % interval"
        charts.append(line_chart("delta", title, lines, across="made frame", at=0))
    words = (
        "All roll-outs start from the same real frames. With inferred actions the world knows what the player did; with "
        "random ones it does not, and the gap between the two is what the actions are worth. A world that loses to the "
        "repeated prompt has not understood how things move."
    )
    return join(tag("p", words), tag("div", *charts, class_="charts"), _numbers(figures, rollout))


def _numbers(figures: dict[str, Any], rollout: dict[str, Any]) -> Html:
    """The curves as a table."""
    columns: list[tuple[str, Sequence[float]]] = []
    for kind, label in _LABELS.items():
        for key, unit in (("psnr", "PSNR"), ("ssim", "SSIM")):
            if values := (rollout.get(kind) or {}).get(key):
                columns.append((f"{unit}, {label}", values))
    if delta := figures.get("delta_psnr"):
        columns.append(("Δ PSNR", list(delta.values())))
    if not columns:
        return Html()
    frames = min(len(values) for _, values in columns)
    rows = [
        [str(t + 1), *(f"{values[t]:.3f}" if "SSIM" in name else f"{values[t]:.2f}" for name, values in columns)]
        for t in range(frames)
    ]
    shown = table("Mean over clips, by made frame", ["frame", *(name for name, _ in columns)], rows, class_="numbers")
    return tag("details", tag("summary", "The numbers"), shown)


def long(figures: dict[str, Any]) -> Html:
    """How far the actions of a real video carry: closeness to it over a long roll-out."""
    found = figures.get("long") or {}
    if not found:
        return missing(
            "Long play was not measured: djinn eval --long 100 plays 100 frames with the real video's actions."
        )
    curves = (("psnr", "inferred"), ("random_psnr", "random"), ("repeat_psnr", "repeat"))
    lines = [Line(_LABELS[tone], found[f"{key}_curve"], tone) for key, tone in curves if found.get(f"{key}_curve")]
    charts = [line_chart("long-psnr", "PSNR in dB, higher is better", lines, across="made frame")] if lines else []
    if curve := found.get("ssim_curve"):
        line, title = Line(_LABELS["inferred"], curve, "inferred"), "SSIM with inferred actions, higher is better"
        charts.append(line_chart("long-ssim", title, [line], across="made frame"))
    columns = [(f"PSNR, {_LABELS[tone]}", found[key], 2) for key, tone in curves if found.get(key)]
    if ssim := found.get("ssim"):
        columns.append(("SSIM, inferred actions", ssim, 3))
    rows = [
        [t, *(f"{values[t]:.{digits}f}" if t in values else "" for _, values, digits in columns)]
        for t in found.get("psnr") or {}
    ]
    caption = f"Mean over {found.get('clips', '?')} clips, by made frame"
    words = (
        f"{found.get('frames', '?')} frames in a row: the world sees one real frame at the start, and from then on only its "
        "own frames and the actions that were inferred from the real video. Errors add up, so the curve falls. While it stays "
        "above the random actions the world still follows the player; where it meets the repeated prompt it is no closer to "
        "the video than a still picture."
    )
    how = tag("p", f"{protocol}.", class_="small") if (protocol := found.get("protocol")) else Html()
    numbers = table(caption, ["frame", *(name for name, _, _ in columns)], rows, class_="numbers") if rows else Html()
    return join(tag("p", words), tag("div", *charts, class_="charts"), numbers, how)


def clips(figures: dict[str, Any], shown: Examples | None) -> Html:
    """Real clips beside their roll-outs, moving in step, with the actions below."""
    names, protocol = figures.get("code_names"), figures.get("protocol") or {}
    if shown is None or len(shown.real) == 0:
        return missing("No clips were kept to be shown.")
    kept = len(shown.real)
    origins = [origin(clip) for clip in protocol.get("shown") or []]
    origins += [""] * (kept - len(origins))
    figure = [_clip(shown, i, names, where) for i, where in enumerate(origins[:kept])]
    drawn = (
        f"None of these {kept} was picked: they are the first of the clips drawn with seed {protocol.get('seed', '?')}, "
        "one from each level or video before a second from any, in the order of the draw, failures and all. Above each stands "
        "where it comes from, the frame of its episode at which it starts (counted from 0), and the mean PSNR of the frames "
        "made with inferred actions."
    )
    words = (
        "Left the real clip, then what the world makes of its first frame: with the actions that it inferred from the clip, "
        "and with random ones. The small number below the real frame counts frames; those below the others are the action "
        "that led to the frame. The middle should follow the left, and the right should not."
    )
    parts = [tag("p", words), tag("p", drawn)] if any(origins) else [tag("p", words)]
    return join(*parts, tag("div", *figure, class_="films"))


def origin(clip: dict[str, Any]) -> str:
    """An entry of the protocol's `shown` in words."""
    episode = "" if clip.get("episode") is None else f", episode {clip['episode']}"
    return f"{clip['source']}{episode}, from frame {clip['start']}: {clip['psnr']:.1f} dB"


def _clip(shown: Examples, i: int, names: list[str] | None, where: str) -> Html:
    actions = {"inferred": shown.inferred_actions[i].tolist(), "random": shown.random_actions[i].tolist()}
    frames = shown.real.shape[1]
    moving = beside(
        [shown.real[i], shown.inferred[i], shown.random[i]],
        [list(range(1, frames + 1)), *([None, *codes] for codes in actions.values())],
    )
    heads = tag(
        "div", *(tag("span", head) for head in ("real", "inferred", "random")), class_="heads", aria_hidden="true"
    )
    rows = [[label, *(action_name(code, names) for code in codes)] for label, codes in actions.items()]
    listed = table("Actions that led to each frame", ["frame", *map(str, range(2, frames + 1))], rows, class_="steps")
    caption = tag("figcaption", where, style="overflow-wrap: anywhere") if where else Html()
    of = f" ({where})" if where else ""
    alt = f"Clip of {frames} frames{of}: the real video, a roll-out with inferred and one with random actions, side by side"
    return tag("figure", caption, heads, image(moving, alt, _FILM_WIDTH), listed, class_="film")


def action_name(code: int, names: list[str] | None) -> str:
    """A code with its name, where it has one of its own."""
    name = names[code] if names and code < len(names) else ""
    return str(code) if name in ("", f"action {code}") else f"{code} {name}"


def drift(figures: dict[str, Any], frames: UInt8[np.ndarray, "clips t h w 3"] | None) -> Html:
    """Frames of long games, what went wrong with them, and curves."""
    found = figures.get("drift") or {}
    parts: list[Html] = []
    if found:
        flags = found.get("flags") or []
        said = [FLAGS.get(flag, (flag, flag))[1] for flag in flags] or [
            "Nothing is wrong with the last quarter of the games."
        ]
        parts.append(tag("ul", *(tag("li", sentence) for sentence in said), class_="flags bad" if flags else "flags"))
    else:
        parts.append(missing("Long games were not measured."))
    if frames is None or frames.size == 0:
        parts.append(missing("No frames of long games were kept to be shown."))
    else:
        parts.append(_strip(frames))
    limits = found.get("limits") or {}
    charts = []
    for key, title, scale, flag in (
        ("sharpness", "Sharpness against the prompts' (below the dashed line: melts)", 1, "melts"),
        (
            "colour",
            "Distance from the colours of real frames, in grey levels (above: loses its colours)",
            1,
            "discolours",
        ),
        ("change", "Pixels that change from the frame before, in % (below: freezes)", 100, "freezes"),
        ("repetition", "Games that play an earlier stretch again, in % (above: goes in circles)", 100, "repeats"),
    ):
        if values := found.get(key):
            at = scale * limits[flag] if flag in limits else None
            lines = [Line(key, [scale * v for v in values], "inferred")]
            charts.append(line_chart(key, title, lines, across="made frame", at=at, zero=True))
    words = "Flags judge the mean over the last quarter of the games; the dashed lines are where they begin."
    curves = (tag("p", words), tag("div", *charts, class_="charts four")) if charts else ()
    return join(*parts, *curves)


def _strip(frames: UInt8[np.ndarray, "clips t h w 3"]) -> Html:
    length, width = frames.shape[1], frames.shape[3]
    times = [t for t in TIMES if t <= length] or [1]
    size = width * max(1, 160 // width)
    rows = []
    for i, game in enumerate(frames[:GAMES], start=1):
        cells = [tag("td", tag("img", src=still(game[t - 1]), alt=f"game {i}, frame {t}", width=size)) for t in times]
        rows.append([f"game {i}", *cells])
    caption = "Games with random actions, each held for a few frames"
    return table(caption, ["", *(f"frame {t}" for t in times)], rows, class_="strip")


def tokens(figures: dict[str, Any]) -> Html:
    """How well the dynamics model knows the tokens of the next real frame."""
    scores = figures.get("tokens") or {}
    kinds = {
        "masked": "some of the frame's tokens given, as in training",
        "full_frame": "none given, as in play's first step",
    }
    rows = [
        [label, f"{100 * s['accuracy']:.1f} %", f"{s['cross_entropy']:.3f}", f"{s['tokens']:,}"]
        for key, label in kinds.items()
        if (s := scores.get(key))
    ]
    if not rows:
        return missing("The tokens of the next frame were not scored.")
    words = (
        "Before anything is drawn: how often the dynamics model's first guess at a token of the next real frame is right, "
        "given the real past and the inferred action, and the cross-entropy of its guesses."
    )
    head = ["the frame to predict has", "right tokens", "cross-entropy (nats)", "tokens scored"]
    return join(tag("p", words), table("Token scores on real frames", head, rows, class_="numbers"))


def fvd(figures: dict[str, Any]) -> Html:
    """FVD with all that it hangs on, or why there is none."""
    value, protocol, other = (figures.get(key) for key in ("fvd", "fvd_protocol", "random_frechet"))
    if value is not None:
        parts = [tag("p", f"{value:.1f}", class_="value"), tag("p", "Lower is better; 0 means equal distributions.")]
    else:
        words = (
            "FVD was not measured, as it needs the network of the field, which Djinn does not download: give its file with "
            "--fvd-detector FILE (the I3D TorchScript that StyleGAN-V and others use)."
        )
        parts = [missing(words)]
    if protocol:
        rows = [list(row) for row in flat(protocol)]
        parts.append(table("How the distance was made", ["setting", "value"], rows, class_="plain"))
    if other is not None:
        words = (
            "The same distance by a random 3-D network with a fixed seed. This is no FVD and compares only with itself, "
            "between worlds measured in the same way."
        )
        parts += [tag("h3", "Distance by a random network"), tag("p", f"{other:.4g}", class_="value"), tag("p", words)]
    return join(*parts)
