"""Windows with too few events, judged together with those before them: a *span* is a sum of the last closed windows.

Only windows of the shortest length have spans: what a longer one holds is in them already. A span reaches back until it
has enough events, and no further than the longest window. Counts are whole numbers, so the sum that is kept up to date
by adding and taking away is the one that a restart adds up from the log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from drift_worker.counts import aggregate
from drift_worker.counts.aggregate import SeriesSum, Sparse
from drift_worker.counts.bins import Vector
from drift_worker.counts.wire_format import Ranges

# Shares of DRIFT_MIN_EVENTS. A span reaches back until it has EVENTS of it, and they count as EFFECTIVE of it as
# independent events, by customers who come back (Kish); for the latter no further than to MOST of it.
EVENTS, EFFECTIVE, MOST = 0.8, 0.7, 2.0


@dataclass(frozen=True, slots=True)
class Reach:
    """How far spans reach back. With `min_events` 0 there are none."""

    #: DRIFT_MIN_EVENTS.
    min_events: int = 0
    #: The longest window.
    most_ms: int = 0

    @property
    def effective(self) -> float:
        """Return how many independent values of a feature are enough in a span."""
        return EFFECTIVE * self.min_events

    def enough(self, events: int, sketch: Vector | None) -> bool:
        """Return whether a span of so many events needs no earlier window."""
        if events < EVENTS * self.min_events:
            return False
        if sketch is None or events >= MOST * self.min_events:
            return True
        return events * events >= self.effective * aggregate.sum_of_squares(sketch, events)


@dataclass(slots=True, eq=False)
class Part:
    """One closed window of a span; `sums`: its counts by series."""

    events: int
    ranges: Ranges
    #: Whether all of its events were counted: no partition was missing, and counting had begun before it.
    whole: bool
    sums: dict[int, SeriesSum] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Span:
    """What is judged at the end of a window: the window and those before it."""

    start_ms: int
    #: The number of windows that hold events.
    windows: int
    events: int
    ranges: Ranges
    #: Whether all of its events were counted.
    whole: bool
    vectors: Mapping[int, Vector]


class Trailing:
    """The last closed windows of one side, as far back as a span reaches; empty ones are not kept."""

    def __init__(self, reach: Reach, sketch: int) -> None:
        """Take the series of the customers' sketch."""
        self._reach = reach
        self._sketch = sketch
        self._total: dict[int, Vector] = {}
        #: By start, ascending.
        self.parts: dict[int, Part] = {}

    @property
    def oldest(self) -> int | None:
        """Return the first start; None without a window."""
        return next(iter(self.parts), None)

    def push(self, start_ms: int, end_ms: int, part: Part | None, keep_from_ms: int | None = None) -> None:
        """Add the window that ends now, None if it is empty, and drop what no span needs any more.

        keep_from_ms: windows from then on are kept; the other side's span has them.
        """
        if part is not None:
            self.parts[start_ms] = part
            for series, known in part.sums.items():
                # a new array: the last span's may be in use
                self._total[series] = known.vector() + self._total.get(series, 0)
        for oldest in list(self.parts):
            if keep_from_ms is not None and oldest >= keep_from_ms:
                return
            if oldest >= end_ms - self._reach.most_ms and not self._enough_without(oldest):
                return
            for series, known in self.parts.pop(oldest).sums.items():
                self._total[series] = self._total[series] - known.vector()

    def restore(self, start_ms: int, part: Part) -> None:
        """Take back a window of which a checkpoint names all but the counts; `add` brings them."""
        self.parts[start_ms] = part

    def add(self, start_ms: int, series: int, size: int, part: Sparse, events: int) -> bool:
        """Add counts to a window that is kept: events that came late, or as the log has them. False: it is not kept."""
        kept = self.parts.get(start_ms)
        if kept is None:
            return False
        kept.events += events
        kept.sums.setdefault(series, SeriesSum(size)).add(part)
        total = self._total.get(series)
        total = np.zeros(size, dtype=np.int64) if total is None else total.copy()
        part.add_to(total)
        self._total[series] = total
        return True

    def span(self, since_ms: int | None = None) -> Span | None:
        """Return what is kept as one, or only the windows from `since_ms` on; None without any."""
        kept = {start: part for start, part in self.parts.items() if since_ms is None or start >= since_ms}
        if not kept:
            return None
        vectors = dict(self._total)
        for start, part in self.parts.items():
            if start not in kept:
                vectors |= {series: vectors[series] - known.vector() for series, known in part.sums.items()}
        return Span(
            start_ms=min(kept) if since_ms is None else since_ms,
            windows=len(kept),
            events=sum(part.events for part in kept.values()),
            ranges=_joined([part.ranges for part in kept.values()]),
            whole=all(part.whole for part in kept.values()),
            vectors=vectors,
        )

    def clear(self) -> None:
        """Forget all windows: what comes is counted against another reference."""
        self.parts.clear()
        self._total.clear()

    def _enough_without(self, oldest: int) -> bool:
        part = self.parts[oldest]
        events = sum(one.events for one in self.parts.values()) - part.events
        sketch = self._total.get(self._sketch)
        if sketch is not None and self._sketch in part.sums:
            sketch = sketch - part.sums[self._sketch].vector()
        return self._reach.enough(events, sketch)


def _joined(each: Sequence[Ranges]) -> Ranges:
    """Return the offsets that any of them has, by topic and partition, from the first to the last."""
    joined: Ranges = {}
    for ranges in each:
        for topic, partitions in ranges.items():
            known = joined.setdefault(topic, {})
            for partition, (first, following) in partitions.items():
                low, high = known.get(partition, (first, following))
                known[partition] = (min(low, first), max(high, following))
    return joined
