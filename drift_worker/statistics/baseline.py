"""The baseline of a window: the reference, or the same hours of past weeks (`statistics.seasonal_baseline`)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from drift_worker.counts import aggregate
from drift_worker.counts.bins import SCORE_UNIT, CategoryCells, Cells, NumericCells, Vector
from drift_worker.counts.products import UNIT, normal_scores
from drift_worker.statistics import ks, psi
from drift_worker.statistics.partial_effects import Rows, partial_effects
from drift_worker.statistics.rates import rare_values
from schemas.measurement import TRAINING
from schemas.reference import Reference

C = TypeVar("C", NumericCells, CategoryCells)


@dataclass(frozen=True, slots=True, eq=False)
class Distribution:
    """The former values of one feature, or of the score. b: PSI cells."""

    #: TRAINING, the reference's rows, or WEEK, the same hours of past weeks.
    against: str
    #: The number of independent values that they count as.
    effective: float
    #: int64 (b,).
    psi_counts: Vector
    #: int64, counts by textbook bin, or by category and unseen.
    shown: Vector
    #: float64, the distribution function of the value cells, or, of past weeks, of the PSI cells.
    function: NDArray[np.float64]
    #: Of the score, else 0.
    mean: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Column(Generic[C]):
    """One feature of the reference. a: anchors, b: PSI cells."""

    #: What values are counted in.
    cells: C
    #: The reference's rows, counted like a window's events.
    vector: Vector
    #: Rows with a value.
    present: int
    #: Rows without a value.
    missing: int
    #: intp, the PSI cell of every value cell.
    psi_cell: NDArray[np.intp]
    #: The distribution of the rows.
    training: Distribution
    #: float64 (b,), the mean score per PSI cell, or the partial effect of that cell on the score.
    score_of: NDArray[np.float64]
    #: Rows that count as unseen categories (Good & Turing: as many as there are categories seen once).
    unseen: int = 0
    #: Of a number, float64 (2a+1,): the value that represents each value cell. It is an anchor, the middle between two,
    #: or the outermost one beyond them.
    positions: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    #: Of a number, float64 (b,): the mean of the rows in each PSI cell.
    psi_positions: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    #: Of a number, the standard deviation of the rows.
    spread: float = 0.0
    #: Of a number, int64 (2a+1,): 1 for a value cell that few of the rows are in.
    rare: Vector = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    def by_psi_cell(self, groups: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return float64 (groups, b): customer groups of a vector by PSI cell, without what is missing."""
        if isinstance(self.cells, NumericCells):
            return groups[:, :-1].astype(np.float64)
        width = len(self.training.psi_counts)
        place = np.arange(len(groups))[:, None] * width + self.psi_cell
        summed = np.bincount(place.ravel(), weights=groups[:, :-1].ravel(), minlength=len(groups) * width)
        return summed.reshape(len(groups), width).astype(np.float64)


class Columns:
    """All features in manifest order, the score, and the predicted class."""

    def __init__(self, cells: Cells, reference: Reference, *, causes: bool = False) -> None:
        """Take the reference; causes: whether the score's part of each feature is told apart from that of the others.

        Without it a feature's bins have the mean score of their rows.
        """
        vectors = _vectors(cells, reference)
        numeric, coded = iter(range(reference.numeric.shape[1])), iter(range(reference.codes.shape[1]))
        self.features: list[Column[NumericCells] | Column[CategoryCells]] = []
        for series, feature in enumerate(cells.features):
            if isinstance(feature, NumericCells):
                values = reference.numeric[:, next(numeric)]
                self.features.append(_numeric(feature, vectors[series], values, reference.score))
            else:
                at = next(coded)
                singletons = int(reference.singletons[at])
                column = _categorical(feature, vectors[series], reference.codes[:, at], reference.score, singletons)
                self.features.append(column)
        if causes:
            self.features = _told_apart(self.features, reference)
        self.score = _numeric(cells.score, vectors[aggregate.SCORE], reference.score, reference.score)
        #: Of the predicted class; None where predictions have none.
        self.predicted: Column[CategoryCells] | None = None
        if cells.predicted is not None and reference.predicted is not None:
            vector = vectors[aggregate.PREDICTED]
            self.predicted = _categorical(cells.predicted, vector, reference.predicted, reference.score, 0)

    def of(self, series: int) -> Column[NumericCells] | Column[CategoryCells]:
        """Return a feature, the score or the predicted class."""
        if series == aggregate.PREDICTED and self.predicted is not None:
            return self.predicted
        return self.score if series == aggregate.SCORE else self.features[series]


def _told_apart(
    columns: list[Column[NumericCells] | Column[CategoryCells]], reference: Reference
) -> list[Column[NumericCells] | Column[CategoryCells]]:
    """Return the columns with the partial effect of each of their bins instead of its mean score."""
    numeric, coded = iter(reference.numeric.T), iter(reference.codes.T)
    rows = []
    for column in columns:
        size = len(column.training.psi_counts)
        if isinstance(column.cells, NumericCells):
            values = next(numeric)
            cell = aggregate.value_cells(column.cells, values)
            places = np.append(column.psi_cell, -1)
            scores = normal_scores(np.append(column.cells.values(column.vector), 0))[cell] / UNIT
            rows.append(Rows(places[cell], size, scores))
        else:
            codes = next(coded)
            rows.append(Rows(np.where(codes >= 0, column.psi_cell[np.maximum(codes, 0)], -1), size, None))
    effects = partial_effects(rows, reference.score) if len(reference.score) else None
    if effects is None:
        return columns
    return [replace(column, score_of=effect) for column, effect in zip(columns, effects, strict=True)]


