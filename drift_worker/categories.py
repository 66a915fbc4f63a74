"""Categories: shares that moved, and the two-sample χ² test with sparse cells pooled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from drift_worker.cells import Vector
from drift_worker.tails import log10_chi2

# The usual rule for χ²: at least this many expected events in a cell. Without it sparse cells alarm 52 × too often.
EXPECTED = 5.0


def largest_move(reference: Vector, window: Vector) -> float:
    """L∞ = max |p_w - p_r| over the cells; both must hold at least one value."""
    return float(np.abs(window / window.sum() - reference / reference.sum()).max())


def chi2(
    reference: Vector | NDArray[np.float64], window: Vector, m_eff: float, *, rare_last: bool
) -> tuple[float, int] | None:
    """The two-sample χ² statistic and its degrees of freedom; None where fewer than two cells are left.

    The window's shares count as those of `m_eff` independent events, the reference's as those of its sum. Cells are
    pooled, the smallest first, while the smaller sample would expect fewer than 5 events in one. `rare_last`: the last
    cell holds values that are rare each (unseen categories) and is always among the pooled ones.
    """
    n = float(reference.sum())
    p, q = reference / n, window / window.sum()
    shares = (n * p + m_eff * q) / (n + m_eff)
    smaller = min(n, m_eff)
    order = np.argsort(shares, kind="stable")
    if rare_last:
        last = len(shares) - 1
        order = np.concatenate([[last], order[order != last]])
    pooled = int(rare_last) + int((smaller * shares[order[int(rare_last) :]] < EXPECTED).sum())
    # the pool must reach the limit itself, unless it is empty
    while pooled < len(order) and 0.0 < smaller * shares[order[:pooled]].sum() < EXPECTED:
        pooled += 1
    pool, rest = order[:pooled], order[pooled:]
    p, q, shares = (np.append(x[rest], x[pool].sum()) for x in (p, q, shares))
    kept = shares > 0
    cells = int(kept.sum())
    if cells < 2:
        return None
    moved = p[kept] - q[kept]
    return float((moved * moved / shares[kept]).sum() / (1.0 / n + 1.0 / m_eff)), cells - 1


def log10_p(statistic: float, df: int) -> float:
    """log10 of the probability of such a χ² without drift."""
    return log10_chi2(statistic, df)
