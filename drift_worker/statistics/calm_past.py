"""A window against the calm past of its own stream: does it differ by more than the stream does anyway?

Events that are close in time are alike: a nightly job sends one region, a mix of customers comes and goes. Windows then
differ from each other by more than their customers explain, and from the reference as well, without any drift. So a
window is compared twice: with the reference (is it far from what the model learnt?), and here with the windows of the
same length in which nothing was found (has it changed?). A finding needs both (an intersection-union test, Berger
1982). What always was a little off is no change, whatever noise does to the estimate.

Every subject has a few *profiles*, vectors of counts: its distribution by PSI bin, missing and present, unseen and
known, out of range and within, the most frequent rare value and the rest. Of each the calm past holds sums that are
additive over windows: how many windows, their counts, as how many independent values they count, and Σs, Σs² of
s = PSI/((B-1)·h), with h = 1/m_eff + 1/past. Without variation of its own a stream has s ~ χ²(B-1)/(B-1), with mean 1.

Where the mean φ of s is above 1 beyond doubt (1 %), the null of s/φ is F(ν, d) instead: ν = 2φ²/var(s), at most B-1
(Satterthwaite 1946), and d a quarter of the number of windows, for successive ones are alike. That is wide while little
is known, so that a stream that varies does not raise alerts while it is learnt. A steady one needs `LEAST` windows.

A window that is unusual for its past (5 %) is learnt one window later, and only if nothing was found by then: a drift
that begins in the middle of a window must not widen the null that it is to be found against.

Everything is an integer, and a function of the windows in order. When a profile knows two weeks of windows,
its sums are halved.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc, fdtrc

from drift_worker.counts.bins import Vector
from drift_worker.statistics import psi
from drift_worker.statistics.stacked import Spans
from drift_worker.statistics.tail_probability import log10_chi2

DISTRIBUTION, MISSING, UNSEEN, OUT_OF_RANGE, SPIKE = "distribution", "missing", "unseen", "out_of_range", "spike"
# Windows that make a past.
LEAST = 3
# The same of spans, which are judged several times before one more of them is learnt.
LEAST_SPANS = 8
# Windows until the shape of s is estimated; with fewer it is taken to be the widest.
SHAPE_KNOWN = 8
# Successive windows are alike: that many count as one.
ALIKE = 4
VARIES = 0.01
WEEK_MS = 7 * 86_400_000
_UNIT, _LARGEST = 1000, 1000.0  # s is kept in thousandths, and up to a thousand
_TINY = 1e-290
# Two weeks of windows stay far below; what is above was forged, and sums of it would overflow.
_MOST_KEPT = 1 << 60
_SUMS, _WAITING = 5, 4  # numbers per profile, of the past and of a window that waits to be learnt
# A window with a smaller p against its past is unusual.
UNUSUAL_LOG10_P = math.log10(0.05)

Floats = NDArray[np.float64]


class Learn(Enum):
    """What becomes of a window that was compared."""

    #: It is learnt; an unusual one waits for the next.
    NOW = auto()
    #: It waits for the next one that is learnt: until then windows share events with it.
    LATE = auto()
    #: It is not learnt, for it shares events with one that waits; if something was found in it, that one is dropped.
    NOT = auto()


class Layout:
    """The profiles of some subjects, side by side. F: subjects, R: profiles, P: their cells."""

    def __init__(self, names: list[tuple[int, str]], sizes: list[int], used: Floats) -> None:
        """Take (subject, kind) and size of every profile, and (P,), 1 for a cell that counts, else 0."""
        self.names = names
        self.spans = Spans.of(sizes)
        self.used = used
        self.df = self.spans.sums(used) - 1.0
        self.subject = np.array([at for at, _ in names], dtype=np.intp)
        self.cells = int(self.spans.sizes.sum())
        self.size = (_SUMS + _WAITING) * len(names) + 2 * self.cells


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """One window by profile."""

    #: (P,), whole numbers.
    counts: Floats
    #: (R,), as how many independent values they count.
    effective: Floats
    #: (R,), whether there was enough data.
    known: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Instead:
    """What the distributions are compared with instead of the calm past: the same hours of past weeks.

    F distributions with C bins, which are the first of the profiles and of their cells.
    """

    #: (C,), smoothed shares.
    shares: Floats
    #: (F,), as how many independent values they count.
    effective: Floats
    #: (F,), whether these hours are known; without them a distribution is not compared.
    known: NDArray[np.bool_]


class CalmPast:
    """The calm past of some subjects in windows of one length."""

    def __init__(self, layout: Layout, length_ms: int, vector: Vector | None = None, *, seasonal: bool = False) -> None:
        """Take what `vector` was before a restart; ValueError if it is not of these subjects.

        `seasonal`: distributions are compared with past weeks instead (`Instead`); only how they vary is learnt.
        """
        self._layout = layout
        self.seasonal = seasonal
        self._most = max(SHAPE_KNOWN, 2 * WEEK_MS // length_ms)
        self.vector: Vector = np.zeros(layout.size, dtype=np.int64) if vector is None else vector
        if self.vector.shape != (layout.size,) or not (
            int(self.vector.min(initial=0)) >= 0 and int(self.vector.max(initial=0)) < _MOST_KEPT
        ):
            raise ValueError(f"not a calm past of {len(layout.names)} profiles")
        self._last: tuple[Seen, Floats, NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]] | None = None
        self._passed_over = False  # the last window had too little for any profile

    def compare(
        self, seen: Seen, instead: Instead | None = None, least: int = LEAST
    ) -> tuple[list[dict[str, float]], Floats]:
        """Return for each subject log10 p by profile, and φ of each profile (R,), 1 where it is not known.

        A profile without a past, or of which the window has too little, is left out. least: windows that make a past.
        """
        layout, spans = self._layout, self._layout.spans
        windows, effective, compared, total, squares = self._sums
        shares = psi.smoothed(spans, self._counts.astype(np.float64), layout.used)
        past, known, enough = effective.astype(np.float64), windows >= 1, windows >= least
        if instead is not None:
            f = len(instead.known)
            shares[: len(instead.shares)], past[:f] = instead.shares, instead.effective
            known[:f] = enough[:f] = instead.known
        known = known & seen.known & (seen.effective > 0) & (layout.df > 0)
        value = psi.psis_of(spans, shares, psi.smoothed(spans, seen.counts, layout.used), layout.used)
        h = 1.0 / np.maximum(seen.effective, 1.0) + 1.0 / np.maximum(past, 1.0)
        s = np.where(known, value / (np.maximum(layout.df, 1.0) * h), 0.0)
        phi, log_p = _null(s, layout.df, compared, total / _UNIT, squares / _UNIT**2)
        learnt = seen.known.copy()
        if instead is not None:
            learnt[: len(instead.known)] &= instead.known
        self._passed_over = False
        self._last = seen, s, known, learnt, ~known | (log_p >= UNUSUAL_LOG10_P)
        found: list[dict[str, float]] = [{} for _ in range(int(layout.subject.max(initial=-1)) + 1)]
        for at in np.flatnonzero(known & enough).tolist():
            subject, kind = layout.names[at]
            found[subject][kind] = float(log_p[at])
        return found, phi

    def pass_over(self) -> None:
        """Note a window with too little for any profile: `compare` would know nothing of it, at a thousand times this.

        Nothing of it is learnt, but one that waits is learnt or dropped.
        """
        self._last, self._passed_over = None, True

    def learn(self, calm: NDArray[np.bool_], how: Learn = Learn.NOW) -> None:
        """Take in the window that was compared last; `calm` (F,): the subjects of which nothing was found.

        A window that is unusual for its past may be the first of a drift: it waits for the next one, and is dropped if
        that is not calm.
        """
        if how is Learn.NOT:
            self._last, self._passed_over = None, False
            self._waiting[:] *= calm[self._layout.subject]
            return
        if self._passed_over:
            self._passed_over = False
            self._learn_waiting(calm[self._layout.subject])
        if self._last is None:
            return
        (seen, s, known, learnt, usual), self._last = self._last, None
        calm = calm[self._layout.subject]
        self._learn_waiting(calm)
        now = np.rint(seen.effective).astype(np.int64)
        scaled = np.rint(np.minimum(s, _LARGEST) * _UNIT).astype(np.int64)
        counts = seen.counts.astype(np.int64)
        if how is Learn.LATE:
            usual = np.zeros_like(usual)
        self._add(calm & learnt & usual, now, known, scaled, counts)
        waits = calm & learnt & ~usual
        self._waiting[:] = waits, now * waits, known & waits, scaled * waits
        self._counts_waiting[:] = counts * self._layout.spans.each(waits)

    def _learn_waiting(self, calm: NDArray[np.bool_]) -> None:
        """Add the window that waits, and let none wait; `calm` (R,): the profiles of which nothing was found."""
        waited = self._waiting
        if not waited[0].any():
            return
        self._add(calm & (waited[0] > 0), waited[1], waited[2] > 0, waited[3], self._counts_waiting)
        waited[:] = 0
        self._counts_waiting[:] = 0

    def _add(
        self, which: NDArray[np.bool_], effective: Vector, compared: NDArray[np.bool_], scaled: Vector, counts: Vector
    ) -> None:
        """Add `which` profiles (R,) of a window; (R,) but for the counts, which are (P,)."""
        sums, spans = self._sums, self._layout.spans
        sums[0] += which
        sums[1] += effective * which
        sums[2] += which & compared
        sums[3] += scaled * (which & compared)
        sums[4] += scaled * scaled * (which & compared)
        self._counts[:] += counts * spans.each(which)
        full = sums[0] >= self._most
        if full.any():
            sums[:, full] //= 2
            self._counts[spans.each(full)] //= 2

    def variation(self, subjects: int) -> Floats | None:
        """Return φ of the first profile of each subject, its distribution; None while too few windows are known."""
        _, _, compared, total, _ = self._sums
        if int(compared.max(initial=0)) < SHAPE_KNOWN:
            return None
        return variation(self._layout.df, compared, total / _UNIT)[:subjects]

    @property
    def windows(self) -> int:
        """The most windows that a profile has learnt."""
        return int(self._sums[0].max(initial=0))

    # Views of the vector: R by R, then P by P.

    @property
    def _sums(self) -> Vector:
        """(5, R): windows, effective values, windows compared, Σs, Σs²."""
        return self._part(0, _SUMS)

    @property
    def _waiting(self) -> Vector:
        """(4, R), of the window that waits: whether it does, effective values, whether it was compared, s."""
        return self._part(_SUMS, _SUMS + _WAITING)

    def _part(self, first: int, end: int) -> Vector:
        profiles = len(self._layout.names)
        return self.vector[first * profiles : end * profiles].reshape(end - first, profiles)

    @property
    def _counts(self) -> Vector:
        """(P,): the counts of the windows."""
        return self.vector[-2 * self._layout.cells : -self._layout.cells]

    @property
    def _counts_waiting(self) -> Vector:
        """(P,): the counts of the window that waits."""
        return self.vector[-self._layout.cells :]


def variation(df: Floats, compared: Vector, total: Floats) -> Floats:
    """Return φ: the mean of s where it is above 1 beyond doubt, else 1. total: Σs over the windows `compared`."""
    number = np.maximum(compared, 1)
    mean = total / number
    varies = (compared > 0) & (mean > 1.0) & (chdtrc(df * number, df * total) < VARIES)
    phi: Floats = np.where(varies, mean, 1.0)
    return phi


def _null(s: Floats, df: Floats, compared: Vector, total: Floats, squares: Floats) -> tuple[Floats, Floats]:
    """Return φ and log10 p of each s."""
    df = np.maximum(df, 1.0)
    number = np.maximum(compared, 1)
    mean = total / number
    phi = variation(df, compared, total)
    varies = phi > 1.0
    log_p = log10_chi2(s * df, df)
    if varies.any():
        variance = np.maximum(squares / number - mean * mean, 1e-9)
        shape = np.where(compared >= SHAPE_KNOWN, np.clip(2.0 * mean * mean / variance, 1.0, df), 1.0)
        wide = fdtrc(shape, np.maximum(1.0, compared / ALIKE), s / phi)
        log_p = np.where(varies, np.log10(np.maximum(wide, _TINY)), log_p)
    return phi, log_p
