"""Rows → the standard error of a metric, with the rows of one customer counted as one. Pure numpy.

By linearisation: to first order, each row moves a metric by its influence. Rows of one customer are not independent, so
influences are summed per customer; the spread of the sums is the metric's. Source: D. A. Binder 1983, "On the variances
of asymptotically normal estimators from complex surveys".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Z = 1.959963984540054  # both tails of the normal distribution, 5 % together
NO_ROWS = "no_labels"
ONE_CUSTOMER = "one_customer"
NO_SPREAD = "no_spread"

Floats = NDArray[np.float64]
#: A metric's value with the influence of each row (n,), or the reason why it is undefined.
Valued = tuple[float, Floats] | str


@dataclass(frozen=True, slots=True)
class Estimated:
    """A metric, its standard error and its 95 % interval, cut to the metric's range.

    reason: why the value or the error is unknown. Then both are None, or the error alone.
    """

    value: float | None
    error: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str | None = None


def estimated(
    valued: Valued, customer: NDArray[np.int64], *, lower: float = 0.0, upper: float = math.inf, least: float = 1e-12
) -> Estimated:
    """Return the metric with its error. customer: (n,), 0 to m - 1, equal for rows of one customer.

    lower, upper: the metric's range. least: the smallest error that is one; below it, all rows are alike.
    """
    if isinstance(valued, str):
        return Estimated(None, reason=valued)
    value, influence = valued
    sums = np.bincount(customer, weights=influence)
    if len(sums) < 2:
        return Estimated(value, reason=ONE_CUSTOMER)
    # the influences sum to 0, apart from rounding
    error = math.sqrt(len(sums) / (len(sums) - 1) * float(np.sum(sums**2)))
    if error < least or error == 0.0:  # the spread of other rows cannot be estimated from these
        return Estimated(value, reason=NO_SPREAD)
    return Estimated(value, error, max(lower, value - Z * error), min(upper, value + Z * error))
