"""A comparison → docs/quality.svg: alarms where nothing moved beside drifts that were found. Pure; no library."""

from __future__ import annotations

from collections.abc import Sequence

from quality.contest import Line
from quality.shares import Share

from drift_worker.page import svg
from drift_worker.page.markup import Html
from drift_worker.page.svg import GREY, INK, RULE

WIDTH, NAMES, GAP, LINE, TOP = 860, 200, 40, 26, 62
OURS, OTHERS = "#0969da", "#bf8700"
_SPAN = (WIDTH - NAMES - GAP - 130) / 2  # of 100 %
_PANELS = (
    (NAMES, False, "windows that alarm although nothing moved"),
    (NAMES + _SPAN + GAP + 40, True, "drifts found"),
)


def as_svg(lines: Sequence[Line], date: str) -> str:
    """The picture, a whole SVG document."""
    measured = [line for line in lines if line.why_not is None]
    bottom = TOP + LINE * len(measured)
    height = bottom + 34
    body = [_text(16, 26, f"The same streams, each tool with its defaults ({date})", INK, weight=600)]
    for x, alarm, title in _PANELS:
        body += [_text(x, 48, title, INK), *_scale(x, bottom)]
        for i, line in enumerate(measured):
            body += _bar(x, TOP + LINE * i, line, line.over(alarm))
    body += [
        _text(NAMES - 10, TOP + LINE * i + 17, line.contestant.title, INK, anchor="end")
        for i, line in enumerate(measured)
    ]
    title = "Alarms where nothing moved, and drifts that were found, with 95 % intervals"
    return svg.document(title, WIDTH, height, body)


def _scale(x: float, bottom: float) -> list[Html]:
    out = []
    for percent in (0, 50, 100):
        at = x + _SPAN * percent / 100
        out += [
            svg.line(at, TOP - 6, at, bottom + 2, stroke=RULE),
            _text(at, bottom + 20, f"{percent} %", GREY, anchor="middle"),
        ]
    return out


def _bar(x: float, y: float, line: Line, share: Share | None) -> list[Html]:
    if share is None:
        return [_text(x + 6, y + 17, "not measured", GREY)]
    low, high = (x + _SPAN * end for end in share.interval)
    length, colour = max(1.5, _SPAN * share.value), OURS if line.contestant.policy else OTHERS
    middle = y + 13
    return [
        svg.rect(x, y + 5, length, LINE - 10, fill=colour),
        svg.line(low, middle, high, middle, stroke=INK, stroke_width=1.5),
        _text(max(high, x + length) + 6, y + 17, f"{100 * share.value:.0f} %", GREY),
    ]


def _text(x: float, y: float, text: str, colour: str, anchor: str = "start", weight: int = 400) -> Html:
    return svg.text(text, x, y, anchor, fill=colour, font_weight=weight)
