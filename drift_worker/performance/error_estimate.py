"""Performance of a regression without labels: the mean absolute error to be expected of these values.

The method is direct loss estimation (DLE), as NannyML describes it (https://nannyml.readthedocs.io, "How it works",
"Direct Loss Estimation"): a second model predicts the size of the first one's errors. Here its only input is the value,
because predictions hold nothing else: the bundle's `error_curve` has the mean size of out-of-fold errors at a value
(driftline/training/without_labels/error_curve.py). The estimate is its mean over all values.

The band is the sum of two parts, as in drift_worker/performance/label_free_estimate.py. Sampling: errors of a size
vary around its mean by the curve's `spread`. Calibration: how far the estimate was off, as a share of it, when some
training customers were made more frequent.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from drift_worker.performance.label_free_estimate import Estimate, Floats, sampling
from schemas.bundle.manifest import ErrorCurve


def estimate(value: Floats, curve: ErrorCurve, customers: NDArray[np.int64] | None = None) -> dict[str, Estimate]:
    """Estimate `mae` from values alone, float64 (n,) with n > 0.

    customers: int64 (n,), equal for rows of one customer, whose errors count as one draw; None: each row is a customer.

    >>> import numpy as np
    >>> known = ErrorCurve(x=(0.0, 10.0), y=(1.0, 3.0), spread=(0.0, 0.0), rows=100, band=0.1)
    >>> found = estimate(np.array([0.0, 5.0, 20.0]), known)["mae"]
    >>> found.value, round(found.calibration, 3)
    (2.0, 0.2)
    """
    which = None if customers is None else np.unique(customers, return_inverse=True)[1]
    expected, spread = np.interp(value, curve.x, curve.y), np.interp(value, curve.x, curve.spread)
    mean = float(expected.mean())
    return {"mae": Estimate(mean, sampling(spread / len(value), which), curve.band * mean, math.inf)}
