"""Render fenced `math` blocks as MathML, so that the site needs no script and no network."""

from __future__ import annotations

from typing import Any

from latex2mathml.converter import convert


def format_math(source: str, language: str, class_name: str, options: dict[str, Any], md: Any, **kwargs: Any) -> str:
    """Convert one LaTeX block to display MathML.

    Args:
        source: LaTeX of the block.
        language: name of the fence, unused.
        class_name: CSS class of the block.
        options: options of the fence, unused.
        md: the Markdown converter, unused.
        **kwargs: further arguments of `pymdownx.superfences`, unused.

    Returns:
        HTML of the block.
    """
    return f'<div class="{class_name}">{convert(source, display="block")}</div>'
