"""SVG elements with coordinates to a tenth of a pixel, and a picture as a separate file."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from drift_worker.page.markup import Content, Html, tag

# For pictures in files: readable on a light and on a dark page, because a file brings its background.
BACKGROUND, INK, GREY, RULE = "#ffffff", "#1f2328", "#656d76", "#d8dee4"

_Attribute = str | float | None


def text(content: str, x: float, y: float, anchor: str = "start", **attributes: _Attribute) -> Html:
    """Return a line of text; `anchor`: the part of it at x (start, middle or end)."""
    return tag("text", content, x=tenths(x), y=tenths(y), text_anchor=anchor, **attributes)


def rect(x: float, y: float, width: float, height: float, **attributes: _Attribute) -> Html:
    """Return a rectangle; a negative size is 0."""
    size = {"width": tenths(max(0.0, width)), "height": tenths(max(0.0, height))}
    return tag("rect", x=tenths(x), y=tenths(y), **size, **attributes)


def line(x1: float, y1: float, x2: float, y2: float, **attributes: _Attribute) -> Html:
    """Return a line from (x1, y1) to (x2, y2)."""
    return tag("line", x1=tenths(x1), y1=tenths(y1), x2=tenths(x2), y2=tenths(y2), **attributes)


def circle(x: float, y: float, radius: float, *content: Content, **attributes: _Attribute) -> Html:
    """Return a circle; `content` is for instance a title, which a browser shows beside the pointer."""
    return tag("circle", *content, cx=tenths(x), cy=tenths(y), r=radius, **attributes)


def document(title: str, width: float, height: float, parts: Iterable[Html], font_size: int = 13) -> str:
    """Return a whole SVG file with a background, an element a line.

    >>> print(document("One line", 20, 10, [line(0, 5, 20, 5, stroke=INK)]), end="")
    <svg xmlns="http://www.w3.org/2000/svg" width="20" height="10" viewBox="0 0 20 10" \
font-family="system-ui, sans-serif" font-size="13">
    <title>One line</title>
    <rect x="0.0" y="0.0" width="20.0" height="10.0" fill="#ffffff"></rect>
    <line x1="0.0" y1="5.0" x2="20.0" y2="5.0" stroke="#1f2328"></line>
    </svg>
    """
    elements = [tag("title", title), rect(0, 0, width, height, fill=BACKGROUND), *parts]
    picture = tag(
        "svg",
        *chain.from_iterable(("\n", element) for element in elements),
        "\n",
        xmlns="http://www.w3.org/2000/svg",
        width=width,
        height=height,
        viewBox=f"0 0 {width:g} {height:g}",
        font_family="system-ui, sans-serif",
        font_size=font_size,
    )
    return f"{picture}\n"


def tenths(value: float) -> str:
    """Return a coordinate as it is written."""
    return f"{value:.1f}"
