"""A run → docs/benchmark.svg: events per second as bars, event age as spans from p50 to p99. Pure; no library."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench.contestants import Contestant
from bench.run import Run
from drift_worker.page import svg
from drift_worker.page.markup import Html
from drift_worker.page.svg import GREY, INK, RULE

WIDTH, LEFT, RIGHT, LINE = 860, 250, 90, 22
COLOURS = {"ours": "#0969da", "copy": "#afb8c1", "peer": "#bf8700"}
AGE_RATE = 1_000
AGE_FROM_MS, AGE_TO_MS = 1.0, 10_000.0


def as_svg(run: Run) -> str:
    """Return the picture, a whole SVG document."""
    measured = [c for c in run.contestants if c.kind in COLOURS and run.figures[c.name].rate is not None]
    measured.sort(key=lambda c: -(run.figures[c.name].rate or 0))
    body, y = _throughput(run, measured)
    if AGE_RATE in run.plan.rates:
        more, y = _event_age(run, measured, y + 30)
        body += more
    legend: list[Html] = []
    for i, (kind, text) in enumerate((("ours", "Driftline"), ("copy", "copy without a model"), ("peer", "peers"))):
        x = LEFT + i * 180
        legend += [_rect(x, y + 12, 12, 12, COLOURS[kind]), _text(x + 18, y + 22, text, GREY)]
    y += 40
    return svg.document("Events per second and event age, one run", WIDTH, y, [*body, *legend])


def _throughput(run: Run, contestants: Sequence[Contestant]) -> tuple[list[Html], int]:
    y = 28
    out = [_text(16, y, f"Events per second on a backlog, one process ({run.date})", INK, weight=600)]
    y += 14
    largest = max((run.figures[c.name].rate or 0 for c in contestants), default=1)
    for contestant in contestants:
        rate = run.figures[contestant.name].rate or 0
        length = (WIDTH - LEFT - RIGHT) * rate / largest
        out += [
            _text(LEFT - 8, y + 15, contestant.title, INK, anchor="end"),
            _rect(LEFT, y + 3, max(1.0, length), LINE - 6, COLOURS[contestant.kind]),
            _text(LEFT + length + 6, y + 15, f"{rate:,.0f}", GREY),
        ]
        y += LINE
    return out, y


def _event_age(run: Run, contestants: Sequence[Contestant], y: int) -> tuple[list[Html], int]:
    out = [
        _text(16, y, f"Event age at {AGE_RATE:,} events/s, from p50 to p99, milliseconds (log scale)", INK, weight=600)
    ]
    y += 14
    bottom = y + LINE * len(contestants)
    for decade in range(round(math.log10(AGE_TO_MS / AGE_FROM_MS)) + 1):
        ms = AGE_FROM_MS * 10**decade
        x = _age_x(ms)
        out += [
            svg.line(x, y, x, bottom + 4, stroke=RULE),
            _text(x, bottom + 18, f"{ms:,.0f}", GREY, anchor="middle"),
        ]
    for contestant in contestants:
        age = run.figures[contestant.name].age(AGE_RATE)
        out.append(_text(LEFT - 8, y + 15, contestant.title, INK, anchor="end"))
        if age is None or age.p50_ms is None or age.p99_ms is None:
            why = "does not keep up" if run.figures[contestant.name].error is None else "not measured"
            out.append(_text(LEFT + 6, y + 15, why, GREY))
        else:
            start, end = _age_x(age.p50_ms), _age_x(age.p99_ms)
            out += [
                _rect(start, y + 3, max(2.0, end - start), LINE - 6, COLOURS[contestant.kind]),
                _text(end + 6, y + 15, f"{age.p50_ms:,.0f} – {age.p99_ms:,.0f}", GREY),
            ]
        y += LINE
    return out, bottom + 24


def _age_x(ms: float) -> float:
    share = math.log10(min(max(ms, AGE_FROM_MS), AGE_TO_MS) / AGE_FROM_MS) / math.log10(AGE_TO_MS / AGE_FROM_MS)
    return LEFT + (WIDTH - LEFT - RIGHT) * share


def _rect(x: float, y: float, width: float, height: float, colour: str) -> Html:
    return svg.rect(x, y, width, height, fill=colour)


def _text(x: float, y: float, text: str, colour: str, anchor: str = "start", weight: int = 400) -> Html:
    return svg.text(text, x, y, anchor, fill=colour, font_weight=weight)
