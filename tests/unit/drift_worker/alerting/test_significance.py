"""The level of a single test: the budget of false alerts, divided by what can be mistaken for one."""

import math

import numpy as np
import pytest

from drift_worker.alerting.significance import benjamini_hochberg, correlation, joint_log10, level


def test_one_of_one_window_shares_the_budget_evenly():
    """One window is enough: a = budget / (L·W·T) exactly."""
    assert level(1, 1, 62, 3, 900_000, 1.0, 0.5) == pytest.approx(1 / (3 * 2880 * 62), rel=1e-12)


def test_two_of_three_independent_windows():
    """Without correlation: T·2·a² = budget/(L·W), solved by hand."""
    expected = math.sqrt(1 / (3 * 2880) / (62 * 2))
    assert level(2, 3, 62, 3, 900_000, 1.0, 0.0) == pytest.approx(expected, rel=1e-4)


def test_more_correlation_asks_for_a_smaller_level():
    """Windows that share customers and a reference confirm each other by chance."""
    levels = [level(2, 3, 62, 3, 900_000, 1.0, r) for r in (0.0, 0.2, 0.5, 0.9, 0.999)]
    assert levels == sorted(levels, reverse=True)
    assert levels[-1] < 2e-6


def test_a_correlation_between_two_steps_costs_little_of_the_level():
    """1,000 events against 7,000 rows: 4.18e-4 without rounding; rounded to a tenth it was 2.7e-4."""
    assert level(2, 3, 77, 3, 900_000, 1.0, 0.125) == pytest.approx(4.06e-4, rel=0.005)
    assert level(2, 3, 77, 3, 900_000, 1.0, 0.07) == level(2, 3, 77, 3, 900_000, 1.0, 0.0699)
    assert level(2, 3, 77, 3, 900_000, 1.0, 0.995) == level(2, 3, 77, 3, 900_000, 1.0, 0.999)


@pytest.mark.parametrize(("a", "k", "r"), [(0.05, 2, 0.5), (0.01, 2, 0.9), (0.05, 3, 0.3), (0.02, 2, 0.999)])
def test_joint_tail_is_that_of_correlated_normals(a, k, r):
    """A million simulated pairs or triples, within four standard errors."""
    from scipy.stats import norm

    draw = np.random.default_rng(7)
    shared = draw.normal(size=1_000_000)
    exceed = np.ones(1_000_000, dtype=bool)
    for _ in range(k):
        exceed &= math.sqrt(r) * shared + math.sqrt(1 - r) * draw.normal(size=1_000_000) > norm.isf(a)
    seen = exceed.mean()
    assert 10 ** joint_log10(a, k, r) == pytest.approx(seen, abs=4 * math.sqrt(seen / 1_000_000))


def test_correlation_of_windows():
    """Small windows over a large reference share little; the same few customers share nearly everything."""
    assert correlation(10_000, 500, 0.0) == pytest.approx(0.0476, abs=1e-3)
    assert correlation(5000, 1000, 1 / 1000) == pytest.approx(0.999)


def test_benjamini_hochberg_counts_tests_that_were_not_made():
    """Four p-values among ten tests at q = 0.05: limits 0.005, 0.01, 0.015, 0.02."""
    p = [math.log10(x) for x in (0.0149, 0.004, 0.012, 0.3)]
    assert benjamini_hochberg(p, 0.05, 10) == pytest.approx(math.log10(0.0149))
    assert benjamini_hochberg(p, 0.05, 40) == -math.inf
    assert benjamini_hochberg([], 0.05, 10) == -math.inf
    assert benjamini_hochberg([math.log10(0.0049), math.log10(0.0101)], 0.05, 10) == math.log10(0.0049)
