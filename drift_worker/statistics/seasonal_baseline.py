"""The same hours of past weeks, instead of the reference: what is kept of an hour, and how it is compared with today's.

Customers differ by day and night, by weekday and Sunday. With `DRIFT_BASELINE=week` a distribution is compared with the
hours of the week that its window lies in, as they were one to four weeks ago: its *slot*.

Only what PSI needs is kept of an hour, not every reference value: the customer groups by PSI cell, the textbook's bins
for a picture, and the sketch of the customers. Those are some hundred small numbers per feature at any volume.
They add up over weeks like all counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from drift_worker.counts import aggregate
from drift_worker.counts.bins import GROUPS, CategoryCells, Cells, NumericCells, Vector
from drift_worker.counts.wire_format import Packed, pack, unpack
from drift_worker.statistics import design_effect, ks, psi
from drift_worker.statistics.baseline import Column, Columns, Distribution, mean_score
from drift_worker.statistics.stacked import Spans
from schemas.measurement import WEEK

HOUR_MS = 3_600_000
WEEK_MS = 7 * 24 * HOUR_MS
WEEKS = 4
_SMALL = (np.int8, np.int16, np.int32, np.int64)


def kept(cells: Cells, series: int, vector: Vector) -> Vector:
    """Return what is kept of the counts of an hour: itself additive.

    Of a number these are the textbook's ten bins, the two sums of the score, and the groups; of a category and a
    sketch, all.
    """
    column = _cells_of(cells, series)
    if not isinstance(column, NumericCells):
        return vector
    bins = np.zeros(psi.TEXTBOOK_BINS, dtype=np.int64)
    if len(column.anchors):
        bins = psi.textbook_counts(column, np.cumsum(column.values(vector)))
    return np.concatenate([bins, column.score_sums(vector), column.groups(vector).ravel()])


class Season:
    """Hours by series and hour of the week, each as it was when its window was evaluated.

    Bounded: the last five of an hour of the week, each in the smallest integers that hold it. What is forgotten is
    older than anything that future windows are compared with, so the moment of forgetting makes no difference.
    """

    def __init__(self, cells: Cells, columns: Columns, min_events: int) -> None:
        """Take `min_events`: a slot that counts as fewer independent values is none."""
        self._cells = cells
        self._columns = columns
        self._min_events = min_events
        self._hours: dict[tuple[int, int], dict[int, NDArray[np.signedinteger]]] = {}
        self._slots: dict[int, Distribution | None] = {}
        self._slots_of = (0, 0)

    def keep(self, series: int, start_ms: int, packed: Packed) -> None:
        """Add a piece of what was kept of the hour that begins at `start_ms`; a long vector comes in several.

        ValueError or IndexError if it does not fit these cells.
        """
        size = self._size(series)
        part = unpack(packed, size)
        hours = self._hours.setdefault((series, start_ms % WEEK_MS), {})
        vector = np.zeros(size, dtype=np.int64)
        if start_ms in hours:
            vector += hours[start_ms]
        part.add_to(vector)
        hours[start_ms] = _small(vector)
        for old in [start for start in hours if start < start_ms - WEEKS * WEEK_MS]:
            del hours[old]

    @property
    def hours(self) -> int:
        """Return the number of hours that are known of any series."""
        return len({start for hours in self._hours.values() for start in hours})

    def slots(self, start_ms: int, end_ms: int, series: Iterable[int]) -> dict[int, Distribution]:
        """Return what the window [start, end) is compared with, by series; those with too short a past are left out."""
        span = start_ms // HOUR_MS * HOUR_MS, -(-end_ms // HOUR_MS) * HOUR_MS
        if self._slots_of != span:
            # the four quarters of an hour and the hour itself share them: hours a week ago change no more
            self._slots, self._slots_of = {}, span
        for number in series:
            if number not in self._slots:
                self._slots[number] = self._slot(number, *span)
        return {number: slot for number in series if (slot := self._slots[number]) is not None}

    def _slot(self, series: int, first_ms: int, end_ms: int) -> Distribution | None:
        """Return the sum over the weeks of which every hour of [first, end) is known."""
        of_score = series in {aggregate.SCORE, aggregate.PREDICTED}
        sketch = aggregate.SCORED_CUSTOMERS if of_score else aggregate.CUSTOMERS
        vector, customers = (
            np.zeros(self._size(series), dtype=np.int64),
            np.zeros(aggregate.SKETCH_SIZE, dtype=np.int64),
        )
        for back in range(1, WEEKS + 1):
            starts = range(first_ms - back * WEEK_MS, end_ms - back * WEEK_MS, HOUR_MS)
            week = [(self._of(series, start), self._of(sketch, start)) for start in starts]
            known = [(values, its) for values, its in week if values is not None and its is not None]
            if len(known) == len(week):
                for values, its in known:
                    vector += values
                    customers += its
        column = self._columns.of(series)
        slot = _distribution(column, vector, customers)
        return slot if slot is not None and slot.effective >= self._min_events else None

    def _of(self, series: int, start_ms: int) -> NDArray[np.signedinteger] | None:
        return self._hours.get((series, start_ms % WEEK_MS), {}).get(start_ms)

    def _size(self, series: int) -> int:
        """Return the length of what is kept; IndexError for a series that these cells do not have."""
        size = aggregate.size_of(self._cells, series)
        column = _cells_of(self._cells, series)
        return psi.TEXTBOOK_BINS + 2 + size - column.groups_at if isinstance(column, NumericCells) else size


def pieces(cells: Cells, vectors: Mapping[int, Vector], series: Iterable[int]) -> list[tuple[int, Packed]]:
    """Return what is kept of these series of an hour, as it is written; relations have no past weeks."""
    own = (number for number in series if number not in aggregate.TOGETHER)
    whole = ((number, aggregate.sparse(kept(cells, number, vectors[number]))) for number in own)
    return [(number, packed) for number, part in whole for packed in pack(part)]


def _cells_of(cells: Cells, series: int) -> NumericCells | CategoryCells | None:
    """Return the cells of a series; None for a sketch or sums of products."""
    if series < aggregate.SCORE:
        return None
    return aggregate.cells_of(cells, series)


def _distribution(
    column: Column[NumericCells] | Column[CategoryCells], vector: Vector, customers: Vector
) -> Distribution | None:
    """Return past weeks as a distribution; None without a value.

    Customers come back week after week, so that their values count as fewer, by the larger of both design effects.
    Groups that hold more than 5 % are left out, if others remain: one customer is no past of all others.
    """
    numeric, at = isinstance(column.cells, NumericCells), psi.TEXTBOOK_BINS
    groups = vector[at + 2 :].reshape(GROUPS, -1) if numeric else column.cells.groups(vector)
    events = int(groups.sum())
    if not events:
        return None
    repeat = aggregate.sum_of_squares(customers, events) / events
    scores = events - int(groups[:, -1].sum())
    kept = design_effect.without_dominant(groups.sum(axis=1, keepdims=True).astype(np.float64))
    groups = groups[kept[:, 0]]
    table = column.by_psi_cell(groups)
    if not table.any():
        return None
    cells = Spans.of([table.shape[1]])
    deff = max(
        float(effect(table, cells, repeat, len(groups))[0])
        for effect in (design_effect.deff_cells, design_effect.deff_thresholds)
    )
    psi_counts = table.sum(axis=0).astype(np.int64)
    return Distribution(
        against=WEEK,
        effective=float(table.sum()) / deff,
        psi_counts=psi_counts,
        shown=vector[:at] if numeric else groups[:, :-1].sum(axis=0),
        function=ks.function(np.cumsum(psi_counts)),
        mean=mean_score(int(vector[at]), scores, column.cells.unit) if isinstance(column.cells, NumericCells) else 0.0,
    )


def _small(vector: Vector) -> NDArray[np.signedinteger]:
    """Return the same numbers in the smallest integers that hold them all."""
    low, high = int(vector.min(initial=0)), int(vector.max(initial=0))
    fitting = next(kind for kind in _SMALL if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)
    return vector.astype(fitting)
