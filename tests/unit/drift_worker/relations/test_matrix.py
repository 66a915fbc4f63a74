"""Moments from sums of products equal those of the rows."""

import numpy as np
import pytest

from drift_worker.counts.products import Frequent, Products, Ranked
from drift_worker.relations.matrix import Matrix

TABLE = np.arange(-20, 22, dtype=np.int8)
PRODUCTS = Products(
    [Ranked(0, TABLE), Ranked(1, TABLE), Frequent(2, (1, 0)), Frequent(3, (0, 2, 1))],
    np.zeros(8, dtype=np.int64),
    (0, 1),
)
MATRIX = Matrix(PRODUCTS)


def _z(n=500):
    generator = np.random.default_rng(3)
    cells = [generator.integers(0, 40, n), generator.integers(0, 40, n)]
    codes = [generator.integers(0, 3, n), generator.integers(0, 5, n)]
    return PRODUCTS.rows(cells, codes), cells, codes


def test_moments_are_those_of_the_rows():
    """Means, variances, correlations and means within categories; what is rare has a column of its own."""
    z, cells, codes = _z()
    moments = MATRIX.moments(PRODUCTS.sums(z))
    rows = MATRIX.rows(z)
    assert moments.rows == 500
    assert moments.mean == pytest.approx(rows.mean(axis=1))
    assert moments.variance == pytest.approx(rows.var(axis=1))
    a, b = np.array([1, 1, 2]), np.array([2, 4, 9])
    assert moments.correlation(a, b) == pytest.approx(
        [np.corrcoef(rows[i], rows[j])[0, 1] for i, j in zip(a, b, strict=True)]
    )
    x = TABLE[cells[0]].astype(float)
    assert moments.within(np.array([1, 1]), np.array([3, 5])) == pytest.approx(
        [x[codes[0] == 1].mean(), x[codes[0] == 2].mean()]
    )
    assert MATRIX.block == [0, 1, 2, 3, 3, 3, 4, 4, 4, 4]


def test_a_column_that_does_not_vary_correlates_with_nothing():
    """A stuck number has no correlation, and no error either."""
    z, _, _ = _z()
    z[1] = 5.0
    moments = MATRIX.moments(PRODUCTS.sums(z))
    assert moments.correlation(np.array([1]), np.array([2])).tolist() == [0.0]
