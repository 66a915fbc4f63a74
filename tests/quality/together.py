"""Features that depend on each other, and movements that no feature alone shows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from quality.engine import Engine
from quality.stream import Events

from drift_worker.counts import aggregate
from drift_worker.counts.bins import Cells
from schemas.bundle.inputs import Feature
from schemas.reference import Reference

SIZES = (4, 4, 2, 6, 30)
NAMES = ("income", "age", "usage", "visits", "spent", "sensor")
FEATURES = tuple(Feature(name=name, kind="numeric", nullable=True) for name in NAMES) + tuple(
    Feature(name=name, kind="categorical", categories=tuple(f"{name}{j}" for j in range(size)), nullable=True)
    for name, size in zip(("region", "plan", "channel", "device", "city"), SIZES, strict=True)
)
_FACTOR = np.linalg.cholesky(0.5 ** np.abs(np.subtract.outer(np.arange(4), np.arange(4))))
_DEVICES = np.array([0.3, 0.25, 0.15, 0.10, 0.10, 0.10])
_CITIES = np.arange(30, 0, -1) ** 1.5
Change = Callable[[np.random.Generator, Events], None]


def scores(generator: np.random.Generator, numeric: NDArray[np.float64]) -> NDArray[np.float64]:
    """What a model would say of income, age and visits."""
    known = np.nan_to_num(numeric)
    logit = -1 + 0.8 * known[:, 0] + 0.5 * known[:, 1] - 0.2 * known[:, 3] + 0.3 * generator.normal(size=len(numeric))
    odds: NDArray[np.float64] = 1.0 / (1.0 + np.exp(-logit))
    return odds


def draw(generator: np.random.Generator, n: int) -> Events:
    """N new customers: four numbers that are correlated, a plan that follows the region."""
    x = np.empty((n, 6))
    x[:, :4] = generator.normal(size=(n, 4)) @ _FACTOR.T
    x[:, 3] = np.rint(2.0 + 1.5 * x[:, 3]).clip(0)
    x[:, 4] = np.where(generator.random(n) < 0.6, 0.0, np.round(generator.gamma(1.5, 20.0, n), 2))
    x[:, 5] = generator.normal(20.0, 3.0, n)
    region = generator.integers(0, 4, n)
    plan = np.where(generator.random(n) < 0.6, region, generator.integers(0, 4, n))
    device, city = generator.choice(6, n, p=_DEVICES), generator.choice(30, n, p=_CITIES / _CITIES.sum())
    x[:, 5] += 1.2 * (device == 0)
    codes = np.column_stack([region, plan, generator.random(n) < 0.4, device, city]).astype(np.int32)
    return Events(x, codes, scores(generator, x), [])


def _segment(_: np.random.Generator, events: Events) -> None:
    events.numeric[events.codes[:, 3] == 4, 2] += 2.0


def _rotated(generator: np.random.Generator, events: Events) -> None:
    events.numeric[:, 1] *= -1.0
    events.scores[:] = scores(generator, events.numeric)


def _decoupled(generator: np.random.Generator, events: Events) -> None:
    events.numeric[:, 2] = generator.permutation(events.numeric[:, 2])


def _relabelled(_: np.random.Generator, events: Events) -> None:
    events.codes[:, 0] = (events.codes[:, 0] + 2) % 4


def _shuffled(generator: np.random.Generator, events: Events) -> None:
    events.scores[:] = generator.permutation(events.scores)


#: Name → what is found: its kind, the change, and a feature that it names.
DRIFTS: dict[str, tuple[str, Change, str]] = {
    "a segment of 10 % by 2 sd": ("segment", _segment, "usage"),
    "two features rotated": ("correlation", _rotated, "age"),
    "a feature decoupled": ("correlation", _decoupled, "usage"),
    "categories of equal shares relabelled": ("association", _relabelled, "region"),
    "the score shuffled among customers": ("score", _shuffled, "score"),
}


def _stuck(_: np.random.Generator, events: Events) -> None:
    events.numeric[:, 5] = 21.5


def _in_cents(_: np.random.Generator, events: Events) -> None:
    events.numeric[:, 4] *= 100.0


def _swapped(_: np.random.Generator, events: Events) -> None:
    plan = events.codes[:, 1].copy()
    events.codes[plan == 0, 1], events.codes[plan == 1, 1] = 1, 0


#: One movement each, which is one alert.
MOVEMENTS: dict[str, Change] = {
    "a sensor is stuck": _stuck,
    "another unit": _in_cents,
    "two categories swapped": _swapped,
    "a segment of 10 % by 2 sd": _segment,
}


def everywhere(_: np.random.Generator, events: Events) -> None:
    """A marginal alone: one number by half a standard deviation, for everybody."""
    events.numeric[:, 2] += 0.5


def mix(generator: np.random.Generator, events: Events) -> None:
    """A marginal alone: one device gains about 8 points, and the sensor moves with it."""
    other = draw(generator, len(events.scores))
    devices = np.flatnonzero(other.codes[:, 3] == 0)
    rows = np.flatnonzero(generator.random(len(events.scores)) < 0.11)[: len(devices)]
    for own, new in ((events.numeric, other.numeric), (events.codes, other.codes), (events.scores, other.scores)):
        own[rows] = new[devices[: len(rows)]]


def cells_of(rows: Events) -> Cells:
    """The cells of a reference."""
    categories = [tuple(f.categories or ()) for f in FEATURES if f.kind != "numeric"]
    reference = Reference(rows.numeric, rows.codes, rows.scores, np.zeros(len(categories), dtype=np.int64))
    return Cells(FEATURES, categories, reference)


class Stream:
    """Quarter hours of such customers against one reference of 7,000."""

    def __init__(self, seed: int, n: int = 7000) -> None:
        self.generator = np.random.default_rng([15, seed])
        self.engine = Engine(FEATURES, draw(self.generator, n))

    def _events(self, m: int, change: Change | None) -> tuple[Events, NDArray[np.uint64]]:
        events = draw(self.generator, m)
        if change is not None:
            change(self.generator, events)
        return events, self.generator.integers(0, 1 << 63, m).astype(np.uint64) * np.uint64(2)

    def quarter(self, m: int, change: Change | None = None) -> bool:
        """One quarter hour; whether a relation or a segment was announced in it."""
        alerts = self.engine.quarter(*self._events(m, change))
        return any(a.status == "firing" and a.labels["alertname"] in {"RelationDrift", "SegmentDrift"} for a in alerts)

    def count(self, m: int, change: Change | None = None) -> dict[int, NDArray[np.int64]]:
        """The vectors of one window, which nobody judges."""
        events, hashes = self._events(m, change)
        panes, cells, vectors = np.zeros(m, dtype=np.int64), self.engine.cells, {}
        for _, series, part in (
            *aggregate.count_events(cells, panes, events.numeric, events.codes, hashes),
            *aggregate.count_scores(cells, panes, events.scores, events.scores >= 0.5, hashes),
        ):
            vectors[series] = np.zeros(aggregate.size_of(cells, series), dtype=np.int64)
            part.add_to(vectors[series])
        return vectors
