"""Category shares and the χ² test with sparse cells."""

import numpy as np
import pytest
from scipy import stats

from drift_worker.counts import aggregate
from drift_worker.counts.bins import Cells
from drift_worker.statistics import chi2
from drift_worker.statistics.measure import Measurer
from schemas.bundle.inputs import Feature
from schemas.reference import Reference


def _chi2(reference, window, m_eff, *, rare_last):
    """The statistic and its degrees of freedom, None where there is no test."""
    (statistic,), (df,) = chi2.chi2s(reference, window[None, :], np.array([m_eff]), rare_last=rare_last)
    return (statistic, df) if df else None


def test_largest_move_is_the_share_that_moved_most():
    """15 points from one category to another."""
    none, score = np.empty((1000, 0)), np.full(1000, 0.5)
    before, now = (
        np.repeat([0, 1, 2], sizes)[:, None].astype(np.int32) for sizes in ([500, 300, 200], [350, 450, 200])
    )
    reference = Reference(none, before, score, np.zeros(1, dtype=np.int64))
    cells = Cells([Feature(name="plan", kind="categorical", categories=("a", "b", "c"))], [("a", "b", "c")], reference)
    customers = aggregate.CustomerHash("00" * 32)([f"c{i}" for i in range(1000)])
    window = {}
    for _, series, part in aggregate.count_events(cells, np.zeros(1000, dtype=np.int64), none, now, customers):
        window[series] = np.zeros(aggregate.size_of(cells, series), dtype=np.int64)
        part.add_to(window[series])
    assert Measurer(cells, reference, 500).features(window)["plan"].linf == pytest.approx(0.15)


def test_sparse_cells_are_pooled_until_five_events_are_expected():
    """Cells with 2, 1 and 1 of 100 expected events become one cell of 4, which takes in the next larger one."""
    reference, window = np.array([2, 1, 1, 30, 66]), np.array([2, 1, 1, 30, 66])
    statistic, df = _chi2(reference, window, 100.0, rare_last=False)
    assert (statistic, df) == (0.0, 1)


def test_pooling_is_the_test_of_the_pooled_table():
    """3.5 events are expected of the fourth category: it is pooled with the unseen ones, and scipy agrees."""
    reference, window = np.array([600, 390, 7, 3, 0]), np.array([550, 430, 6, 4, 10])
    statistic, df = _chi2(reference, window, 1000.0, rare_last=True)
    theirs = stats.chi2_contingency([[600, 390, 7, 3], [550, 430, 6, 14]], correction=False)
    assert statistic == pytest.approx(theirs.statistic, rel=1e-12)
    assert df == theirs.dof


def test_fewer_than_two_cells_are_no_test():
    """One category only, or so little data that everything is pooled."""
    assert _chi2(np.array([100, 0]), np.array([50, 0]), 50.0, rare_last=False) is None
    assert _chi2(np.array([3, 1]), np.array([1, 3]), 4.0, rare_last=False) is None


def test_a_new_category_is_seen_among_the_rare_ones():
    """30 % of the window in categories that the reference never had."""
    statistic, df = _chi2(np.array([500, 500, 0]), np.array([350, 350, 300]), 1000.0, rare_last=True)
    assert df == 2
    assert chi2.log10_p(statistic, df) < -50


def test_hundreds_of_rare_categories_do_not_alarm():
    """A city feature without drift, 300 categories, most of them seen a few times: p < 0.01 in about 1 % of windows."""
    draw = np.random.default_rng(5)
    law = draw.dirichlet(np.full(600, 0.3))
    hits = 0
    for _ in range(400):
        reference = draw.multinomial(2000, law)
        known = reference > 0
        window = draw.multinomial(800, law)
        cells = [np.append(x[known], x[~known].sum()) for x in (reference, window)]
        result = _chi2(*cells, 800.0, rare_last=True)
        hits += result is not None and chi2.log10_p(*result) < -2
    assert hits <= 12
