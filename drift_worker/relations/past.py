"""The relations of calm windows: the sum of their products, and how much relations vary from window to window.

The rules are those of `statistics.calm_past`: a window is compared with the reference and with the calm past, and a
finding needs both. Tests of the same two features share φ, the mean of s = z² over their tests and over the windows
that were compared. Where it is above 1 beyond doubt, z²/φ is compared with F(1, d), d a quarter of those windows.

A window is learnt while no relation or segment is pending or open. One that is unusual for its past waits for the next
one, and is dropped if that is not calm: as a whole for the sums, and by pair of features for φ.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtrc

from drift_worker.counts.products import Vector
from drift_worker.relations.change import Changes, two_sided
from drift_worker.statistics.calm_past import (
    ALIKE,
    LEAST,
    SHAPE_KNOWN,
    UNUSUAL_LOG10_P,
    WEEK_MS,
    Learn,
    variation,
)

_UNIT, _LARGEST, _TINY = 1000, 1000.0, 1e-290
# What is above was forged, and sums of it would overflow.
_MOST_KEPT = 1 << 60
# Windows, effective events; of the window that waits: whether it does, effective events. The same of the score: windows
# and Σ of its correlation with the stand-in by Fisher's transformation; of the window that waits, whether it does, and
# that value.
_HEADS = 8
_OF_GROUPS = 4  # windows compared, Σs; of the window that waits: whether it does, s

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """One window, as it is learnt."""

    #: (S,), its sums of products.
    sums: Vector
    #: As how many independent events they count.
    effective: float
    #: (T,), z against the calm past, and whether the test was made; None while there is none.
    against: Changes | None
    #: How the score follows its stand-in, by Fisher's transformation; None where that is not known.
    score: float | None


class RelationPast:
    """The calm past of relations in windows of one length. S: sums, G: pairs of features, T: tests.

    The last test and the last group are those of the score.
    """

    def __init__(self, sums: int, group: NDArray[np.intp], df: Floats, length_ms: int, vector: Vector | None) -> None:
        """Take the (T,) group and the (G,) degrees of freedom, and what `vector` was before a restart.

        ValueError if it is not of these relations.
        """
        self._sums_kept, self._group, self._df = sums, group, df
        self._most = max(SHAPE_KNOWN, 2 * WEEK_MS // length_ms)
        size = _HEADS + 2 * sums + _OF_GROUPS * len(df)
        self.vector: Vector = np.zeros(size, dtype=np.int64) if vector is None else vector
        if self.vector.shape != (size,) or int(np.abs(self.vector).max(initial=0)) >= _MOST_KEPT:
            raise ValueError(f"not a calm past of {sums} sums and {len(df)} pairs")
        counts = [int(self.vector[at]) for at in (0, 1, 2, 3, 4, 6)]
        if min(*counts, int(self._groups.min(initial=0))) < 0:
            raise ValueError("a calm past with fewer windows than none")
        self._last: Seen | None = None

    @property
    def windows(self) -> int:
        """Return the number of windows that were learnt."""
        return int(self.vector[0])

    @property
    def effective(self) -> float:
        """Return the number of independent events that the sums count as."""
        return float(self.vector[1])

    @property
    def known(self) -> bool:
        """Return whether windows can be compared with it."""
        return self.windows >= LEAST and self._sums[0] > 0

    @property
    def sums(self) -> Vector:
        """Return the (S,) sums of products."""
        return self._sums.copy()

    @property
    def score(self) -> tuple[int, float]:
        """Return in how many windows the score was compared with its stand-in, and the mean; enough are `LEAST`."""
        windows, total = self.vector[4:6].tolist()
        return windows, total / _UNIT / max(1, windows)

    def log10_p(self, changes: Changes) -> tuple[Floats, Floats]:
        """Return (T,) log10 p of a window's changes against this past, and (T,) φ."""
        compared, total = self._groups[:2]
        phi = variation(self._df, compared, total / _UNIT)[self._group]
        log_p = two_sided(changes.z)
        if (phi > 1.0).any():
            d = np.maximum(1.0, compared / ALIKE)[self._group]
            log_p = np.where(phi > 1.0, np.log10(np.maximum(fdtrc(1.0, d, changes.z**2 / phi), _TINY)), log_p)
        return log_p, phi

    def note(self, seen: Seen | None) -> None:
        """Note the window that was measured last; None: it had too little to be learnt."""
        self._last = seen

    def learn(self, *, calm: bool, how: Learn = Learn.NOW) -> None:
        """Take in the window that was noted last, if nothing was found in it."""
        seen, self._last = self._last, None
        if how is Learn.NOT:
            if not calm:
                self._learn_waiting(calm=False)
            return
        self._learn_waiting(calm=calm)
        if seen is None or not calm:
            return
        effective, late = round(seen.effective), how is Learn.LATE
        if seen.against is None:
            self._take_sums(effective, seen.sums, waits=late)
            self._take_score(seen.score, waits=late)
            return
        z2 = np.where(seen.against.made, seen.against.z**2, 0.0)
        made = np.bincount(self._group, weights=seen.against.made, minlength=len(self._df))
        s = np.bincount(self._group, weights=z2, minlength=len(self._df)) / np.maximum(made, 1.0)
        scaled = np.rint(np.minimum(s, _LARGEST) * _UNIT).astype(np.int64)
        log_p = self.log10_p(seen.against)[0]
        lowest = np.zeros(len(self._df))
        np.minimum.at(lowest, self._group, np.where(seen.against.made, log_p, 0.0))
        # the least of a pair's p-values, by Bonferroni
        unusual = (made > 0) & (late | (lowest + np.log10(np.maximum(made, 1.0)) < UNUSUAL_LOG10_P))
        self._vary((made > 0) & ~unusual, scaled)
        self._groups[2:] = unusual, scaled * unusual
        self._take_score(seen.score, waits=late or bool(unusual[-1]))
        least = float(lowest.min(initial=0.0)) + np.log10(max(1.0, float(made.sum())))
        self._take_sums(effective, seen.sums, waits=late or bool(least < UNUSUAL_LOG10_P))

    def _take_sums(self, effective: int, sums: Vector, *, waits: bool) -> None:
        if waits:
            self.vector[2:4] = 1, effective
            self._sums_waiting[:] = sums
        else:
            self._add(effective, sums)

    def _take_score(self, value: float | None, *, waits: bool) -> None:
        if not waits:
            self._add_score(value)
        elif value is not None:
            self.vector[6:8] = 1, round(value * _UNIT)

    def _learn_waiting(self, *, calm: bool) -> None:
        """Add what waits if these windows are calm, and let nothing wait."""
        if calm:
            self._vary(self._groups[2] > 0, self._groups[3])
            if self.vector[2]:
                self._add(int(self.vector[3]), self._sums_waiting)
            if self.vector[6]:
                self._add_score(float(self.vector[7]) / _UNIT)
        self._groups[2:] = 0
        self.vector[2:4] = self.vector[6:8] = 0
        self._sums_waiting[:] = 0

    def _add(self, effective: int, sums: Vector) -> None:
        self.vector[:2] += 1, effective
        self._sums[:] += sums
        if self.windows >= self._most:
            self.vector[:2] //= 2
            self._sums[:] //= 2

    def _add_score(self, value: float | None) -> None:
        if value is not None:
            self.vector[4:6] += 1, round(value * _UNIT)
        if self.vector[4] >= self._most:
            self.vector[4:6] //= 2

    def _vary(self, which: NDArray[np.bool_], scaled: Vector) -> None:
        groups = self._groups
        groups[0] += which
        groups[1] += scaled * which
        full = groups[0] >= self._most
        groups[:2, full] //= 2

    # Views of the vector.

    @property
    def _sums(self) -> Vector:
        return self.vector[_HEADS : _HEADS + self._sums_kept]

    @property
    def _sums_waiting(self) -> Vector:
        return self.vector[_HEADS + self._sums_kept : _HEADS + 2 * self._sums_kept]

    @property
    def _groups(self) -> Vector:
        """(4, G): windows compared, Σs; of the window that waits: whether it does, s."""
        return self.vector[_HEADS + 2 * self._sums_kept :].reshape(_OF_GROUPS, -1)
