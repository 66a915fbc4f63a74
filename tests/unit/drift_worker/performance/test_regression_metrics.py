"""Metrics of values are scikit-learn's, and the interval of residuals holds the share that it promises."""

import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, mean_absolute_percentage_error, mean_squared_error, r2_score

from drift_worker.performance.regression_metrics import METRICS, regression_metrics, residual_interval


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e9])
def test_metrics_equal_scikit_learns(scale):
    """Within 1e-12 of their size, whatever the unit is."""
    draw = np.random.default_rng(1)
    outcome = draw.normal(50.0, 10.0, 3000) * scale
    value = outcome + draw.normal(1.0, 4.0, 3000) * scale
    found = {name: one.value for name, one in regression_metrics(outcome, value).items()}
    expected = {
        "mae": mean_absolute_error(outcome, value),
        "rmse": mean_squared_error(outcome, value) ** 0.5,
        "bias": float(np.mean(value - outcome)),
        "r2": r2_score(outcome, value),
        "mape": mean_absolute_percentage_error(outcome, value),
    }
    assert list(found) == list(METRICS)
    for name, number in expected.items():
        assert found[name] == pytest.approx(number, rel=1e-12, abs=0.0), name


def test_standard_errors_are_those_of_many_samples():
    """The spread of each metric over 2,000 samples of 400 customers, within a tenth."""
    draw = np.random.default_rng(2)
    outcome = draw.normal(50.0, 5.0, (2000, 400))
    value = outcome + draw.normal(0.0, 3.0, (2000, 400))
    samples = [regression_metrics(o, v) for o, v in zip(outcome, value, strict=True)]
    for name in ("mae", "rmse", "bias", "mape"):
        spread = np.std([one[name].value for one in samples])
        assert np.mean([one[name].error for one in samples]) == pytest.approx(spread, rel=0.1), name


def test_what_is_not_known_has_a_reason():
    """No customers, the same outcome for all, an outcome of 0; one customer has no error."""
    nothing = regression_metrics(np.empty(0), np.empty(0))
    assert {(one.value, one.reason) for one in nothing.values()} == {(None, "no_labels")}
    same = regression_metrics(np.array([0.0, 0.0]), np.array([0.0, 1.0]))
    assert (same["r2"].value, same["r2"].reason) == (None, "no_spread")
    assert (same["mape"].value, same["mape"].reason) == (None, "zeros")
    one = regression_metrics(np.array([2.0]), np.array([3.0]))
    assert (one["mae"].value, one["mae"].error, one["r2"].value) == (1.0, None, None)
    assert regression_metrics(np.ones(3), np.ones(3))["rmse"].error is None


@pytest.mark.parametrize(("n", "level"), [(19, 0.9), (60, 0.9), (199, 0.8)])
def test_an_interval_holds_its_share_of_new_outcomes(n, level):
    """Also of few and skewed residuals: at least the level, and less than two order statistics above it."""
    draw = np.random.default_rng(3)
    inside = []
    for _ in range(4000):
        low, high = residual_interval(draw.exponential(1.0, n), level)
        inside.append(np.exp(-low) - np.exp(-high))  # of a new residual of the same distribution
    assert level - 0.004 < np.mean(inside) < level + 2 / (n + 1) + 0.004


def test_too_few_residuals_have_no_interval():
    """With 18, no order statistic leaves out a twentieth on each side."""
    assert residual_interval(np.arange(18.0), 0.9) is None
    assert residual_interval(np.arange(19.0), 0.9) == (0.0, 18.0)
