"""Rates of missing values and of unseen categories, tested exactly (hypergeometric, i.e. Fisher's test)."""

from __future__ import annotations

import math

from drift_worker.tails import log10_hypergeometric


def scaled(x: int, m: int, m_eff: float) -> tuple[int, int]:
    """Of m events x, as counts of independent ones: ⌊x·m_eff/m⌋ of ⌊m_eff⌋."""
    drawn = math.floor(m_eff)
    return min(drawn, math.floor(x * m_eff / m)), drawn


def log10_p_two_sided(reference: int, n: int, window: int, m: int, m_eff: float) -> float:
    """log10 p that a rate moved either way: twice the smaller tail, at most 1.

    `reference` of n reference rows, `window` of m events, which count as m_eff independent ones.
    """
    x, drawn = scaled(window, m, m_eff)
    if reference + x in (0, n + drawn):
        return 0.0
    return min(0.0, math.log10(2.0) + min(log10_hypergeometric(x, drawn, reference + x, n)))


def log10_p_more(reference: int, n: int, window: int, m: int, m_eff: float) -> float:
    """log10 p that a rate grew: the upper tail."""
    x, drawn = scaled(window, m, m_eff)
    if x == 0:
        return 0.0
    return log10_hypergeometric(x, drawn, reference + x, n)[1]
