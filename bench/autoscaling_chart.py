"""A simulated day → docs/autoscaling.svg: load, and for each rule replicas, rebalances and event age. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from drift_worker.page import svg
from drift_worker.page.markup import Html, tag
from drift_worker.page.svg import GREY, INK, RULE

WIDTH, LEFT, RIGHT = 860, 60, 20
LOAD_HEIGHT, REPLICAS_HEIGHT, AGE_HEIGHT, GAP = 70, 70, 60, 46
BLUE, ORANGE = "#0969da", "#bf3989"
# The axis of event ages: logarithmic, because one rule has seconds and another has minutes.
AGE_FROM_S, AGE_TO_S = 1.0, 120.0
HOURS = 24


class Outcome(Protocol):
    """What a picture shows of a rule (bench.autoscaling.Outcome)."""

    replicas: NDArray[np.int64]
    rebalances: int
    age_p99_s: float
    ages_p99_s: NDArray[np.float64]


def as_svg(load: NDArray[np.float64], outcomes: Mapping[str, Outcome]) -> str:
    """Return the picture, a whole SVG document. load: events per second, a number for each second of the day."""
    y = 34
    body = [_title(y - 12, f"Events per second of a day, at most {load.max():,.0f}")]
    body += _curve([float(value) for value in load[::300]], y, LOAD_HEIGHT, 0.0, float(load.max()), GREY)
    y += LOAD_HEIGHT + GAP
    most = max(int(outcome.replicas.max()) for outcome in outcomes.values())
    for name, outcome in outcomes.items():
        body.append(_title(y - 12, f"{name}: {outcome.rebalances} rebalances, event age p99 {outcome.age_p99_s:.0f} s"))
        body += _steps(outcome.replicas, y, most)
        y += REPLICAS_HEIGHT + 10
        body += _ages(outcome.ages_p99_s, y)
        y += AGE_HEIGHT + GAP
    y -= GAP - 20
    body += [
        svg.text(f"{hour}:00", _x(hour / HOURS), y, "middle", fill=GREY, font_size=11) for hour in range(0, HOURS, 3)
    ]
    return svg.document("Scaling over a day, computed", WIDTH, y + 10, body)


def _steps(replicas: NDArray[np.int64], y: float, most: int) -> list[Html]:
    """Return the number of replicas as steps, with a mark under each rebalance."""
    bottom = y + REPLICAS_HEIGHT
    changes = [0, *(np.flatnonzero(np.diff(replicas)) + 1).tolist(), len(replicas)]
    body = [_label(f"{most}", y + 4), _label("replicas", y + 20), _rule(bottom)]
    for start, end in pairwise(changes):
        height = REPLICAS_HEIGHT * float(replicas[start]) / most
        x = _x(start / len(replicas))
        body.append(svg.rect(x, bottom - height, _x(end / len(replicas)) - x, height, fill=BLUE, fill_opacity=0.35))
    body += [
        svg.line(_x(at / len(replicas)), bottom, _x(at / len(replicas)), bottom + 6, stroke=INK) for at in changes[1:-1]
    ]
    return body


def _ages(ages_s: NDArray[np.float64], y: float) -> list[Html]:
    bottom = y + AGE_HEIGHT
    body = [_label("p99", y + 20), _rule(bottom)]
    for seconds in (1, 10, 100):
        at = bottom - AGE_HEIGHT * _age_share(seconds)
        body += [svg.line(LEFT, at, WIDTH - RIGHT, at, stroke=RULE), _label(f"{seconds} s", at + 4)]
    shares = [_age_share(float(age)) for age in ages_s]
    return body + _curve(shares, y, AGE_HEIGHT, 0.0, 1.0, ORANGE)


def _age_share(seconds: float) -> float:
    """Return how high an age is on its axis, 0 to 1; NaN stays NaN."""
    if math.isnan(seconds):
        return seconds
    return math.log(min(max(seconds, AGE_FROM_S), AGE_TO_S) / AGE_FROM_S) / math.log(AGE_TO_S / AGE_FROM_S)


def _curve(values: Sequence[float], y: float, height: float, low: float, high: float, colour: str) -> list[Html]:
    """Return the values as a curve, without those that are not known."""
    points = [
        (_x(i / max(1, len(values) - 1)), y + height * (1 - (value - low) / (high - low)))
        for i, value in enumerate(values)
    ]
    known = [(x, at) for x, at in points if not math.isnan(at)]
    path = " ".join(f"{svg.tenths(x)},{svg.tenths(at)}" for x, at in known)
    return [_rule(y + height), tag("polyline", points=path, fill="none", stroke=colour, stroke_width=1.5)]


def _x(share: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * share


def _title(y: float, text: str) -> Html:
    return svg.text(text, 16, y, fill=INK, font_weight=600)


def _label(text: str, y: float) -> Html:
    return svg.text(text, LEFT - 6, y, "end", fill=GREY, font_size=11)


def _rule(y: float) -> Html:
    return svg.line(LEFT, y, WIDTH - RIGHT, y, stroke=RULE)
