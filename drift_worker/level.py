"""How small a p-value must be so that false alerts stay within a budget per month.

An alert needs k of N windows. Two windows of one length are not independent: the same reference and many of the same
customers come back, which gives their statistics a correlation r. With T tests per window, W windows a month and L
window lengths, the level a of a single test solves T·C(N-1, k-1)·P_k(a, r) = budget/(L·W), where P_k(a, r) is the
chance that k equicorrelated normal statistics all exceed the a-quantile.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache

from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import log_ndtr, ndtri

MONTH_MS = 30 * 86_400_000
MAX_Q = 0.05
MAX_CORRELATION = 0.999
# Correlations are rounded up to a hundredth: a larger one gives a smaller level, and each costs a millisecond, once.
# To a tenth, which would be fewer, the level of 1,000 events against 7,000 rows (r = 0.125) was 2.7e-4 instead of
# 4.1e-4, and a shift of 0.2 standard deviations was overlooked by one window in a hundred more.
_STEPS = 100
_LOWEST, _HIGHEST = -60.0, math.log10(0.5)


def correlation(n: float, m_eff: float, overlap: float) -> float:
    """The correlation r of two successive windows: what they share (reference rows, customers) over what there is.

    n: reference rows. overlap: Σkᵢ·lᵢ/(m·m') over the customers of both windows, 0 if none came back.
    """
    return min(MAX_CORRELATION, (1.0 / n + overlap) / (1.0 / n + 1.0 / m_eff))


def level(k: int, n: int, tests: int, lengths: int, length_ms: int, budget: float, r: float) -> float:
    """The level of one test for k of n windows; `length_ms` is that of the window. At most 0.5."""
    windows = MONTH_MS / length_ms
    target = math.log10(budget / (lengths * windows) / (tests * math.comb(n - 1, k - 1)))
    if k == 1:
        return float(10.0 ** min(target, _HIGHEST))
    # less a rounding error: 0.07 * 100 is more than 7
    return _solve(k, target, min(MAX_CORRELATION, math.ceil(r * _STEPS - 1e-9) / _STEPS))


@lru_cache(maxsize=4096)
def _solve(k: int, target: float, r: float) -> float:
    """The level at which k windows of correlation r all exceed with probability 10^target."""

    def excess(log10_a: float) -> float:
        return joint_log10(10.0**log10_a, k, r) - target

    if excess(_HIGHEST) <= 0.0:
        return float(10.0**_HIGHEST)
    return float(10.0 ** brentq(excess, _LOWEST, _HIGHEST, xtol=1e-6))


def joint_log10(a: float, k: int, r: float) -> float:
    """log10 P_k(a, r): all k standard normals with pairwise correlation r exceed the upper a-quantile.

    ∫ φ(t)·Φ((√r·t - z)/√(1-r))^k dt over [-8, 8], with a break where the integrand bends: Gauss-Hermite quadrature is
    off by a third at r = 0.999.
    """
    if r <= 0.0:
        return k * math.log10(a)
    z = float(-ndtri(a))
    root, rest = math.sqrt(r), math.sqrt(1.0 - r)

    def density(t: float) -> float:
        return math.exp(-0.5 * t * t + k * float(log_ndtr((root * t - z) / rest)) + shift)

    # the integrand may be as small as 1e-120: scale it by its largest value on a grid
    grid = [i / 8.0 for i in range(-64, 65)]
    shift = -max(-0.5 * t * t + k * float(log_ndtr((root * t - z) / rest)) for t in grid)
    bend = min(max(z / root, -8.0), 8.0)
    points = [bend] if -8.0 < bend < 8.0 else None
    total, _ = quad(density, -8.0, 8.0, points=points, limit=200)
    return (math.log(total / math.sqrt(2.0 * math.pi)) - shift) / math.log(10.0)


def benjamini_hochberg(log10_p: Iterable[float], q: float, tests: int) -> float:
    """log10 of the largest p that is significant, -inf if none is (Benjamini & Hochberg 1995).

    `tests` counts those that were not made, too.
    """
    limit = -math.inf
    for i, value in enumerate(sorted(log10_p), start=1):
        if value <= math.log10(q * i / tests):
            limit = value
    return limit
