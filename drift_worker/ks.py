"""Two-sample Kolmogorov-Smirnov distance from counts, equal to scipy.stats.ks_2samp on the raw values."""

from __future__ import annotations

import math

import numpy as np

from drift_worker.cells import Vector
from drift_worker.tails import kolmogorov_limit, log10_kolmogorov


def distance(reference: Vector, window: Vector) -> float:
    """D = sup |F - G| from the cumulative counts of the 2a+1 cells; both must hold at least one value.

    Exact: between two anchors the reference's distribution function is flat, so the supremum is at a cell's end.

    >>> distance(np.cumsum([0, 1, 0, 1, 0]), np.cumsum([1, 1, 0, 0, 0]))
    0.5
    """
    difference = reference / reference[-1]
    difference -= window / window[-1]
    return float(np.abs(difference, out=difference).max())


def log10_p(d: float, h: float) -> float:
    """log10 of the asymptotic p-value with h = 1/n + 1/m_eff (`scipy.stats.kstwo` would cost 1,000 times as much)."""
    return log10_kolmogorov(d / math.sqrt(h))


def null_limit(h: float, share: float) -> float:
    """The D that such a share of windows exceeds without drift."""
    return math.sqrt(h) * kolmogorov_limit(share)
