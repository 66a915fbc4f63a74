"""HTML by calls: any text that is not markup is escaped, so that no name from data can become markup."""

from __future__ import annotations

from html import escape

_VOID = {"br", "meta"}


class Html(str):
    """Markup. Only this file makes it from text; any other text is escaped when it is inserted."""

    __slots__ = ()


Content = Html | str | float | int | None


def tag(name: str, /, *content: Content, **attributes: str | float | bool | None) -> Html:
    """Return an element. A trailing underscore of an attribute's name is dropped, others become dashes.

    None is empty content. An attribute that is None or False is left out; True has no value.

    >>> tag("a", "1 < 2", href="#f1", class_="name")
    '<a href="#f1" class="name">1 &lt; 2</a>'
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{join(*content)}</{name}>")


def join(*content: Content) -> Html:
    """Return the pieces as one piece of markup."""
    return Html("".join(_text(piece) for piece in content if piece is not None))


def trusted(text: str) -> Html:
    """Return a text of this repository as markup, for instance a style sheet. Never pass text from other sources."""
    return Html(text)


def _text(piece: Html | str | float) -> str:
    return piece if isinstance(piece, Html) else escape(str(piece))


def _attribute(key: str, value: str | float | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = key.removesuffix("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'
