"""Deltas → windows: what belongs together, when it is complete, and what came too late.

Windows are tumbling and aligned to the Unix epoch. Features come from the events topic and scores from the predictions
topic, and each side closes by its own watermarks: a scorer that lags delays the score, it does not make it late.
Beside the windows, counts are kept per *unit*, the greatest common divisor of the window lengths. A closed unit is
written to the log, and with it the deltas behind it need never be read again.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec
import numpy as np

from drift_worker import counts
from drift_worker.cells import Cells, Vector
from drift_worker.counts import Sparse
from drift_worker.deltas import Delta, Identity, Merged, Progress, Ranges, unpack

UNIT = ""  # the label of units among the windows


class Side(StrEnum):
    """Which topic a count comes from."""

    FEATURES = "features"
    SCORE = "score"


def side_of(series: int) -> Side:
    """Features and their customers, or the score and its."""
    return Side.SCORE if series in {counts.SCORE, counts.SCORED_CUSTOMERS} else Side.FEATURES


@dataclass(slots=True, eq=False)
class Window:
    """What has been added so far. first_offset: of drift-panes, the first delta in it; 2^63 if none."""

    vectors: dict[int, Vector] = field(default_factory=dict)
    events: int = 0
    ranges: Ranges = field(default_factory=dict)
    first_offset: int = 1 << 63
    foreign: bool = False  # some of its events were counted against another reference

    def add(self, series: int, size: int, part: Sparse) -> None:
        """Adds a part of one series."""
        if series not in self.vectors:
            self.vectors[series] = np.zeros(size, dtype=np.int64)
        part.add_to(self.vectors[series])

    def cover(self, delta: Delta) -> None:
        """Notes which records it holds."""
        ranges = self.ranges.setdefault(delta.topic, {})
        first, following = ranges.get(delta.partition, (delta.first, delta.next))
        ranges[delta.partition] = (min(first, delta.first), max(following, delta.next))


@dataclass(frozen=True, slots=True, eq=False)
class Closing:
    """One side of one window is to be evaluated (or, with the label UNIT, to be written). window: None without events.

    missing: partitions, `topic-partition`, that had not come far enough when the others were waited for in vain. first:
    no window of this length was closed before, so this one began before anybody counted.
    """

    side: Side
    label: str
    start_ms: int
    end_ms: int
    window: Window | None
    missing: list[str]
    first: bool


class Partition(msgspec.Struct):
    """What the last progress record of a partition said.

    others_ms: of an empty partition, how far all others had come when it last said so, and the time before that.
    """

    watermark_ms: int | None
    event_ms: int | None
    at_end: bool
    accepted_next: int
    answered: dict[int, int]
    others_ms: tuple[float, float] = (-math.inf, -math.inf)


class Memory(msgspec.Struct):
    """What a restart must know beside the counts: see `Windows`."""

    closed: dict[str, dict[str, int]]  # side → label → end of the last closed window
    partitions: dict[str, dict[int, Partition]]
    sizes: dict[str, int]  # topic → number of partitions
    ranges: dict[str, dict[str, dict[int, Ranges]]]  # side → label → start → covered records
    events: dict[str, dict[str, dict[int, int]]]
    written: dict[int, int]  # start of a unit → wall clock before it was first written, epoch ms
    late: dict[str, dict[str, int]]
    refused_in: dict[str, int]


class _Past:
    """Remembers which value was reached how long ago."""

    def __init__(self, ago_s: float) -> None:
        self._ago_s = ago_s
        self._reached: deque[tuple[float, float]] = deque()

    def note(self, value: float, at_s: float) -> None:
        """`value` only grows; a hundred notes per period are enough."""
        spacing = self._ago_s / 100
        if not self._reached or (value > self._reached[-1][1] and at_s >= self._reached[-1][0] + spacing):
            self._reached.append((at_s, value))
        while len(self._reached) > 1 and self._reached[1][0] <= at_s - self._ago_s:
            self._reached.popleft()

    def then(self, at_s: float) -> float:
        """The largest value that had been reached `ago_s` before."""
        if self._reached and self._reached[0][0] <= at_s - self._ago_s:
            return self._reached[0][1]
        return -math.inf


class Windows:
    """All open windows of one evaluator. Not thread-safe; time is an argument."""

    def __init__(
        self,
        cells: Cells,
        identity: Identity,
        lengths: Mapping[str, int],
        topics: Mapping[Side, str],
        *,
        lateness_ms: int,
        straggler_s: float,
    ) -> None:
        """lengths: label → ms, shortest first. topics: where each side comes from."""
        self._cells = cells
        self._identity = identity
        self.unit_ms = math.gcd(*lengths.values())
        self._lengths = {UNIT: self.unit_ms, **lengths}
        self._topics = topics
        self._lateness_ms = lateness_ms
        self._open: dict[tuple[Side, str], dict[int, Window]] = {(s, u): {} for s in Side for u in self._lengths}
        self._closed: dict[tuple[Side, str], int] = {}
        self._partitions: dict[str, dict[int, Partition]] = {topic: {} for topic in topics.values()}
        self._sizes: dict[str, int] = {}
        self._passed = {side: _Past(straggler_s) for side in Side}  # when the first partition passed
        self._waited = _Past(straggler_s)  # when the features could have been closed
        # Without a single prediction so far there may be no scorer at all: then not much is lost by waiting less.
        self._waited_first = _Past(min(straggler_s, min(lengths.values()) / 1000))
        self._late_units: dict[int, Window] = {}
        self.written: dict[int, int] = {}
        self.late: dict[tuple[Side, str], int] = {}  # since the last closing of that length
        self.refused_in: dict[str, int] = {}  # the same, records that are no valid events
        self.late_events = 0  # by unit, ever
        self.foreign_events = 0

    # -- in ---------------------------------------------------------------------------------------------------------

    def delta(self, delta: Delta, offset: int, *, replayed: bool) -> None:
        """Adds one delta that stands at `offset`. replayed: it was read before the restart, so a closed unit has it.

        ValueError if it does not fit the reference that it names.
        """
        side = side_of(delta.series)
        counted_here = delta.series in {0, counts.SCORE}
        if (delta.reference, delta.key_id) != (self._identity.reference, self._identity.key_id):
            self.foreign_events += delta.events * counted_here
            for label in self._lengths:
                if not self._is_closed(side, label, delta.pane_ms):
                    self._window(side, label, delta.pane_ms).foreign = True
            return
        size = counts.size_of(self._cells, delta.series)
        part = unpack(delta.packed, size)
        late_unit = self._is_closed(side, UNIT, delta.pane_ms)
        if late_unit and replayed:
            return
        accepted = False
        for label in self._lengths:
            if self._is_closed(side, label, delta.pane_ms):
                if counted_here and not replayed:
                    self.late[side, label] = self.late.get((side, label), 0) + delta.events
                continue
            window = self._window(side, label, delta.pane_ms)
            window.add(delta.series, size, part)
            window.cover(delta)
            window.events += delta.events * counted_here
            if label is UNIT:
                window.first_offset = min(window.first_offset, offset)
            else:
                accepted = True
        if late_unit and counted_here:
            self.late_events += delta.events
        if late_unit and accepted:
            # its unit has been written; what came later is written beside it
            start = delta.pane_ms // self.unit_ms * self.unit_ms
            self._late_units.setdefault(start, Window()).add(delta.series, size, part)

    def progress(self, progress: Progress, *, replayed: bool) -> None:
        """Takes in how far a partition has come. Only the predictions' and events' topics count."""
        partitions = self._partitions.get(progress.topic)
        if partitions is None:
            return
        self._sizes[progress.topic] = max(progress.partitions, self._sizes.get(progress.topic, 0))
        known = partitions.get(progress.partition)
        if known is not None and replayed:
            return
        answered = dict(known.answered) if known is not None else {}
        for source, following in progress.answered.items():
            answered[source] = max(following, answered.get(source, 0))
        others = known.others_ms if known else (-math.inf, -math.inf)
        partitions[progress.partition] = Partition(
            others_ms=(others[1], self._slowest(progress.topic)),
            watermark_ms=_later(known.watermark_ms if known else None, progress.watermark_ms),
            event_ms=_later(known.event_ms if known else None, progress.event_ms),
            at_end=progress.at_end,
            accepted_next=max(progress.accepted_next, known.accepted_next if known else 0),
            answered=answered,
        )
        if progress.topic == self._topics[Side.FEATURES] and not replayed:
            refused = sum(progress.refused.values()) + progress.future
            for label in self._lengths:
                self.refused_in[label] = self.refused_in.get(label, 0) + refused

    def merged(self, merged: Merged) -> None:
        """Adds the written counts of a unit to the windows that are still open."""
        if (merged.reference, merged.key_id) != (self._identity.reference, self._identity.key_id):
            return
        side, size = side_of(merged.series), counts.size_of(self._cells, merged.series)
        part = unpack(merged.packed, size)
        for label in self._lengths:
            if label is not UNIT and not self._is_closed(side, label, merged.start_ms):
                self._window(side, label, merged.start_ms).add(merged.series, size, part)

    # -- out --------------------------------------------------------------------------------------------------------

    def due(self, at_s: float) -> Iterator[list[Closing]]:
        """Closes what can be closed, oldest end first: one list per end, shortest length first.

        A window's two sides are closed together, unless the score is not there and was waited for long enough.
        """
        limits = {side: self._limit(side, at_s) for side in Side}
        limits[Side.SCORE] = min(limits.values())  # scores are never ahead of their events
        waited = self._waited if self._scored() else self._waited_first
        for past in (self._waited, self._waited_first):
            past.note(limits[Side.FEATURES], at_s)
        patience = waited.then(at_s)
        while True:
            ready = [found for label in self._lengths if (found := self._ready(label, limits, patience)) is not None]
            if not ready:
                return
            end = min(end_ms for _, end_ms, _ in ready)
            yield [
                self._close(side, label, end_ms) for label, end_ms, sides in ready if end_ms == end for side in sides
            ]

    def late_units(self) -> Iterable[tuple[int, Window]]:
        """Late additions to written units that open windows need; handed out once."""
        late, self._late_units = self._late_units, {}
        return late.items()

    def needed_from(self, position: int) -> int:
        """The first offset of drift-panes that a restart must read again: that of the oldest delta of an open unit."""
        opened = (w.first_offset for side in Side for w in self._open[side, UNIT].values())
        return min(position, *opened, position)

    def needed_since(self, now_ms: int) -> int:
        """Wall clock from which written units are needed again, epoch ms; forgets those that are not."""
        starts = [s for (_, label), windows in self._open.items() if label is not UNIT for s in windows]
        oldest = min(starts, default=None)
        self.written = {s: at for s, at in self.written.items() if oldest is not None and s >= oldest}
        return min(self.written.values(), default=now_ms)

    def last_end(self) -> int:
        """The latest end of a closed window that is measured, epoch ms; 0 if none was closed."""
        return max((end_ms for (_, label), end_ms in self._closed.items() if label is not UNIT), default=0)

    def measured_to(self) -> int:
        """How far every length and side that has closed a window is measured, epoch ms; 0 if none has."""
        return min((end_ms for (_, label), end_ms in self._closed.items() if label is not UNIT), default=0)

    def watermarks(self) -> dict[tuple[str, int], int]:
        """Watermark of every partition that has one."""
        return {
            (topic, number): partition.watermark_ms
            for topic, partitions in self._partitions.items()
            for number, partition in partitions.items()
            if partition.watermark_ms is not None
        }

    def memory(self) -> bytes:
        """Everything but the counts, for a checkpoint."""
        closed: dict[str, dict[str, int]] = {side: {} for side in Side}
        for (side, label), end_ms in self._closed.items():
            closed[side][label] = end_ms
        ranges: dict[str, dict[str, dict[int, Ranges]]] = {side: {} for side in Side}
        events: dict[str, dict[str, dict[int, int]]] = {side: {} for side in Side}
        for (side, label), windows in self._open.items():
            if label is not UNIT:
                ranges[side][label] = {start: window.ranges for start, window in windows.items()}
                events[side][label] = {
                    start: window.events - self._in_open_units(side, label, start) for start, window in windows.items()
                }
        late: dict[str, dict[str, int]] = {side: {} for side in Side}
        for (side, label), number in self.late.items():
            late[side][label] = number
        memory = Memory(closed, self._partitions, self._sizes, ranges, events, self.written, late, self.refused_in)
        return msgspec.msgpack.encode(memory)

    def restore(self, raw: bytes, *, same_reference: bool) -> None:
        """The counterpart of `memory`. With another reference the open windows are cut: they say that they are."""
        memory = msgspec.msgpack.decode(raw, type=Memory)
        for side in Side:
            for label, end_ms in memory.closed.get(side, {}).items():
                if label in self._lengths:
                    self._closed[side, label] = end_ms
            for label, starts in memory.ranges.get(side, {}).items():
                for start in starts if label in self._lengths else ():
                    window = self._window(side, label, start)
                    window.foreign = not same_reference
                    if same_reference:
                        window.ranges = starts[start]
                        window.events = memory.events[side][label][start]
        for topic, partitions in memory.partitions.items():
            if topic in self._partitions:
                self._partitions[topic] = partitions
        self.late = {(side, label): n for side in Side for label, n in memory.late.get(side, {}).items()}
        self.refused_in = memory.refused_in
        self._sizes = memory.sizes
        self.written = memory.written if same_reference else {}

    # -- within -----------------------------------------------------------------------------------------------------

    def _window(self, side: Side, label: str, at_ms: int) -> Window:
        length = self._lengths[label]
        return self._open[side, label].setdefault(at_ms // length * length, Window())

    def _is_closed(self, side: Side, label: str, pane_ms: int) -> bool:
        closed = self._closed.get((side, label))
        return closed is not None and pane_ms < closed

    def _in_open_units(self, side: Side, label: str, start: int) -> int:
        """Events of a window that a restart reads again from deltas."""
        end = start + self._lengths[label]
        return sum(w.events for s, w in self._open[side, UNIT].items() if start <= s < end)

    def _reached(self, side: Side) -> dict[str, float]:
        """Event time up to which each expected partition is complete, by `topic-partition`."""
        topic = self._topics[side]
        partitions, reached = self._partitions[topic], {}
        for number in range(max(self._sizes.get(topic, 0), *(n + 1 for n in partitions), 0)):
            partition = partitions.get(number)
            value = self._of_events(partition) if side is Side.FEATURES else self._of_scores(number, partition)
            if value is not None:
                reached[f"{topic}-{number}"] = value
        return reached

    @staticmethod
    def _of_events(partition: Partition | None) -> float | None:
        if partition is None or (partition.watermark_ms is None and not partition.at_end):
            return -math.inf  # nobody has looked into it yet, or not to its end
        return partition.watermark_ms  # None: empty so far; it counts from its first event

    def _of_scores(self, number: int, partition: Partition | None) -> float | None:
        """Never ahead of the events that are scored; silence counts only when all of them have been answered."""
        size = max(1, self._sizes.get(self._topics[Side.SCORE], 1))
        inputs = self._partitions[self._topics[Side.FEATURES]]
        sources = {n: p for n, p in inputs.items() if n % size == number and p.watermark_ms is not None}
        answered = partition.answered if partition is not None else {}
        behind = any(p.accepted_next > answered.get(n, 0) for n, p in sources.items())
        if partition is None or partition.watermark_ms is None or partition.event_ms is None:
            return -math.inf if behind or partition is None or not partition.at_end else None
        own = partition.event_ms if behind else partition.watermark_ms
        return min([own, *(p.watermark_ms for p in sources.values() if p.watermark_ms is not None)])

    def _scored(self) -> bool:
        """Some prediction has been counted."""
        return any(side is Side.SCORE for side, _ in self._closed) or bool(self._open[Side.SCORE, UNIT])

    def _score_expected(self) -> bool:
        """Predictions are watched, and some event has no answer yet."""
        answered: dict[int, int] = {}
        for partition in self._partitions[self._topics[Side.SCORE]].values():
            answered |= partition.answered
        events = self._partitions[self._topics[Side.FEATURES]]
        watched = bool(self._partitions[self._topics[Side.SCORE]])
        return watched and any(p.accepted_next > answered.get(n, 0) for n, p in events.items())

    def _slowest(self, topic: str) -> float:
        """The least watermark of a topic's partitions that have one."""
        known = [p.watermark_ms for p in self._partitions[topic].values() if p.watermark_ms is not None]
        return float(min(known, default=-math.inf))

    def _limit(self, side: Side, at_s: float) -> float:
        """Windows of this side that end at or before this can be closed."""
        reached = self._reached(side).values()
        if not reached:
            return -math.inf
        self._passed[side].note(max(reached), at_s)
        # A partition that was empty a moment ago may hold by now what the others have long passed: it must have said
        # twice since then that it still is (once might have been looked up before and written after).
        empty = (p for p in self._partitions[self._topics[side]].values() if p.watermark_ms is None)
        complete = min([*reached, *(p.others_ms[0] for p in empty)])
        return max(complete, self._passed[side].then(at_s)) - self._lateness_ms

    def _next_end(self, side: Side, label: str, limit: float) -> int | None:
        """End of the next window to close; of a run of empty ones that can be closed only the last is."""
        length, closed = self._lengths[label], self._closed.get((side, label))
        oldest = min(self._open[side, label], default=None)
        if closed is None:
            return None if oldest is None else oldest + length
        if oldest is not None and oldest <= closed:
            return oldest + length
        last_empty = math.floor(limit / length) * length if math.isfinite(limit) else closed
        if oldest is not None:
            last_empty = min(last_empty, oldest)
        return max(closed + length, last_empty)

    def _ready(
        self, label: str, limits: Mapping[Side, float], patience: float
    ) -> tuple[str, int, tuple[Side, ...]] | None:
        """The next window of a length that can be closed, and which sides of it."""
        ends = {side: self._next_end(side, label, limits[side]) for side in Side}
        features, score = ends[Side.FEATURES], ends[Side.SCORE]
        features_due = features is not None and features <= limits[Side.FEATURES]
        score_due = score is not None and score <= limits[Side.SCORE]
        if score is not None and score_due and (features is None or score < features or label is UNIT):
            return label, score, (Side.SCORE,)
        if features is None or not features_due:
            return None
        if label is UNIT or (score is None and not self._score_expected()) or (score is not None and score > features):
            return label, features, (Side.FEATURES,)
        if score_due:
            return label, features, (Side.FEATURES, Side.SCORE)
        waited = self._next_end(Side.FEATURES, label, patience)
        return (label, waited, (Side.FEATURES,)) if waited is not None and waited <= patience else None

    def _close(self, side: Side, label: str, end_ms: int) -> Closing:
        start = end_ms - self._lengths[label]
        window = self._open[side, label].pop(start, None)
        first = (side, label) not in self._closed
        self._closed[side, label] = end_ms
        needed = end_ms + self._lateness_ms
        missing = [name for name, value in self._reached(side).items() if value < needed]
        return Closing(side, label, start, end_ms, window, sorted(missing), first)


def _later(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return max(one, other)
