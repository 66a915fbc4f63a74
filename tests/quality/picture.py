"""A comparison → docs/quality.svg: alarms where nothing moved beside drifts that were found. Pure; no library."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from contest import Line
from shares import Share

WIDTH, NAMES, GAP, LINE, TOP = 860, 200, 40, 26, 62
# Readable on a light and on a dark page: the picture brings its own background. As docs/benchmark.svg.
BACKGROUND, INK, GREY, RULE = "#ffffff", "#1f2328", "#656d76", "#d8dee4"
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
    size = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="system-ui, sans-serif" font-size="13">',
            "<title>Alarms where nothing moved, and drifts that were found, with 95 % intervals</title>",
            f'<rect width="{WIDTH}" height="{height}" fill="{BACKGROUND}"/>',
            *body,
            "</svg>",
            "",
        ]
    )


def _scale(x: float, bottom: float) -> list[str]:
    out = []
    for percent in (0, 50, 100):
        at = x + _SPAN * percent / 100
        out += [
            f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{TOP - 6}" y2="{bottom + 2:.1f}" stroke="{RULE}"/>',
            _text(at, bottom + 20, f"{percent} %", GREY, anchor="middle"),
        ]
    return out


def _bar(x: float, y: float, line: Line, share: Share | None) -> list[str]:
    if share is None:
        return [_text(x + 6, y + 17, "not measured", GREY)]
    low, high = (x + _SPAN * end for end in share.interval)
    length, colour = max(1.5, _SPAN * share.value), OURS if line.contestant.policy else OTHERS
    middle = y + 13
    return [
        f'<rect x="{x:.1f}" y="{y + 5:.1f}" width="{length:.1f}" height="{LINE - 10}" fill="{colour}"/>',
        f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{middle:.1f}" y2="{middle:.1f}" stroke="{INK}" stroke-width="1.5"/>',
        _text(max(high, x + length) + 6, y + 17, f"{100 * share.value:.0f} %", GREY),
    ]


def _text(x: float, y: float, text: str, colour: str, anchor: str = "start", weight: int = 400) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}" font-weight="{weight}">'
        f"{escape(text)}</text>"
    )
