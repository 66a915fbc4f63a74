"""How small a p-value must be so that false alerts stay within a budget per month.

An alert needs k of N windows. Two windows of one length are not independent: they share the reference and many of the
customers, which gives their statistics a correlation r. There are T tests per window, W windows a month and L window
lengths. The level a of a single test solves T·C(N-1, k-1)·P_k(a, r) = budget/(L·W). Here P_k(a, r) is the chance that k
equicorrelated normal statistics all exceed the a-quantile.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from scipy.special import log_ndtr, ndtri

MONTH_MS = 30 * 86_400_000
MAX_Q = 0.05
MAX_CORRELATION = 0.999
# Correlations are rounded up to a hundredth: a larger one gives a smaller level, and each takes a millisecond, once.
# Rounded to a tenth, the level of 1,000 events against 7,000 rows (r = 0.125) was 2.7e-4 instead of 4.1e-4. A shift of
# 0.2 standard deviations was then missed in one window in a hundred more.
_STEPS = 100
_LOWEST, _HIGHEST = -60.0, math.log10(0.5)
_STEP = 1 / 256
_T = np.arange(-20.0, 20.0 + _STEP, _STEP)


def correlation(n: float, m_eff: float, overlap: float) -> float:
    """Return the correlation r of two successive windows: what they share over what there is.

    They share `n` reference rows and customers. `overlap` is Σkᵢ·lᵢ/(m·m') over the customers of both windows, 0 if
    none came back.
    """
    return min(MAX_CORRELATION, (1.0 / n + overlap) / (1.0 / n + 1.0 / m_eff))


def level(k: int, n: int, tests: int, lengths: int, length_ms: int, budget: float, r: float) -> float:
    """Return the level of one test for k of n windows of `length_ms`; at most 0.5."""
    windows = MONTH_MS / length_ms
    target = math.log10(budget / (lengths * windows) / (tests * math.comb(n - 1, k - 1)))
    if k == 1:
        return float(10.0 ** min(target, _HIGHEST))
    # less a rounding error: 0.07 * 100 is more than 7
    return _solve(k, target, min(MAX_CORRELATION, math.ceil(r * _STEPS - 1e-9) / _STEPS))


@lru_cache(maxsize=4096)
def _solve(k: int, target: float, r: float) -> float:
    """Return the level at which k windows of correlation r all exceed with probability 10^target."""
    low, high = _LOWEST, _HIGHEST
    if joint_log10(10.0**high, k, r) <= target:
        return float(10.0**high)
    while high - low > 1e-6:
        middle = (low + high) / 2.0
        if joint_log10(10.0**middle, k, r) > target:
            high = middle
        else:
            low = middle
    return float(10.0**low)


def joint_log10(a: float, k: int, r: float) -> float:
    """Return log10 P_k(a, r): all k normals with pairwise correlation r ≤ 0.999 exceed the upper a-quantile.

    The integral ∫ φ(t)·Φ((√r·t - z)/√(1-r))^k dt is computed by the trapezoid rule. Its error falls exponentially with
    the step for a smooth integrand that vanishes at both ends (Trefethen & Weideman 2014). The step is an eighth of the
    narrowest bend. (Gauss-Hermite quadrature is off by a third at r = 0.999. scipy.integrate and scipy.optimize would
    do as well, and make the process 28 MB larger.)
    """
    if r <= 0.0:
        return k * math.log10(a)
    z, root, rest = float(-ndtri(a)), math.sqrt(r), math.sqrt(1.0 - r)
    # may be as small as 1e-120: everything relative to its largest value
    logs = -0.5 * _T * _T + k * log_ndtr((root * _T - z) / rest)
    top = float(logs.max())
    return (math.log(float(np.exp(logs - top).sum()) * _STEP / math.sqrt(2.0 * math.pi)) + top) / math.log(10.0)


def benjamini_hochberg(log10_p: Iterable[float], q: float, tests: int) -> float:
    """Return log10 of the largest p that is significant, -inf if none is (Benjamini & Hochberg 1995).

    `tests` counts those that were not made, too.
    """
    limit = -math.inf
    for i, value in enumerate(sorted(log10_p), start=1):
        if value <= math.log10(q * i / tests):
            limit = value
    return limit
