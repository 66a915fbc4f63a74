"""A made-up stream whose truth is known, and the drift engine's own path from its events to episodes.

Nothing here decides: events are drawn here, and counted, measured, judged and announced by the code that
runs in production. Kafka, clocks and files are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from drift_worker.alerting.confirmation import key_of
from drift_worker.alerting.episodes import Announcer, firing
from drift_worker.alerting.findings import judge
from drift_worker.alerting.limits import Confirm, Policy
from drift_worker.counts import aggregate
from drift_worker.counts.bins import Cells
from drift_worker.relations.measure import RelationMeasurer, Sides
from drift_worker.statistics.measure import Measurer
from schemas.alert import Alert
from schemas.bundle.inputs import Feature
from schemas.measurement import Measurement, Sample, Window
from schemas.reference import Reference
from schemas.timestamps import render

MINUTE_MS = 60_000
LENGTHS = {"15m": 15 * MINUTE_MS, "1h": 60 * MINUTE_MS, "24h": 1440 * MINUTE_MS}
POLICY = Policy(lengths=LENGTHS, confirm={"15m": Confirm(2, 3), "1h": Confirm(2, 3), "24h": Confirm(1, 1)})
START_MS = 1_795_305_600_000  # 2026-11-22T00:00:00Z
# What real tables hold: bell-shaped, skewed, heavy-tailed, whole, mostly zero, few values; two to fifty categories.
NUMERIC = ("normal",) * 5 + ("gamma",) * 3 + ("lognormal",) * 2 + ("months",) * 2 + ("spent",) * 2 + ("stars",)
SIZES = (2, 2, 3, 3, 4, 5, 6, 10, 20, 50)
FEATURES = tuple(Feature(name=f"n{i}_{kind}", kind="numeric", nullable=True) for i, kind in enumerate(NUMERIC)) + tuple(
    Feature(name=f"c{i}", kind="categorical", categories=tuple(f"v{j}" for j in range(size)), nullable=True)
    for i, size in enumerate(SIZES)
)
CATEGORIES = tuple(tuple(f.categories or ()) for f in FEATURES[len(NUMERIC) :])
_DRAW: dict[str, Callable[[np.random.Generator, int], NDArray[np.float64]]] = {
    "normal": lambda g, n: g.normal(50.0, 10.0, n),
    "gamma": lambda g, n: g.gamma(2.0, 30.0, n),
    "lognormal": lambda g, n: np.exp(g.normal(3.0, 1.0, n)),
    "months": lambda g, n: np.floor(72.0 * g.beta(0.7, 0.9, n)),
    "spent": lambda g, n: np.where(g.random(n) < 0.6, 0.0, np.round(g.gamma(1.5, 20.0, n), 2)),
    "stars": lambda g, n: g.choice(5, n, p=[0.05, 0.1, 0.2, 0.4, 0.25]) + 1.0,
}
_SHARES = [np.arange(size, 0, -1) ** 1.5 / (np.arange(size, 0, -1) ** 1.5).sum() for size in SIZES]
# One standard deviation of the first feature, whose drifts are spoken of in these units.
SD = 10.0


@dataclass
class Events:
    """n events. numeric: float64 (n, 15); codes: int32 (n, 10); scores: float64 (n,); customers: one name each.

    predicted: int32 (n,), the index of each predicted class; None unless the model has several.
    """

    numeric: NDArray[np.float64]
    codes: NDArray[np.int32]
    scores: NDArray[np.float64]
    customers: Sequence[str]
    predicted: NDArray[np.int32] | None = None

    def take(self, rows: NDArray[np.int64]) -> Events:
        """These rows, of the same customers."""
        names = [self.customers[row] for row in rows.tolist()]
        return Events(self.numeric[rows], self.codes[rows], self.scores[rows], names)


Drift = Callable[[np.random.Generator, Events], None]


def draw(generator: np.random.Generator, n: int, name: str = "c") -> Events:
    """N events of n different customers, without drift."""
    numeric = np.column_stack([_DRAW[kind](generator, n) for kind in NUMERIC])
    codes = np.column_stack([generator.choice(len(p), n, p=p) for p in _SHARES]).astype(np.int32)
    logit = 0.05 * (numeric[:, 0] - 50.0) + 0.4 * (codes[:, 0] == 0) - 0.01 * (numeric[:, 10] - 30.0)
    noise = generator.normal(0.0, 0.5, n)
    return Events(numeric, codes, 1.0 / (1.0 + np.exp(-(logit + noise))), [f"{name}{i}" for i in range(n)])


@dataclass
class Seen:
    """What came of a stream: measurements and alerts, in order, and the number of windows.

    significant: windows in which a test called a feature or the score significant.
    """

    windows: int = 0
    significant: int = 0
    measurements: list[Measurement] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)

    @property
    def pages(self) -> int:
        """Episodes opened, of either severity."""
        return sum(alert.status == "firing" and alert.sequence == 1 for alert in self.alerts)


class Stream:
    """Windows of one length against one reference, which all of them share."""

    def __init__(
        self, seed: int, n: int, length: str = "15m", policy: Policy = POLICY, sample: Events | None = None
    ) -> None:
        """`sample`: the reference; drawn, n rows of it, unless it is given."""
        self.generator = np.random.default_rng(seed)
        if sample is None:
            self.cells, self.measurer, self.relations, self.generator.bit_generator.state = _drawn(seed, n)
        else:
            self.cells, self.measurer, self.relations = _against(sample)
        self.hash = aggregate.CustomerHash(f"{seed:064x}")
        self._announcer = Announcer(policy, "simulated", "docs/runbook.md")
        self._length, self._policy = length, policy
        self._before: tuple[NDArray[np.int64], int] | None = None
        self.vectors: dict[int, NDArray[np.int64]] = {}  # the last window's counts
        self._end_ms = START_MS
        self.seen = Seen()
        self.past = self.score_past = self.relation_past = None
        if policy.learns(length):
            self.past = self.measurer.past_of_features(LENGTHS[length])
            self.score_past = self.measurer.past_of_score(LENGTHS[length])
            self.relation_past = self.relations.past(LENGTHS[length])

    def run(self, windows: int, m: int, drift: Drift | None = None) -> Seen:
        """This number of windows of m events of new customers, all with this drift."""
        for _ in range(windows):
            events = draw(self.generator, m, name=f"{self._end_ms}-")
            if drift is not None:
                drift(self.generator, events)
            self.close(events)
        return self.seen

    def close(self, events: Events) -> Measurement:
        """One window with these events."""
        m = len(events.scores)
        panes, hashes = np.zeros(m, dtype=np.int64), self.hash(events.customers)
        self.vectors = vectors = {}
        for _, series, part in self._count(panes, events, hashes):
            vectors[series] = np.zeros(aggregate.size_of(self.cells, series), dtype=np.int64)
            part.add_to(vectors[series])
        features = self.measurer.features(vectors, past=self.past)
        score = self.measurer.score(vectors, past=self.score_past)
        start, self._end_ms = self._end_ms, self._end_ms + LENGTHS[self._length]
        measured = Measurement(
            model="simulated",
            model_version="1.0.0",
            reference_sha256="0" * 64,
            window=Window(self._length, render(start), render(self._end_ms)),
            complete=True,
            missing_partitions=[],
            sample=Sample(events=m, late=0, refused=0),
            features=features,
            score=score,
            relations=self.relations.measure(Sides(vectors, vectors, features, score, m), self.relation_past),
        )
        sketch, overlap = vectors[aggregate.CUSTOMERS], 0.0
        if self._before is not None:
            overlap = aggregate.overlap(sketch, self._before[0]) / (m * self._before[1])
        self._before = (sketch, m)
        judged, findings = judge(self._policy, measured, self.measurer.tests, overlap)
        alerts, _ = self._announcer.step(self._end_ms, [(judged, findings)])
        if self.past is not None and self.score_past is not None:
            self.measurer.learn_features(self.past, self._announcer.stirring())
            self.measurer.learn_score(self.score_past, self._announcer.stirring())
        if self.relation_past is not None:
            self.relation_past.learn(calm=not self._announcer.relations_stir())
        self.seen.windows += 1
        self.seen.significant += any(f.significant for f in (*judged.features.values(), judged.score))
        self.seen.measurements = [*self.seen.measurements[-2:], judged]  # the last three: a month does not fit
        self.seen.alerts += alerts
        return judged

    @property
    def firing(self) -> set[str | None]:
        """Features whose episode is open, None for the score."""
        return {key_of(name)[1] for name in firing(self._announcer.decisions)}

    def _count(
        self, panes: NDArray[np.int64], events: Events, hashes: NDArray[np.uint64]
    ) -> Iterator[tuple[int, int, aggregate.Sparse]]:
        yield from aggregate.count_events(self.cells, panes, events.numeric, events.codes, hashes)
        yield from aggregate.count_scores(self.cells, panes, events.scores, events.scores >= 0.5, hashes)


@lru_cache(maxsize=32)
def _drawn(seed: int, n: int) -> tuple[Cells, Measurer, RelationMeasurer, Mapping[str, Any]]:
    """What is known of a drawn reference, and the generator's state behind it: many rows begin with the same ones."""
    generator = np.random.default_rng(seed)
    return (*_against(draw(generator, n)), generator.bit_generator.state)


