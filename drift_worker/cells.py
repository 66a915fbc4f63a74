"""A reference column → the cells that events are counted in. Facts only: nothing is tested or decided here.

For a numeric column the anchors are its distinct values and the textbook's break points, sorted. Cell 2i holds the
values strictly between anchor i-1 and anchor i, cell 2i+1 those equal to anchor i; cell 0 lies below all anchors and
the last one above. At every anchor the window's distribution function is known just below and at it, and between two
anchors the reference's is flat: so the Kolmogorov-Smirnov distance and the textbook's histogram come out of the cells
exactly, in constant memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.bundle import Feature
from schemas.reference import Reference

# Customers fall into this many groups by hash; the spread between groups shows how much their events repeat each other.
GROUPS = 64
# A value that holds this share of the reference is a PSI cell of its own: between quantiles it would swallow several.
ATOM_SHARE = 0.10
# Up to here every reference value is a PSI cell of its own.
FEW_VALUES = 20
PSI_CELLS = 10

Vector = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class NumericCells:
    """Cells of one numeric feature, or of the prediction score. a: number of anchors, b: number of PSI cells.

    anchors: float64 (a,), strictly increasing. breaks: int64 (9,), indices into `anchors` of the reference's
    percentiles 10 … 90, repeats kept ((0,) for an empty column). psi_cell: int16 (2a+1,), the PSI cell of every cell.
    psi_cells: b.

    A vector of counts (int64) consists of: 2a+1 cells, missing, three moments of 1000·log10|x| over the non-zero values
    (count, rounded sum, sum of squares), two of the score (Σ p·2³² rounded, labels that are true; 0 for a feature),
    and GROUPS × (b+1) counts by customer group and PSI cell, missing last.
    """

    name: str
    anchors: NDArray[np.float64]
    breaks: NDArray[np.int64]
    psi_cell: NDArray[np.int16]
    psi_cells: int

    @classmethod
    def of(cls, name: str, column: NDArray[np.float64]) -> NumericCells:
        """The cells of a reference column (float64, NaN = missing)."""
        values = np.sort(column[~np.isnan(column)])
        if not len(values):
            return cls(name, np.empty(0), np.empty(0, dtype=np.int64), np.zeros(1, dtype=np.int16), 1)
        # accumulate: interpolation must not step back by a rounding error
        points = np.maximum.accumulate(np.percentile(values, np.arange(10, 100, 10)))
        anchors = np.unique(np.concatenate([values, points]))
        psi_cell, psi_cells = _psi_cells(values, anchors)
        return cls(name, anchors, np.searchsorted(anchors, points), psi_cell, psi_cells)

    @property
    def open(self) -> bool:
        """Whether a value can be unseen: a number cannot."""
        return False

    @property
    def cells(self) -> int:
        """2a+1."""
        return 2 * len(self.anchors) + 1

    @property
    def groups_at(self) -> int:
        """Where the groups begin in a vector."""
        return self.cells + 6

    @property
    def size(self) -> int:
        """Length of a vector."""
        return self.groups_at + GROUPS * (self.psi_cells + 1)

    def cell_of(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        """The cell of every value; values must not be NaN."""
        below = np.searchsorted(self.anchors, values)
        padded = np.append(self.anchors, np.inf)
        cell: Vector = 2 * below + (padded[below] == values)
        return cell

    def values(self, vector: Vector) -> Vector:
        """The 2a+1 cells of a vector."""
        return vector[: self.cells]

    def missing(self, vector: Vector) -> int:
        """How many values were missing."""
        return int(vector[self.cells])

    def log_moments(self, vector: Vector) -> tuple[int, int, int]:
        """Over non-zero values: count, Σ round(1000·log10|x|), Σ of its squares."""
        count, total, squares = vector[self.cells + 1 : self.cells + 4].tolist()
        return count, total, squares

    def score_sums(self, vector: Vector) -> tuple[int, int]:
        """Of the score: Σ round(p·2³²), labels that are true."""
        total, labels = vector[self.cells + 4 : self.cells + 6].tolist()
        return total, labels

    def psi_counts(self, vector: Vector) -> Vector:
        """int64 (b,): counts per PSI cell."""
        # exact: counts stay far below 2^53
        summed = np.bincount(self.psi_cell, weights=self.values(vector), minlength=self.psi_cells)
        return summed.astype(np.int64)

    def groups(self, vector: Vector) -> NDArray[np.int64]:
        """int64 (GROUPS, b+1): counts per customer group and PSI cell, missing last."""
        return vector[self.groups_at :].reshape(GROUPS, self.psi_cells + 1)

    def edges(self) -> list[float]:
        """The reference's percentiles 10 … 90: the bins that an alert shows."""
        return [float(x) for x in self.anchors[self.breaks]]


