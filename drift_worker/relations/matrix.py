"""Sums of products → moments: what one window, the reference or the calm past holds of relations.

Beside the columns of z (`counts.products`) every categorical feature has one for the rest: rare, unseen and missing
categories. It follows from the others, so that it is not counted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drift_worker.counts.products import Products, Vector

Floats = NDArray[np.float64]
Places = NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Of q columns: the 1, the numbers, the categories of each categorical feature with its rest."""

    #: The number of rows.
    rows: float
    #: (q,), the mean of each column.
    mean: Floats
    #: (q,), the variance of each column.
    variance: Floats
    #: (q, q), the mean of the product of any two.
    products: Floats

    def correlation(self, a: Places, b: Places) -> Floats:
        """Return the correlation of each pair of columns, 0 where a column does not vary."""
        covariance = self.products[a, b] - self.mean[a] * self.mean[b]
        both = self.variance[a] * self.variance[b]
        found: Floats = np.divide(covariance, np.sqrt(both), out=np.zeros(len(a)), where=both > 1e-12)
        return found

    def within(self, number: Places, category: Places) -> Floats:
        """Return the mean of each number within a category, 0 where it has no rows."""
        share = self.mean[category]
        found: Floats = np.divide(self.products[number, category], share, out=np.zeros(len(number)), where=share > 0.0)
        return found


class Matrix:
    """Makes moments of one bundle's sums."""

    def __init__(self, products: Products) -> None:
        self._products = products
        #: How many numbers there are: the columns 1 to this.
        self.numbers = numbers = len(products.numbers)
        first = [np.eye(products.p)[: numbers + 1]]
        self.block: list[int] = list(range(numbers + 1))
        for block in range(numbers + 1, numbers + 1 + len(products.categories)):
            columns = np.eye(products.p)[products.block == block]
            rest = np.eye(products.p)[0] - columns.sum(axis=0)
            first += [columns, rest[None, :]]
            self.block += [block] * (len(columns) + 1)
        self._spread = np.concatenate(first)

    def moments(self, sums: Vector) -> Moments:
        """Return the moments of these sums; there must be at least one row."""
        full = self._products.matrix(sums)
        rows = float(full[0, 0])
        spread = self._spread @ full @ self._spread.T
        of_one = spread / rows
        mean = of_one[0]
        return Moments(rows, mean, np.maximum(np.diag(of_one) - mean * mean, 0.0), of_one)

    def rows(self, z: NDArray[np.float32]) -> Floats:
        """Return (q, n): rows z of the reference with the rest of each categorical feature."""
        spread: Floats = self._spread @ z.astype(np.float64)
        return spread
