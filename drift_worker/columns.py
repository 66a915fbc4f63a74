"""What a window is compared with: the reference, made once, or the same hours of past weeks (`drift_worker.season`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from drift_worker import counts, ks, psi, quality
from drift_worker.cells import CategoryCells, Cells, NumericCells, Vector
from schemas.measurement import TRAINING
from schemas.reference import Reference

C = TypeVar("C", NumericCells, CategoryCells)
_SCORE_UNIT = 1 << 32


@dataclass(frozen=True, slots=True, eq=False)
class Distribution:
    """One feature's values, or the score's, as they were before. b: PSI cells.

    against: TRAINING, the reference's rows, or WEEK, the same hours of past weeks. effective: as how many independent
    values they count. psi_counts: int64 (b,). shown: int64, counts by textbook bin, or by category and unseen.
    function: float64, the distribution function of the value cells, or, of past weeks, of the PSI cells. mean: of the
    score, else 0.
    """

    against: str
    effective: float
    psi_counts: Vector
    shown: Vector
    function: NDArray[np.float64]
    mean: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Column(Generic[C]):
    """One feature of the reference. b: PSI cells.

    vector: the reference's rows, counted like a window's events. present, missing: rows with and without a value.
    psi_cell: intp, the PSI cell of every value cell. training: the distribution of the rows. score_of: float64 (b,),
    mean score per PSI cell. unseen: how many rows stand for unseen categories (Good & Turing: as many as there are
    categories seen once). logs: mean and standard deviation of log10|x| of a number's values that are not 0.
    """

    cells: C
    vector: Vector
    present: int
    missing: int
    psi_cell: NDArray[np.intp]
    training: Distribution
    score_of: NDArray[np.float64]
    unseen: int = 0
    logs: tuple[float, float] = (0.0, 0.0)

    def by_psi_cell(self, groups: NDArray[np.int64]) -> NDArray[np.float64]:
        """float64 (groups, b): customer groups of a vector by PSI cell, without what is missing."""
        if isinstance(self.cells, NumericCells):
            return groups[:, :-1].astype(np.float64)
        width = len(self.training.psi_counts)
        place = np.arange(len(groups))[:, None] * width + self.psi_cell
        summed = np.bincount(place.ravel(), weights=groups[:, :-1].ravel(), minlength=len(groups) * width)
        return summed.reshape(len(groups), width).astype(np.float64)


class Columns:
    """All features in manifest order, and the score."""

    def __init__(self, cells: Cells, reference: Reference) -> None:
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
        self.score = _numeric(cells.score, vectors[counts.SCORE], reference.score, reference.score)


def _vectors(cells: Cells, reference: Reference) -> dict[int, Vector]:
    """The reference's rows, counted like the events of one pane."""
    n = reference.rows
    panes, customers = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.uint64)
    vectors: dict[int, Vector] = {}
    for _, series, part in (
        *counts.count_events(cells, panes, reference.numeric, reference.codes, customers),
        *counts.count_scores(cells, panes, reference.score, np.zeros(n, dtype=np.bool_), customers),
    ):
        vectors[series] = np.zeros(counts.size_of(cells, series), dtype=np.int64)
        part.add_to(vectors[series])
    return vectors


def _numeric(
    cells: NumericCells, vector: Vector, values: NDArray[np.float64], score: NDArray[np.float64]
) -> Column[NumericCells]:
    psi_cell = cells.psi_cell.astype(np.intp)
    present = ~np.isnan(values)
    rows = int(present.sum())
    cumulative = np.cumsum(cells.values(vector))
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
            mean=mean_score(cells.score_sums(vector)[0], rows),
        ),
        score_of=_mean_score(psi_cell[cells.cell_of(values[present])], score[present], cells.psi_cells),
        logs=quality.moments(*cells.log_moments(vector)),
    )


def _categorical(
    cells: CategoryCells, vector: Vector, codes: NDArray[np.int32], score: NDArray[np.float64], singletons: int
) -> Column[CategoryCells]:
    values = cells.values(vector)
    pool = np.arange(len(values))
    if singletons:
        # Learnt categories: one seen at most once is as rare as an unseen one, and shares its cell. Each in a cell of
        # its own would be missing from nearly every window while unseen ones took its place.
        pool[values <= 1] = len(values)
    if not cells.open:
        pool[-1] = pool[0]  # nothing is ever unseen
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


def mean_score(total: int, scores: int) -> float:
    """The mean of that many scores whose `score_sums` have this total; 0 if there are none."""
    return total / _SCORE_UNIT / scores if scores else 0.0


def _mean_score(cell: NDArray[np.intp], score: NDArray[np.float64], cells: int) -> NDArray[np.float64]:
    """Mean score of the rows in each cell; the overall mean where there are none."""
    if not len(score):
        return np.zeros(cells)
    number = np.bincount(cell, minlength=cells)
    total = np.bincount(cell, weights=score, minlength=cells)
    return np.where(number > 0, total / np.maximum(number, 1), score.mean())
