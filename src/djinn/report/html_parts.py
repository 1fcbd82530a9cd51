"""Parts shared by the sections of the HTML report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import UInt8

from djinn.report.animation import png_uri, webp_uri
from djinn.report.markup import Html, tag


def missing(sentence: str) -> Html:
    """Return a sentence in place of a part that was not measured."""
    return tag("p", sentence, class_="missing")


def warnings(sentences: list[str]) -> Html:
    """Return a list of warnings, empty HTML without any."""
    return tag("ul", *(tag("li", sentence) for sentence in sentences), class_="flags bad") if sentences else Html()


def animation(video: UInt8[np.ndarray, "t h w 3"], alt: str, width: int) -> Html:
    """Return an animation, enlarged by an integer factor to about `width` pixels.

    Readers that prefer reduced motion see its last frame.
    """
    shape = video.shape[1:3]
    factor = max(1, width // shape[1])
    size = {"width": shape[1] * factor, "height": shape[0] * factor}
    img = tag("img", src=webp_uri(video), alt=alt, **size, loading="lazy", decoding="async")
    still = tag("source", media="(prefers-reduced-motion: reduce)", srcset=png_uri(video[-1]))
    return tag("picture", still, img, class_="animation")


def flatten(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield keys and values as text. Keys of nested mappings are joined by dots."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from flatten(value, f"{name}.")
        elif isinstance(value, list):
            yield name, "; ".join(map(str, value)) or "none"
        else:
            yield name, "none" if value is None else str(value)


def origin_text(clip: dict[str, Any]) -> str:
    """Return an entry of `examples` in the protocol as text."""
    episode = "" if clip.get("episode") is None else f", episode {clip['episode']}"
    return f"{clip['source']}{episode}, from frame {clip['start']}: {clip['psnr']:.1f} dB"
