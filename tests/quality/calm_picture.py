"""Three streams without drift and one with, as the decision sees them → docs/calm-past.svg.

PYTHONPATH=tests python -m quality.calm_picture    (numbers are those of production: `quality.natural`)
"""

from __future__ import annotations

import sys
from pathlib import Path

from quality import natural

from drift_worker.page import svg
from drift_worker.page.markup import Html
from drift_worker.page.svg import GREY, INK, RULE

WIDTH, LEFT, HEIGHT, GAP = 860, 16, 96, 44
QUIET, EXCEEDS, CHANGED = "#8c959f", "#bf8700", "#cf222e"
LIMIT, HIGHEST = 0.1, 0.35
DAYS = 2
PANELS = (
    ("batches", "region", False, "Batches of 50 customers of one region: the effect on `region`"),
    ("breathing", "region", False, "The mix of regions breathes: the effect on `region`"),
    ("offset", "age", False, "Harmlessly off by 0.2 sd: the effect on `age`"),
    ("batches", "age", True, "Batches, and 0.3 sd on `age` from hour 33 on"),
)


def _panel(name: str, feature: str, drifts: bool, title: str, top: float) -> list[Html]:
    """Every quarter hour as a dot: below the limit, above it and no change, or above it and a change."""
    stream = natural.Days(name, 1)
    quarters = natural.DAY * DAYS
    step = (WIDTH - 2 * LEFT) / quarters
    base = top + HEIGHT

    def y(effect: float) -> float:
        return base - HEIGHT * min(effect, HIGHEST) / HIGHEST

    body = [
        svg.text(title, LEFT, top - 10, "start", fill=INK, font_weight=600),
        svg.line(LEFT, base, WIDTH - LEFT, base, stroke=RULE),
        svg.line(LEFT, y(LIMIT), WIDTH - LEFT, y(LIMIT), stroke=GREY),
        svg.text("limit 0.1", WIDTH - LEFT, y(LIMIT) - 4, "end", fill=GREY),
    ]
    for at in range(quarters):
        stream.run(1, 0.3 if drifts and at >= 33 * 4 else 0.0)
        effect, changed = stream.engine.newest[feature]
        colour = QUIET if effect < LIMIT else CHANGED if changed else EXCEEDS
        body.append(svg.rect(LEFT + step * at, y(effect) - 2, max(2.0, step - 1), 4, fill=colour))
    return body


def main() -> None:
    """Write the picture."""
    body: list[Html] = []
    for i, (name, feature, drifts, title) in enumerate(PANELS):
        body += _panel(name, feature, drifts, title, 34 + i * (HEIGHT + GAP))
    bottom = 34 + len(PANELS) * (HEIGHT + GAP)
    for x, colour, text in (
        (LEFT, QUIET, "below the limit"),
        (LEFT + 180, EXCEEDS, "above it, as this stream is anyway: no finding"),
        (LEFT + 540, CHANGED, "above it, and a change: a finding"),
    ):
        body += [svg.rect(x, bottom - 12, 10, 10, fill=colour), svg.text(text, x + 16, bottom - 3, "start", fill=INK)]
    title = "The effect in quarter hours of two days, with the limit, and which of them are findings"
    Path("docs/calm-past.svg").write_text(svg.document(title, WIDTH, bottom + 14, body), encoding="utf-8")
    sys.stdout.write("docs/calm-past.svg\n")


if __name__ == "__main__":
    main()
