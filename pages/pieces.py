"""Small parts that every section of a page uses."""

from __future__ import annotations

from collections.abc import Sequence

from pages import words
from pages.markup import Content, Html, join, tag
from pages.subject import SCORE, Subject
from schemas.measurement import FeatureMeasurement
from schemas.rfc3339 import parse


def chip(state: str) -> Html:
    """A state in words; its meaning is its title."""
    word, mark, meaning = words.state(state)
    return tag("span", f"{mark} {word}", class_=f"chip {state}", title=meaning)


def quality(found: FeatureMeasurement) -> str:
    """What is broken about the data."""
    return f"{(found.quality or '').replace('_', ' ')} {found.quality_detail or ''}".strip()


def name(text: str | None) -> Html:
    """A name out of data: its letters cannot turn the text around them."""
    return tag("bdi", SCORE if text is None else text)


def link(one: Subject) -> Html:
    """Its name, leading to its card."""
    return tag("a", name(one.name), href=f"#{one.anchor}")


def at(text: str) -> str:
    """A time of a record, for people."""
    ms = parse(text)
    return text if ms is None else words.moment(ms)


def features(number: int) -> str:
    """So many features."""
    return "1 feature" if number == 1 else f"{number} features"


def comma(names: Sequence[Html]) -> Html:
    """One after the other."""
    return join(*(piece for i, one in enumerate(names) for piece in ((", ", one) if i else (one,))))


def cells(kind: str, *content: Content | tuple[str, Content]) -> Html:
    """A row of a table; a cell with a class is a pair."""
    pairs: list[tuple[str | None, Content]] = [c if isinstance(c, tuple) else (None, c) for c in content]
    scope = "col" if kind == "th" else None
    return tag("tr", *(tag(kind, text, class_=one, scope=scope) for one, text in pairs))


def key(kind: str, text: str) -> Html:
    """An entry of a legend."""
    square = tag("svg", tag("rect", width=14, height=12, class_=kind), viewBox="0 0 14 12", aria_hidden="true")
    return tag("span", square, text, class_="key")
