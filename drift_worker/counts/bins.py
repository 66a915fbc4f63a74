"""A reference column → the cells in which events are counted. No test and no decision is made here.

For a numeric column the anchors are its distinct values and the textbook's break points, sorted. Cell 2i holds the
values strictly between anchor i-1 and anchor i, cell 2i+1 those equal to anchor i. Cell 0 lies below all anchors and
the last one above. At every anchor the window's distribution function is known just below it and at it; between two
anchors the reference's is flat. So the cells give the exact Kolmogorov-Smirnov distance and the exact textbook
histogram, in constant memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from drift_worker.counts import products as together
from schemas.bundle.inputs import Feature
from schemas.reference import Reference
from schemas.task import TaskName

# Customers fall into this many groups by hash; the spread between groups measures how similar their repeated events
# are.
GROUPS = 64
# A value that holds this share of the reference is a separate PSI cell: between quantiles it would fill several.
ATOM_SHARE = 0.10
# Up to this number of distinct values, every reference value is a separate PSI cell.
FEW_VALUES = 20
PSI_CELLS = 10
SCORE_UNIT = float(1 << 32)
# Times the reference's largest value. With it 10^8 events in a window cannot overflow a sum.
VALUE_LIMIT = 16.0

Vector = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class NumericCells:
    """Cells of one numeric feature, or of the prediction score. a: number of anchors, b: number of PSI cells.

    anchors: float64 (a,), strictly increasing. breaks: int64 (9,), indices into `anchors` of the reference's
    percentiles 10 … 90, repeats kept ((0,) for an empty column). psi_cell: int16 (2a+1,), the PSI cell of every cell.
    psi_cells: b.

    A vector of counts (int64) begins with 2a+1 cells and missing. Then follow three moments of 1000·log10|x| over the
    non-zero values (count, rounded sum, sum of squares) and two sums of the score (Σ p·2³² rounded, labels that are
    true; 0 for a feature). The last part is GROUPS × (b+1) counts by customer group and PSI cell, missing last.
    `of_values` has the unit of scores that are no probabilities.
    """

    name: str
    anchors: NDArray[np.float64]
    breaks: NDArray[np.int64]
    psi_cell: NDArray[np.int16]
    psi_cells: int
    #: Of the score's sums: each score is limited to these, then multiplied by `unit` and rounded.
    limits: tuple[float, float] = (0.0, 1.0)
    unit: float = SCORE_UNIT

    @classmethod
    def of(cls, name: str, column: NDArray[np.float64]) -> NumericCells:
        """Return the cells of a reference column (float64, NaN = missing)."""
        values = np.sort(column[~np.isnan(column)])
        if not len(values):
            return cls(name, np.empty(0), np.empty(0, dtype=np.int64), np.zeros(1, dtype=np.int16), 1)
        # accumulate: a rounding error must not make the interpolation descend
        points = np.maximum.accumulate(np.percentile(values, np.arange(10, 100, 10)))
        anchors = np.unique(np.concatenate([values, points]))
        psi_cell, psi_cells = _psi_cells(values, anchors)
        return cls(name, anchors, np.searchsorted(anchors, points), psi_cell, psi_cells)

    @classmethod
    def of_values(cls, name: str, column: NDArray[np.float64]) -> NumericCells:
        """Return the cells of a score that may be any finite number, as of a regression.

        Its sums are whole numbers of 2⁻³² of the next power of two above the largest reference value, so that they are
        as exact as a probability's. A value beyond 16 times that power counts in them as that limit.
        """
        largest = float(np.abs(column).max(initial=0.0))
        scale = math.ldexp(1.0, math.frexp(largest)[1]) if largest else 1.0
        most = VALUE_LIMIT * scale
        return replace(cls.of(name, column), limits=(-most, most), unit=SCORE_UNIT / scale)

    @property
    def open(self) -> bool:
        """Return whether a value can be unseen: a number cannot."""
        return False

    @property
    def cells(self) -> int:
        """Return the number of cells, 2a+1."""
        return 2 * len(self.anchors) + 1

    @property
    def groups_at(self) -> int:
        """Return where the groups begin in a vector."""
        return self.cells + 6

    @property
    def size(self) -> int:
        """Return the length of a vector."""
        return self.groups_at + GROUPS * (self.psi_cells + 1)

    def cell_of(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the cell of every value; values must not be NaN."""
        below = np.searchsorted(self.anchors, values)
        padded = np.append(self.anchors, np.inf)
        cell: Vector = 2 * below + (padded[below] == values)
        return cell

    def values(self, vector: Vector) -> Vector:
        """Return the 2a+1 cells of a vector."""
        return vector[: self.cells]

    def missing(self, vector: Vector) -> int:
        """Return the number of missing values."""
        return int(vector[self.cells])

    def log_moments(self, vector: Vector) -> tuple[int, int, int]:
        """Return three moments of the non-zero values: count, Σ round(1000·log10|x|), Σ of its squares."""
        count, total, squares = vector[self.cells + 1 : self.cells + 4].tolist()
        return count, total, squares

    def score_sums(self, vector: Vector) -> tuple[int, int]:
        """Return two sums of the score: Σ round(score·unit), labels that are true."""
        total, labels = vector[self.cells + 4 : self.cells + 6].tolist()
        return total, labels

    def psi_counts(self, vector: Vector) -> Vector:
        """Return the counts per PSI cell, int64 (b,)."""
        # exact: counts stay far below 2^53
        summed = np.bincount(self.psi_cell, weights=self.values(vector), minlength=self.psi_cells)
        return summed.astype(np.int64)

    def groups(self, vector: Vector) -> NDArray[np.int64]:
        """Return the counts per customer group and PSI cell, missing last, int64 (GROUPS, b+1)."""
        return vector[self.groups_at :].reshape(GROUPS, self.psi_cells + 1)

    def edges(self) -> list[float]:
        """Return the reference's percentiles 10 … 90: the bins that an alert shows."""
        return [float(x) for x in self.anchors[self.breaks]]