def _vectors(cells: Cells, reference: Reference) -> dict[int, Vector]:
    """Return the reference's rows, counted like the events of one pane."""
    n = reference.rows
    panes, customers = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.uint64)
    vectors: dict[int, Vector] = {}
    for _, series, part in (
        *aggregate.count_events(cells, panes, reference.numeric, reference.codes, customers, together=False),
        *aggregate.count_scores(
            cells,
            panes,
            reference.score,
            np.zeros(n, dtype=np.bool_),
            customers,
            reference.predicted,
            together=False,
        ),
    ):
        vectors[series] = np.zeros(aggregate.size_of(cells, series), dtype=np.int64)
        part.add_to(vectors[series])
    return vectors


def _numeric(
    cells: NumericCells, vector: Vector, values: NDArray[np.float64], score: NDArray[np.float64]
) -> Column[NumericCells]:
    psi_cell = cells.psi_cell.astype(np.intp)
    present = ~np.isnan(values)
    rows = int(present.sum())
    cumulative = np.cumsum(cells.values(vector))
    positions = _positions(cells)
    return Column(
        cells=cells,
        vector=vector,
        present=rows,
        missing=cells.missing(vector),
        psi_cell=psi_cell,
        training=Distribution(
            against=TRAINING,
            effective=float(rows),
            psi_counts=cells.psi_counts(vector),
            shown=psi.textbook_counts(cells, cumulative) if rows else np.zeros(psi.TEXTBOOK_BINS, dtype=np.int64),
            function=ks.function(cumulative),
            mean=mean_score(cells.score_sums(vector)[0], rows, cells.unit),
        ),
        score_of=_mean_score(psi_cell[cells.cell_of(values[present])], score[present], cells.psi_cells),
        positions=positions,
        psi_positions=_psi_positions(positions, psi_cell, cells.values(vector), cells.psi_cells),
        spread=_spread(values[present]),
        rare=rare_values(cells.values(vector)),
    )


def _spread(values: NDArray[np.float64]) -> float:
    """Return the standard deviation; infinity where its square is no double."""
    with np.errstate(over="ignore"):
        return float(np.std(values)) if len(values) else 0.0


def _positions(cells: NumericCells) -> NDArray[np.float64]:
    """Return the value that represents each value cell. How far beyond the anchors a value lies is not counted."""
    anchors = cells.anchors
    positions = np.repeat(anchors, 2)
    if not len(anchors):
        return np.zeros(cells.cells)
    positions = np.append(positions, anchors[-1])
    positions[2:-1:2] = anchors[:-1] / 2.0 + anchors[1:] / 2.0
    return positions


def _psi_positions(
    positions: NDArray[np.float64], psi_cell: NDArray[np.intp], values: Vector, size: int
) -> NDArray[np.float64]:
    """Return the mean position of the rows in each PSI cell; where there are none, that of the cell below."""
    number = np.bincount(psi_cell, weights=values, minlength=size)
    shares = np.divide(values, number[psi_cell], out=np.zeros(len(values)), where=number[psi_cell] > 0)
    means = np.where(number > 0, np.bincount(psi_cell, weights=shares * positions, minlength=size), np.nan)
    ascending: NDArray[np.float64] = np.fmax.accumulate(means)
    return np.where(np.isnan(ascending), positions[0], ascending)


def _categorical(
    cells: CategoryCells, vector: Vector, codes: NDArray[np.int32], score: NDArray[np.float64], singletons: int
) -> Column[CategoryCells]:
    values = cells.values(vector)
    pool = np.arange(len(values))
    if singletons:
        # Learnt categories: one seen at most once is as rare as an unseen one, and shares its cell. In a separate cell
        # it would be missing from nearly every window, while unseen ones would take its place.
        pool[values <= 1] = len(values)
    if not cells.open:
        pool[-1] = pool[0]  # no value is ever unseen
    _, inverse = np.unique(pool, return_inverse=True)
    psi_cell = inverse.astype(np.intp)
    size = int(psi_cell.max()) + 1
    known = codes >= 0
    return Column(
        cells=cells,
        vector=vector,
        present=int(values.sum()),
        missing=cells.missing(vector),
        psi_cell=psi_cell,
        training=Distribution(
            against=TRAINING,
            effective=float(values.sum()),
            psi_counts=np.bincount(psi_cell, weights=values, minlength=size).astype(np.int64),
            shown=values,
            function=ks.function(np.cumsum(values)),
        ),
        score_of=_mean_score(psi_cell[codes[known]], score[known], size),
        unseen=min(singletons, int(values.sum())),
    )


def mean_score(total: int, scores: int, unit: float = SCORE_UNIT) -> float:
    """Return the mean of that many scores whose `score_sums` have this total; 0 if there are none."""
    return total / unit / scores if scores else 0.0


def _mean_score(cell: NDArray[np.intp], score: NDArray[np.float64], cells: int) -> NDArray[np.float64]:
    """Return the mean score of the rows in each cell; the overall mean where there are none."""
    if not len(score):
        return np.zeros(cells)
    number = np.bincount(cell, minlength=cells)
    total = np.bincount(cell, weights=score, minlength=cells)
    return np.where(number > 0, total / np.maximum(number, 1), score.mean())
