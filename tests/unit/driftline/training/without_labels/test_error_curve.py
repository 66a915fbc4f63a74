"""The curve of a regression's errors: its points, and a band as wide as it is wrong about a part of the customers."""

import numpy as np
import pytest

from driftline.training.without_labels.error_curve import error_curve
from schemas.bundle.inputs import Feature
from schemas.features import Layout

LAYOUT = Layout((Feature(name="group", kind="categorical", categories=("x", "y")), Feature(name="age", kind="numeric")))


def _columns(rows):
    return LAYOUT.columns([[("x", "y")[i % 2] for i in range(rows)], [float(i % 7) for i in range(rows)]])


def test_the_curve_has_the_mean_size_and_its_spread():
    """Errors of 1 to 3 below, of 10 to 30 above: with equal groups, each point is the mean of its own values."""
    n = 2000
    value = np.arange(n, dtype=float)
    size = np.where(np.arange(n) % 2, 1.0, 3.0) * np.where(value < 1000, 1.0, 10.0)
    found = error_curve(value + size * np.where(np.arange(n) % 3, 1, -1), value, _columns(n), 1)
    assert (len(found.x), found.rows) == (20, n)
    assert found.y[0] == pytest.approx(2.0)
    assert found.y[-1] == pytest.approx(20.0)
    assert found.spread[0] == pytest.approx(1.0)
    assert found.x[0] == pytest.approx(49.5)


@pytest.mark.parametrize("blind", [False, True])
def test_the_band_is_as_wide_as_the_curve_is_wrong_about_a_part_of_the_customers(blind):
    """One half has errors of 1, the other of 5; only values that differ between the halves can promise it."""
    draw, n = np.random.default_rng(3), 4000
    half = np.arange(n) % 2
    value = draw.uniform(0, 1, n) + (0.0 if blind else 10.0 * half)
    found = error_curve(value + np.where(half, 5.0, 1.0), value, _columns(n), 42)
    # 3 are promised; one half four times as often: (1 + 4 x 5) / 5 = 4.2, tilted by e to either side: 4.5
    assert 0.4 < found.band < 0.5 if blind else found.band < 0.02


def test_what_has_no_curve_and_what_has_one_point():
    """Fewer than 50 rows, errors beyond the double range; equal values, and values of the largest size."""
    few, many = np.arange(49, dtype=float), np.arange(200, dtype=float)
    assert error_curve(few + 1, few, _columns(49), 1) is None
    huge = np.full(200, 1.7e308)
    assert error_curve(-huge, huge, _columns(200), 1) is None
    same = error_curve(many, np.full(200, 7.0), _columns(200), 1)
    assert (same.x, len(same.y)) == ((7.0,), 1)
    large = error_curve(many * 1e300, np.zeros(200), _columns(200), 1)
    assert np.isfinite([*large.y, *large.spread]).all()
    exact = error_curve(many, many, _columns(200), 1)
    assert (set(exact.y), exact.band) == ({0.0}, 0.0)
