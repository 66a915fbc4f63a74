"""Categories: the two-sample χ² test with sparse cells pooled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from drift_worker.counts.bins import Vector
from drift_worker.statistics.tail_probability import Numbers, log10_chi2

# The usual rule for χ²: at least this many expected events in a cell. Without it sparse cells alarm 52 × too often.
EXPECTED = 5.0


def chi2s(
    reference: Vector | NDArray[np.float64], windows: NDArray[Any], m_eff: NDArray[np.float64], *, rare_last: bool
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return two-sample χ² and its degrees of freedom of many windows; both 0 where fewer than two cells are left.

    windows: (w, cells), m_eff: (w,), results: (w,). reference: (cells,), or one for each, (w, cells). A window's shares
    count as those of its m_eff independent events, the reference's as those of its sum. Cells are pooled, the smallest
    first, while the smaller sample would expect fewer than 5 events in one. `rare_last`: the last cell holds values
    that are rare each (unseen categories) and is always among the pooled ones. A cell that is empty on both sides makes
    no difference, so that features with fewer cells may be filled up with them.
    """
    n = np.broadcast_to(reference.sum(axis=-1, keepdims=True), (len(windows), 1)).astype(np.float64)
    p, q = np.broadcast_to(reference, windows.shape) / n, windows / windows.sum(axis=1, keepdims=True)
    m_eff = m_eff[:, None]
    shares = (n * p + m_eff * q) / (n + m_eff)
    rank = shares
    if rare_last:
        rank = shares.copy()
        rank[:, -1] = -1.0
    order, each = np.argsort(rank, axis=1, kind="stable"), np.arange(len(rank))
    p, q, shares = (np.take_along_axis(column, order, axis=1) for column in (p, q, shares))
    expected = np.minimum(n, m_eff) * shares
    first = int(rare_last)
    pooled = first + (expected[:, first:] < EXPECTED).sum(axis=1)
    # the pool must reach the limit itself, unless it is empty
    total = np.cumsum(expected, axis=1)
    enough = np.minimum((total < EXPECTED).sum(axis=1) + 1, total.shape[1])
    held = total[each, np.maximum(pooled, 1) - 1]
    pooled = np.where((pooled > 0) & (held > 0.0), np.maximum(pooled, enough), pooled)
    pool = np.arange(total.shape[1]) < pooled[:, None]
    moved = np.column_stack([np.where(pool, 0.0, p - q), ((p - q) * pool).sum(axis=1)])
    shares = np.column_stack([np.where(pool, 0.0, shares), (shares * pool).sum(axis=1)])
    kept = shares > 0.0
    df = np.maximum(kept.sum(axis=1) - 1, 0)
    terms = np.divide(moved * moved, shares, out=np.zeros_like(shares), where=kept)
    statistic = terms.sum(axis=1) / (1.0 / n + 1.0 / m_eff)[:, 0]
    return np.where(df > 0, statistic, 0.0), df


def log10_p(statistic: Numbers, df: Numbers) -> NDArray[np.float64]:
    """Return log10 of the probability of such a χ² without drift, of each."""
    return log10_chi2(statistic, df)
