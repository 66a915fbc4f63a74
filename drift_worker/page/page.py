"""The page about drift: what moved, how far, since when, and compared with what, for one model.

One HTML file without scripts. `GET /drift.html` and `driftline report` both return this page for a story.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from drift_worker.page import elements, subject, words
from drift_worker.page.cards import cards
from drift_worker.page.history import Story, Told
from drift_worker.page.markup import Content, Html, join, tag, trusted
from drift_worker.page.overview import overview
from drift_worker.page.relations import relations
from drift_worker.page.style import STYLE
from drift_worker.page.subject import Subject
from schemas.alert import AlertName
from schemas.measurement import TRAINING, Measurement

MOST_TOLD = 20
MOST_NAMES = 20
_RANK = {"critical": 3, "warning": 2, "pending": 1}
# Alerts about a feature that do not imply that its distribution moved.
_VALUES = {
    AlertName.MISSING_VALUES: "missing values",
    AlertName.UNSEEN_CATEGORIES: "unseen categories",
    AlertName.DATA_QUALITY: "broken data",
}


def drift_page(
    story: Story,
    *,
    model: str,
    version: str,
    made_ms: int,
    source: str,
    note: str | None = None,
    unseen: Mapping[str, Mapping[str, int]] | None = None,
) -> str:
    """Return the page as text.

    `version`: the model's, for the time before a window is measured. `source`: the origin of the numbers. `note`: one
    more fact for the reader. `unseen`: names of unseen categories and their counts, by feature.
    """
    newest = next(iter(story.newest.values()), None)
    ranked = subject.ranked(story)
    score = subject.score(story)
    shown = [*([score] if score else []), *ranked]
    body: list[Content] = [
        _header(newest, ranked, model, newest.model_version if newest else version, made_ms, source),
        tag(
            "main",
            tag("p", note, class_="moved not_enough_data") if note else None,
            _moved(ranked, score, story.told) if newest else tag("p", "No window has closed yet.", class_="moved"),
            _windows(story) if newest else None,
            _alerts(story.told),
            overview(story, shown) if newest else None,
            relations(story) if newest else None,
            cards(story, shown, unseen or {}) if newest else None,
            _table(ranked) if ranked else None,
        ),
        tag("footer", _explained() if newest else None),
    ]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", f"Drift of {model}"),
        tag("style", STYLE),
    )
    return join(trusted("<!doctype html>\n"), tag("html", head, tag("body", *body), lang="en"), "\n")


# -- the top --------------------------------------------------------------------------------------------------------


def _header(
    newest: Measurement | None, ranked: Sequence[Subject], model: str, version: str, made_ms: int, source: str
) -> Html:
    rows = max((one.found.reference for one in ranked if one.found.against == TRAINING), default=0)
    reference = (
        join("Reference ", tag("code", newest.reference_sha256[:12]), f" ({rows:,} customers). " if rows else ". ")
        if newest
        else None
    )
    return tag(
        "header",
        tag("h1", "Drift of ", elements.name(model), " ", tag("small", "version ", version)),
        tag("p", reference, source, f" Made {words.moment(made_ms)}; all times are UTC.", class_="muted"),
    )


def _moved(ranked: Sequence[Subject], score: Subject | None, told: Sequence[Told]) -> Html:
    """Return one line: what moved, and what could not be measured."""
    moved = sorted(
        (one for one in ranked if one.found.state in {"critical", "warning"}), key=lambda one: -_RANK[one.found.state]
    )
    pending = [one for one in ranked if one.found.state == "pending"]
    unknown = [one for one in ranked if one.value is None]
    broken = [one for one in ranked if one.found.quality]
    values = {
        feature: _VALUES[AlertName(one.alertname)]
        for one in reversed(told)
        if one.open and one.alertname in _VALUES
        for feature in one.members or (one.feature,)
    }
    worst = max((_RANK.get(one.found.state, 0) for one in [*moved, *([score] if score else [])]), default=0)
    kind = {3: "critical", 2: "warning"}.get(worst, "not_enough_data" if len(unknown) == len(ranked) else "inactive")
    if any(t.open and t.severity == "critical" for t in told) or broken:
        kind = "critical"
    elif any(t.open for t in told) and kind != "critical":
        kind = "warning"
    parts: list[Content] = []
    if moved:
        parts += [tag("strong", f"{len(moved)} of {elements.features(len(ranked))} moved: "), _listed(moved)]
    elif values:
        parts.append(tag("strong", f"An alert is open for {len(values)} of {elements.features(len(ranked))}: "))
    elif len(unknown) == len(ranked):
        parts.append(tag("strong", "No result yet: no feature could be measured in the newest windows."))
    else:
        parts.append(tag("strong", f"No feature of {len(ranked)} is confirmed to have moved."))
    if values:
        parts += [" Alerts of values: " if moved else "", _valued(values)]
    if broken:
        names = [join(elements.name(one.name), f" ({elements.quality(one.found)})") for one in broken]
        parts += [" Broken data: ", elements.comma(names), "."]
    if pending:
        parts += [" Seen but not confirmed: ", elements.comma([elements.name(one.name) for one in pending]), "."]
    if unknown and len(unknown) < len(ranked):
        parts.append(f" Not measured: {elements.features(len(unknown))}.")
    parts.append(_of_the_score(score))
    return tag("p", *parts, class_=f"moved {kind}")


def _listed(moved: Sequence[Subject]) -> Html:
    names = [
        join(elements.link(one), f" ({one.found.state}, {words.number(one.value, 2)})") for one in moved[:MOST_NAMES]
    ]
    more = f" and {len(moved) - MOST_NAMES} more" if len(moved) > MOST_NAMES else ""
    return join(elements.comma(names), more, ".")


def _valued(values: Mapping[str | None, str]) -> Html:
    names = [join(elements.name(feature), f" ({what})") for feature, what in list(values.items())[:MOST_NAMES]]
    more = f" and {len(values) - MOST_NAMES} more" if len(values) > MOST_NAMES else ""
    return join(elements.comma(names), more, ".")


def _of_the_score(score: Subject | None) -> Html | None:
    if score is None or score.found.mean is None or score.found.reference_mean is None:
        return None
    word = words.state(score.found.state)[0]
    return join(f" The score: mean {score.found.reference_mean:.3f} → {score.found.mean:.3f} ({word}).")


def _windows(story: Story) -> Html:
    head = elements.cells(
        "th", "Window", "From", "To", ("n", "Events"), "Judged", ("n", "Late"), ("n", "Refused"), "Whole?", ("n", "q")
    )
    rows = []
    for length, m in story.newest.items():
        whole = "complete" if m.complete else f"incomplete: {_why_incomplete(m)}"
        q = words.number(m.level.q, 4) if m.level is not None else "classic"
        rows.append(
            elements.cells(
                "td",
                length,
                ("t", elements.at(m.window.start)),
                ("t", elements.at(m.window.end)),
                ("n", words.count(m.sample.events)),
                _judged(m),
                ("n", words.count(m.sample.late)),
                ("n", words.count(m.sample.refused)),
                whole,
                ("n", q),
            )
        )
    changed = story.reference_since_ms
    return join(
        tag("h2", "Newest windows"),
        tag("div", tag("table", tag("thead", head), tag("tbody", *rows)), class_="panel wide"),
        tag(
            "p",
            f"The reference changed at {words.moment(changed)}: earlier windows are not comparable.",
            class_="muted",
        )
        if changed is not None
        else None,
    )


def _judged(m: Measurement) -> Content:
    """Return what of the stream the window's numbers are of."""
    if m.span is None:
        return "alone"
    return join(f"{words.count(m.span.events)} events of {m.span.windows} windows from ", elements.at(m.span.start))