@dataclass(frozen=True, slots=True, eq=False)
class CategoryCells:
    """Cells of one categorical or boolean feature with K categories.

    A vector of counts (int64) consists of K categories, unseen, missing (so that a category code indexes it directly),
    and GROUPS × (K+2) counts by customer group and the same K+2 cells. `open` says whether a category can be unseen at
    all: a boolean has none.
    """

    name: str
    categories: tuple[str, ...]
    open: bool

    @property
    def cells(self) -> int:
        """K+2."""
        return len(self.categories) + 2

    @property
    def groups_at(self) -> int:
        """Where the groups begin in a vector."""
        return self.cells

    @property
    def size(self) -> int:
        """Length of a vector."""
        return self.cells * (1 + GROUPS)

    def values(self, vector: Vector) -> Vector:
        """K categories and unseen."""
        return vector[: self.cells - 1]

    def unseen(self, vector: Vector) -> int:
        """How many values were of no known category."""
        return int(vector[self.cells - 2])

    def missing(self, vector: Vector) -> int:
        """How many values were missing."""
        return int(vector[self.cells - 1])

    def groups(self, vector: Vector) -> NDArray[np.int64]:
        """int64 (GROUPS, K+2)."""
        return vector[self.cells :].reshape(GROUPS, self.cells)


class Cells:
    """The cells of all features of one bundle, in manifest order, and of its score."""

    def __init__(self, features: Sequence[Feature], categories: Sequence[Sequence[str]], reference: Reference) -> None:
        """`categories`: of the categorical and boolean features, in order, as in `schemas.features.Layout`."""
        numeric = iter(range(reference.numeric.shape[1]))
        codes = iter(categories)
        self.features: tuple[NumericCells | CategoryCells, ...] = tuple(
            NumericCells.of(feature.name, reference.numeric[:, next(numeric)])
            if feature.kind == "numeric"
            else CategoryCells(feature.name, tuple(next(codes)), open=feature.kind == "categorical")
            for feature in features
        )
        self.score = NumericCells.of("score", reference.score)


def _psi_cells(values: NDArray[np.float64], anchors: NDArray[np.float64]) -> tuple[NDArray[np.int16], int]:
    """The PSI cell of each of the 2a+1 cells, and how many there are. `values`: sorted, not empty.

    Up to 20 distinct values: one each, and one for everything else. Otherwise every value that holds at least a tenth
    is a cell of its own, and the rest is cut at its quantiles into cells of about a tenth.
    """
    distinct, counts = np.unique(values, return_counts=True)
    few = len(distinct) <= FEW_VALUES
    atoms = distinct if few else distinct[counts >= ATOM_SHARE * len(values)]
    cell = np.zeros(2 * len(anchors) + 1, dtype=np.int16)
    rest_cells = 1
    if not few:
        rest = values[~np.isin(values, atoms)]
        wanted = max(1, round(PSI_CELLS * len(rest) / len(values)))
        cuts = np.unique(rest[(np.arange(1, wanted) * len(rest)) // wanted])
        rest_cells = len(cuts) + 1
        # a cut is an anchor i; it and everything above belong to the next cell
        starts = 2 * np.searchsorted(anchors, cuts) + 1
        cell[:] = np.searchsorted(starts, np.arange(len(cell)), side="right")
    cell[2 * np.searchsorted(anchors, atoms) + 1] = rest_cells + np.arange(len(atoms))
    # numbered from below, so that cumulative counts over them are (nearly) a distribution function
    _, first, number = np.unique(cell, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[number].astype(np.int16), len(first)
