"""What the reference says of each feature and of the score: made once, compared with every window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from drift_worker import counts
from drift_worker.cells import CategoryCells, Cells, NumericCells, Vector
from schemas.reference import Reference

C = TypeVar("C", NumericCells, CategoryCells)


@dataclass(frozen=True, slots=True, eq=False)
class Column(Generic[C]):
    """One feature of the reference. b: PSI cells.

    vector: the reference's rows, counted like a window's events; cumulative: of its value cells. present, missing: rows
    with and without a value.
    psi_cell: intp, the PSI cell of every value cell. psi_counts: int64 (b,). score_of: float64 (b,), mean score per PSI
    cell. unseen: how many rows stand for unseen categories (Good & Turing: as many as there are categories seen once).
    """

    cells: C
    vector: Vector
    cumulative: Vector
    present: int
    missing: int
    psi_cell: NDArray[np.intp]
    psi_counts: Vector
    score_of: NDArray[np.float64]
    unseen: int = 0

    @property
    def values(self) -> Vector:
        """Counts of the value cells."""
        return self.cells.values(self.vector)

    def score_shift(self, window_counts: Vector) -> float:
        """How far the mean score moves with the shares of the PSI cells: Σ (p_w - p_r)·s̄. No join is needed."""
        p, q = self.psi_counts / self.psi_counts.sum(), window_counts / window_counts.sum()
        return float(((q - p) * self.score_of).sum())


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
    return Column(
        cells=cells,
        vector=vector,
        cumulative=np.cumsum(cells.values(vector)),
        present=int(present.sum()),
        missing=cells.missing(vector),
        psi_cell=psi_cell,
        psi_counts=cells.psi_counts(vector),
        score_of=_mean_score(psi_cell[cells.cell_of(values[present])], score[present], cells.psi_cells),
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
        cumulative=np.cumsum(cells.values(vector)),
        present=int(values.sum()),
        missing=cells.missing(vector),
        psi_cell=psi_cell,
        psi_counts=np.bincount(psi_cell, weights=values, minlength=size).astype(np.int64),
        score_of=_mean_score(psi_cell[codes[known]], score[known], size),
        unseen=min(singletons, int(values.sum())),
    )


def _mean_score(cell: NDArray[np.intp], score: NDArray[np.float64], cells: int) -> NDArray[np.float64]:
    """Mean score of the rows in each cell; the overall mean where there are none."""
    if not len(score):
        return np.zeros(cells)
    number = np.bincount(cell, minlength=cells)
    total = np.bincount(cell, weights=score, minlength=cells)
    return np.where(number > 0, total / np.maximum(number, 1), score.mean())
