"""Data that broke rather than drifted: a constant, or another unit."""

from __future__ import annotations

import math

import numpy as np

from drift_worker.counts.bins import NumericCells, Vector
from drift_worker.statistics.rates import log10_p_more

UNIT_FACTORS = (10.0, 60.0, 100.0, 1000.0)
UNIT_SHIFT = 0.03  # decades
UNIT_SPREAD = 0.10  # share of the reference's standard deviation
# A window of equal values, or of none, is broken where chance gives it less often than once in a million windows.
BROKEN_LOG10_P = -6.0


def constant_log10_p(cells: NumericCells, reference: Vector, window: Vector, m_eff: float) -> float | None:
    """Return how surprising it is that all values of the window are the same; None if they are not the same.

    The result is log10 of the hypergeometric p-value: `m_eff` values are drawn from the window's and the reference's
    together, and all of them are the same. No share that the reference only estimates is taken for the truth.
    """
    values, expected = cells.values(window), cells.values(reference)
    at, events = int(np.argmax(values)), int(values.sum())
    if not events or values[at] != events:
        return None
    count, total, squares = cells.log_moments(window)
    # between two anchors different values share a cell, but equal ones have no spread of their logarithm either
    # (and zeros have none)
    if at % 2 == 0 and not (count in {0, events} and squares * count == total * total):
        return None
    return log10_p_more(int(expected[at]), int(expected.sum()), events, events, m_eff)


def unit_jump(cells: NumericCells, reference: Vector, window: Vector) -> str | None:
    """Return `×100` where the values look like the reference's in another unit, else None.

    The mean of log10|x| moved by log10 of a known factor within 0.03, and its standard deviation stayed within 10 %.
    On both sides at least half of the values are not 0: another unit does not change which values are 0.
    """
    sides = [(cells.log_moments(vector), int(cells.values(vector).sum())) for vector in (reference, window)]
    if any(2 * found[0] < values or not values for found, values in sides):
        return None
    (reference_mean, reference_spread), (mean, spread) = (moments(*found) for found, _ in sides)
    if not reference_spread or abs(spread - reference_spread) > UNIT_SPREAD * reference_spread:
        return None
    shift = mean - reference_mean
    for factor in UNIT_FACTORS:
        if abs(abs(shift) - math.log10(factor)) <= UNIT_SHIFT:
            return f"{'×' if shift > 0 else '÷'}{factor:g}"
    return None


def moments(count: int, total: int, squares: int) -> tuple[float, float]:
    """Return mean and standard deviation in decades from `NumericCells.log_moments`; zeros without values."""
    if count == 0:
        return 0.0, 0.0
    mean = total / count
    return mean / 1000.0, math.sqrt(max(0.0, squares / count - mean * mean)) / 1000.0
