"""The error of a metric: rows of one customer count as one, and what cannot be known has a reason."""

import math

import numpy as np
import pytest

from drift_worker.performance.clustered_error import estimated


def test_repeated_rows_are_one_customer():
    """Each of 50 customers three times: the error of 50 rows, not of 150."""
    values = np.random.default_rng(1).normal(size=50)
    once = estimated((float(values.mean()), (values - values.mean()) / 50), np.arange(50), lower=-math.inf)
    rows = np.repeat(values, 3)
    thrice = estimated((float(rows.mean()), (rows - rows.mean()) / 150), np.repeat(np.arange(50), 3), lower=-math.inf)
    assert once.error == pytest.approx(values.std(ddof=1) / math.sqrt(50))
    assert thrice.error == pytest.approx(once.error)


@pytest.mark.parametrize(
    ("valued", "customers", "value", "reason"),
    [
        ("zeros", 3, None, "zeros"),
        ((0.5, np.zeros(3)), 3, 0.5, "no_spread"),
        ((0.5, np.array([0.1, -0.05, -0.05])), 1, 0.5, "one_customer"),
    ],
)
def test_an_error_that_is_not_known_has_a_reason(valued, customers, value, reason):
    """An undefined metric, rows that are all alike, and a single customer."""
    found = estimated(valued, np.minimum(np.arange(3), customers - 1))
    assert (found.value, found.error, found.low, found.reason) == (value, None, None, reason)


def test_an_interval_ends_where_the_metric_does():
    """A share is at most 1, and a small unit is no lack of spread."""
    wide = np.array([0.5, -0.5, 0.5, -0.5])
    found = estimated((0.9, wide), np.arange(4), upper=1.0)
    assert (found.low, found.high) == (0.0, 1.0)
    assert estimated((1e-15, wide * 1e-15), np.arange(4), least=1e-27).error == pytest.approx(1e-15 * 2 / math.sqrt(3))
