"""Events → sums of products: how features go together, in whole numbers that add up like every other count.

Every event becomes a row z. z holds 1, the normal score of each number in sixteenths, and a 1 for the category of each
categorical feature if it is one of the eight most frequent. A normal score is that of the value's rank in the
reference, so that it needs no unit and has no heavy tail; a missing value has 0. What is kept is Z'Z, the sums of the
products of any two of them. The categories that are left out follow from the others.

The score comes from another topic, and its products with the features cannot be counted there. So each side adds up one
number by customer, with the signs and columns of the customers' sketch (Alon, Gibbons, Matias & Szegedy 1999): the
features' side a stand-in of the score, the sum of z by whole coefficients, and the score's side the score's own normal
score. The correlation of both sketches is that of the stand-in with the score.

All of it follows from the reference of the bundle: which features are kept, ranks, categories and coefficients. Another
layout of the vectors needs other numbers of series (`aggregate.PRODUCTS`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Vector = NDArray[np.int64]
Floats = NDArray[np.float64]
Whole = NDArray[np.integer[Any]]

#: A normal score of 1. Products of two scores up to 3 are at most 48², so that float32 adds up 7,000 of them exactly.
UNIT = 16
LARGEST = 3 * UNIT
_ROWS_AT_A_TIME = 7000
#: Categories with a column of their own.
TOP = 8
#: The most sums that are kept: 16 kB a window. 15 numbers and 10 categorical features need 1,973.
MOST_SUMS = 2000
#: Columns of the sketches of the stand-in and of the score; a power of two, at most `aggregate.SKETCH_COLUMNS`.
COLUMNS = 256
#: Fewer rows describe no relations.
LEAST_ROWS = 100
# The largest coefficient of the stand-in, so that float32 adds up its terms exactly, too.
_LARGEST_COEFFICIENT = 1000
# A share of the rows that is added to each column's square: twins share a coefficient, and nothing is divided by 0.
_RIDGE = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Ranked:
    """A number: its normal score by value cell, int8 (2a+2,); the last one is that of a missing value, 0."""

    series: int
    table: NDArray[np.int8]


@dataclass(frozen=True, slots=True, eq=False)
class Frequent:
    """A categorical feature: the codes of its most frequent categories, in that order."""

    series: int
    codes: tuple[int, ...]


Column = Ranked | Frequent


def normal_scores(counts: Vector) -> NDArray[np.int8]:
    """Return the normal score of each cell of a number, in sixteenths: that of the middle of its ranks.

    `counts`: rows of the reference by cell, and 0 for what is missing at the end.
    """
    n = max(1, int(counts.sum()))
    middle = (np.cumsum(counts) - counts / 2.0) / n
    scores = np.rint(UNIT * np.clip(ndtri(np.clip(middle, 0.5 / n, 1.0 - 0.5 / n)), -3.0, 3.0)).astype(np.int8)
    scores[-1] = 0
    return scores


class Products:
    """Which sums of products are kept, and how events are added to them.

    p: columns of z, the first of which is 1. Then follow the numbers and the categories of each categorical feature.
    """

    def __init__(self, columns: Sequence[Column], coefficients: Vector, scale: tuple[int, int]) -> None:
        """Take the columns that are kept, and (p,) coefficients of the stand-in.

        scale: the mean of the stand-in's sum of terms in the reference, and its standard deviation.
        """
        self.numbers = tuple(column for column in columns if isinstance(column, Ranked))
        self._tables = [number.table.astype(np.float32) for number in self.numbers]
        self.categories = tuple(column for column in columns if isinstance(column, Frequent))
        #: intp (p,): the block of each column of z: 0 of the 1, then one for each feature, the numbers first.
        self.block = np.array(
            [
                0,
                *range(1, len(self.numbers) + 1),
                *(
                    block
                    for block, column in enumerate(self.categories, start=len(self.numbers) + 1)
                    for _ in column.codes
                ),
            ],
            dtype=np.intp,
        )
        self.first, self.second = _pairs(self.block, len(self.numbers))
        self.coefficients = coefficients
        self.scale = scale

    @property
    def p(self) -> int:
        """Return the number of columns of z."""
        return len(self.block)

    @property
    def size(self) -> int:
        """Return the number of sums; 0 if no relation is kept."""
        return len(self.first) if self.series else 0

    @property
    def series(self) -> list[int]:
        """Return the features that are kept, in the order of their columns."""
        return [*(one.series for one in self.numbers), *(one.series for one in self.categories)]

    def rows(self, cells: Sequence[Whole], codes: Sequence[Whole]) -> NDArray[np.float32]:
        """Return z of events by column, float32 (p, n).

        cells: for each number kept, the value cell of every event, the last one if missing. codes: for each categorical
        feature kept, the category of every event; another code has no column.
        """
        n = len((*cells, *codes)[0])
        z = np.empty((self.p, n), dtype=np.float32)
        z[0] = 1.0
        at = 1
        for table, cell in zip(self._tables, cells, strict=True):
            np.take(table, cell, out=z[at], mode="clip")
            at += 1
        for feature, code in zip(self.categories, codes, strict=True):
            for wanted in feature.codes:
                np.equal(code, wanted, out=z[at])
                at += 1
        return z

    def sums(self, z: NDArray[np.float32]) -> Vector:
        """Return the sums of products of these rows."""
        total = np.zeros(self.size, dtype=np.int64)
        for at in range(0, z.shape[1], _ROWS_AT_A_TIME):
            part = z[:, at : at + _ROWS_AT_A_TIME]
            total += (part @ part.T)[self.first, self.second].astype(np.int64)
        return total

    def stand_in(self, z: NDArray[np.float32]) -> Floats:
        """Return the stand-in of each row, a whole number in sixteenths of its standard deviation."""
        terms: NDArray[np.float32] = self.coefficients.astype(np.float32) @ z  # exact: whole numbers below 2^24
        mean, deviation = self.scale
        stood: Floats = np.clip(np.rint((terms.astype(np.float64) - mean) * (UNIT / deviation)), -LARGEST, LARGEST)
        return stood

    def limits(self) -> tuple[Vector, Vector]:
        """Return the least and the most that one event can add to each sum."""
        low = np.where((self.block == 0) | (self.block > len(self.numbers)), 0, -LARGEST)
        high = np.where(low < 0, LARGEST, 1)
        corners = [a[self.first] * b[self.second] for a in (low, high) for b in (low, high)]
        return np.minimum.reduce(corners), np.maximum.reduce(corners)

    def matrix(self, sums: Vector) -> Floats:
        """Return the whole matrix Z'Z, float64 (p, p), exact."""
        full = np.zeros((self.p, self.p))
        full[self.first, self.second] = sums
        full[self.second, self.first] = sums
        categories = np.flatnonzero(self.block > len(self.numbers))
        full[categories, categories] = full[0, categories]  # 1² = 1
        return full


