"""Every test of relations: a window's moments against those of the reference, or of the calm past.

correlation  of two numbers: r of their normal scores. Its standard error comes from the influence of each of the
             reference's rows on r, so that no distribution is assumed.
association  of a category with one of another feature: the same, of indicators. Cells in which fewer than 10 events are
             expected are left out: few events are not normally distributed.
segment      the mean of a number within a category. A number that moves everywhere moves in each of them, and a mix of
             categories that changes moves it in none. So what is tested is how far the mean within one category moved
             beyond the common movement of all of that feature's categories, which weighs each by its precision.

Segments are in standard deviations of the reference, correlations and associations as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from drift_worker.counts.products import UNIT
from drift_worker.relations.matrix import Matrix, Moments, Places

CORRELATION, ASSOCIATION, SEGMENT, SCORE = "correlation", "association", "segment", "score"
KINDS = (CORRELATION, ASSOCIATION, SEGMENT, SCORE)
# A category is a segment from this share, and this number of events, on.
SEGMENT_SHARE, SEGMENT_EVENTS = 0.02, 30.0
# Events that must be expected in a pair of categories.
EXPECTED = 10.0
# Without a lower limit, two categories that never met would make any meeting infinitely improbable.
_LEAST_SD = 0.25
_LEAST_SEGMENT_SD = 0.4
_CHUNK = 32

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Changes:
    """T tests of one window, in the order of `RelationTests`."""

    #: (T,), in the reference, or in the calm past.
    before: Floats
    #: (T,), in the window.
    now: Floats
    #: (T,), the movement, with its sign.
    effect: Floats
    #: (T,), in standard errors; 0 where the test was not made.
    z: Floats
    #: (T,).
    made: Flags

    @property
    def log10_p(self) -> Floats:
        """Return (T,) log10 of the two-sided p-value."""
        return two_sided(self.z)


@dataclass(frozen=True, slots=True, eq=False)
class Values:
    """What the tests compare, of a window, the reference or the calm past."""

    #: The correlations of numbers, then those of categories.
    correlations: Floats
    #: The share of rows in both categories that is expected if they are independent.
    expected: Floats
    #: Of each segment, the mean of the number in sixteenths, and the share of rows.
    within: Floats
    share: Floats


def two_sided(z: Floats) -> Floats:
    """Return log10 of the two-sided p-value of z standard errors."""
    found: Floats = np.minimum((np.log(2.0) + log_ndtr(-np.abs(z))) / np.log(10.0), 0.0)
    return found


class RelationTests:
    """The tests of one bundle: which there are, and their standard deviations in the reference's rows."""

    def __init__(self, matrix: Matrix, rows: NDArray[np.float32]) -> None:
        """Take z of the reference's rows, (p, n)."""
        spread = matrix.rows(rows)
        block = np.array(matrix.block, dtype=np.intp)
        self.block = block
        numbers = np.arange(1, matrix.numbers + 1)
        categories = np.flatnonzero((block > matrix.numbers) & (spread.mean(axis=1) >= SEGMENT_SHARE))
        first, second = np.triu_indices(len(numbers), 1)
        self.pairs = numbers[first], numbers[second]
        first, second = np.triu_indices(len(categories), 1)
        apart = block[categories[first]] != block[categories[second]]
        self.cells = categories[first[apart]], categories[second[apart]]
        self.segments = np.repeat(numbers, len(categories)), np.tile(categories, len(numbers))
        self.kinds = [CORRELATION] * len(self.pairs[0]) + [ASSOCIATION] * len(self.cells[0])
        self.kinds += [SEGMENT] * len(self.segments[0])
        self.first, self.second = (
            np.concatenate([pairs[side] for pairs in (self.pairs, self.cells, self.segments)]) for side in (0, 1)
        )
        self.sd = np.concatenate(
            [
                np.maximum(_influence(spread, *self.pairs), _LEAST_SD),
                np.maximum(_influence(spread, *self.cells), _LEAST_SD),
                np.maximum(_within(spread, *self.segments), _LEAST_SEGMENT_SD * UNIT),
            ]
        )
        #: intp (S,): for each segment its number and its feature's categories, as one group.
        self._groups = _numbered(self.segments[0], block[self.segments[1]])
        #: intp (T,): tests of the same two features belong together.
        self.group = _numbered(block[self.first], block[self.second])
        self.group_first, self.group_second = (
            block[side][np.unique(self.group, return_index=True)[1]] for side in (self.first, self.second)
        )

    @property
    def number(self) -> int:
        """Return how many there are, made or not."""
        return len(self.kinds)

    def values(self, moments: Moments) -> Values:
        """Return what is compared of these moments."""
        split = len(self.pairs[0]) + len(self.cells[0])
        return Values(
            moments.correlation(self.first[:split], self.second[:split]),
            moments.mean[self.cells[0]] * moments.mean[self.cells[1]],
            moments.within(*self.segments),
            moments.mean[self.segments[1]],
        )

    def compare(self, now: Values, effective: float, before: Values, known: float) -> Changes:
        """Return the changes of a window that counts as `effective` events, against a past of `known` rows."""
        h = 1.0 / known + 1.0 / effective
        frequent = np.minimum(now.expected * effective, before.expected * known) >= EXPECTED
        made = np.concatenate([np.ones(len(self.pairs[0]), dtype=np.bool_), frequent])
        split = len(made)
        was, is_now = before.correlations, now.correlations
        effect = is_now - was
        z = effect / (self.sd[:split] * np.sqrt(h))
        of_segments = self._segments(now, effective, before, known)
        return Changes(
            np.concatenate([was, of_segments.before]),
            np.concatenate([is_now, of_segments.now]),
            np.concatenate([np.where(made, effect, 0.0), of_segments.effect]),
            np.concatenate([np.where(made, z, 0.0), of_segments.z]),
            np.concatenate([made, of_segments.made]),
        )

    def _segments(self, now: Values, effective: float, before: Values, known: float) -> Changes:
        size = len(self.segments[0])
        if not size:
            nothing = np.empty(0)
            return Changes(nothing, nothing, nothing, nothing, np.empty(0, dtype=np.bool_))
        events, rows = now.share * effective, before.share * known
        made = (events >= SEGMENT_EVENTS) & (rows >= SEGMENT_EVENTS) & (now.share >= SEGMENT_SHARE)
        was, is_now = before.within, now.within
        variance = self.sd[-size:] ** 2 * (1.0 / np.maximum(events, 1.0) + 1.0 / np.maximum(rows, 1.0))
        weight = np.where(made, 1.0 / variance, 0.0)
        total = np.bincount(self._groups, weights=weight)
        moved = is_now - was
        common = np.bincount(self._groups, weights=weight * moved) / np.maximum(total, 1e-300)
        beyond = moved - common[self._groups]
        error = variance - 1.0 / np.maximum(total, 1e-300)[self._groups]
        made &= error > 1e-6 * variance  # a segment alone has nothing to be compared with
        z = np.divide(beyond, np.sqrt(np.maximum(error, 1e-300)), out=np.zeros(size), where=made)
        return Changes(was / UNIT, is_now / UNIT, np.where(made, beyond, 0.0) / UNIT, z, made)


