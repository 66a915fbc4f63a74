"""All features over time on one screen: a row for each, a cell for each window."""

from __future__ import annotations

from collections.abc import Sequence

from drift_worker.page import charts, elements, words
from drift_worker.page.history import Past, Point, Story, Told
from drift_worker.page.markup import Content, Html, join, tag
from drift_worker.page.subject import Subject

# Every feature has a separate timeline further down.
MOST_STRIPS, MOST_CELLS = 25, 48


def _main_length(story: Story) -> str:
    """Return the shortest length with a known value: the overview shows it."""
    known = (p.length for length in story.newest for p in story.past if p.length == length and _any_known(p))
    return next(known, next(iter(story.newest)))


def _any_known(past: Past) -> bool:
    return any(point.value is not None for point in past.points.values())


def overview(story: Story, shown: Sequence[Subject]) -> Html:
    """Return the section; each cell is one window, or the worst of a few."""
    length = _main_length(story)
    past = [p for p in story.past if p.length == length]
    rows: list[Content] = []
    episodes = [one for one in story.told if one.ends_ms is None or one.ends_ms > past[0].start_ms]
    slots = _slots(past)
    if episodes:
        cells = [_episode_cell(slot, episodes) for slot in slots]
        rows += [tag("span", "alerts open", class_="name"), charts.strip(cells, "When alerts were open")]
    for one in shown[:MOST_STRIPS]:
        cells = [_cell(slot, one.name) for slot in slots]
        rows.append(tag("span", elements.link(one), class_="name"))
        rows.append(charts.strip(cells, f"{one.title} over time: {_in_words(cells)}"))
    times = words.axis_times(past[0].start_ms, past[-1].end_ms)
    rows += [tag("span"), tag("div", *(tag("span", text) for text in times), class_="times")]
    more = len(shown) - MOST_STRIPS
    return join(
        tag("h2", f"Over time, windows of {length}"),
        tag(
            "p",
            *(elements.key(kind, text) for kind, text in _KEYS if kind != "c-alert" or episodes),
            class_="muted",
        ),
        tag("div", *rows, class_="strips"),
        tag("p", f"The {more} features with the smallest effect are left out here.", class_="muted")
        if more > 0
        else None,
    )


_KEYS = (
    ("c-alert", "an alert was open"),
    ("c-critical", "effect above the critical limit"),
    ("c-warning", "above the warning limit"),
    ("c-quiet", "below"),
    ("c-unknown", "not known"),
)


def _slots(past: Sequence[Past]) -> list[Sequence[Past]]:
    """Return at most MOST_CELLS runs of neighbouring windows."""
    size = -(-len(past) // MOST_CELLS) or 1
    return [past[i : i + size] for i in range(0, len(past), size)]


def _cell(slot: Sequence[Past], name: str | None) -> tuple[str, str]:
    """Return class and title of a slot, from its worst window."""
    points = [(p, p.points[name]) for p in slot if name in p.points]
    known = [(p, point) for p, point in points if point.value is not None]
    if not known:
        why = words.reason(points[-1][1].reason) if points else "not measured"
        return "c-unknown", f"{words.moment(slot[0].end_ms)}: not known: {why}"
    past, point = max(known, key=lambda pair: pair[1].value or 0.0)
    return f"c-{_reached(point)}", f"{words.moment(past.end_ms)}: {words.number(point.value)}"


def _reached(point: Point) -> str:
    value = point.value or 0.0
    if point.warning is None or point.critical is None:
        return point.state if point.state in {"critical", "warning"} else "quiet"
    return "critical" if value >= point.critical else "warning" if value >= point.warning else "quiet"


def _episode_cell(slot: Sequence[Past], episodes: Sequence[Told]) -> tuple[str, str]:
    start, end = slot[0].start_ms, slot[-1].end_ms
    open_then = [e for e in episodes if e.starts_ms <= end and (e.ends_ms is None or e.ends_ms > start)]
    if not open_then:
        return "c-none", f"{words.moment(end)}: none"
    what = ", ".join(f"{e.alertname} {e.feature or ''}".strip() for e in open_then)
    return "c-alert", f"{words.moment(end)}: {what}"


def _in_words(cells: Sequence[tuple[str, str]]) -> str:
    kinds = [kind.removeprefix("c-") for kind, _ in cells]
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
