"""How much a metric varies from day to day beyond its error, and what that does to the evidence a drop needs."""

import math

import numpy as np
import pytest
from scipy import stats

from drift_worker.performance.day_variation import LEARNT, MOST, Variation


def _learnt(values, error=0.01, moved=()):
    found = Variation()
    for day, value in enumerate(values):
        found.learn(float(value), error, moved=day in moved)
    return found


def test_the_mean_of_the_differences_estimates_how_much_errors_are_too_small():
    """Days that vary twice as much as their errors: φ is 4. Those that vary as much: 1."""
    draw = np.random.default_rng(3)
    for times in (1.0, 2.0):
        many = [_learnt(draw.normal(0.8, times * 0.01, MOST - 1)) for _ in range(200)]
        found = [one.total / one.differences for one in many]
        assert float(np.mean(found)) == pytest.approx(times**2, rel=0.03)


def test_steady_days_need_no_more_evidence():
    """In one case of a hundred, by chance, they do."""
    draw = np.random.default_rng(4)
    more = [_learnt(draw.normal(0.8, 0.01, 40)).errors(3.5) > 3.5 for _ in range(1000)]
    assert sum(more) <= 25


def test_days_that_vary_need_as_rare_a_drop_in_units_of_their_own_variation():
    """Student's quantile, times the root of φ."""
    found = _learnt([0.8, 0.84] * 10)
    k = found.differences
    assert k == 18  # the last difference waits
    assert found.total / k == pytest.approx(8.0)
    wanted = math.sqrt(8.0) * stats.t.isf(stats.norm.sf(3.5), 2 * k / 3)
    assert found.errors(3.5) == pytest.approx(wanted, rel=1e-9)


def test_little_is_not_known():
    """Fewer differences than LEARNT change nothing."""
    found = _learnt([0.8, 0.84] * (LEARNT // 2))
    assert not found.known
    assert found.errors(3.5) == 3.5


def test_a_lasting_change_and_a_trend_are_no_variation():
    """The step from .80 to .70 is not learnt where the day after it is worse, too; a point a week is no difference."""
    step = _learnt([0.8] * 20 + [0.7] * 20, moved=range(20, 40))
    assert step.total == 0.0
    trend = _learnt(0.8 - 0.01 * np.arange(40) / 7)
    assert trend.total / trend.differences < 0.02


def test_one_day_that_stands_out_is_variation():
    """The day after it is as before."""
    found = _learnt([0.8] * 10 + [0.7] + [0.8] * 3, moved=(10,))
    assert found.total == pytest.approx(100.0)  # both differences, of seven standard errors each


def test_old_days_are_forgotten():
    """Sums are halved, so the state stays small and a stream may become calm."""
    found = _learnt([0.8, 0.84] * 60 + [0.8] * 500)
    assert found.differences < MOST
    assert found.total / found.differences < 0.6


def test_another_version_is_not_compared_with_the_last_one():
    """What was learnt of the stream stays."""
    found = _learnt([0.8, 0.84] * 10)
    known = found.differences
    found.forget_last()
    found.learn(0.5, 0.01, moved=False)
    found.learn(0.5, 0.01, moved=False)
    assert (found.differences, found.waiting) == (known, 0.0)


@pytest.mark.parametrize("numbers", [{"total": math.nan}, {"total": -1.0}, {"waiting": math.inf}, {"error": -0.1}])
def test_forged_numbers_are_not_valid(numbers):
    """Anybody who may write the label state may write them."""
    assert not Variation(**numbers).valid
    assert Variation(differences=3, total=2.0, value=-0.1, error=0.01, waiting=0.5).valid