def _numbered(first: Places, second: Places) -> Places:
    """Return the number of each pair among the different ones, ascending."""
    if not len(first):
        return np.empty(0, dtype=np.intp)
    key = first * (int(second.max()) + 1) + second
    numbered: Places = np.unique(key, return_inverse=True)[1].astype(np.intp)
    return numbered


def _influence(spread: Floats, first: Places, second: Places) -> Floats:
    """Return the standard deviation of the rows' influence on the correlation of each pair.

    That of a row with standard scores a, b is ab - r(a² + b²)/2 (Devlin, Gnanadesikan & Kettenring 1975).
    """
    deviation = spread.std(axis=1, keepdims=True)
    standard = np.divide(
        spread - spread.mean(axis=1, keepdims=True), deviation, out=np.zeros_like(spread), where=deviation > 1e-9
    )
    found = np.empty(len(first))
    for at in range(0, len(first), _CHUNK):
        a, b = standard[first[at : at + _CHUNK]], standard[second[at : at + _CHUNK]]
        both = a * b
        r = both.mean(axis=1, keepdims=True)
        found[at : at + _CHUNK] = (both - r * (a * a + b * b) / 2.0).std(axis=1)
    return found


def _within(spread: Floats, number: Places, category: Places) -> Floats:
    """Return the standard deviation of each number within a category."""
    rows = np.maximum(spread.sum(axis=1), 1.0)
    mean = (spread @ spread.T)[number, category] / rows[category]
    square = ((spread * spread) @ spread.T)[number, category] / rows[category]
    found: Floats = np.sqrt(np.maximum(square - mean * mean, 0.0))
    return found
