"""Tail probabilities as log10 p: a p-value of a real shift underflows a double, its logarithm does not."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc, chdtri, gammaln, kolmogi, kolmogorov

_TINY = 1e-280
_TABLE = 1 << 16  # half a megabyte: rows and events of most windows
_LN10 = math.log(10.0)

Numbers = float | NDArray[Any]


def log10_chi2(x: Numbers, df: Numbers) -> NDArray[np.float64]:
    """Return log10 P(χ²(df) ≥ x), of each; 0 for df < 1."""
    x, df = np.broadcast_arrays(x, df)
    p, logs = np.ones(x.shape), np.zeros(x.shape)
    chdtrc(df, x, out=p, where=(df >= 1) & (x > 0.0))
    np.log10(p, out=logs, where=p > _TINY)
    beyond = p <= _TINY
    for at in np.argwhere(beyond).tolist() if beyond.any() else []:
        logs[*at] = _log10_chi2_beyond(float(x[*at]), int(df[*at]))
    return logs


def _log10_chi2_beyond(x: float, df: int) -> float:
    """Return the same where p is no double any more."""
    # Γ(a, y) ~ y^(a-1)·e^-y·(1 + (a-1)/y + (a-1)(a-2)/y² + …), DLMF 8.11.2; y is in the hundreds here
    a, y = df / 2.0, x / 2.0
    term = total = 1.0
    for k in range(1, 50):
        term *= (a - k) / y
        if abs(term) < 1e-12 * abs(total) or abs(a - k) >= y:
            break
        total += term
    return (-y + (a - 1.0) * math.log(y) - float(gammaln(a)) + math.log(max(total, _TINY))) / _LN10


def chi2_limit(p: float, df: Numbers) -> NDArray[np.float64]:
    """Return the x that χ²(df) exceeds with probability p, of each; 0 for df < 1."""
    limit: NDArray[np.float64] = np.where(np.asarray(df) < 1, 0.0, chdtri(np.maximum(df, 1), p))
    return limit


def log10_kolmogorov(x: Numbers) -> NDArray[np.float64]:
    """Return log10 of the asymptotic P(D·sqrt(nm/(n+m)) ≥ x) (Smirnov 1948), of each."""
    p = kolmogorov(x)
    # beyond the first term of 2·Σ(-1)^(k-1)·exp(-2k²x²) no term contributes there
    logs: NDArray[np.float64] = np.where(
        p > _TINY, np.log10(np.maximum(p, _TINY)), (math.log(2.0) - 2.0 * x * x) / _LN10
    )
    return logs


def kolmogorov_limit(p: float) -> float:
    """Return the x that D·sqrt(nm/(n+m)) exceeds with probability p."""
    return float(kolmogi(p))


def log10_hypergeometric(x: int, m: int, k: int, n: int) -> tuple[float, float]:
    """Return log10 P(X ≤ x) and log10 P(X ≥ x): m of m + n rows are drawn, k of all of them are marked."""
    low, high = max(0, k - n), min(k, m)
    if not low <= x <= high:
        raise ValueError(f"{x} marked rows of {m} drawn are impossible with {k} marked among {m + n}")
    total = m + n
    # x, the mean, and 40 standard deviations (a few hundred terms at least) on each side: what is left out is < 1e-300
    mean = m * k / total
    reach = 300 + int(40 * math.sqrt(max(1.0, mean * (1 - k / total))))
    first, last = max(low, int(min(x, mean)) - reach), min(high, int(max(x, mean)) + reach)
    log_p = _log_choose(k, first, last) + _log_choose(total - k, m - last, m - first)[::-1] - _log_choose(total, m, m)
    at = x - first
    return _log10_sum(log_p[: at + 1]), _log10_sum(log_p[at:])


def _log_choose(n: int, first: int, last: int) -> NDArray[np.float64]:
    """Return the logarithms of n over k for k = first … last."""
    return _log_factorial(n, n) - _log_factorial(first, last) - _log_factorial(n - last, n - first)[::-1]


def _log_factorial(first: int, last: int) -> NDArray[np.float64]:
    """Return the logarithms of k! for k = first … last."""
    if last < _TABLE:
        return _log_factorials()[first : last + 1]
    out: NDArray[np.float64] = gammaln(np.arange(first, last + 1, dtype=np.float64) + 1.0)
    return out


@lru_cache(maxsize=1)
def _log_factorials() -> NDArray[np.float64]:
    """Return the logarithms of k! for k < _TABLE; kept, because they were half of the time of a test."""
    out: NDArray[np.float64] = gammaln(np.arange(1.0, _TABLE + 1.0))
    return out


def _log10_sum(logs: NDArray[np.float64]) -> float:
    top = float(logs.max())
    return min(0.0, (top + math.log(float(np.exp(logs - top).sum()))) / _LN10)
