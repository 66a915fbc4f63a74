"""Data that broke rather than drifted: a constant, or another unit."""

from __future__ import annotations

import math

import numpy as np

from drift_worker.cells import NumericCells, Vector

UNIT_FACTORS = (10.0, 60.0, 100.0, 1000.0)
UNIT_SHIFT = 0.03  # decades
UNIT_SPREAD = 0.10  # share of the reference's standard deviation
# log10 of the chance that all events fall into one cell although the reference varies
CONSTANT_LOG10_P = -6.0


def constant(cells: NumericCells, reference: Vector, window: Vector, m_eff: float) -> bool:
    """Every value of the window is the same, and for this reference that is no coincidence."""
    values, expected = cells.values(window), cells.values(reference)
    at = int(np.argmax(values))
    if values[at] != values.sum():
        return False
    count, total, squares = cells.log_moments(window)
    # between two anchors different values share a cell, but equal ones have no spread of their logarithm either
    # (and zeros have none)
    if at % 2 == 0 and not (count in {0, int(values[at])} and squares * count == total * total):
        return False
    share = max(float(expected[at]), 0.5) / float(expected.sum())
    return m_eff * math.log10(share) < CONSTANT_LOG10_P


def unit_jump(cells: NumericCells, reference: tuple[float, float], window: Vector, events: int) -> str | None:
    """`×100` where the values look like the reference's in another unit, else None.

    The mean of log10|x| moved by log10 of a known factor within 0.03, and its standard deviation stayed within 10 %.
    reference: its `moments`. events: values in the window; half of them must not be 0.
    """
    count, total, squares = cells.log_moments(window)
    if 2 * count < events:
        return None
    mean, spread = moments(count, total, squares)
    reference_mean, reference_spread = reference
    if not reference_spread or abs(spread - reference_spread) > UNIT_SPREAD * reference_spread:
        return None
    shift = mean - reference_mean
    for factor in UNIT_FACTORS:
        if abs(abs(shift) - math.log10(factor)) <= UNIT_SHIFT:
            return f"{'×' if shift > 0 else '÷'}{factor:g}"
    return None


def moments(count: int, total: int, squares: int) -> tuple[float, float]:
    """Mean and standard deviation in decades from `NumericCells.log_moments`; zeros without values."""
    if count == 0:
        return 0.0, 0.0
    mean = total / count
    return mean / 1000.0, math.sqrt(max(0.0, squares / count - mean * mean)) / 1000.0
