"""Deltas → windows: which counts belong together, when a window is complete, and which events are late.

Windows are tumbling and aligned to the Unix epoch. Features come from the events topic, scores from the predictions
topic. Each side closes by its own watermarks: a lagging scorer delays the score and does not make it late. Counts are
also kept per *unit*, the greatest common divisor of the window lengths. A closed unit is written to the log; then the
deltas before it need never be read again.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from heapq import heappop, heappush
from itertools import accumulate

import msgspec

from drift_worker.counts import aggregate
from drift_worker.counts.aggregate import SeriesSum, Sparse
from drift_worker.counts.bins import Cells, Vector
from drift_worker.counts.spans import Part, Reach, Span, Trailing
from drift_worker.counts.wire_format import (
    MAX_NUMBER,
    MAX_OF_UNIT,
    MAX_READ,
    Delta,
    Identity,
    Merged,
    Milliseconds,
    Number,
    PartitionNumber,
    Progress,
    Ranges,
    unpack,
)

UNIT = ""  # the label of units, beside those of windows
# Largest memory of open windows. Beyond it the oldest are closed without the lagging partitions. A first start in which
# one partition is years ahead of another must not exhaust the machine's memory.
MAX_HELD_BYTES = 96 << 20
_WINDOW_BYTES = 1024  # memory of the objects of an empty window


class Side(StrEnum):
    """The topic that a count comes from."""

    FEATURES = "features"
    SCORE = "score"


SKETCHES = {Side.FEATURES: aggregate.CUSTOMERS, Side.SCORE: aggregate.SCORED_CUSTOMERS}


def side_of(series: int) -> Side:
    """Return the side of a series: features and their customers, or the score, its class and its customers."""
    return Side.SCORE if series in aggregate.SCORE_SIDE else Side.FEATURES


@dataclass(slots=True, eq=False)
class Window:
    """The counts added so far. first_offset: of drift-panes, the first delta in it; 2^63 if none."""

    sums: dict[int, SeriesSum] = field(default_factory=dict)
    events: int = 0
    ranges: Ranges = field(default_factory=dict)
    first_offset: int = 1 << 63
    foreign: bool = False  # some of its events were counted against another reference

    def add(self, series: int, size: int, part: Sparse) -> int:
        """Add a part of one series. Return the number of bytes by which the window grew."""
        known = self.sums.get(series)
        before = 0 if known is None else known.nbytes
        if known is None:
            known = self.sums[series] = SeriesSum(size)
        known.add(part)
        return known.nbytes - before

    @property
    def vectors(self) -> dict[int, Vector]:
        """Return the counts of every series as whole vectors."""
        return {series: known.vector() for series, known in self.sums.items()}

    @property
    def nbytes(self) -> int:
        """Return the approximate memory of the window."""
        return _WINDOW_BYTES + sum(known.nbytes for known in self.sums.values())

    def cover(self, delta: Delta) -> None:
        """Note which records the window holds."""
        ranges = self.ranges.setdefault(delta.topic, {})
        first, following = ranges.get(delta.partition, (delta.first, delta.next))
        ranges[delta.partition] = (min(first, delta.first), max(following, delta.next))


@dataclass(frozen=True, slots=True, eq=False)
class Closing:
    """One side of one window, ready to be evaluated (or, with the label UNIT, to be written).

    vectors: the counts by series. events: their number. window: None without events, otherwise its other data. missing:
    the partitions, `topic-partition`, that were behind when the wait for them ended. first: no window of this length
    was closed before, so this one began before counting did. span: what is judged, of the shortest length; None: the
    window alone.
    """

    side: Side
    label: str
    start_ms: int
    end_ms: int
    window: Window | None
    vectors: Mapping[int, Vector]
    missing: list[str]
    first: bool
    span: Span | None = None


class Partition(msgspec.Struct):
    """The last progress record of a partition.

    others_ms: of an empty partition, the progress of all others at its last two progress records.
    """

    watermark_ms: Milliseconds | None
    event_ms: Milliseconds | None
    at_end: bool
    accepted_next: Number
    answered: dict[PartitionNumber, Number]
    others_ms: tuple[float, float] = (-math.inf, -math.inf)


class Trail(msgspec.Struct):
    """A closed window that a span may still need: see `spans.Part`."""

    events: Number
    ranges: Ranges
    whole: bool


class WindowsState(msgspec.Struct):
    """The state, without counts, that a restart needs: see `Windows`."""

    closed: dict[str, dict[str, Milliseconds]]  # side → label → end of the last closed window
    partitions: dict[str, dict[PartitionNumber, Partition]]
    sizes: dict[str, int]  # topic → number of partitions
    ranges: dict[str, dict[str, dict[Milliseconds, Ranges]]]  # side → label → start → covered records
    events: dict[str, dict[str, dict[Milliseconds, Number]]]
    written: dict[Milliseconds, Milliseconds]  # start of a unit → wall clock before it was first written, epoch ms
    late: dict[str, dict[str, Number]]
    refused_in: dict[str, Number]
    #: label → side → start → a closed window; older versions wrote none.
    trails: dict[str, dict[str, dict[Milliseconds, Trail]]] = msgspec.field(default_factory=dict)


def decode_state(raw: bytes) -> WindowsState:
    """Return the state that `Windows.state` wrote; ValueError for other bytes."""
    try:
        state = msgspec.msgpack.decode(raw, type=WindowsState)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(f"not the state of windows: {error}") from None
    for side, labels in state.ranges.items():
        for label, starts in labels.items():
            if set(starts) - set(state.events.get(side, {}).get(label, {})):
                raise ValueError("not the state of windows: an open window without its number of events")
    return state


class _Open:
    """The open windows of one side and length by their start, and a heap of those starts."""

    def __init__(self) -> None:
        self.windows: dict[int, Window] = {}
        self._starts: list[int] = []

    def at(self, start: int) -> tuple[Window, bool]:
        """Return the window that begins then, and whether it is new."""
        known = self.windows.get(start)
        if known is not None:
            return known, False
        heappush(self._starts, start)
        made = self.windows[start] = Window()
        return made, True

    def oldest(self) -> int | None:
        """Return the first start; None if no window is open."""
        while self._starts and self._starts[0] not in self.windows:
            heappop(self._starts)
        return self._starts[0] if self._starts else None


class DelayedMaximum:
    """A growing value, with how long ago it reached each level."""

    def __init__(self, ago_s: float) -> None:
        self._ago_s = ago_s
        self._reached: deque[tuple[float, float]] = deque()

    def record(self, value: float, at_s: float) -> None:
        """Note a value that only grows; a hundred notes per period are enough."""
        spacing = self._ago_s / 100
        if not self._reached or (value > self._reached[-1][1] and at_s >= self._reached[-1][0] + spacing):
            self._reached.append((at_s, value))
        while len(self._reached) > 1 and self._reached[1][0] <= at_s - self._ago_s:
            self._reached.popleft()

    def value_at(self, at_s: float) -> float:
        """Return the largest value that had been reached `ago_s` before."""
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
        min_events: int = 0,
    ) -> None:
        """Start without windows. lengths: label → ms, shortest first. topics: the topic of each side.

        min_events: windows of the shortest length with fewer have spans (`spans`); 0: none has.
        """
        self._cells = cells
        self._identity = identity
        self.unit_ms = math.gcd(*lengths.values())
        self._lengths = {UNIT: self.unit_ms, **lengths}
        self._topics = topics
        self._lateness_ms = lateness_ms
        self._open: dict[tuple[Side, str], _Open] = {(s, u): _Open() for s in Side for u in self._lengths}
        self._held_bytes = 0
        self._shortest = next(iter(lengths))
        self._reach = Reach(min_events, max(lengths.values()))
        self._trailing = {side: Trailing(self._reach, SKETCHES[side]) for side in Side}
        self._closed: dict[tuple[Side, str], int] = {}
        self._partitions: dict[str, dict[int, Partition]] = {topic: {} for topic in topics.values()}
        self._sizes: dict[str, int] = {}
        self._passed = {side: DelayedMaximum(straggler_s) for side in Side}  # when the first partition passed
        self._waited = DelayedMaximum(straggler_s)  # when the features could have been closed
        # Without any prediction so far there may be no scorer; then a shorter wait loses little.
        self._waited_first = DelayedMaximum(min(straggler_s, min(lengths.values()) / 1000))
        self._late_units: dict[int, Window] = {}
        self.written: dict[int, int] = {}
        self.late: dict[tuple[Side, str], int] = {}  # since the last closing of that length
        self.refused_in: dict[str, int] = {}  # the same, for records that are not valid events
        self.late_events = 0  # by unit, in total
        self.foreign_events = 0

    # -- in ---------------------------------------------------------------------------------------------------------

    def add_delta(self, delta: Delta, offset: int, *, replayed: bool) -> None:
        """Add the delta at `offset`. replayed: it was read before the restart, so a closed unit holds it.

        ValueError if the delta does not fit the reference that it names.
        """
        side = side_of(delta.series)
        if delta.topic != self._topics[side]:
            raise ValueError(f"series {delta.series} does not come from {delta.topic}")
        counted_here = delta.series in {0, aggregate.SCORE}
        if (delta.reference, delta.key_id) != (self._identity.reference, self._identity.key_id):
            self.foreign_events += delta.events * counted_here
            for label in self._lengths:
                if not self._is_closed(side, label, delta.pane_ms):
                    self._window(side, label, delta.pane_ms).foreign = True
            return
        size = aggregate.size_of(self._cells, delta.series)
        part = unpack(delta.packed, size)
        aggregate.check_part(self._cells, delta.series, part, min(delta.next - delta.first, MAX_READ))
        late_unit = self._is_closed(side, UNIT, delta.pane_ms)
        if late_unit and replayed:
            return
        accepted = False
        for label in self._lengths:
            if self._is_closed(side, label, delta.pane_ms):
                if counted_here and not replayed and label is not UNIT:
                    self.late[side, label] = self.late.get((side, label), 0) + delta.events
                continue
            window = self._window(side, label, delta.pane_ms)
            self._held_bytes += window.add(delta.series, size, part)
            window.cover(delta)
            window.events += delta.events * counted_here
            if label is UNIT:
                window.first_offset = min(window.first_offset, offset)
            else:
                accepted = True
        if late_unit:
            self._take_late(delta, size, part, self._is_needed(side, delta, size, part) or accepted)

    def _is_needed(self, side: Side, delta: Delta, size: int, part: Sparse) -> bool:
        """Add a late part to the closed window of a span; return whether there is one."""
        length, events = self._lengths[self._shortest], delta.events * (delta.series in {0, aggregate.SCORE})
        return self._trailing[side].add(delta.pane_ms // length * length, delta.series, size, part, events)

    def _take_late(self, delta: Delta, size: int, part: Sparse, needed: bool) -> None:
        """Count a part that came after its unit was written; one that a window needs is written as another record."""
        if delta.series in {0, aggregate.SCORE}:
            self.late_events += delta.events
        if needed:
            start = delta.pane_ms // self.unit_ms * self.unit_ms
            self._late_units.setdefault(start, Window()).add(delta.series, size, part)

    def update_progress(self, progress: Progress, *, replayed: bool) -> None:
        """Take in the progress of a partition. Only the predictions' and events' topics count."""
        partitions = self._partitions.get(progress.topic)
        if partitions is None:
            return
        self._sizes[progress.topic] = max(progress.partitions, self._sizes.get(progress.topic, 0))
        known = partitions.get(progress.partition)
        if known is not None and replayed:
            return
        others = known.others_ms if known else (-math.inf, -math.inf)
        partitions[progress.partition] = Partition(
            others_ms=(others[1], self._slowest(progress.topic)),
            watermark_ms=_newer(progress.watermark_ms, known.watermark_ms if known else None),
            event_ms=_newer(progress.event_ms, known.event_ms if known else None),
            at_end=progress.at_end,
            accepted_next=progress.accepted_next,
            answered={**(known.answered if known else {}), **progress.answered},
        )
        if progress.late and not replayed:
            self._note_late(Side.FEATURES if progress.topic == self._topics[Side.FEATURES] else Side.SCORE, progress)
        if progress.topic == self._topics[Side.FEATURES] and not replayed:
            refused = sum(progress.refused.values()) + progress.future
            for label in self._lengths:
                if label is not UNIT:
                    self.refused_in[label] = self.refused_in.get(label, 0) + refused

    def _note_late(self, side: Side, progress: Progress) -> None:
        self.late_events += progress.late
        for label in self._lengths:
            if label is not UNIT:
                self.late[side, label] = self.late.get((side, label), 0) + progress.late

    def add_merged(self, merged: Merged) -> None:
        """Add the written counts of a unit to the windows that are still open.

        ValueError or IndexError if they do not fit the reference that they name.
        """
        if (merged.reference, merged.key_id) != (self._identity.reference, self._identity.key_id):
            return
        side, size = side_of(merged.series), aggregate.size_of(self._cells, merged.series)
        part = unpack(merged.packed, size)
        aggregate.check_part(self._cells, merged.series, part, MAX_OF_UNIT)
        for label in self._lengths:
            if label is not UNIT and not self._is_closed(side, label, merged.start_ms):
                self._held_bytes += self._window(side, label, merged.start_ms).add(merged.series, size, part)
        if self._is_closed(side, self._shortest, merged.start_ms):
            length = self._lengths[self._shortest]
            self._trailing[side].add(merged.start_ms // length * length, merged.series, size, part, 0)

    # -- out --------------------------------------------------------------------------------------------------------

    def due(self, at_s: float) -> Iterator[list[Closing]]:
        """Close what can be closed, oldest end first: one list per end, shortest length first.

        A window's two sides are closed together, unless the score is absent and the wait for it ended. While the open
        windows hold more than MAX_HELD_BYTES, the oldest are closed without the missing sides or partitions.
        """
        limits = {side: self._limit(side, at_s) for side in Side}
        limits[Side.SCORE] = min(limits.values())  # scores are never ahead of their events
        waited = self._waited if self._scored() else self._waited_first
        for past in (self._waited, self._waited_first):
            past.record(limits[Side.FEATURES], at_s)
        patience = waited.value_at(at_s)
        while True:
            ready = [found for label in self._lengths if (found := self._ready(label, limits, patience)) is not None]
            if not ready:
                oldest = self._oldest_end() if self._held_bytes > MAX_HELD_BYTES else -math.inf
                if oldest <= min(patience, *limits.values()):
                    return
                limits = {side: max(limit, oldest) for side, limit in limits.items()}
                patience = max(patience, oldest)
                continue
            end = min(end_ms for _, end_ms, _ in ready)
            yield [
                self._close(side, label, end_ms, joint=len(sides) > 1)
                for label, end_ms, sides in ready
                if end_ms == end
                for side in sides
            ]

    def late_units(self) -> Iterable[tuple[int, Window]]:
        """Yield late additions to written units that open windows need; each is returned once."""
        late, self._late_units = self._late_units, {}
        return late.items()

    def needed_from(self, position: int) -> int:
        """Return the first offset of drift-panes that a restart must read: that of an open unit's oldest delta."""
        opened = (w.first_offset for side in Side for w in self._open[side, UNIT].windows.values())
        return min(position, *opened, position)

    def needed_since(self, now_ms: int) -> int:
        """Return the wall clock from which written units are needed again, epoch ms; drop those that are not needed."""
        starts = [open_.oldest() for (_, label), open_ in self._open.items() if label is not UNIT]
        starts += [trailing.oldest for trailing in self._trailing.values()]
        oldest = min((start for start in starts if start is not None), default=None)
        self.written = {s: at for s, at in self.written.items() if oldest is not None and s >= oldest}
        return min(self.written.values(), default=now_ms)

    def last_end(self) -> int:
        """Return the latest end of a closed window that is measured, epoch ms; 0 if none was closed."""
        return max((end_ms for (_, label), end_ms in self._closed.items() if label is not UNIT), default=0)

    def measured_to(self) -> int:
        """Return the time up to which every length and side with a closed window is measured, epoch ms; 0 without."""
        return min((end_ms for (_, label), end_ms in self._closed.items() if label is not UNIT), default=0)

    def watermarks(self) -> dict[tuple[str, int], int]:
        """Return the watermark of every partition that has one."""
        return {
            (topic, number): partition.watermark_ms
            for topic, partitions in self._partitions.items()
            for number, partition in partitions.items()
            if partition.watermark_ms is not None
        }

    def state(self) -> bytes:
        """Return everything but the counts, for a checkpoint."""
        closed: dict[str, dict[str, int]] = {side: {} for side in Side}
        for (side, label), end_ms in self._closed.items():
            closed[side][label] = end_ms
        ranges: dict[str, dict[str, dict[int, Ranges]]] = {side: {} for side in Side}
        events: dict[str, dict[str, dict[int, int]]] = {side: {} for side in Side}
        for (side, label), open_ in self._open.items():
            if label is not UNIT:
                again = self._read_again(side, label)
                ranges[side][label] = {start: window.ranges for start, window in open_.windows.items()}
                events[side][label] = {start: window.events - again(start) for start, window in open_.windows.items()}
        late: dict[str, dict[str, int]] = {side: {} for side in Side}
        for (side, label), number in self.late.items():
            late[side][label] = number
        trails = {
            self._shortest: {
                side.value: {start: Trail(one.events, one.ranges, one.whole) for start, one in trailing.parts.items()}
                for side, trailing in self._trailing.items()
            }
        }
        state = WindowsState(
            closed, self._partitions, self._sizes, ranges, events, self.written, late, dict(self.refused_in), trails
        )
        return msgspec.msgpack.encode(state)

    def check(self, state: WindowsState) -> None:
        """Raise ValueError if a closed window of `state` ends off the grid: all later ones would follow it there.

        Units are not checked: their length follows from all windows, which may be others than those of the writer.
        """
        for side, labels in state.closed.items():
            for label, end_ms in labels.items():
                if label != UNIT and end_ms % self._lengths.get(label, 1):
                    raise ValueError(f"not the state of windows: a window of {label} ({side}) that ends at {end_ms} ms")

    def restore(
        self,
        state: WindowsState,
        *,
        same_reference: bool,
        latest_ms: float = math.inf,
        sizes: Mapping[str, int] | None = None,
    ) -> None:
        """Take over what `state` wrote. With another reference the open windows are marked as cut.

        Times ahead of `latest_ms` (the clock plus the skew) cannot be true; nor can partitions beyond `sizes`, the
        number of partitions per topic. Both are left out: so a forged record is harmless after the next start.
        """
        for side in Side:
            for label, end_ms in state.closed.get(side, {}).items():
                if label in self._lengths and end_ms <= latest_ms:
                    self._closed[side, label] = end_ms
            for label, starts in state.ranges.get(side, {}).items():
                for start in starts if label in self._lengths else ():
                    if start > latest_ms or start % self._lengths[label] or self._is_closed(side, label, start):
                        continue
                    window = self._window(side, label, start)
                    window.foreign = not same_reference
                    if same_reference:
                        window.ranges = starts[start]
                        window.events = state.events[side][label][start]
            trails = state.trails.get(self._shortest, {}).get(side, {}) if same_reference else {}
            for start in sorted(trails):
                one = trails[start]
                if self._is_closed(side, self._shortest, start) and not start % self._lengths[self._shortest]:
                    self._trailing[side].restore(start, Part(one.events, one.ranges, one.whole))
        for topic in self._partitions:
            most = (sizes or {}).get(topic, MAX_NUMBER)
            self._partitions[topic] = {
                number: partition
                for number, partition in state.partitions.get(topic, {}).items()
                if number < most and max(partition.watermark_ms or 0, partition.event_ms or 0) <= latest_ms
            }
            self._sizes[topic] = min(state.sizes.get(topic, 0), most)
        self.late = {(side, label): n for side in Side for label, n in state.late.get(side, {}).items()}
        self.refused_in = {label: n for label, n in state.refused_in.items() if label in self._lengths}
        written = {start: at for start, at in state.written.items() if max(start, at) <= latest_ms}
        self.written = written if same_reference else {}

    # -- within -----------------------------------------------------------------------------------------------------

    def _window(self, side: Side, label: str, at_ms: int) -> Window:
        length = self._lengths[label]
        window, is_new = self._open[side, label].at(at_ms // length * length)
        self._held_bytes += _WINDOW_BYTES * is_new
        return window

    def _is_closed(self, side: Side, label: str, pane_ms: int) -> bool:
        closed = self._closed.get((side, label))
        return closed is not None and pane_ms < closed

    def _read_again(self, side: Side, label: str) -> Callable[[int], int]:
        """Return a function of a window's start: how many of its events a restart reads again from deltas."""
        units, length = self._open[side, UNIT].windows, self._lengths[label]
        starts = sorted(units)
        before = [0, *accumulate(units[start].events for start in starts)]
        return lambda start: before[bisect_left(starts, start + length)] - before[bisect_left(starts, start)]

    def _oldest_end(self) -> float:
        """Return the first end of all open windows."""
        ends = (
            start + self._lengths[label]
            for (_, label), open_ in self._open.items()
            if (start := open_.oldest()) is not None
        )
        return min(ends, default=-math.inf)

    def _reached(self, side: Side) -> dict[str, float]:
        """Return the event time up to which each expected partition is complete, by `topic-partition`."""
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
            return -math.inf  # not read yet, or not to its end
        return partition.watermark_ms  # None: empty so far; it counts from its first event

    def _of_scores(self, number: int, partition: Partition | None) -> float | None:
        """Return a watermark that is never ahead of the scored events.

        Silence counts only when all of them have predictions.
        """
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
        """Return whether a prediction was counted."""
        return any(side is Side.SCORE for side, _ in self._closed) or bool(self._open[Side.SCORE, UNIT].windows)

    def _score_expected(self) -> bool:
        """Return whether predictions are counted and some event has no prediction yet."""
        answered: dict[int, int] = {}
        for partition in self._partitions[self._topics[Side.SCORE]].values():
            answered |= partition.answered
        events = self._partitions[self._topics[Side.FEATURES]]
        watched = bool(self._partitions[self._topics[Side.SCORE]])
        return watched and any(p.accepted_next > answered.get(n, 0) for n, p in events.items())

    def _slowest(self, topic: str) -> float:
        """Return the least watermark of a topic's partitions that have one."""
        known = [p.watermark_ms for p in self._partitions[topic].values() if p.watermark_ms is not None]
        return float(min(known, default=-math.inf))

    def _limit(self, side: Side, at_s: float) -> float:
        """Return the time up to which windows of this side can be closed."""
        reached = self._reached(side).values()
        if not reached:
            return -math.inf
        self._passed[side].record(max(reached), at_s)
        # A partition that was empty a moment ago may now hold events of times that the others have passed. So it must
        # have reported twice since then that it is empty: the first report may have been read before and written after.
        empty = (p for p in self._partitions[self._topics[side]].values() if p.watermark_ms is None)
        complete = min([*reached, *(p.others_ms[0] for p in empty)])
        return max(complete, min(max(reached), self._passed[side].value_at(at_s))) - self._lateness_ms

    def _next_end(self, side: Side, label: str, limit: float) -> int | None:
        """Return the end of the next window to close.

        Of a run of empty ones that can be closed, only the last counts.
        """
        length, closed = self._lengths[label], self._closed.get((side, label))
        oldest = self._open[side, label].oldest()
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
        """Return the next window of a length that can be closed, and which sides of it."""
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

    def _close(self, side: Side, label: str, end_ms: int, *, joint: bool) -> Closing:
        start = end_ms - self._lengths[label]
        window = self._open[side, label].windows.pop(start, None)
        self._held_bytes -= 0 if window is None else window.nbytes
        first = (side, label) not in self._closed
        self._closed[side, label] = end_ms
        needed = end_ms + self._lateness_ms
        missing = [name for name, value in self._reached(side).items() if value < needed]
        vectors = {} if window is None else window.vectors
        span = None
        if label == self._shortest and self._reach.min_events:
            span = self._span(side, start, end_ms, window, whole=not missing and not first, joint=joint)
        return Closing(side, label, start, end_ms, window, vectors, sorted(missing), first, span)

    def _span(
        self, side: Side, start_ms: int, end_ms: int, window: Window | None, *, whole: bool, joint: bool
    ) -> Span | None:
        """Return what is judged at the end of this window; None if that is the window alone, or nothing is new in it.

        joint: both sides close, the features first. The score is then judged over the same windows as the features.
        """
        trailing = self._trailing[side]
        if window is not None and window.foreign:
            trailing.clear()
            return None
        part = Part(window.events, window.ranges, whole, window.sums) if window is not None and window.sums else None
        since_ms = self._trailing[Side.FEATURES].oldest if joint and side is Side.SCORE else None
        trailing.push(start_ms, end_ms, part, since_ms)
        span = trailing.span(since_ms)
        return span if part is not None and span is not None and span.start_ms < start_ms else None


def _newer(value: int | None, before: int | None) -> int | None:
    """Return the newest record's value, even if smaller: so the next true record ends the effect of a forged one."""
    return before if value is None else value
