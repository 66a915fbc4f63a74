"""A model's life → one SVG: per day what was measured and what the scores promised, and what was done when. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pages.markup import Html, tag

WIDTH, PLOT_HEIGHT = 900, 280
LEFT, RIGHT, BOTTOM = 60, 20, 46
ROW = 16  # of what happened, each in a line of its own
# Readable on a light and on a dark page: the picture brings its own background.
BACKGROUND, INK, GREY, RULE = "#ffffff", "#1f2328", "#656d76", "#d8dee4"
MEASURED, PROMISED, MARK = "#0969da", "#bf8700", "#cf222e"


@dataclass(frozen=True, slots=True)
class Range:
    """A value and how far it may be off."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Day:
    """One final cohort, days counted from 0: accuracy with its interval, what the scores promised, and whose scores."""

    day: int
    model: str
    measured: Range
    promised: Range | None


@dataclass(frozen=True, slots=True)
class Moment:
    """What happened, `at` so many days after the first event."""

    at: float
    text: str


def as_svg(title: str, days: Sequence[Day], moments: Sequence[Moment]) -> str:
    """The picture, a whole SVG document. days: at least one, ascending."""
    last = max([day.day + 1.0 for day in days] + [moment.at for moment in moments])
    top = 40 + ROW * len(moments)
    height = top + PLOT_HEIGHT + BOTTOM
    floor = max(0.0, (int(min(day.measured.low for day in days) * 20) - 1) / 20)

    def x(at: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * at / last

    def y(value: float) -> float:
        return top + PLOT_HEIGHT * (1.0 - value) / (1.0 - floor)

    parts: list[Html] = [
        tag("title", title),
        tag("rect", width=WIDTH, height=height, fill=BACKGROUND),
        _words(title, 16, 24, weight="600"),
    ]
    for step in range(round(floor * 20), 21, 2):
        value = step / 20
        parts += [
            _line(LEFT, y(value), WIDTH - RIGHT, y(value), RULE),
            _words(f"{value:.2f}", LEFT - 8, y(value) + 4, GREY, "end"),
        ]
    for number in range(round(last)):
        parts.append(_words(str(number + 1), x(number + 0.5), height - BOTTOM + 18, GREY, "middle"))
    parts.append(_words("day of the predictions", (LEFT + WIDTH - RIGHT) / 2, height - 8, GREY, "middle"))
    for number, moment in enumerate(moments):
        at = x(moment.at)
        anchor = "end" if moment.at > 0.6 * last else "start"
        row = 44 + ROW * number
        parts += [
            _line(at, row + 4, at, height - BOTTOM, MARK, dash="3 3"),
            _words(moment.text, at + (4 if anchor == "start" else -4), row, MARK, anchor),
        ]
    for day in days:
        if (promised := day.promised) is not None:
            at = x(day.day + 0.62)
            parts.append(_span(at, y(promised.low), y(promised.high), PROMISED))
            parts.append(_dot(at, y(promised.value), PROMISED, f"from the scores of {day.model}: {promised.value:.3f}"))
        at = x(day.day + 0.38)
        parts.append(_span(at, y(day.measured.low), y(day.measured.high), MEASURED))
        parts.append(_dot(at, y(day.measured.value), MEASURED, f"{day.model}: measured {day.measured.value:.3f}"))
    parts += [
        _words("● accuracy, measured (95 %)", LEFT + 6, height - BOTTOM - 24, MEASURED),
        _words("● accuracy, from the scores alone (its band)", LEFT + 6, height - BOTTOM - 8, PROMISED),
    ]
    return tag(
        "svg",
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        width=WIDTH,
        height=height,
        viewBox=f"0 0 {WIDTH} {height}",
        font_family="system-ui, sans-serif",
        font_size=12,
    )


def _words(text: str, x: float, y: float, fill: str = INK, anchor: str = "start", weight: str | None = None) -> Html:
    return tag("text", text, x=_n(x), y=_n(y), fill=fill, text_anchor=anchor, font_weight=weight)


def _line(x1: float, y1: float, x2: float, y2: float, stroke: str, dash: str | None = None, width: float = 1) -> Html:
    points = {"x1": _n(x1), "y1": _n(y1), "x2": _n(x2), "y2": _n(y2)}
    return tag("line", **points, stroke=stroke, stroke_width=width, stroke_dasharray=dash)


def _span(at: float, low: float, high: float, stroke: str) -> Html:
    return _line(at, low, at, high, stroke, width=2.5)


def _dot(x: float, y: float, fill: str, says: str) -> Html:
    return tag("circle", tag("title", says), cx=_n(x), cy=_n(y), r=4, fill=fill)


def _n(value: float) -> str:
    return f"{value:.1f}"
