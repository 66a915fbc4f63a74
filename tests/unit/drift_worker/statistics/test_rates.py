"""Missing values and unseen categories, as counts of independent events."""

import numpy as np
import pytest
from scipy import stats

from drift_worker.statistics import rates, tail_probability


def test_repeated_customers_count_once():
    """300 of 1,000 events that count as 100 independent ones: 30 of 100."""
    assert rates.scaled(300, 1000, 100.7) == (30, 100)


def test_equal_rates_are_no_evidence():
    """Nothing missing anywhere, everything missing everywhere, the same rate: p is 1 or near it."""
    assert rates.log10_p_two_sided(0, 1000, 0, 500, 500.0) == 0.0
    assert rates.log10_p_two_sided(1000, 1000, 500, 500, 500.0) == 0.0
    assert rates.log10_p_two_sided(100, 1000, 50, 500, 500.0) == pytest.approx(0.0, abs=0.05)
    assert rates.log10_p_more(100, 1000, 0, 500, 500.0) == 0.0


def test_a_rate_that_moves_either_way_is_evidence():
    """20 % missing where nothing was, and nothing where 20 % was."""
    assert rates.log10_p_two_sided(0, 1000, 100, 500, 500.0) < -40
    assert rates.log10_p_two_sided(200, 1000, 0, 500, 500.0) < -20


def test_unseen_is_one_sided():
    """Fewer unseen categories than the reference lets expect are no evidence; more are. p is Fisher's."""
    assert rates.log10_p_more(50, 1000, 5, 500, 500.0) > -0.01
    ours = rates.log10_p_more(10, 1000, 20, 500, 500.0)
    theirs = stats.fisher_exact([[20, 480], [10, 990]], alternative="greater").pvalue
    assert ours == pytest.approx(np.log10(theirs), rel=1e-9)


@pytest.mark.parametrize(("x", "m", "k", "n"), [(300, 60_000, 340, 7000), (2100, 400_000, 2180, 10_000)])
def test_windows_of_any_size_are_tested_exactly(x, m, k, n):
    """Tails where rows and events are about 65,536, up to which factorials are kept, and where they are many more."""
    law = stats.hypergeom(n + m, k, m)
    below, above = tail_probability.log10_hypergeometric(x, m, k, n)
    assert (below, above) == pytest.approx((np.log10(law.cdf(x)), np.log10(law.sf(x - 1))), rel=1e-6)


def test_impossible_counts_are_refused():
    """More marked rows than were drawn."""
    with pytest.raises(ValueError, match="impossible"):
        rates.log10_hypergeometric(6, 5, 10, 100)
