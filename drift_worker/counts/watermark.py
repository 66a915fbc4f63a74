"""Event time: the pane of an event, and the progress of a partition (its watermark).

The watermark of a partition follows the events, never the wall clock: a replay of yesterday, or a lagging scorer, must
not make all events late. The exception is a partition that is read to its end and stays silent. Its watermark then
advances with the elapsed time, so that a quiet partition does not hold up the others.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def panes_of(event_time_ms: NDArray[np.int64], pane_ms: int) -> NDArray[np.int64]:
    """Return the start of each event's pane, epoch ms.

    Panes are aligned to the Unix epoch: [start, start + pane_ms).
    """
    starts: NDArray[np.int64] = event_time_ms // pane_ms * pane_ms
    return starts


class TooOld:
    """Finds events that no open window can hold: older than `span_ms` before the newest event of their partition.

    Otherwise a dump of years that is not sorted by time would open every window of those years at once. The newest
    event counts in the order of the partition, so batches and restarts make no difference. An event ahead of the clock
    counts as one of this moment: one producer with a fast clock must not make the others' events too old.
    """

    def __init__(self, span_ms: int, newest_ms: int | None = None) -> None:
        """Start. `span_ms`: the longest window plus the allowed lateness. `newest_ms`: the value before a restart."""
        self._span_ms = span_ms
        self.newest_ms = newest_ms

    def find(self, event_time_ms: NDArray[np.int64], now_ms: int) -> NDArray[np.bool_]:
        """Return bool (n,): which of the next events of the partition are too old. `now_ms`: the wall clock."""
        newest = np.minimum(np.maximum.accumulate(event_time_ms), now_ms)
        if self.newest_ms is not None:
            newest = np.maximum(newest, self.newest_ms)
        if len(newest):
            self.newest_ms = int(newest[-1])
        old: NDArray[np.bool_] = event_time_ms < newest - self._span_ms
        return old


class Watermark:
    """The progress of one partition, epoch ms of event time; None before its first event. It never falls.

    Time is an argument: `now_ms` is the wall clock, `at_s` a monotonic one.
    """

    def __init__(
        self, idle_timeout_s: float, at_s: float, value_ms: int | None = None, event_ms: int | None = None
    ) -> None:
        """Start. `value_ms`, `event_ms`: as committed before a restart; idleness then counts from `at_s`."""
        self.event_ms = event_ms  # from events alone
        self.value_ms = value_ms
        self._silent_from_ms = value_ms  # value to which the time in silence is added
        self._idle_timeout_s = idle_timeout_s
        self._heard_at_s = at_s

    def heard(self, event_time_ms: NDArray[np.int64], now_ms: int, at_s: float) -> None:
        """Take in valid events. One that is ahead of the clock moves the watermark to the clock at most."""
        if not len(event_time_ms):
            return
        self._heard_at_s = at_s
        largest = int(min(event_time_ms.max(), now_ms))
        # An advance by silence is kept: windows may have been closed because of it.
        self.event_ms = largest if self.event_ms is None else max(self.event_ms, largest)
        self.value_ms = self.event_ms if self.value_ms is None else max(self.value_ms, self.event_ms)
        self._silent_from_ms = self.event_ms

    def idle(self, at_s: float, *, at_end: bool) -> None:
        """Take in that no valid event came. At the end of the log, and after the time-out, the elapsed time counts."""
        silent_s = at_s - self._heard_at_s
        if self._silent_from_ms is None or self.value_ms is None or not at_end or silent_s < self._idle_timeout_s:
            return
        self.value_ms = max(self.value_ms, self._silent_from_ms + int(silent_s * 1000))
