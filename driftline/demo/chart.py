"""A model's life → one SVG: measured and estimated values per day, and the actions taken. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from drift_worker.page import svg
from drift_worker.page.markup import Html, tag
from drift_worker.page.svg import GREY, INK, RULE

WIDTH, PLOT_HEIGHT = 900, 280
LEFT, RIGHT, BOTTOM = 60, 20, 46
ROW = 16  # of actions, each in a separate line
MEASURED, PROMISED, MARK = "#0969da", "#bf8700", "#cf222e"


@dataclass(frozen=True, slots=True)
class Range:
    """A value and its interval, which is unknown for a single customer."""

    value: float
    low: float | None
    high: float | None

    @property
    def ends(self) -> tuple[float, float]:
        """Return the interval, or the value twice where none is known."""
        if self.low is None or self.high is None:
            return self.value, self.value
        return self.low, self.high


@dataclass(frozen=True, slots=True)
class Day:
    """One final cohort, days counted from 0: accuracy with interval, the estimate from the scores, and the model."""

    day: int
    model: str
    measured: Range | None
    promised: Range | None


@dataclass(frozen=True, slots=True)
class Moment:
    """An action, `at` this number of days after the first event."""

    at: float
    text: str


def as_svg(title: str, days: Sequence[Day], moments: Sequence[Moment]) -> str:
    """Return the picture, a whole SVG document. days: at least one, ascending."""
    last = max([day.day + 1.0 for day in days] + [moment.at for moment in moments])
    top = 40 + ROW * len(moments)
    height = top + PLOT_HEIGHT + BOTTOM
    lowest = min([day.measured.ends[0] for day in days if day.measured is not None], default=0.5)
    floor = max(0.0, (int(lowest * 20) - 1) / 20)

    def x(at: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * at / last

    def y(value: float) -> float:
        return top + PLOT_HEIGHT * (1.0 - value) / (1.0 - floor)

    parts: list[Html] = [_words(title, 16, 24, weight="600")]
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
            parts.append(_span(at, y(promised.ends[0]), y(promised.ends[1]), PROMISED))
            parts.append(_dot(at, y(promised.value), PROMISED, f"from the scores of {day.model}: {promised.value:.3f}"))
        if (measured := day.measured) is not None:
            at = x(day.day + 0.38)
            parts.append(_span(at, y(measured.ends[0]), y(measured.ends[1]), MEASURED))
            parts.append(_dot(at, y(measured.value), MEASURED, f"{day.model}: measured {measured.value:.3f}"))
    parts += [
        _words("● accuracy, measured (95 %)", LEFT + 6, height - BOTTOM - 24, MEASURED),
        _words("● accuracy, from the scores alone (its band)", LEFT + 6, height - BOTTOM - 8, PROMISED),
    ]
    return svg.document(title, WIDTH, height, parts, font_size=12)


def _words(text: str, x: float, y: float, fill: str = INK, anchor: str = "start", weight: str | None = None) -> Html:
    return svg.text(text, x, y, anchor, fill=fill, font_weight=weight)


def _line(x1: float, y1: float, x2: float, y2: float, stroke: str, dash: str | None = None, width: float = 1) -> Html:
    return svg.line(x1, y1, x2, y2, stroke=stroke, stroke_width=width, stroke_dasharray=dash)


def _span(at: float, low: float, high: float, stroke: str) -> Html:
    return _line(at, low, at, high, stroke, width=2.5)


def _dot(x: float, y: float, fill: str, title: str) -> Html:
    return svg.circle(x, y, 4, tag("title", title), fill=fill)