@dataclass(frozen=True, slots=True, eq=False)
class CategoryCells:
    """Cells of one categorical or boolean feature with K categories.

    A vector of counts (int64) consists of K categories, unseen and missing, so that a category code is an index. Then
    follow GROUPS × (K+2) counts by customer group and the same K+2 cells. `open`: whether a category can be unseen; a
    boolean's cannot.
    """

    name: str
    categories: tuple[str, ...]
    open: bool

    @property
    def cells(self) -> int:
        """Return the number of cells, K+2."""
        return len(self.categories) + 2

    @property
    def groups_at(self) -> int:
        """Return where the groups begin in a vector."""
        return self.cells

    @property
    def size(self) -> int:
        """Return the length of a vector."""
        return self.cells * (1 + GROUPS)

    def values(self, vector: Vector) -> Vector:
        """Return the K categories and unseen."""
        return vector[: self.cells - 1]

    def unseen(self, vector: Vector) -> int:
        """Return the number of values of an unknown category."""
        return int(vector[self.cells - 2])

    def missing(self, vector: Vector) -> int:
        """Return the number of missing values."""
        return int(vector[self.cells - 1])

    def groups(self, vector: Vector) -> NDArray[np.int64]:
        """Return the counts per customer group and cell, int64 (GROUPS, K+2)."""
        return vector[self.cells :].reshape(GROUPS, self.cells)


