"""The population stability index where the textbook's falls silent, and its behaviour without drift."""

import numpy as np
import pytest

from drift_worker.counts.bins import NumericCells
from drift_worker.statistics import psi


def _count(cells, values):
    return np.bincount(cells.cell_of(values), minlength=cells.cells)


def _both(reference, window):
    cells = NumericCells.of("x", reference)
    r, w = _count(cells, reference), _count(cells, window)
    return psi.psi(cells.psi_counts(r), cells.psi_counts(w)), psi.psi_textbook(cells, np.cumsum(r), np.cumsum(w))


def test_a_binary_feature_that_turns_constant_is_seen():
    """5 % ones become 100 %: the textbook's percentiles collapse and give 0, cells of their own do not."""
    better, textbook = _both(np.array([0.0] * 950 + [1.0] * 50), np.ones(1000))
    assert textbook == pytest.approx(0.0, abs=1e-4)
    assert better > 2.0


def test_equal_counts_give_zero():
    """No difference, no index; so does a window twice as large with the same shares, but for the smoothing."""
    counts = np.array([10, 20, 30])
    assert psi.psi(counts, counts) == 0.0
    assert psi.psi(counts * 100, counts * 200) < 1e-5


def test_the_correction_takes_off_what_chance_gives():
    """PSI* = PSI − (B−1)·h, never negative."""
    assert psi.psi_corrected(0.05, 10, 1 / 300) == pytest.approx(0.05 - 0.03)
    assert psi.psi_corrected(0.01, 10, 1 / 300) == 0.0


def test_without_drift_one_window_in_a_thousand_exceeds_the_null_limit():
    """2,000 windows of 1,500 from the reference's own law: P(p < 0.01) is between 0.2 % and 2 %."""
    draw = np.random.default_rng(3)
    reference = draw.gamma(2.0, size=7000)
    cells = NumericCells.of("x", reference)
    r = cells.psi_counts(_count(cells, reference))
    law = r / r.sum()
    h = 1 / 7000 + 1 / 1500
    values = np.array([psi.psi(r, draw.multinomial(1500, law)) for _ in range(2000)])
    # windows drawn from the reference itself: its own sampling error is missing, so scale by the window's share of h
    values *= h / (1 / 1500)
    small = np.mean([psi.log10_p(v, cells.psi_cells, h) < -2 for v in values])
    assert 0.002 <= small <= 0.02
    assert np.mean(values > psi.null_limit(cells.psi_cells, h)) <= 0.005


def test_textbook_bins_keep_repeated_break_points():
    """Seven of ten values equal: six empty bins, as numpy.histogram has them."""
    cells = NumericCells.of("x", np.array([5.0] * 7 + [6.0, 7.0, 8.0]))
    assert psi.textbook_counts(cells, np.cumsum(_count(cells, np.array([4.0, 5.0, 5.0, 9.0])))).tolist() == [
        *([1] + [0] * 5),
        2,
        0,
        0,
        1,
    ]
