"""Population stability index: the textbook's, exactly, and the same formula on cells that do not collapse.

PSI = Σ (p_w - p_r)·ln(p_w / p_r) over B cells, with p = (count + 1)/(total + B). Without drift PSI/h follows χ²(B-1),
where h = 1/n + 1/m_eff (a second-order expansion: B. Yurdakul, Statistical Properties of Population Stability Index,
2018). So its expectation is (B-1)·h, which PSI* takes off.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from drift_worker.counts.bins import NumericCells, Vector
from drift_worker.statistics.stacked import Spans
from drift_worker.statistics.tail_probability import Numbers, chi2_limit, log10_chi2

TEXTBOOK_BINS = 10
NULL_SHARE = 0.001

PerFeature = NDArray[np.float64]


def psi(reference: Vector, window: Vector) -> float:
    """Return the PSI of two vectors of counts over the same cells.

    >>> round(psi(np.array([10, 20, 30]), np.array([30, 20, 10])), 6)
    0.657836
    """
    return float(psis(reference, window[None, :])[0])


def psis(reference: Vector, windows: NDArray[Any]) -> NDArray[np.float64]:
    """Return `psi` of many windows at once: (w, cells) give (w,). reference: (cells,), or one for each, (w, cells)."""
    cells = float(reference.shape[-1])
    p = (reference + 1.0) / (reference.sum(axis=-1, keepdims=True) + cells)
    q = (windows + 1.0) / (windows.sum(axis=1, keepdims=True) + cells)
    total: PerFeature = _terms(p, q).sum(axis=1)
    return total


def smoothed(spans: Spans, counts: NDArray[np.float64], used: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return p of the cells of F features side by side, (C,). used: 1 for the cells that count, 0 for the others."""
    one_more = (counts + 1.0) * used
    p: NDArray[np.float64] = one_more / spans.each(spans.sums(one_more))
    return p


def psis_of(spans: Spans, p: NDArray[np.float64], q: NDArray[np.float64], used: NDArray[np.float64]) -> PerFeature:
    """Return `psi` of many features at once, from what is `smoothed`: (C,) give (F,)."""
    apart = 1.0 - used  # there both are 0
    return spans.sums(_terms(p + apart, q + apart))


def _terms(p: NDArray[np.float64], q: NDArray[np.float64]) -> NDArray[np.float64]:
    return (q - p) * np.log(q / p)


def psi_corrected(value: Numbers, cells: Numbers, h: Numbers) -> PerFeature:
    """Return PSI* of each: what is left of `value` above its expectation without drift, at least 0."""
    left: PerFeature = np.maximum(0.0, value - (cells - 1) * h)
    return left


def log10_p(value: Numbers, cells: Numbers, h: Numbers) -> PerFeature:
    """Return log10 of the probability of such a PSI without drift. Conservative below 50 events per cell."""
    return log10_chi2(value / h, cells - 1)


def null_limit(cells: Numbers, h: Numbers, share: float = NULL_SHARE) -> PerFeature:
    """Return the PSI that such a share of windows exceeds without drift: one in a thousand."""
    return h * chi2_limit(share, cells - 1)


def textbook_counts(cells: NumericCells, cumulative: Vector) -> Vector:
    """Return int64 (10,): counts between -∞, the reference's percentiles 10 … 90 and +∞.

    `cumulative` are the counts of the 2a+1 cells. A value equal to a break goes to the bin above it, as in
    numpy.histogram. A repeated break gives an empty bin.
    """
    return np.diff(cumulative[textbook_ends(cells)], prepend=0)


def textbook_ends(cells: NumericCells) -> NDArray[np.int64]:
    """Return int64 (10,): the last of the 2a+1 cells in each of the textbook's bins."""
    return np.append(2 * cells.breaks, cells.cells - 1)


def psi_textbook(cells: NumericCells, reference: Vector, window: Vector) -> float:
    """Return the textbook's PSI from cumulative counts, equal to that from numpy.histogram over the raw values."""
    return psi(textbook_counts(cells, reference), textbook_counts(cells, window))
