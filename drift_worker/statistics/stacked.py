"""Cells side by side: of several features in one array, with sums in one call for all; or of two distributions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Spans:
    """F features with C cells in all. Arrays end in C or in F; the axes before it are kept."""

    #: intp (F,): the first cell of each feature.
    starts: NDArray[np.intp]
    #: intp (F,): the number of cells of each feature.
    sizes: NDArray[np.intp]
    #: intp (C,): the feature of each cell.
    feature: NDArray[np.intp]

    @classmethod
    def of(cls, sizes: Sequence[int]) -> Spans:
        """Return the layout of features with these numbers of cells, at least one each.

        >>> Spans.of([2, 3]).sums(np.arange(5))
        array([1, 9])
        """
        each = np.array(sizes, dtype=np.intp)
        return cls(np.cumsum(each) - each, each, np.repeat(np.arange(len(each)), each))

    def sums(self, cells: NDArray[Any]) -> NDArray[Any]:
        """Return the sum over each feature's cells: (…, C) gives (…, F)."""
        total: NDArray[Any] = np.add.reduceat(cells, self.starts, axis=-1)
        return total

    def shares(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return each cell's share of its feature's: (…, C); zeros for a feature without any."""
        of_each: NDArray[np.float64] = counts / self.each(np.maximum(self.sums(counts), 1.0))
        return of_each

    def largest(self, cells: NDArray[Any]) -> NDArray[Any]:
        """Return the largest of each feature's cells: (…, C) gives (…, F)."""
        top: NDArray[Any] = np.maximum.reduceat(cells, self.starts, axis=-1)
        return top

    def each(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return a feature's value for each of its cells: (…, F) gives (…, C)."""
        return values.take(self.feature, axis=-1)

    def cumulative(self, cells: NDArray[Any]) -> NDArray[Any]:
        """Return cumulative sums within each feature; exact for counts."""
        running = np.cumsum(cells, axis=-1)
        begin = running.take(self.starts, axis=-1) - cells.take(self.starts, axis=-1)
        within: NDArray[Any] = running - self.each(begin)
        return within

    def of_feature(self, cells: NDArray[Any], at: int) -> NDArray[Any]:
        """Return the cells of one feature: (…, C) gives (…, its cells)."""
        start = self.starts[at]
        return cells[..., start : start + self.sizes[at]]


@dataclass(frozen=True, slots=True, eq=False)
class NumberPair:
    """One number in one window and in the reference, with c cells in ascending order."""

    #: float64 (c,): the reference's distribution function at the end of each cell.
    reference: NDArray[np.float64]
    #: (c,): the window's cumulative counts; there is at least one value.
    window: NDArray[Any]
    #: float64 (c,): the value that represents each cell, never descending.
    positions: NDArray[np.float64]
    #: The standard deviation of the reference's values.
    spread: float
