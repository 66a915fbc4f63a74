"""Shares with an exact test (hypergeometric, i.e. Fisher's): missing, unseen, out of range, and one value that spread.

A unit error in 5 % of the rows moves PSI and Kolmogorov-Smirnov's D by less than their limits, and so does a sensor
that is stuck in 8 % of them. Both are plain in the counts: values beyond all the reference's, and one value that the
reference hardly has. Each share has a separate limit.

One customer is no change. In the bins concerned, these tests leave out the events that the two largest customer groups
have above the median group's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drift_worker.counts.bins import Vector
from drift_worker.statistics.tail_probability import log10_hypergeometric

# A value that this share of the reference has is common: what it gains is seen in PSI and D.
RARE_SHARE = 0.01
# Of a share below it no test is made: it is far from any limit, and an exact test costs 50 µs.
LEAST_TESTED = 0.005
# One value below the smallest of the reference, and one above its largest, is what the next rows may be.
_OUTERMOST = 2
_LOUDEST = 2


def scaled(x: int, m: int, m_eff: float) -> tuple[int, int]:
    """Return x of m events as counts of independent ones: ⌊x·m_eff/m⌋ of ⌊m_eff⌋."""
    drawn = math.floor(m_eff)
    return min(drawn, math.floor(x * m_eff / m)), drawn


def log10_p_two_sided(reference: int, n: int, window: int, m: int, m_eff: float) -> float:
    """Return log10 p that a rate moved either way: twice the smaller tail, at most 1.

    `reference` of n reference rows, `window` of m events, which count as m_eff independent ones.
    """
    x, drawn = scaled(window, m, m_eff)
    if reference + x in (0, n + drawn):
        return 0.0
    return min(0.0, math.log10(2.0) + min(log10_hypergeometric(x, drawn, reference + x, n)))


def log10_p_more(reference: int, n: int, window: int, m: int, m_eff: float) -> float:
    """Return log10 p that a rate grew: the upper tail."""
    x, drawn = scaled(window, m, m_eff)
    if x == 0:
        return 0.0
    return log10_hypergeometric(x, drawn, reference + x, n)[1]


@dataclass(frozen=True, slots=True)
class LocalChange:
    """Shares of a number's values in a window, and the log10 p of those that were tested."""

    #: Outside the reference's range.
    out_of_range: float
    #: What the rare value that is most frequent gained, at least 0.
    spike: float
    #: By the name of the test, `out_of_range` and `spike`.
    tests: dict[str, float]
    #: How many values are out of range, and how many are the most frequent rare value.
    counts: tuple[int, int]


def rare_values(reference: Vector) -> NDArray[np.int64]:
    """Return 1 for every value cell that at most 1 % of the reference's values are in, 0 for the others.

    The first and the last cell, which are out of range, are 0.
    """
    rare: NDArray[np.int64] = (reference <= RARE_SHARE * reference.sum()).astype(np.int64)
    rare[[0, -1]] = 0
    return rare


def local_change(
    reference: Vector,
    rare: NDArray[np.int64],
    window: Vector,
    m_eff: float,
    bin_of: NDArray[np.intp],
    groups: NDArray[Any],
) -> LocalChange:
    """Return the shares of a window with at least one value.

    reference, rare, window: (2a+1,), by value cell. m_eff: as how many independent values the window counts. bin_of:
    (2a+1,), the PSI bin of each cell. groups: (GROUPS, b), the window's values by customer group and PSI bin.
    """
    m, n = int(window.sum()), int(reference.sum())
    outside = int(window[0] + window[-1])
    at = int(np.argmax(window * rare))
    spread = int(window[at]) if rare[at] else 0
    gained = max(0.0, spread / m - int(reference[at]) / n)
    tests: dict[str, float] = {}
    if outside / m >= LEAST_TESTED:
        ends = [bin_of[0], bin_of[-1]] if bin_of[0] != bin_of[-1] else [bin_of[0]]
        known = min(outside, _without_loudest(outside, groups[:, ends].sum(axis=1)))
        tests["out_of_range"] = log10_p_more(_OUTERMOST, n, known, m, m_eff)
    if gained >= LEAST_TESTED:
        known = _without_loudest(spread, groups[:, bin_of[at]])
        # it is the largest of all cells: each of them might have been
        log_p = log10_p_more(max(1, int(reference[at])), n, known, m, m_eff) + math.log10(len(window))
        tests["spike"] = min(0.0, log_p)
    return LocalChange(outside / m, gained, tests, (outside, spread))


def _without_loudest(count: int, groups: NDArray[Any]) -> int:
    """Return `count` without what the two loudest groups have more than the median group; at least 0."""
    more = np.sort(groups)[-_LOUDEST:] - np.median(groups)
    return max(0, count - math.ceil(float(np.maximum(more, 0.0).sum())))
