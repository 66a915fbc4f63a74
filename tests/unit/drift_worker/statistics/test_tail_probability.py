"""Tail probabilities against scipy and mpmath-free exact sums, and beyond the smallest double."""

import math

import numpy as np
import pytest
from scipy import stats

from drift_worker.statistics.tail_probability import (
    chi2_limit,
    kolmogorov_limit,
    log10_chi2,
    log10_hypergeometric,
    log10_kolmogorov,
)


@pytest.mark.parametrize(("x", "df"), [(3.0, 1), (25.0, 9), (700.0, 40), (1200.0, 3)])
def test_chi2_is_scipys_where_it_is_a_double(x, df):
    """Its logarithm, to nine digits."""
    assert float(log10_chi2(x, df)) == pytest.approx(stats.chi2.logsf(x, df) / math.log(10), rel=1e-9)


def test_chi2_goes_on_where_a_double_is_0():
    """For two degrees of freedom p is exp(-x/2) exactly."""
    assert float(log10_chi2(20_000.0, 2)) == pytest.approx(-10_000 / math.log(10), rel=1e-12)
    assert stats.chi2.sf(20_000.0, 2) == 0.0
    logs = log10_chi2(np.array([1000.0, 2000.0, 4000.0]), 8)
    assert (np.diff(logs) < 0).all()


def test_without_degrees_of_freedom_nothing_is_surprising():
    """One category cannot move."""
    assert log10_chi2(np.array([0.0, 5.0]), np.array([3, 0])).tolist() == [0.0, 0.0]
    assert float(chi2_limit(0.01, 0)) == 0.0
    assert float(chi2_limit(0.01, 9)) == pytest.approx(stats.chi2.isf(0.01, 9))


@pytest.mark.parametrize("x", [0.5, 1.0, 3.0, 10.0])
def test_kolmogorov_is_scipys(x):
    """The asymptotic distribution of the two-sample distance."""
    assert float(log10_kolmogorov(x)) == pytest.approx(math.log10(stats.kstwobign.sf(x)), rel=1e-9)


def test_kolmogorov_goes_on_where_a_double_is_0():
    """The first term of the sum is all that is left; the limit is the inverse."""
    assert float(log10_kolmogorov(30.0)) == pytest.approx((math.log(2) - 1800) / math.log(10), rel=1e-12)
    assert 10 ** float(log10_kolmogorov(kolmogorov_limit(0.01))) == pytest.approx(0.01)


@pytest.mark.parametrize(("x", "m", "k", "n"), [(3, 50, 20, 200), (0, 10, 5, 90), (40, 500, 60, 5000), (5, 5, 5, 5)])
def test_both_tails_are_scipys_hypergeometric(x, m, k, n):
    """M of m + n rows are drawn, k of all are marked."""
    law = stats.hypergeom(m + n, k, m)
    low, high = log10_hypergeometric(x, m, k, n)
    assert low == pytest.approx(law.logcdf(x) / math.log(10), abs=1e-9)
    assert high == pytest.approx(law.logsf(x - 1) / math.log(10), abs=1e-9)


def test_impossible_counts_are_an_error():
    """More marked rows than there are: the counters would be wrong."""
    with pytest.raises(ValueError, match="6 marked rows of 10 drawn are impossible with 5"):
        log10_hypergeometric(6, 10, 5, 90)
