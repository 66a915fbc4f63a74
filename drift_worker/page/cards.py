"""Each feature by itself: its state, its effect, reference and window as pictures, its own timeline, all numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from drift_worker.page import charts, elements, words
from drift_worker.page.history import Story, subjects
from drift_worker.page.markup import Content, Html, join, tag
from drift_worker.page.subject import Subject
from drift_worker.statistics.calm_past import DISTRIBUTION
from drift_worker.statistics.catalogue import CATALOGUE, Statistic
from schemas.measurement import WEEK, FeatureMeasurement

MOST_NAMES = 20


def cards(story: Story, shown: Sequence[Subject], unseen: Mapping[str, Mapping[str, int]]) -> Html:
    """Return a card for each of `shown`.

    unseen: names of unseen categories and their counts, by feature.
    """
    span = (min(p.start_ms for p in story.past), max(p.end_ms for p in story.past))
    found = [_card(story, one, span, unseen.get(one.name or "", {})) for one in shown]
    legend = join(
        elements.key("ref", "reference: the customers the model was trained on"),
        elements.key("win", "window: the customers of now"),
    )
    return join(
        tag("h2", "Each feature, the largest effect first"),
        tag("p", legend, class_="muted"),
        tag("div", *found, class_="cards"),
    )


def _card(story: Story, one: Subject, span: tuple[int, int], unseen: Mapping[str, int]) -> Html:
    m, found = one.measurement, one.found
    chips: list[Content] = [elements.chip(found.state)]
    if found.quality:
        chips += [" ", tag("span", f"▲ {elements.quality(found)}", class_="chip critical")]
    whole = "" if m.complete else ", incomplete"
    before = "" if m.span is None else f", judged with those before it from {elements.at(m.span.start)}"
    sub = f"{found.kind}, window of {m.window.length} to {elements.at(m.window.end)}{before}{whole}"
    return tag(
        "article",
        tag("div", tag("h3", elements.name(one.name)), tag("span", *chips), class_="head"),
        tag("p", sub, class_="muted"),
        _effect(one),
        _shares(one),
        _statistics(one),
        _timeline(story, one, span),
        _names(unseen),
        _details(story, one),
        class_=f"card {found.state}",
        id=one.anchor,
    )


def _effect(one: Subject) -> Html:
    found = one.found
    if one.value is None:
        return tag("p", f"Not known: {words.reason(found.reason)}.", class_="unknown")
    sizes = [
        f"{known.phrase} {_shown(known, value)}"
        for known in CATALOGUE
        if known.phrase is not None and (value := getattr(found, known.name)) is not None
    ]
    parts: list[Content] = [tag("strong", f"Effect {words.number(one.value)}"), f" ({', '.join(sizes)})."]
    if found.kind == "score" and found.mean is not None:
        parts.append(f" Mean {words.number(found.reference_mean)} → {words.number(found.mean)}.")
    elif found.score_shift is not None:
        parts.append(f" Moves the mean score by {found.score_shift:+.3f}.")
    if found.against == WEEK:
        parts.append(" Compared with the same hours of past weeks.")
    if found.significant is False:
        parts.append(" Not significant.")
    elif found.significant:
        parts.append(_change(one))
    return tag("p", *parts)


def _change(one: Subject) -> str:
    """Return why a significant effect may be no finding: this stream always is so, or nothing is known of it yet."""
    past, level = one.found.past, one.measurement.level
    if past is None or level is None or level.single is None:
        return ""
    if DISTRIBUTION not in past:
        return " No calm past to compare with yet."
    return "" if past[DISTRIBUTION] <= math.log10(level.single) else " No change from the calm past of this stream."


def _shown(known: Statistic, value: float | None) -> str:
    return words.share(value) if known.share else words.number(value)


def _shares(one: Subject) -> Html | None:
    found = one.found
    if found.bins is None:
        return None
    name = one.title
    if found.kind in {"numeric", "score"}:
        text = "Share of customers in the reference's tenths"
        picture = charts.numeric(found.bins, f"{name}: shares in the reference's tenths, reference and window")
    else:
        text = "Share of customers by category, reference → window"
        picture = charts.categories(found.bins, found.kind, f"{name}: shares by category, reference and window")
    return tag("figure", tag("figcaption", text), picture)


def _limits(found: FeatureMeasurement) -> tuple[tuple[float, str, str], ...]:
    if found.effect_warning is None or found.effect_critical is None:
        return ()
    return (found.effect_warning, "warning", "warn"), (found.effect_critical, "critical", "crit")


def _statistics(one: Subject) -> Html | None:
    found, limits = one.found, _limits(one.found)
    if one.value is None:
        return None
    null = ((found.null_999, "null 99.9 %", "null"),) if found.null_999 is not None else ()
    if one.measurement.level is None:
        rows = [charts.Statistic("textbook", one.value, limits), charts.Statistic("PSI", found.psi, null)]
    else:
        rows = [
            charts.Statistic(known.label, getattr(found, known.name), limits if known.evidence else null)
            for known in CATALOGUE
            if known.charted and found.kind in known.kinds
        ]
    text = "Statistics; dashed: limits"
    if found.null_999 is not None:
        text += f"; solid: {words.number(found.null_999)}, which PSI exceeds once in 1,000 windows without drift"
    label = f"{one.title}: " + ", ".join(f"{row.name} {words.number(row.value)}" for row in rows)
    return tag("figure", tag("figcaption", text), charts.statistics(rows, label))


def _timeline(story: Story, one: Subject, span: tuple[int, int]) -> Html | None:
    length = one.measurement.window.length
    dots = [
        charts.Dot(p.end_ms, p.points[one.name].value, p.points[one.name].state)
        for p in story.past
        if p.length == length and one.name in p.points
    ]
    if sum(dot.value is not None for dot in dots) < 2:
        return None
    label = f"{one.title}: effect over {len(dots)} windows of {length}"
    picture = charts.timeline(dots, span, _limits(one.found), label)
    return tag("figure", tag("figcaption", f"Effect over time, windows of {length}; dashed: limits"), picture)


def _names(unseen: Mapping[str, int]) -> Html | None:
    if not unseen:
        return None
    names = [join(tag("bdi", name), f" ({count:,})") for name, count in list(unseen.items())[:MOST_NAMES]]
    return tag("p", "Categories that training never saw: ", elements.comma(names), ".")


def _details(story: Story, one: Subject) -> Html:
    found = [(length, s) for length, m in story.newest.items() if (s := subjects(m).get(one.name)) is not None]
    head = elements.cells("th", "", *(("n", length) for length, _ in found))
    rows = [elements.cells("td", title, *(("n", show(s)) for _, s in found)) for title, show in _FACTS]
    why = elements.cells("td", "why not known", *(("n", words.reason(s.reason) if s.reason else "") for _, s in found))
    bins = None
    if one.found.bins is not None:
        kind = "numeric" if one.found.kind == "score" else one.found.kind
        lines = [
            elements.cells("td", bar.name, ("n", words.share(bar.reference)), ("n", words.share(bar.window)))
            for bar in charts.bars_of(one.found.bins, kind)
        ]
        titles = elements.cells("th", "values", ("n", "reference"), ("n", "window"))
        bins = tag("table", tag("thead", titles), tag("tbody", *lines))
    numbers = tag("table", tag("thead", head), tag("tbody", *rows, why if any(s.reason for _, s in found) else None))
    return tag("details", tag("summary", "All numbers as a table"), tag("div", bins, numbers, class_="wide"))


def _value(known: Statistic, found: FeatureMeasurement) -> str:
    return words.number(getattr(found, known.name))


_FACTS: tuple[tuple[str, Callable[[FeatureMeasurement], str]], ...] = (
    ("values present", lambda s: words.count(s.events)),
    ("as independent values", lambda s: words.count(s.effective)),
    ("compared with", lambda s: "past weeks" if s.against == WEEK else "training"),
    ("values in the reference", lambda s: words.count(s.reference)),
    ("effect", lambda s: words.number(s.effect)),
    *((known.label, partial(_value, known)) for known in CATALOGUE),
    ("PSI, 99.9 % without drift", lambda s: words.number(s.null_999)),
    ("p", lambda s: words.probability(s.log10_p)),
    ("significant", lambda s: words.UNKNOWN if s.significant is None else "yes" if s.significant else "no"),
    ("p, against the calm past", lambda s: words.probability((s.past or {}).get(DISTRIBUTION))),
    ("natural variation", lambda s: words.number(s.natural_variation)),
    ("missing, reference", lambda s: words.share(s.reference_missing_ratio)),
    ("missing, window", lambda s: words.share(s.missing_ratio)),
    ("unseen, expected", lambda s: words.share(s.reference_unseen_ratio)),
    ("unseen, window", lambda s: words.share(s.unseen_ratio)),
)