class Cells:
    """The cells of all features of one bundle, in manifest order, and of its score."""

    def __init__(
        self,
        features: Sequence[Feature],
        categories: Sequence[Sequence[str]],
        reference: Reference,
        task: TaskName = "binary",
        classes: Sequence[str] = (),
    ) -> None:
        """Make the cells. `categories`: those of categorical and boolean features, in the order of their columns.

        task: of the model, which decides what a score is. classes: that its predictions have.
        """
        numeric = iter(range(reference.numeric.shape[1]))
        codes = iter(categories)
        self.features: tuple[NumericCells | CategoryCells, ...] = tuple(
            NumericCells.of(feature.name, reference.numeric[:, next(numeric)])
            if feature.kind == "numeric"
            else CategoryCells(feature.name, tuple(next(codes)), open=feature.kind == "categorical")
            for feature in features
        )
        #: Whether a prediction has a label.
        self.labelled = task == "binary"
        of_score = NumericCells.of_values if task == "regression" else NumericCells.of
        self.score = of_score("score", reference.score)
        #: Of the predicted classes; None where predictions have none.
        self.predicted = CategoryCells("predicted class", tuple(classes), open=False) if classes else None
        self._reference = reference

    @cached_property
    def products(self) -> together.Products:
        """Return which relations between features are counted."""
        return together.chosen(*self._all_columns, self._scores_of_reference())

    @cached_property
    def score_table(self) -> NDArray[np.int8]:
        """Return the normal score of each value cell of the score."""
        return _ranked(self.score, self._reference.score)

    def rows_of_reference(self) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Return z of the reference's rows by column (p, n), and the normal score of each row's score."""
        columns, cells, codes = self._all_columns
        kept = set(self.products.series)
        numbers = [cell for column, cell in zip(columns, cells, strict=False) if column.series in kept]
        named = [code for column, code in zip(columns[len(cells) :], codes, strict=True) if column.series in kept]
        return self.products.rows(numbers, named), self._scores_of_reference()

    def _scores_of_reference(self) -> NDArray[np.float64]:
        """Return the normal score of each row's score."""
        return self.score_table[self.score.cell_of(self._reference.score)].astype(np.float64)

    @property
    def _all_columns(self) -> tuple[list[together.Column], list[Vector], list[Vector]]:
        """Return every column that can be kept, numbers first, and the value cells and codes of the reference."""
        numeric, coded = iter(self._reference.numeric.T), iter(self._reference.codes.T)
        numbers: list[together.Column] = []
        named: list[together.Column] = []
        cells, codes = [], []
        for series, feature in enumerate(self.features):
            if isinstance(feature, NumericCells):
                values = next(numeric)
                cell = feature.cell_of(values)
                cell[np.isnan(values)] = feature.cells
                cells.append(cell)
                numbers.append(together.Ranked(series, _ranked(feature, values)))
            else:
                code = next(coded).astype(np.int64)
                counts = np.bincount(code[code >= 0], minlength=len(feature.categories))
                common = np.argsort(-counts, kind="stable")[: together.TOP].tolist()
                codes.append(code)
                named.append(together.Frequent(series, tuple(c for c in common if counts[c])))
        return [*numbers, *named], cells, codes


def _ranked(cells: NumericCells, column: NDArray[np.float64]) -> NDArray[np.int8]:
    """Return the normal score of each value cell of a reference column, and of a missing value at the end."""
    present = column[~np.isnan(column)]
    return together.normal_scores(np.bincount(cells.cell_of(present), minlength=cells.cells + 1))


def _psi_cells(values: NDArray[np.float64], anchors: NDArray[np.float64]) -> tuple[NDArray[np.int16], int]:
    """Return the PSI cell of each of the 2a+1 cells, and the number of PSI cells. `values`: sorted, not empty.

    Up to 20 distinct values: one cell each, and one for all other values. With more, a value that holds at least a
    tenth is a separate cell. The rest is cut at its quantiles into cells of about a tenth.
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
        # a cut is an anchor i; it and all higher cells belong to the next PSI cell
        starts = 2 * np.searchsorted(anchors, cuts) + 1
        cell[:] = np.searchsorted(starts, np.arange(len(cell)), side="right")
    cell[2 * np.searchsorted(anchors, atoms) + 1] = rest_cells + np.arange(len(atoms))
    # numbered in ascending order, so that cumulative counts over them are (nearly) a distribution function
    _, first, number = np.unique(cell, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[number].astype(np.int16), len(first)