def _why_incomplete(m: Measurement) -> str:
    parts = [words.reason(m.reason)] if m.reason else []
    if m.missing_partitions:
        parts.append(f"without {', '.join(m.missing_partitions)}")
    return "; ".join(parts) or "the record gives no reason"


# -- alerts ---------------------------------------------------------------------------------------------------------


def _alerts(told: Sequence[Told]) -> Html:
    if not told:
        return join(tag("h2", "Alerts"), tag("p", "None.", class_="muted"))
    rows = []
    for one in told[:MOST_TOLD]:
        state = one.severity if one.open else "resolved"
        word = f"firing, {one.severity}" if one.open else f"resolved ({one.severity})"
        until = "still open" if one.ends_ms is None else f"until {words.moment(one.ends_ms)}"
        what = join(one.alertname, join(" · ", elements.name(one.feature)) if one.feature else None)
        members = (
            tag("p", "Features: ", elements.comma([elements.name(m) for m in one.members]), ".", class_="muted")
            if one.members
            else None
        )
        rows.append(
            tag(
                "article",
                tag("div", tag("h3", what), tag("span", word, class_=f"chip {state}"), class_="head"),
                tag("p", f"Since {words.moment(one.starts_ms)}, {until}.", class_="muted"),
                tag("p", one.summary),
                members,
                tag("p", one.description, " ", _runbook(one.runbook_url), class_="muted"),
                class_="card",
            )
        )
    firing = sum(one.open for one in told)
    more = len(told) - MOST_TOLD
    return join(
        tag("h2", f"Alerts: {firing} open, {len(told) - firing} resolved"),
        tag("div", *rows, class_="cards"),
        tag("p", f"and {more} older ones", class_="muted") if more > 0 else None,
    )


def _runbook(url: str) -> Html | None:
    # a link from data: only to web addresses; a javascript: address is shown as text
    if url.startswith(("https://", "http://")):
        return tag("a", "Runbook", href=url, rel="noreferrer")
    return join("Runbook: ", url) if url else None


def _table(ranked: Sequence[Subject]) -> Html:
    """Return all numbers once more, as a table."""
    numbers = ("Effect", "Warning", "Critical", "PSI", "KS D, L∞", "Missing", "Unseen", "Values")
    head = elements.cells("th", "Feature", "State", *(("n", title) for title in numbers), "Window", "Why not known")
    rows = []
    for one in ranked:
        s = one.found
        shown = (
            words.number(one.value),
            words.number(s.effect_warning),
            words.number(s.effect_critical),
            words.number(s.psi),
            words.number(s.linf if s.ks is None else s.ks),
            words.share(s.missing_ratio),
            words.share(s.unseen_ratio),
            words.count(s.events),
        )
        why = "" if one.value is not None else words.reason(s.reason)
        cells = (("n", text) for text in shown)
        rows.append(
            elements.cells("td", elements.link(one), elements.chip(s.state), *cells, one.measurement.window.length, why)
        )
    return join(
        tag("h2", "As a table"),
        tag("div", tag("table", tag("thead", head), tag("tbody", *rows)), class_="panel wide"),
    )


def _explained() -> Html:
    return tag(
        "p",
        (
            "PSI*: PSI less what sampling alone gives. KS D: the largest distance of the two distribution functions. "
            "L∞: the largest move of a category's share. Effect: the larger of PSI* and D, or of PSI* and L∞; it is "
            "compared with the limits, and only where a test is significant at the level that follows from the budget "
            "of false alerts (q: the share of false discoveries it allows). Each feature is shown in the shortest "
            "window in which it could be measured."
        ),
    )