def _against(sample: Events) -> tuple[Cells, Measurer, RelationMeasurer]:
    reference = Reference(sample.numeric, sample.codes, sample.scores, np.zeros(len(SIZES), dtype=np.int64))
    cells = Cells(FEATURES, CATEGORIES, reference)
    return cells, Measurer(cells, reference, min_events=500), RelationMeasurer(cells, 500)


# -- drifts -----------------------------------------------------------------------------------------------------------


def shift(sd: float) -> Drift:
    """The first feature of every event, by this number of standard deviations."""

    def apply(_: np.random.Generator, events: Events) -> None:
        events.numeric[:, 0] += sd * SD

    return apply


def everything(sd: float) -> Drift:
    """Every feature, the categories too, by this number of standard deviations of an underlying normal variable.

    A value at quantile Φ(z) becomes the one at Φ(z + sd). So the shift is the same for a bell-shaped feature, a skewed
    one, one that is mostly zero, and one of three words. In units of the feature's own deviation it would not be. 0.15
    of a lognormal's, which its tail dominates, moves the median by a third; 0.15 of a whole number's makes every value
    a new one.
    """

    def moved(generator: np.random.Generator, column: NDArray[Any]) -> NDArray[Any]:
        # every event keeps its rank, ties in any order: what goes together still does, and the score with its features
        order = np.lexsort((generator.random(len(column)), column))
        rank = np.empty(len(column))
        rank[order] = np.arange(len(column))
        at = ndtr(ndtri((rank + 0.5) / len(column)) + sd) * len(column)
        return np.sort(column)[at.astype(np.int64)]

    def apply(generator: np.random.Generator, events: Events) -> None:
        for values in (events.numeric, events.codes):
            for i in range(values.shape[1]):
                values[:, i] = moved(generator, values[:, i])

    return apply


def category_loses(points: float) -> Drift:
    """The share of the third categorical feature's first category, to its second."""

    def apply(generator: np.random.Generator, events: Events) -> None:
        column = events.codes[:, 2]
        moved = (column == 0) & (generator.random(len(column)) < points / _SHARES[2][0])
        column[moved] = 1

    return apply


def unseen(share: float) -> Drift:
    """A category that the reference does not know, in the fifth categorical feature."""

    def apply(generator: np.random.Generator, events: Events) -> None:
        events.codes[generator.random(len(events.scores)) < share, 4] = -2

    return apply


def missing(share: float) -> Drift:
    """The first feature left out."""

    def apply(generator: np.random.Generator, events: Events) -> None:
        events.numeric[generator.random(len(events.scores)) < share, 0] = np.nan

    return apply


def damage(
    column: int, change: Callable[[NDArray[np.float64], NDArray[np.bool_]], NDArray[np.float64]], share: float
) -> Drift:
    """One number by `change` of its values and of which of them are among this share."""

    def apply(generator: np.random.Generator, events: Events) -> None:
        values = events.numeric[:, column]
        events.numeric[:, column] = change(values, generator.random(len(values)) < share)

    return apply
