"""How many independent events repeated customers amount to: the m events of a window count as m/deff.

Customers fall into 64 groups by hash. T_gk are the events of group g in cell k, n_g its events, p_k = Σ_g T_gk/m. Let
V_k = G/(G-1)·Σ_g (T_gk - n_g·p_k)². The design effect is the ratio of V to what independent events would give (Rao &
Scott 1981; groups as random clusters: Cochran 1977). It lies between 1 and `repeat` = m/m_kish, where m_kish = m²/Σkᵢ²
(Kish 1965) would be right if every repeat of a customer were identical.

Tables are float64 (groups, C): the cells of F features side by side (`statistics.stacked`). Results are float64 (F,).
`groups` is G, for each feature or for all; a group that is left out is a row of zeros and not among them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from drift_worker.counts.bins import GROUPS
from drift_worker.statistics.stacked import Spans

# A group is expected to hold 1/64 = 1.6 % of the events; above this one customer dominates it.
DOMINANT_SHARE = 0.05

Table = NDArray[np.float64]
PerFeature = NDArray[np.float64]


def deff_cells(table: Table, spans: Spans, repeat: float, groups: NDArray[np.intp] | int = GROUPS) -> PerFeature:
    """Return the design effect of PSI and χ²: [Σ_k (1-p_k)·V_k / (m·p_k(1-p_k))] / Σ_k (1-p_k)."""
    sizes = spans.sums(table)
    v, p = _spread(table, sizes, spans, groups)
    inner = (p > 0.0) & (p < 1.0)
    m = spans.each(sizes.sum(axis=0))
    ratio = np.divide(v, m * p, out=np.zeros_like(v), where=inner)
    # all in one cell: the spread of repeats cannot be estimated
    return _between(spans.sums(ratio), spans.sums(np.where(inner, 1.0 - p, 0.0)), sizes, repeat)


def deff_thresholds(table: Table, spans: Spans, repeat: float, groups: NDArray[np.intp] | int = GROUPS) -> PerFeature:
    """Return that of Kolmogorov-Smirnov: Σ_j V_j / Σ_j m·F_j(1-F_j), both on cumulative cells."""
    sizes = spans.sums(table)
    v, f = _spread(spans.cumulative(table), sizes, spans, groups)
    m = spans.each(sizes.sum(axis=0))
    return _between(spans.sums(v), spans.sums(m * f * (1.0 - f)), sizes, repeat)


def deff_rate(inside: Table, sizes: Table, repeat: float) -> PerFeature:
    """Return that of a rate, V / (m·p(1-p)). inside, sizes: (groups, F), some and all of the events."""
    m = sizes.sum(axis=0)
    p = inside.sum(axis=0) / np.maximum(m, 1.0)
    v = GROUPS / (GROUPS - 1.0) * np.square(inside - sizes * p).sum(axis=0)
    return _between(v, m * p * (1.0 - p), sizes, repeat)


def without_dominant(sizes: Table) -> NDArray[np.bool_]:
    """Return (groups, F), which groups to keep: those with at most 5 % of the feature's events.

    All are kept if too few remained. sizes: (groups, F), events of each.
    """
    small = sizes <= DOMINANT_SHARE * sizes.sum(axis=0)
    enough = np.count_nonzero(sizes * small, axis=0) > 1
    kept: NDArray[np.bool_] = small | ~enough
    return kept


def _spread(
    cells: Table, sizes: Table, spans: Spans, groups: NDArray[np.intp] | int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return V_k and p_k, (C,)."""
    g = np.broadcast_to(np.asarray(groups, dtype=np.float64), sizes.shape[1:])
    p = cells.sum(axis=0) / spans.each(np.maximum(sizes.sum(axis=0), 1.0))
    rest = cells - spans.each(sizes) * p
    return spans.each(g / (g - 1.0)) * np.square(rest).sum(axis=0), p


def _between(observed: PerFeature, independent: PerFeature, sizes: Table, repeat: float) -> PerFeature:
    """Return their ratio, between 1 and `repeat`; `repeat` where nothing varies, 1 without events."""
    deff = np.divide(observed, independent, out=np.full_like(observed, repeat), where=independent > 0.0)
    return np.where(sizes.any(axis=0), np.clip(deff, 1.0, max(1.0, repeat)), 1.0)
