"""Window × reference → what a measurement holds of relations. `alerting.relation_findings` decides what is too much."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from drift_worker.counts import aggregate
from drift_worker.counts.bins import CategoryCells, Cells
from drift_worker.counts.products import COLUMNS, LARGEST, UNIT, Vector
from drift_worker.relations.change import (
    ASSOCIATION,
    CORRELATION,
    KINDS,
    SCORE,
    SEGMENT,
    Changes,
    RelationTests,
    Values,
)
from drift_worker.relations.matrix import Matrix, Moments
from drift_worker.relations.past import RelationPast, Seen
from drift_worker.statistics.calm_past import LEAST
from schemas.measurement import FeatureMeasurement, Relation, Relations

NOT_ENOUGH = "not_enough_data"
#: Some events were counted by a version that counts no products.
IN_PART = "counted_in_part"
#: Effects from which on a movement is listed: four fifths of the limits of `alerting.limits`.
LISTED = {CORRELATION: 0.16, ASSOCIATION: 0.16, SEGMENT: 0.4, SCORE: 0.16}
_MOST_LISTED = 60
_SURE = math.log10(0.2)
#: A number whose variance left these multiples of the reference's has moved by itself, or broke.
_VARIANCE = (0.25, 4.0)
#: The stand-in's: where customers differ less, the score follows it less.
_STAND_IN_VARIANCE = (0.5, 2.0)
#: Missing values that came or went, as a share: what is missing has no relations.
_MISSING = 0.05
#: Predictions may lack this share of the events, or exceed them by it.
_ANSWERED = 0.02
# Of a standard error of Fisher's transformation: the sketch's columns are as good as so many pairs of values.
_OF_COLUMNS = 1.0 / (COLUMNS - 3)
_MOST_R = 0.999

Floats = NDArray[np.float64]
Window = Mapping[int, Vector]


@dataclass(frozen=True, slots=True)
class Sides:
    """The two sides of one window: the vectors by series, and how the features and the score were measured."""

    features: Window
    score: Window
    measured: Mapping[str, FeatureMeasurement]
    measured_score: FeatureMeasurement | None
    #: Events of the window.
    events: int
    #: How many independent events are enough, if other than DRIFT_MIN_EVENTS.
    least: float | None = None


@dataclass(frozen=True, slots=True)
class _Score:
    """How the score follows its stand-in."""

    r: float
    #: Its standard error, by Fisher's transformation.
    error: float

    @property
    def fisher(self) -> float:
        return math.atanh(self.r)


class RelationMeasurer:
    """Measures the relations of windows against one reference."""

    def __init__(self, cells: Cells, min_events: int) -> None:
        self._cells = cells
        self._min_events = min_events
        self._names = [feature.name for feature in cells.features]

    @cached_property
    def _known(self) -> _Known | None:
        """What is known of the reference; None if it keeps no relation. It takes a second for 10,000 rows."""
        return _Known.of(self._cells) if self._cells.products.size else None

    @property
    def kept(self) -> list[str]:
        """Return the features whose relations are counted."""
        return [self._names[series] for series in self._cells.products.series]

    @property
    def left_out(self) -> list[str]:
        """Return the features whose relations would need more than the most sums."""
        return [name for name in self._names if name not in set(self.kept)] if self.kept else self._names

    def past(self, length_ms: int, vector: Vector | None = None) -> RelationPast:
        """Return the calm past in windows of one length, empty or as `vector` holds it."""
        known = self._known
        if known is None:
            return RelationPast(0, np.zeros(0, dtype=np.intp), np.zeros(0), length_ms, vector)
        return RelationPast(self._cells.products.size, known.group, known.df, length_ms, vector)

    def measure(self, sides: Sides, past: RelationPast | None = None) -> Relations | None:
        """Return the relations of a window; None if this reference keeps none."""
        known = self._known
        if known is None:
            return None
        if past is not None:
            past.note(None)
        common = Relations(tests=known.tests.number + 1, learns=past is not None)
        sums = sides.features.get(aggregate.PRODUCTS)
        effective = self._effective(sides)
        if sums is None or effective is None:
            return replace(common, reason=NOT_ENOUGH if effective is None else IN_PART)
        events = int(sums[0])
        if events != sides.events:
            return replace(common, events=events, reason=IN_PART)
        now = known.matrix.moments(sums)
        usable = self._usable(known, now, sides)
        score = self._score(known, now, sides)
        values = known.tests.values(now)
        changes = self._changes(known, values, effective, known.values, known.moments.rows, usable)
        full = _with_score(changes, score, known.score, 1.0 / known.moments.rows)
        against = None
        if past is not None and past.known:
            windows, mean = past.score
            before = min(_MOST_R, max(-_MOST_R, math.tanh(mean))) if windows >= LEAST else None
            of_past = known.tests.values(known.matrix.moments(past.sums))
            moved = self._changes(known, values, effective, of_past, past.effective, usable)
            noise = (_OF_COLUMNS + 1.0 / effective) / max(1, windows)
            against = _with_score(moved, score, before, noise)
        listed = self._listed(known, full, past, against)
        if past is not None:
            past.note(Seen(sums, effective, against, None if score is None else score.fisher))
        return replace(
            common,
            events=events,
            effective=effective,
            largest=_largest(known, full),
            moved=listed,
        )

    def _effective(self, sides: Sides) -> float | None:
        """Return as how many independent events the window counts: as the feature that repeats most.

        None: too few. At least one feature must have enough, and half as many must remain.
        """
        measured = sides.measured.values()
        shares = [one.effective / one.events for one in measured if one.effective and one.events]
        effective = min(shares, default=0.0) * sides.events
        enough = any(one.reason is None for one in measured) and effective >= self._least(sides) / 2
        return effective if enough else None

    def _least(self, sides: Sides) -> float:
        return self._min_events if sides.least is None else sides.least

    def _usable(self, known: _Known, now: Moments, sides: Sides) -> NDArray[np.bool_]:
        """Return by block of columns whether relations of that feature mean something in this window."""
        found = np.ones(int(known.tests.block.max()) + 1, dtype=np.bool_)
        for block, series in enumerate(self._cells.products.series, start=1):
            one = sides.measured.get(self._names[series])
            if one is None or one.reason is not None or one.quality is not None or one.missing_ratio is None:
                found[block] = False
                continue
            found[block] = abs(one.missing_ratio - (one.reference_missing_ratio or 0.0)) < _MISSING
        numbers = np.arange(1, known.matrix.numbers + 1)
        ratio = now.variance[numbers] / np.maximum(known.moments.variance[numbers], 1e-9)
        found[numbers] &= (ratio >= _VARIANCE[0]) & (ratio <= _VARIANCE[1])
        return found

    @staticmethod
    def _changes(
        known: _Known, now: Values, effective: float, before: Values, rows: float, usable: NDArray[np.bool_]
    ) -> Changes:
        tests = known.tests
        found = tests.compare(now, effective, before, rows)
        used = usable[tests.block[tests.first]] & usable[tests.block[tests.second]]
        return Changes(
            found.before,
            found.now,
            np.where(used, found.effect, 0.0),
            np.where(used, found.z, 0.0),
            found.made & used,
        )

    def _score(self, known: _Known, now: Moments, sides: Sides) -> _Score | None:
        """Return how the score follows its stand-in; None where too few events have a prediction so far."""
        one, products = sides.measured_score, self._cells.products
        needed = (
            (sides.features, aggregate.STAND_IN),
            (sides.features, aggregate.CUSTOMERS),
            (sides.score, aggregate.SCORES),
            (sides.score, aggregate.SCORED_CUSTOMERS),
        )
        if one is None or one.effective is None or any(series not in side for side, series in needed):
            return None
        if one.effective < self._least(sides) or abs(one.events - sides.events) > _ANSWERED * sides.events:
            return None
        columns = now.products[: known.used, : known.used]
        weights = products.coefficients.astype(np.float64)
        mean = float(weights @ now.mean[known.kept])
        variance = float(weights @ columns[np.ix_(known.kept, known.kept)] @ weights) - mean * mean
        ratio = variance / products.scale[1] ** 2
        if not _STAND_IN_VARIANCE[0] <= ratio <= _STAND_IN_VARIANCE[1]:
            return None
        stand_in = np.clip((mean - products.scale[0]) * UNIT / products.scale[1], -LARGEST, LARGEST)
        values = self._cells.score.values(sides.score[aggregate.SCORE])
        score = float(values @ self._cells.score_table[:-1].astype(np.float64)) / max(1, one.events)
        a = sides.features[aggregate.STAND_IN] - stand_in * _folded(sides.features[aggregate.CUSTOMERS])
        b = sides.score[aggregate.SCORES] - score * _folded(sides.score[aggregate.SCORED_CUSTOMERS])
        size = math.sqrt(float(a @ a) * float(b @ b))
        r = float(np.clip(float(a @ b) / size, -_MOST_R, _MOST_R)) if size > 0.0 else 0.0
        return _Score(r, math.sqrt(_OF_COLUMNS + 1.0 / one.effective))

    def _listed(
        self, known: _Known, full: Changes, past: RelationPast | None, against: Changes | None
    ) -> list[Relation]:
        log_p = full.log10_p
        size = np.abs(full.effect)
        limit = _SURE - math.log10(len(log_p))
        chosen = np.flatnonzero(full.made & (size >= known.listed) & (log_p <= limit))
        chosen = chosen[np.argsort(-(size / known.listed)[chosen], kind="stable")][:_MOST_LISTED]
        tops = [int(np.argmax(np.where(full.made & (known.kind == kind), size, -1.0))) for kind in range(len(KINDS))]
        tops = [at for kind, at in enumerate(tops) if full.made[at] and known.kind[at] == kind]
        by_past = phi = None
        if past is not None and against is not None:
            by_past, phi = past.log10_p(against)
        found = []
        for at in dict.fromkeys([*chosen.tolist(), *tops]):
            compared = by_past is not None and against is not None and bool(against.made[at])
            features, categories = self._named(known, at)
            found.append(
                Relation(
                    kind=KINDS[int(known.kind[at])],
                    features=features,
                    categories=categories,
                    before=_digits(full.before[at]),
                    now=_digits(full.now[at]),
                    effect=_digits(full.effect[at]),
                    log10_p=_digits(log_p[at]),
                    past=_digits(by_past[at]) if compared and by_past is not None else None,
                    natural_variation=_digits(phi[at]) if compared and phi is not None else None,
                )
            )
        return found

    def _named(self, known: _Known, at: int) -> tuple[list[str], list[str]]:
        """Return the features and the categories of a test."""
        if at == known.tests.number:
            return ["score"], []
        columns = [int(known.tests.first[at]), int(known.tests.second[at])]
        features = [self._names[self._cells.products.series[known.tests.block[column] - 1]] for column in columns]
        return features, [name for column in columns if (name := known.names[column]) is not None]


def _folded(sketch: Vector) -> Vector:
    """Return the first row of a customers' sketch with as many columns as the score's."""
    folded: Vector = sketch[: aggregate.SKETCH_COLUMNS].reshape(-1, COLUMNS).sum(axis=0)
    return folded


def _digits(value: float) -> float:
    return round(float(value), 4)


def _with_score(changes: Changes, score: _Score | None, before: float | None, noise: float) -> Changes:
    """Return the changes with the score's at the end. noise: the variance of `before`, by Fisher's transformation."""
    made = score is not None and before is not None
    now, was = (score.r if score is not None else 0.0), (before if before is not None else 0.0)
    z = (score.fisher - math.atanh(was)) / math.sqrt(score.error**2 + noise) if made and score is not None else 0.0
    return Changes(
        np.append(changes.before, was),
        np.append(changes.now, now),
        np.append(changes.effect, now - was if made else 0.0),
        np.append(changes.z, z),
        np.append(changes.made, made),
    )


def _largest(known: _Known, full: Changes) -> dict[str, float]:
    found = {}
    for number, kind in enumerate(KINDS):
        made = full.made & (known.kind == number)
        if made.any():
            found[kind] = _digits(np.abs(full.effect[made]).max())
    return found


@dataclass(frozen=True, slots=True, eq=False)
class _Known:
    """What is known of one reference."""

    matrix: Matrix
    tests: RelationTests
    moments: Moments
    values: Values
    #: The correlation of its scores with their stand-in.
    score: float
    #: intp (T,), the place of each test's kind in KINDS.
    kind: NDArray[np.intp]
    #: (T,), the effect from which on a test is listed.
    listed: Floats
    #: intp (T,), and (G,), as `RelationPast` takes them.
    group: NDArray[np.intp]
    df: Floats
    #: The columns of z among those with the rest of each categorical feature, and where they end.
    kept: NDArray[np.intp]
    used: int
    #: Of every column, the name of its category; None of a number.
    names: list[str | None]

    @classmethod
    def of(cls, cells: Cells) -> _Known:
        products = cells.products
        z, scores = cells.rows_of_reference()
        matrix = Matrix(products)
        tests = RelationTests(matrix, z)
        stood = products.stand_in(z)
        spread = float(stood.std() * scores.std())
        r = float(np.mean((stood - stood.mean()) * (scores - scores.mean()))) / spread if spread > 0.0 else 0.0
        moments = matrix.moments(products.sums(z))
        kind = np.array([KINDS.index(name) for name in (*tests.kinds, SCORE)], dtype=np.intp)
        names: list[str | None] = [None] * (matrix.numbers + 1)
        kept = list(range(matrix.numbers + 1))
        for column in products.categories:
            feature = cells.features[column.series]
            assert isinstance(feature, CategoryCells), "a categorical feature"  # noqa: S101
            kept += range(len(names), len(names) + len(column.codes))
            names += [*(feature.categories[code] for code in column.codes), "other"]
        groups = len(tests.group_first)
        widths = np.bincount(tests.block)
        df = [
            max(1, (int(widths[a]) - 1 or 1) * (int(widths[b]) - 1 or 1))
            for a, b in zip(tests.group_first, tests.group_second, strict=True)
        ]
        return cls(
            matrix=matrix,
            tests=tests,
            moments=moments,
            values=tests.values(moments),
            score=float(np.clip(r, -_MOST_R, _MOST_R)),
            kind=kind,
            listed=np.array([LISTED[KINDS[number]] for number in kind]),
            group=np.append(tests.group, groups),
            df=np.array([*df, 1.0]),
            kept=np.array(kept, dtype=np.intp),
            used=len(names),
            names=names,
        )
