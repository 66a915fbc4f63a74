"""Two-sample Kolmogorov-Smirnov distance from counts, equal to scipy.stats.ks_2samp on the raw values."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from drift_worker.counts.bins import Vector
from drift_worker.statistics.stacked import NumberPair
from drift_worker.statistics.tail_probability import Numbers, kolmogorov_limit, log10_kolmogorov


def function(cumulative: Vector) -> NDArray[np.float64]:
    """Return the distribution function at the end of each cell, from cumulative counts; zeros without values."""
    return cumulative / max(1, int(cumulative[-1]))


def distance(reference: NDArray[np.float64], window: Vector) -> float:
    """Return D = sup |F - G| from the reference's `function` and the window's cumulative counts, at least one value.

    Exact: between two anchors the reference's distribution function is flat, so the supremum is at a cell's end.

    >>> distance(function(np.cumsum([0, 1, 0, 1, 0])), np.cumsum([1, 1, 0, 0, 0]))
    0.5
    """
    difference = window / window[-1]
    difference -= reference
    return float(np.abs(difference, out=difference).max())


def of_pair(pair: NumberPair) -> float:
    """Return D of a number in a window."""
    return distance(pair.reference, pair.window)


def log10_p(d: Numbers, h: Numbers) -> NDArray[np.float64]:
    """Return log10 of the asymptotic p with h = 1/n + 1/m_eff (`scipy.stats.kstwo` costs 1,000 times as much)."""
    return log10_kolmogorov(d / np.sqrt(h))


def null_limit(h: float, share: float) -> float:
    """Return the D that such a share of windows exceeds without drift."""
    return math.sqrt(h) * kolmogorov_limit(share)
