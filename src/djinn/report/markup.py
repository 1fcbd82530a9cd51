"""HTML from Python: text is escaped unless it is HTML already, so that no name or path can break a page."""

from __future__ import annotations

from html import escape

_VOID = frozenset({"br", "hr", "img", "link", "meta", "source"})


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def text(part: str) -> Html:
    """The part as HTML: escaped where it is plain text."""
    return part if isinstance(part, Html) else Html(escape(part))


def join(*parts: str) -> Html:
    """Parts one after the other."""
    return Html("".join(map(text, parts)))


def tag(element: str, /, *children: str, **attributes: str | int | bool | None) -> Html:
    """One element.

    Args:
        element: its name.
        children: what is in it; plain text is escaped.
        attributes: their values are escaped; None and False leave one out, True gives it no value. A trailing underscore
            is dropped (`class_`) and others become hyphens (`aria_label`).
    """
    shown = ""
    for key, value in attributes.items():
        if value is not None and value is not False:
            key = key.rstrip("_").replace("_", "-")
            shown += f" {key}" if value is True else f' {key}="{escape(str(value))}"'
    if element in _VOID:
        assert not children
        return Html(f"<{element}{shown}>")
    return Html(f"<{element}{shown}>{join(*children)}</{element}>")


def table(
    caption: str,
    head: list[str],
    rows: list[list[str]],
    *,
    class_: str | None = None,
) -> Html:
    """A table that scrolls sideways where the page is narrow; the first cell of a row is its heading.

    A cell that is a whole `<td>` already, for instance with a colour of its own, is taken as it is.
    """

    def cell(content: str) -> Html:
        return content if isinstance(content, Html) and content.startswith("<td") else tag("td", content)

    body = [tag("tr", tag("th", row[0], scope="row"), *map(cell, row[1:])) for row in rows]
    whole = tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", *(tag("th", h, scope="col") for h in head))),
        tag("tbody", *body),
        class_=class_,
    )
    return tag("div", whole, class_="scroll", tabindex=0, role="region", aria_label=caption)
