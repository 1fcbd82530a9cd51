"""The report of a world as one HTML page that needs nothing else: figures, what they mean, and moving pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from djinn.atomic import atomic_write
from djinn.evaluate.action_effects import Effects
from djinn.evaluate.clips import Examples
from djinn.evaluate.controllability import percent
from djinn.report import html_actions, html_quality
from djinn.report.charts import require_plot
from djinn.report.markup import Html, join, tag
from djinn.report.markup import table as html_table

_STYLE = Path(__file__).with_name("html.css")
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""The page may fetch nothing, whatever the names in it say."""


@dataclass(frozen=True)
class ReportPictures:
    """What the report shows beside the figures; a part that is None is left out, with a sentence that says so."""

    shown: Examples | None = None
    """Clips with their roll-outs."""
    effects: Effects | None = None
    """What each action does from many prompts."""
    drift: UInt8[np.ndarray, "clips t h w 3"] | None = None
    """Frames of long games, as of `Drift.frames`."""


def write_report(path: Path, figures: dict[str, Any], pictures: ReportPictures, *, progress: bool = True) -> None:
    """Writes the report as one HTML file: no script, no other file, no network.

    Args:
        path: file to write; it is replaced only when all of it is written.
        figures: as `djinn.report.evaluation.evaluate` returns them; what is missing or None is said to be.
        pictures: what to show.
        progress: show a progress bar.

    Raises:
        UserError: matplotlib is missing, or the file cannot be written.
    """
    require_plot()
    page = _page(figures, pictures, progress)
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _page(figures: dict[str, Any], pictures: ReportPictures, progress: bool) -> str:
    protocol = figures.get("protocol") or {}
    world = str(protocol.get("world") or "a world")
    makers: list[tuple[str, str, Callable[[], Html]]] = [
        ("figures", "At a glance", lambda: tag("div", *_cards(figures), class_="cards")),
        ("horizon", "How good, how far ahead", lambda: html_quality.horizon(figures)),
        ("clips", "Real, inferred, random", lambda: html_quality.clips(figures, pictures.shown)),
        ("long", "Long play against the real video", lambda: html_quality.long(figures)),
        ("grid", "Same action, many prompts", lambda: html_actions.grid(figures, pictures.effects)),
        ("actions", "What the latent actions are", lambda: html_actions.actions(figures, pictures.effects)),
        ("drift", "Long games", lambda: html_quality.drift(figures, pictures.drift)),
        ("tokens", "Next tokens", lambda: html_quality.tokens(figures)),
        ("fvd", "Fréchet video distance", lambda: html_quality.fvd(figures)),
        ("protocol", "Protocol", lambda: _protocol(protocol)),
    ]
    bar = tqdm(makers, desc="writing the report", unit=" sections", disable=not progress)
    sections = [(key, title, make()) for key, title, make in bar]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{world}: report of a world"),
        tag("style", Html(_STYLE.read_text(encoding="utf-8"))),
    )
    body = tag(
        "body",
        tag("header", tag("h1", world), tag("p", _measured_on(protocol)), class_="top"),
        tag("nav", *(tag("a", title, href=f"#{key}") for key, title, _ in sections), aria_label="Contents"),
        tag("main", *(tag("section", tag("h2", title), content, id=key) for key, title, content in sections)),
        tag("footer", tag("p", "Written by djinn eval. Every figure belongs to the protocol at the end of this page.")),
    )
    return "<!doctype html>\n" + tag("html", head, body, lang="en") + "\n"


def _measured_on(protocol: dict[str, Any]) -> str:
    if not protocol:
        return "How these figures were made is not known."
    sampler = protocol.get("sampler") or {}
    words = f"Measured on {protocol.get('clips', '?')} clips of split '{protocol.get('split', '?')}' of "
    words += f"{protocol.get('dataset', '?')}, {protocol.get('prompt_frames', '?')} prompt frame(s) and "
    words += f"{protocol.get('horizon', '?')} made ones"
    if sampler:
        words += f", {sampler.get('steps')} MaskGIT steps a frame at temperature {sampler.get('temperature'):g}"
    return words + f", seed {protocol.get('seed', '?')}."


