"""Normalised Wasserstein distance: how far values have moved on average, in standard deviations of the reference.

W = Σ_k |F_k - G_k|·(x_(k+1) - x_k) / s. F and G are the distribution functions of reference and window at the end of
cell k. x_k is the value that represents the cell, s the reference's standard deviation. W·s is the 1-Wasserstein
distance of two distributions on a line, ∫ |F - G| dx (Vallender 1974). `scipy.stats.wasserstein_distance` computes the
same from x and the counts.

A value beyond the reference's range counts as its edge, because the counts do not hold how far beyond it lies. W is a
lower bound then. It has no test, so it is shown and never alerts.
"""

from __future__ import annotations

import math

import numpy as np

from drift_worker.statistics.stacked import NumberPair


def of_pair(pair: NumberPair) -> float | None:
    """Return W of a number in a window; None where the reference does not vary, or W is no finite number.

    >>> x = np.array([1.0, 1.0, 2.0, 3.0, 3.0])
    >>> of_pair(NumberPair(np.array([0.0, 0.5, 0.5, 1.0, 1.0]), np.array([0, 0, 0, 2, 2]), x, 1.0))
    1.0
    """
    if not 0.0 < pair.spread < math.inf:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        apart = np.abs(pair.reference - pair.window / pair.window[-1])[:-1]
        distance = float(np.dot(apart, np.diff(pair.positions)) / pair.spread)
    return distance if math.isfinite(distance) else None
