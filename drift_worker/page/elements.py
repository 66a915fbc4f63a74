"""Small parts that every section of a page uses."""

from __future__ import annotations

from collections.abc import Sequence

from drift_worker.page import words
from drift_worker.page.markup import Content, Html, join, tag
from drift_worker.page.subject import SCORE, Subject
from schemas.measurement import FeatureMeasurement
from schemas.timestamps import parse


def chip(state: str) -> Html:
    """Return a state as a word with a title that explains it."""
    word, mark, meaning = words.state(state)
    return tag("span", f"{mark} {word}", class_=f"chip {state}", title=meaning)


def quality(found: FeatureMeasurement) -> str:
    """Return the reason why the data is broken."""
    return f"{(found.quality or '').replace('_', ' ')} {found.quality_detail or ''}".strip()


def name(text: str | None) -> Html:
    """Return a name from data; its letters cannot change the direction of the text around it."""
    return tag("bdi", SCORE if text is None else text)


def link(one: Subject) -> Html:
    """Return the subject's name as a link to its card."""
    return tag("a", name(one.name), href=f"#{one.anchor}")


def at(text: str) -> str:
    """Return the time of a record as text."""
    ms = parse(text)
    return text if ms is None else words.moment(ms)


def features(number: int) -> str:
    """Return the number of features as text."""
    return "1 feature" if number == 1 else f"{number} features"


def comma(names: Sequence[Html]) -> Html:
    """Return the parts, separated by commas."""
    return join(*(piece for i, one in enumerate(names) for piece in ((", ", one) if i else (one,))))


def cells(kind: str, *content: Content | tuple[str, Content]) -> Html:
    """Return a row of a table; a cell with a class is a pair."""
    pairs: list[tuple[str | None, Content]] = [c if isinstance(c, tuple) else (None, c) for c in content]
    scope = "col" if kind == "th" else None
    return tag("tr", *(tag(kind, text, class_=one, scope=scope) for one, text in pairs))


def key(kind: str, text: str) -> Html:
    """Return an entry of a legend."""
    square = tag("svg", tag("rect", width=14, height=12, class_=kind), viewBox="0 0 14 12", aria_hidden="true")
    return tag("span", square, text, class_="key")
