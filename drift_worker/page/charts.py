"""Pictures as inline SVG: shares in bins, statistics beside their limits, the effect over time.

Colours come from classes of the style sheet, so they follow the reader's light or dark mode. No meaning depends on
colour alone: the reference's bars are wide and pale, the window's narrow and dark, limits are dashed and named.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from drift_worker.page import svg, words
from drift_worker.page.markup import Content, Html, join, tag
from schemas.measurement import Bins

WIDTH = 340
# More rows than this are combined in one: the largest are shown, the table below the picture holds all of them.
MOST_CATEGORIES = 8
MOST_COLUMNS = 120
_LETTER = 5.6  # approximate width of a letter of the 10 px labels


@dataclass(frozen=True, slots=True)
class Bar:
    """A bin with its name and the two shares."""

    name: str
    reference: float
    window: float


@dataclass(frozen=True, slots=True)
class Statistic:
    """One statistic: its value, and the marks to compare it with: (value, word, class)."""

    name: str
    value: float | None
    marks: tuple[tuple[float, str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Dot:
    """A value at a time; None where it is unknown."""

    at_ms: int
    value: float | None
    state: str


def bars_of(bins: Bins, kind: str) -> list[Bar]:
    """Return the bins by name. Bins of a number that cannot hold a value (two equal edges) are left out."""
    edges = [edge for edge in bins.edges if isinstance(edge, int | float)]
    if len(edges) != len(bins.edges) or len(bins.edges) == len(bins.window):
        names = [_category(str(edge), kind) for edge in bins.edges]
        return [Bar(*bar) for bar in zip(names, bins.reference, bins.window, strict=False)]
    texts = words.edges([float(edge) for edge in edges])
    names = [f"below {texts[0]}"] if texts else ["all values"]
    names += [f"{low} to {high}" for low, high in pairwise(texts)]
    names += [f"{texts[-1]} or more"] if texts else []
    bars = [Bar(*bar) for bar in zip(names, bins.reference, bins.window, strict=False)]
    same = [i for i, (low, high) in enumerate(pairwise(edges), 1) if low == high]
    return [bar for i, bar in enumerate(bars) if i not in same]


def numeric(bins: Bins, label: str) -> Html:
    """Return the picture of a number: the tenths of the reference, and the window in the same bins."""
    bars = bars_of(bins, "numeric")
    edges = list(dict.fromkeys(float(edge) for edge in bins.edges if isinstance(edge, int | float)))
    height, top, left = 116.0, 12.0, 34.0
    most = _ceiling(max([bar.reference for bar in bars] + [bar.window for bar in bars], default=0.0))
    slot = (WIDTH - left) / max(1, len(bars))

    def y(value: float) -> float:
        return top + (height - top) * (1 - value / most)

    parts = [_grid(y(value), left, words.share(value)) for value in (0.0, most / 2, most)]
    for i, bar in enumerate(bars):
        x = left + i * slot
        title = tag("title", f"{bar.name}: {words.share(bar.reference)} → {words.share(bar.window)}")
        parts.append(
            tag(
                "g",
                title,
                _rect("ref", x + slot * 0.08, y(bar.reference), slot * 0.84, height - y(bar.reference)),
                _rect("win", x + slot * 0.28, y(bar.window), slot * 0.44, height - y(bar.window)),
            )
        )
    texts = words.edges(edges)
    every = math.ceil((max(map(len, texts), default=0) * _LETTER + 4) / slot)
    for i, text in enumerate(texts, 1):
        x = left + i * slot
        parts.append(_line("tick", x, height, x, height + 4))
        if (i - 1) % every == 0:
            parts.append(_words(text, x, height + 15, "middle"))
    return _picture(height + 20, label, *parts)


def categories(bins: Bins, kind: str, label: str) -> Html:
    """Return a row for each category, the largest ones first if there are many."""
    bars = bars_of(bins, kind)
    rest: list[Bar] = []
    if len(bars) > MOST_CATEGORIES:
        ranked = sorted(bars, key=lambda bar: -max(bar.reference, bar.window))
        kept, rest = set(ranked[: MOST_CATEGORIES - 1]), ranked[MOST_CATEGORIES - 1 :]
        bars = [bar for bar in bars if bar in kept]
        bars.append(Bar(f"{len(rest)} others", sum(b.reference for b in rest), sum(b.window for b in rest)))
    row, left, right = 24.0, 112.0, 92.0
    most = max([bar.reference for bar in bars] + [bar.window for bar in bars], default=0.0) or 1.0
    width = WIDTH - left - right
    parts = []
    for i, bar in enumerate(bars):
        y = i * row
        parts.append(
            tag(
                "g",
                tag("title", f"{bar.name}: {words.share(bar.reference)} → {words.share(bar.window)}"),
                _words(_cut(bar.name, 18), left - 6, y + 16, "end"),
                _rect("ref", left, y + 3, width * bar.reference / most, row - 7),
                _rect("win", left, y + 8, width * bar.window / most, row - 17),
                _words(f"{words.share(bar.reference)} → {words.share(bar.window)}", WIDTH, y + 16, "end"),
            )
        )
    return _picture(max(row, len(bars) * row), label, *parts)


def statistics(rows: Sequence[Statistic], label: str) -> Html:
    """Return a bar for each statistic on one scale, with its null line or its limits. An unknown one has no bar."""
    row, left, right, top = 22.0, 62.0, 52.0, 14.0
    values = [r.value for r in rows if r.value is not None]
    marks = [mark[0] for r in rows for mark in r.marks]
    # a huge PSI must not push the limits into the corner: its bar ends at the border, and its number gives the value
    end = max(min(max(values, default=0.0) * 1.1, max(marks, default=1.0) * 4), max(marks, default=1.0) * 1.2)
    width = WIDTH - left - right
    parts: list[Html] = []
    named: set[str] = set()
    for i, r in enumerate(rows):
        y = top + i * row
        parts += [_words(r.name, left - 6, y + 14, "end"), _rect("rail", left, y + 4, width, row - 8)]
        if r.value is not None:
            off = r.value > end
            parts.append(_rect("win", left, y + 6, width * min(1.0, r.value / end), row - 12))
            text = f"{words.number(r.value)}{' ›' if off else ''}"
        else:
            text = "not known"
        parts.append(_words(text, WIDTH, y + 14, "end"))
        for value, word, kind in r.marks:
            x = left + width * value / end
            parts.append(_line(f"mark {kind}", x, y + 1, x, y + row - 1))
            if word not in named and kind != "null":
                # the smaller limit's name ends at its line, the larger one's begins at its line: they never overlap
                anchor, shift = ("start", -3) if named else ("end", 3)
                named.add(word)
                parts.append(_words(f"{word} {value:g}", x + shift, top - 4, anchor, f"small {kind}"))
    return _picture(top + len(rows) * row, label, *parts)


def timeline(dots: Sequence[Dot], span: tuple[int, int], marks: Sequence[tuple[float, str, str]], label: str) -> Html:
    """Return the effect over time with its limits; a gap where it is unknown."""
    height, top, left = 70.0, 8.0, 34.0
    known = [dot.value for dot in dots if dot.value is not None]
    most = max([*known, *(value * 1.15 for value, _, _ in marks)], default=0.0) or 1.0
    length = max(1, span[1] - span[0])

    def x(at_ms: int) -> float:
        return left + (WIDTH - left - 4) * (at_ms - span[0]) / length

    def y(value: float) -> float:
        return top + (height - top) * (1 - value / most)

    parts = [_grid(height, left, "0"), _words(f"{most:.2g}", left - 5, top + 4, "end")]
    parts += [_line(f"mark {kind}", left, y(value), WIDTH, y(value)) for value, _, kind in marks]
    for piece in _pieces(_thinned(dots)):
        points = [(x(dot.at_ms), y(dot.value or 0.0)) for dot in piece]
        if len(points) > 1:
            parts.append(tag("polyline", points=" ".join(f"{px:.1f},{py:.1f}" for px, py in points), class_="line"))
        if len(piece) == 1:
            parts.append(svg.circle(*points[0], 2, class_="dot"))
    for at, anchor, text in zip((left, (left + WIDTH) / 2, WIDTH), ("start", "middle", "end"),
                                words.axis_times(*span), strict=True):  # fmt: skip
        parts.append(_words(text, at, height + 14, anchor))
    return _picture(height + 18, label, *parts)


def strip(cells: Sequence[tuple[str, str]], label: str) -> Html:
    """Return a row of cells over time, each with (class, text), as wide as the page allows."""
    parts = [tag("rect", tag("title", text), x=i, y=0, width=0.94, height=1, class_=kind)
             for i, (kind, text) in enumerate(cells)]  # fmt: skip
    return tag(
        "svg",
        *parts,
        viewBox=f"0 0 {max(1, len(cells))} 1",
        preserveAspectRatio="none",
        role="img",
        aria_label=label,
        class_="strip",
    )


def _picture(height: float, label: str, *parts: Content) -> Html:
    return tag("svg", *parts, viewBox=f"0 0 {WIDTH} {height:g}", role="img", aria_label=label)


def _rect(kind: str, x: float, y: float, width: float, height: float) -> Html:
    return svg.rect(x, y, width, height, class_=kind)


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> Html:
    return svg.line(x1, y1, x2, y2, class_=kind)


def _grid(y: float, left: float, text: str) -> Html:
    return join(_line("grid", left, y, WIDTH, y), _words(text, left - 5, y + 3.5, "end"))


def _words(text: str, x: float, y: float, anchor: str, kind: str | None = None) -> Html:
    return svg.text(text, x, y, anchor, class_=kind)


def _cut(text: str, letters: int) -> str:
    return text if len(text) <= letters else f"{text[: letters - 1]}…"


def _category(name: str, kind: str) -> str:
    return name if kind != "boolean" else {"false": "no", "true": "yes"}.get(name.lower(), name)


def _ceiling(value: float) -> float:
    """Return the next round share above."""
    steps = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)
    return next((step for step in steps if value <= step), 1.0)


def _pieces(dots: Sequence[Dot]) -> list[list[Dot]]:
    """Return the runs of known values."""
    pieces: list[list[Dot]] = [[]]
    for dot in dots:
        if dot.value is None:
            pieces.append([])
        else:
            pieces[-1].append(dot)
    return [piece for piece in pieces if piece]


def _thinned(dots: Sequence[Dot]) -> list[Dot]:
    """Return at most MOST_COLUMNS values, each the largest of its neighbours: a short peak is not lost."""
    size = math.ceil(len(dots) / MOST_COLUMNS) or 1
    groups = [dots[i : i + size] for i in range(0, len(dots), size)]
    return [max(group, key=lambda dot: -1.0 if dot.value is None else dot.value) for group in groups]
