"""Data that broke: a constant, and another unit."""

import numpy as np
import pytest

from drift_worker.counts import aggregate
from drift_worker.counts.bins import NumericCells
from drift_worker.statistics.data_quality import constant_log10_p, moments, unit_jump

DRAW = np.random.default_rng(5)
ROWS = DRAW.lognormal(3, 0.8, 2000)
CELLS = NumericCells.of("x", ROWS)


def _vector(values):
    vector = np.zeros(CELLS.size, dtype=np.int64)
    tally = aggregate._Tally(np.zeros(len(values), dtype=np.int64))
    for _, _, part in tally.numeric(0, CELLS, np.asarray(values), np.zeros(len(values), dtype=np.int64)):
        part.add_to(vector)
    return vector


REFERENCE = _vector(ROWS)


@pytest.mark.parametrize(
    ("factor", "found"), [(100.0, "×100"), (0.01, "÷100"), (60.0, "×60"), (1.0, None), (30.0, None), (2.0, None)]
)
def test_another_unit_is_named_by_its_factor(factor, found):
    """The logarithms moved by a known factor and spread as before; 30 is not the factor of any unit."""
    assert unit_jump(CELLS, REFERENCE, _vector(DRAW.choice(ROWS, 1000) * factor)) == found


def test_another_spread_is_another_population_and_no_unit():
    """The mean alone would be a hundredfold one."""
    wide = np.exp(np.log(ROWS[:1000] * 100.0) + DRAW.normal(0, 0.8, 1000))
    assert unit_jump(CELLS, REFERENCE, _vector(wide)) is None


def test_zeros_have_no_unit():
    """With fewer than half of the values other than 0 there is no finding."""
    mostly_zero = np.concatenate([np.zeros(600), DRAW.choice(ROWS, 400) * 100.0])
    assert unit_jump(CELLS, REFERENCE, _vector(mostly_zero)) is None
    assert unit_jump(CELLS, REFERENCE, _vector([])) is None


def test_a_window_of_one_value_is_as_surprising_as_chance_makes_it():
    """A hundred equal values among two thousand different ones cannot be chance; two values can."""
    constant = constant_log10_p(CELLS, REFERENCE, _vector([ROWS[0]] * 100), 100.0)
    assert constant < -100
    assert constant_log10_p(CELLS, REFERENCE, _vector([ROWS[0]]), 1.0) > -4
    assert constant_log10_p(CELLS, REFERENCE, _vector(ROWS[:2]), 2.0) is None
    assert constant_log10_p(CELLS, REFERENCE, _vector([]), 0.0) is None


def test_different_values_between_two_anchors_are_not_one_value():
    """They share a cell, but their logarithms spread."""
    low, high = np.sort(ROWS)[-2:]
    between = np.linspace(low, high, 12)[1:-1]
    assert constant_log10_p(CELLS, REFERENCE, _vector(between), 10.0) is None
    assert constant_log10_p(CELLS, REFERENCE, _vector([between[0]] * 10), 10.0) is not None


def test_moments_are_in_decades():
    """Stored in thousandths."""
    assert moments(2, 3000 + 1000, 3000**2 + 1000**2) == pytest.approx((2.0, 1.0))
    assert moments(0, 0, 0) == (0.0, 0.0)