def _cards(figures: dict[str, Any]) -> Iterator[Html]:
    protocol = figures.get("protocol") or {}
    clips, horizon = protocol.get("clips", "?"), protocol.get("horizon", "?")
    delta = figures.get("delta_psnr") or {}
    if delta:
        t = "4" if "4" in delta else max(delta, key=int)
        low, high = (figures.get("delta_psnr_interval") or {}).get(t) or (None, None)
        empirical = (figures.get("delta_psnr_empirical") or {}).get(t)
        yield _card(
            f"Controllability, Δ{t} PSNR",
            _number(delta[t], 1, " dB"),
            f"How much closer to the real video made frame {t} is with the actions inferred from that video than with "
            "random ones. At 0 the actions do nothing.",
            f"{clips} clips, uniform random actions"
            + ("" if low is None else f"; 95 % interval {low:.1f} to {high:.1f} dB by bootstrap over clips")
            + ("" if empirical is None else f". Against actions drawn as often as they occur: {empirical:.1f} dB"),
        )
    else:
        yield _card("Controllability", None, "Whether the actions act was not measured.", "")
    repeat = ((figures.get("rollout") or {}).get("repeat") or {}).get("psnr")
    yield _card(
        "Roll-out PSNR",
        _number(figures.get("rollout_psnr"), 1, " dB"),
        "How close frames that the world made with the right actions come to the real ones; higher is better."
        + (f" Repeating the prompt gives {sum(repeat) / len(repeat):.1f} dB." if repeat else ""),
        f"Mean over {horizon} frames of {clips} clips, actions inferred from the real clip",
    )
    yield _card(
        "Roll-out SSIM",
        _number(figures.get("rollout_ssim"), 3),
        "The same by structure instead of by pixel error: 1 is equal, and a blur costs more here.",
        "Gaussian window of sigma 1.5; the same frames",
    )
    ssim = figures.get("tokenizer_ssim")
    yield _card(
        "Tokenizer PSNR",
        _number(figures.get("tokenizer_psnr"), 1, " dB"),
        "What is left of a real frame that goes through the tokens and back. No roll-out can be expected to be better.",
        f"All frames of the same clips{'' if ssim is None else f'; SSIM {ssim:.3f}'}",
    )
    use = figures.get("code_use") or {}
    yield _card(
        "Actions in use",
        f"{use['used']} of {len(use['shares'])}" if use else None,
        "Latent actions that occur in real videos. A code that is never used is a key that was never learned.",
        f"At least {percent(use['used_from'])} of {use['transitions']:,} transitions; "
        f"as if {use['perplexity']:.1f} were used alike"
        if use
        else "",
    )
    effects = figures.get("effects") or {}
    yield _card(
        "Consistency of actions",
        _number(effects.get("consistency"), 2),
        "Whether an action does the same from different prompts: at 1 what it adds to the motion is always the same, at 0 it "
        "is as chance has it.",
        f"Share of the flow that the action alone explains, over {effects['prompts']} prompts and {effects['frames']} frames"
        if {"prompts", "frames"} <= effects.keys()
        else "",
    )
    drift = figures.get("drift") or {}
    found = [html_quality.FLAGS.get(flag, (flag,))[0] for flag in drift.get("flags") or []]
    yield _card(
        "Long games",
        (", ".join(found) or "hold") if drift else None,
        "Whether the world stays what it was, or freezes, melts, loses its colours or goes in circles.",
        f"{drift['games']} games of {drift['frames']} frames, random actions held for {drift['hold']} frames on average"
        if {"games", "frames", "hold"} <= drift.keys()
        else "",
    )
    yield _card(
        "FVD",
        _number(figures.get("fvd"), 0),
        "Distance between real and made clips as a video network sees them; lower is better.",
        "Compares only with figures of the same network, number and length of clips"
        if figures.get("fvd") is not None
        else "",
    )


def _card(name: str, value: str | None, meaning: str, protocol: str) -> Html:
    shown = tag("p", value, class_="value") if value else tag("p", "not measured", class_="value none")
    small = tag("p", protocol + ("" if protocol.endswith(".") else "."), class_="small") if protocol else Html()
    return tag("div", tag("h3", name), shown, tag("p", meaning), small, class_="card")


def _number(value: float | None, digits: int, unit: str = "") -> str | None:
    return None if value is None else f"{value:.{digits}f}{unit}"


def _protocol(protocol: dict[str, Any]) -> Html:
    if not protocol:
        return tag("p", "No protocol came with these figures.", class_="missing")
    named = [html_quality.origin(clip) for clip in protocol.get("shown") or []]
    rows = [list(row) for row in html_quality.flat(protocol | {"shown": named})]
    shown = html_table("How the figures were made", ["setting", "value"], rows, class_="plain")
    return join(
        tag("p", "Two figures compare only where all of this is the same."),
        tag("details", tag("summary", f"All {len(rows)} settings"), shown),
    )
