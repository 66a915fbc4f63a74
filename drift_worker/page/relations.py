"""The features together: what moved between them, in the shortest window in which it is known."""

from __future__ import annotations

from drift_worker.alerting.limits import RELATION_LIMITS
from drift_worker.page import elements, words
from drift_worker.page.history import Story
from drift_worker.page.markup import Content, Html, join, tag
from schemas.alert import RELATIONAL
from schemas.measurement import Relation, Relations

_TITLES = {
    "correlation": "correlation of two numbers",
    "association": "association of two categories",
    "segment": "a number within a category",
    "score": "the score with its features",
}
_UNITS = {"segment": " sd"}


def relations(story: Story) -> Html | None:
    """Return the card of relations; None where none are counted."""
    shown = [(m, m.relations) for m in story.newest.values() if m.relations is not None]
    if not shown:
        return None
    measurement, found = next(((m, one) for m, one in shown if one.reason is None), shown[0])
    state = next((one.severity for one in story.told if one.open and one.alertname in RELATIONAL), "inactive")
    span = measurement.span
    before = "" if span is None else f", judged with those before it from {elements.at(span.start)}"
    sub = f"window of {measurement.window.length} to {elements.at(measurement.window.end)}{before}"
    return join(
        tag("h2", "The features together"),
        tag(
            "article",
            tag("div", tag("h3", "Relations and segments"), tag("span", elements.chip(state)), class_="head"),
            tag("p", sub, class_="muted"),
            _known(found),
            class_=f"card {state}",
        ),
    )


def _known(found: Relations) -> Html:
    if found.reason is not None:
        return tag("p", f"Not known: {words.reason(found.reason)}.", class_="unknown")
    alarming = {at for places in found.found.values() for at in places}
    head = elements.cells(
        "th", "What", "Between", *(("n", title) for title in ("Before", "Now", "Moved", "Limit", "p"))
    )
    rows = [_row(one, at in alarming) for at, one in enumerate(found.moved)]
    count = f"{found.tests:,} tests of {found.events:,} events that were counted together"
    if found.effective is not None:
        count += f" and count as {found.effective:,.0f} independent ones"
    return join(
        tag("p", f"{count}. The largest movements:"),
        tag("div", tag("table", tag("thead", head), tag("tbody", *rows)), class_="wide"),
    )


def _row(one: Relation, alarming: bool) -> Html:
    unit = _UNITS.get(one.kind, "")
    named: list[Content] = [elements.comma([elements.name(None if f == "score" else f) for f in one.features])]
    if one.categories:
        named += [" · ", elements.comma([elements.name(category) for category in one.categories])]
    what: Content = _TITLES.get(one.kind, one.kind)
    return elements.cells(
        "td",
        tag("strong", what) if alarming else what,
        join(*named),
        ("n", words.number(one.before, 2)),
        ("n", words.number(one.now, 2)),
        ("n", f"{one.effect:+.2f}{unit}"),
        ("n", f"±{RELATION_LIMITS[one.kind][0]:.2f}{unit}" if one.kind in RELATION_LIMITS else words.UNKNOWN),
        ("n", words.probability(one.log10_p)),
    )
