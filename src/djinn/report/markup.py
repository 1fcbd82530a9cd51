"""HTML elements from Python. Plain text is escaped, so that names and paths cannot break a page."""

from __future__ import annotations

from html import escape

_VOID = frozenset({"br", "hr", "img", "link", "meta", "source"})


class Html(str):
    """A string that contains HTML and is not escaped."""

    __slots__ = ()


def text(part: str) -> Html:
    """Return a string as HTML, escaped unless it is `Html`."""
    return part if isinstance(part, Html) else Html(escape(part))


def join(*parts: str) -> Html:
    """Concatenate strings as HTML."""
    return Html("".join(map(text, parts)))


def tag(element: str, /, *children: str, **attributes: str | int | bool | None) -> Html:
    """Return one element.

    Args:
        element: Its name.
        children: Its content; plain text is escaped.
        attributes: Its attributes, with escaped values. None and False omit an attribute, True
            omits the value. A trailing underscore is dropped (`class_`), others become hyphens
            (`aria_label`).
    """
    rendered = ""
    for key, value in attributes.items():
        if value is not None and value is not False:
            key = key.rstrip("_").replace("_", "-")
            rendered += f" {key}" if value is True else f' {key}="{escape(str(value))}"'
    if element in _VOID:
        assert not children
        return Html(f"<{element}{rendered}>")
    return Html(f"<{element}{rendered}>{join(*children)}</{element}>")


def table(caption: str, head: list[str], rows: list[list[str]], *, class_: str | None = None) -> Html:
    """Return a table that scrolls horizontally; the first cell of a row is its heading.

    Cells that are complete `<td>` elements are used as they are.

    Args:
        caption: Caption of the table.
        head: Column headings.
        rows: Cells of each row.
        class_: CSS class.
    """

    def cell(content: str) -> Html:
        return content if isinstance(content, Html) and content.startswith("<td") else tag("td", content)

    body = [tag("tr", tag("th", row[0], scope="row"), *map(cell, row[1:])) for row in rows]
    element = tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", *(tag("th", h, scope="col") for h in head))),
        tag("tbody", *body),
        class_=class_,
    )
    return tag("div", element, class_="scroll", tabindex=0, role="region", aria_label=caption)
