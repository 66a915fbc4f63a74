"""Outcomes and predicted values → how good a regression was, with standard errors. No I/O.

Formulas as in scikit-learn. The values are summed in numpy's order, so that they equal scikit-learn's within 1e-12.
Standard errors are those of drift_worker/performance/clustered_error.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drift_worker.performance.clustered_error import NO_ROWS, NO_SPREAD, Estimated, Floats, Valued, estimated

METRICS = ("mae", "rmse", "bias", "r2", "mape")
#: Beside METRICS, where values have intervals.
INTERVAL_COVERAGE = "interval_coverage"
ZEROS = "zeros"  # an outcome is 0
NO_INTERVAL = "no_interval"


@dataclass(frozen=True, slots=True)
class ValueRows:
    """Rows whose outcome is known. All arrays are (n,).

    outcome, value: float64. customer: any dtype that sorts, equal for rows of one customer. low, high: float64, ends of
    the values' intervals, NaN where a value has none; None: no value has one.
    """

    outcome: Floats
    value: Floats
    customer: NDArray[np.generic]
    low: Floats | None = None
    high: Floats | None = None


def regression_metrics(outcome: Floats, value: Floats) -> dict[str, Estimated]:
    """Return every metric of float64 (n,) outcomes and values, each row another customer."""
    return value_performance(ValueRows(outcome, value, np.arange(len(outcome))))


def value_performance(rows: ValueRows) -> dict[str, Estimated]:
    """Return every metric of METRICS, and INTERVAL_COVERAGE if the rows have intervals.

    mae: mean of |value - outcome|. rmse: root of the mean square. bias: mean of value - outcome. r2: 1 less the sum of
    squares over that around the outcomes' mean; None where all outcomes are the same. mape: mean of |value - outcome| /
    |outcome|, None where an outcome is 0. interval_coverage: the share of outcomes that are within their intervals.

    >>> import numpy as np
    >>> found = value_performance(ValueRows(np.array([1.0, 3.0]), np.array([2.0, 3.0]), np.arange(2)))
    >>> found["mae"].value, found["bias"].value, found["r2"].value
    (0.5, 0.5, 0.5)
    """
    names = METRICS if rows.low is None else (*METRICS, INTERVAL_COVERAGE)
    if not len(rows.outcome):
        return dict.fromkeys(names, Estimated(None, reason=NO_ROWS))
    _, customer = np.unique(rows.customer, return_inverse=True)
    # the unit of an outcome may be of any size: an error is none below 1e-12 of the typical one
    scale = float(np.max(np.abs(rows.value - rows.outcome)))
    found = {}
    for name in names:
        influences, lower, upper, unit = _DEFINED[name]
        found[name] = estimated(
            influences(rows), customer, lower=lower, upper=upper, least=1e-12 * (scale if unit else 1.0)
        )
    return found


def value_influence(metric: str, rows: ValueRows) -> Valued:
    """Return a metric and each row's influence on it, float64 (n,), or the reason why it is undefined."""
    return _DEFINED[metric][0](rows) if len(rows.outcome) else NO_ROWS


def residual_interval(residuals: Floats, level: float) -> tuple[float, float] | None:
    """Return what is added to a value so that a share `level` of new outcomes is between both ends.

    residuals: float64 (n,), outcome - value out of sample. Half of the rest is on each side: the k-th smallest and the
    k-th largest residual with k = ⌊(n + 1)(1 - level) / 2⌋ (split conformal prediction, Vovk et al. 2005: the share is
    at least `level` for exchangeable customers). None where n is too small for k = 1.
    """
    # (1 - 0.9) / 2 is 0.04999…: without the tolerance, 19 residuals would be one too few
    k = math.floor((len(residuals) + 1) * (1.0 - level) / 2.0 + 1e-9)
    if k < 1:
        return None
    ordered = np.sort(residuals)
    return float(ordered[k - 1]), float(ordered[-k])


def _mean(of_rows: Floats) -> tuple[float, Floats]:
    value = float(of_rows.mean())
    return value, (of_rows - value) / len(of_rows)


def _mae(rows: ValueRows) -> Valued:
    return _mean(np.abs(rows.value - rows.outcome))


def _rmse(rows: ValueRows) -> Valued:
    mean, influence = _mean((rows.value - rows.outcome) ** 2)
    root = math.sqrt(mean)
    return root, influence / (2.0 * root) if root > 0.0 else influence


def _bias(rows: ValueRows) -> Valued:
    return _mean(rows.value - rows.outcome)


def _r2(rows: ValueRows) -> Valued:
    square = (rows.value - rows.outcome) ** 2
    around = (rows.outcome - rows.outcome.mean()) ** 2
    whole = float(around.sum())
    if not whole > 0.0:
        return NO_SPREAD
    share = float(square.sum()) / whole
    return 1.0 - share, (share * around - square) / whole


def _mape(rows: ValueRows) -> Valued:
    if bool((rows.outcome == 0.0).any()):
        return ZEROS
    return _mean(np.abs(rows.value - rows.outcome) / np.abs(rows.outcome))


def _interval_coverage(rows: ValueRows) -> Valued:
    if rows.low is None or rows.high is None:
        return NO_INTERVAL
    there = ~np.isnan(rows.low)
    if not there.any():
        return NO_INTERVAL
    inside = (there & (rows.low <= rows.outcome) & (rows.outcome <= rows.high)).astype(np.float64)
    share = float(inside.sum()) / int(there.sum())
    return share, (inside - share * there) / int(there.sum())


# name → its definition, its range, and whether it has the outcome's unit
_DEFINED: dict[str, tuple[Callable[[ValueRows], Valued], float, float, bool]] = {
    "mae": (_mae, 0.0, math.inf, True),
    "rmse": (_rmse, 0.0, math.inf, True),
    "bias": (_bias, -math.inf, math.inf, True),
    "r2": (_r2, -math.inf, 1.0, False),
    "mape": (_mape, 0.0, math.inf, False),
    INTERVAL_COVERAGE: (_interval_coverage, 0.0, 1.0, False),
}
