"""How much repeated customers tell: the m events of a window count as m/deff independent ones.

Customers fall into 64 groups by hash. T_gk are the events of group g in cell k, n_g its events, p_k = Σ_g T_gk/m. With
V_k = G/(G-1)·Σ_g (T_gk - n_g·p_k)² the design effect is the ratio of V to what independent events would give (Rao &
Scott 1981; groups as random clusters: Cochran 1977). It lies between 1 and `repeat` = m/m_kish, where m_kish = m²/Σkᵢ²
(Kish 1965) would be right if every repeat of a customer were identical.

Tables are float64 (groups, cells).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# A group is expected to hold 1/64 = 1.6 % of the events; above this one customer dominates it.
DOMINANT_SHARE = 0.05

Table = NDArray[np.float64]


def deff_cells(table: Table, repeat: float) -> float:
    """For PSI, χ² and rates: [Σ_k (1-p_k)·V_k / (m·p_k(1-p_k))] / Σ_k (1-p_k)."""
    total = float(table.sum())
    if repeat <= 1.0 or total == 0.0:
        return 1.0
    v, p = _spread(table)
    inner = (p > 0.0) & (p < 1.0)
    if not inner.any():
        return repeat  # all in one cell: nothing shows how repeats differ
    v, p = v[inner], p[inner]
    return _between(float((v / (total * p)).sum() / (1.0 - p).sum()), repeat)


def deff_thresholds(table: Table, repeat: float) -> float:
    """For Kolmogorov-Smirnov: Σ_j V_j / Σ_j m·F_j(1-F_j), both on cumulative cells."""
    total = float(table.sum())
    if repeat <= 1.0 or total == 0.0:
        return 1.0
    v, f = _spread(table, cumulative=True)
    expected = float((total * f * (1.0 - f)).sum())
    return _between(float(v.sum()) / expected, repeat) if expected > 0.0 else repeat


def without_dominant(table: Table) -> Table | None:
    """Only the groups that hold at most 5 % of the events; None if that is every group, or too few to compare."""
    sizes = table.sum(axis=1)
    dominant = sizes > DOMINANT_SHARE * sizes.sum()
    return table[~dominant] if dominant.any() and np.count_nonzero(sizes[~dominant]) > 1 else None


def _spread(table: Table, *, cumulative: bool = False) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """V_k and p_k."""
    sizes = table.sum(axis=1)
    cells = np.cumsum(table, axis=1) if cumulative else table
    p = cells.sum(axis=0) / sizes.sum()
    rest = cells - sizes[:, None] * p
    groups = len(table)
    return groups / (groups - 1.0) * (rest * rest).sum(axis=0), p


def _between(deff: float, repeat: float) -> float:
    return min(max(deff, 1.0), repeat)