def _pairs(block: NDArray[np.intp], numbers: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the pairs of columns whose products are kept: not those of two categories of one feature."""
    first, second = np.triu_indices(len(block))
    kept = (block[first] != block[second]) | (block[first] <= numbers)
    return first[kept], second[kept]


def sums_needed(columns: Sequence[Column]) -> int:
    """Return how many sums these columns need."""
    widths = [1 if isinstance(column, Ranked) else len(column.codes) for column in columns]
    p = 1 + sum(widths)
    within = sum(len(c.codes) * (len(c.codes) + 1) // 2 for c in columns if isinstance(c, Frequent))
    return p * (p + 1) // 2 - within


def fit(z: NDArray[np.float32], values: Floats) -> Floats:
    """Return the least-squares coefficients of `values` (n, targets) on the rows z (p, n): (p, targets)."""
    square = np.zeros((len(z), len(z)))
    beside = np.zeros((len(z), values.shape[1]))
    for at in range(0, z.shape[1], _ROWS_AT_A_TIME):
        part = z[:, at : at + _ROWS_AT_A_TIME]
        square += part @ part.T
        beside += part.astype(np.float64) @ values[at : at + _ROWS_AT_A_TIME]
    square[np.diag_indices(len(square))] += _RIDGE * np.maximum(np.diag(square), 1.0)
    found: Floats = np.linalg.solve(square, beside).astype(np.float64)
    return found


def chosen(
    columns: Sequence[Column],
    cells: Sequence[Whole],
    codes: Sequence[Whole],
    scores: Floats,
) -> Products:
    """Return what is kept of a reference: the features that the score depends on most come first.

    `cells`, `codes`: of its rows, as `Products.rows` takes them, for all of `columns` (numbers first). `scores`: the
    normal score of each row's score. A feature's weight is how much the least-squares fit varies with it.
    """
    nothing = Products((), np.zeros(1, dtype=np.int64), (0, 1))
    if len(scores) < LEAST_ROWS or not columns:
        return nothing
    everything = Products(columns, np.zeros(1, dtype=np.int64), (0, 1))
    z = everything.rows(cells, codes)
    found = fit(z, scores[:, None])[:, 0]
    weights = [
        round(float(np.std(found[everything.block == block] @ z[everything.block == block])), 6)
        for block in range(1, len(columns) + 1)
    ]
    kept: list[int] = []
    for at in sorted(range(len(columns)), key=lambda at: (-weights[at], at)):
        if sums_needed([columns[i] for i in (*kept, at)]) <= MOST_SUMS:
            kept.append(at)
    kept.sort()
    if len(kept) < len(columns):
        which = np.flatnonzero(np.isin(everything.block, [0, *(at + 1 for at in kept)]))
        z = z[which]
        found = fit(z, scores[:, None])[:, 0]
    found[0] = 0.0
    most = float(np.abs(found).max(initial=0.0))
    whole = np.rint(found * (_LARGEST_COEFFICIENT / most if most else 0.0)).astype(np.int64)
    terms: Floats = whole.astype(np.float64) @ z.astype(np.float64)
    # whole numbers: every machine must count the same
    return Products([columns[at] for at in kept], whole, (round(terms.mean()), max(1, round(terms.std()))))


def by_pane(pane: NDArray[np.intp], panes: int, z: NDArray[np.float32]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield the number of each pane, and the rows z of its events."""
    if panes == 1:
        yield 0, z
        return
    order = np.argsort(pane, kind="stable")
    bounds = np.searchsorted(pane[order], np.arange(panes + 1))
    for number in range(panes):
        yield number, z[:, order[bounds[number] : bounds[number + 1]]]
