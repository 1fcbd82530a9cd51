"""HTML report of an evaluation: a self-contained page with metrics and animations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from djinn.atomic import atomic_write
from djinn.evaluate.action_effects import ActionEffects
from djinn.evaluate.rollouts import Examples
from djinn.evaluate.text import training_text
from djinn.report import html_actions, html_cards, html_clips, html_quality
from djinn.report.charts import require_plot
from djinn.report.html_parts import flatten, origin_text
from djinn.report.markup import Html, join, table, tag

_STYLE = Path(__file__).with_name("html.css")
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""Content security policy. The page loads nothing, whatever names and paths it contains."""


METRICS_WITH_SECTION = frozenset(
    {
        *("rollouts", "tokens", "fvd", "random_frechet", "action_usage", "code_table"),
        *("action_effects", "drift", "long_rollouts"),
    }
)
"""Fields of `Evaluation` that have a section of their own; other metrics are shown as text."""


@dataclass(frozen=True)
class ReportMedia:
    """Frames and text of a report. Parts that are None are replaced by a sentence."""

    examples: Examples | None = None
    """Clips with their roll-outs."""
    effects: ActionEffects | None = None
    """Effect of each action from many prompts."""
    drift: UInt8[np.ndarray, "clips t h w 3"] | None = None
    """Frames of long roll-outs, as `Drift.frames`."""
    other: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Lines of text of metrics without a section of their own."""


def write_report(path: Path, results: dict[str, Any], media: ReportMedia, *, progress: bool = True) -> None:
    """Write the report as one HTML file without scripts, other files or network access.

    Args:
        path: File to write, replaced atomically.
        results: As returned by `Evaluation.summary`. Entries may be missing or None.
        media: Frames to show.
        progress: Show a progress bar.

    Raises:
        UserError: Matplotlib is missing, or the file cannot be written.
    """
    require_plot()
    page = _page(results, media, progress)
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _page(results: dict[str, Any], media: ReportMedia, progress: bool) -> str:
    protocol = results.get("protocol") or {}
    world = str(protocol.get("world") or "a world")
    builders: list[tuple[str, str, Callable[[], Html]]] = [
        ("overview", "Overview", lambda: html_cards.overview(results)),
        ("horizon", "Quality by horizon", lambda: html_quality.horizon(results)),
        ("clips", "Example clips", lambda: html_clips.clips(results, media.examples)),
        ("long", "Long roll-outs against the real video", lambda: html_quality.long_rollouts(results)),
        ("grid", "Same action from many prompts", lambda: html_actions.grid(results, media.effects)),
        ("actions", "Latent actions", lambda: html_actions.actions(results, media.effects)),
        ("drift", "Drift", lambda: html_clips.drift(results, media.drift)),
        ("tokens", "Prediction of tokens", lambda: html_quality.tokens(results)),
        ("fvd", "Fréchet video distance", lambda: html_quality.fvd(results)),
        ("protocol", "Protocol", lambda: _protocol(protocol)),
    ]
    if media.other:
        builders.insert(-1, ("other", "Other metrics", lambda: _other(media.other)))
    bar = tqdm(builders, desc="writing the report", unit=" sections", disable=not progress)
    sections = [(key, title, build()) for key, title, build in bar]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{world}: evaluation report"),
        tag("style", Html(_STYLE.read_text(encoding="utf-8"))),
    )
    body = tag(
        "body",
        tag("header", tag("h1", world), *(tag("p", text) for text in _introduction(protocol)), class_="top"),
        tag("nav", *(tag("a", title, href=f"#{key}") for key, title, _ in sections), aria_label="Contents"),
        tag("main", *(tag("section", tag("h2", title), content, id=key) for key, title, content in sections)),
        tag("footer", tag("p", "Written by djinn eval. The protocol of all metrics is at the end of this page.")),
    )
    return "<!doctype html>\n" + tag("html", head, body, lang="en") + "\n"


def _introduction(protocol: dict[str, Any]) -> list[str]:
    """Return sentences on the measurement and on the training of the world."""
    if not protocol:
        return ["The protocol of these metrics is missing."]
    sampler = protocol.get("sampler") or {}
    sentence = f"Measured on {protocol.get('clips', '?')} clips of split '{protocol.get('split', '?')}' of "
    sentence += f"{protocol.get('dataset', '?')}, {protocol.get('prompt_frames', '?')} prompt frame(s) and "
    sentence += f"{protocol.get('horizon', '?')} generated frames"
    if sampler:
        sentence += f", {sampler.get('steps')} MaskGIT steps per frame at temperature {sampler.get('temperature'):g}"
    sentence += f", seed {protocol.get('seed', '?')}."
    return [sentence, f"Training: {training_text(protocol.get('training'))}."]


def _other(metrics: Mapping[str, Sequence[str]]) -> Html:
    """Return metrics without a section of their own as text."""
    return join(*(tag("pre", "\n".join(lines)) for lines in metrics.values()))


def _protocol(protocol: dict[str, Any]) -> Html:
    if not protocol:
        return tag("p", "The protocol of these metrics is missing.", class_="missing")
    examples = [origin_text(clip) for clip in protocol.get("examples") or []]
    rows = [list(row) for row in flatten(protocol | {"examples": examples})]
    listed = table("Protocol", ["setting", "value"], rows, class_="plain")
    return join(
        tag("p", "Two results are comparable only if all of these settings agree."),
        tag("details", tag("summary", f"All {len(rows)} settings"), listed),
    )
