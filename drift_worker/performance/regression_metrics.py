"""Outcomes and predicted values → how good a regression was, with standard errors. No I/O.

Formulas as in scikit-learn. The values are summed in numpy's order, so that they equal scikit-learn's within 1e-12.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

METRICS = ("mae", "rmse", "bias", "r2", "mape")

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Metric:
    """A number with its standard error; `reason` says why the value is unknown."""

    value: float | None
    error: float | None = None
    reason: str | None = None


def regression_metrics(outcome: Floats, value: Floats) -> dict[str, Metric]:
    """Return every metric of float64 (n,) outcomes and values, each row another customer.

    mae: mean of |value - outcome|. rmse: root of the mean square. bias: mean of value - outcome. r2: 1 less the sum of
    squares over that around the outcomes' mean; None where all outcomes are the same. mape: mean of |value - outcome| /
    |outcome|, None where an outcome is 0. The errors are those of means; of rmse by the delta method; of r2 unknown.
    """
    n = len(outcome)
    if not n:
        return {name: Metric(None, reason="no_labels") for name in METRICS}
    difference = value - outcome
    square = difference**2
    rmse = math.sqrt(float(square.mean()))
    error_of_square = _error(square)
    found = {
        "mae": _mean(np.abs(difference)),
        "rmse": Metric(rmse, error_of_square / (2 * rmse) if error_of_square is not None and rmse > 0.0 else None),
        "bias": _mean(difference),
    }
    around = float(((outcome - outcome.mean()) ** 2).sum())
    found["r2"] = Metric(1.0 - float(square.sum()) / around) if around > 0.0 else Metric(None, reason="no_spread")
    found["mape"] = (
        _mean(np.abs(difference) / np.abs(outcome)) if bool((outcome != 0.0).all()) else Metric(None, reason="zeros")
    )
    return found


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


def _mean(values: Floats) -> Metric:
    return Metric(float(values.mean()), _error(values))


def _error(values: Floats) -> float | None:
    """Return the standard error of the mean; None of a single value."""
    n = len(values)
    return float(values.std(ddof=1)) / math.sqrt(n) if n > 1 else None
