"""Event time: which pane an event belongs to, and how far a partition has come (its watermark).

The watermark of a partition follows the events, never the wall clock: a replay of yesterday, or a scorer that lags,
must not make everything late. Only where a partition has been read to its end and nothing came for a while does it move
on with the time that passed, so that a quiet partition does not hold up the others.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def panes_of(event_time_ms: NDArray[np.int64], pane_ms: int) -> NDArray[np.int64]:
    """Start of each event's pane, epoch ms: panes are aligned to the Unix epoch and hold [start, start + pane_ms)."""
    starts: NDArray[np.int64] = event_time_ms // pane_ms * pane_ms
    return starts


class Watermark:
    """How far one partition has come, epoch ms of event time; None before its first event. It never falls.

    Time is an argument: `now_ms` is the wall clock, `at_s` a monotonic one.
    """

    def __init__(
        self, idle_timeout_s: float, at_s: float, value_ms: int | None = None, event_ms: int | None = None
    ) -> None:
        """`value_ms`, `event_ms`: as they were committed before a restart; idleness then counts from `at_s`."""
        self.event_ms = event_ms  # by events alone
        self.value_ms = value_ms
        self._silent_from_ms = value_ms  # what the time in silence is added to
        self._idle_timeout_s = idle_timeout_s
        self._heard_at_s = at_s

    def heard(self, event_time_ms: NDArray[np.int64], now_ms: int, at_s: float) -> None:
        """Valid events were read. One that is ahead of the clock moves the watermark to the clock at most."""
        if not len(event_time_ms):
            return
        self._heard_at_s = at_s
        largest = int(min(event_time_ms.max(), now_ms))
        # What silence added is kept: windows may have been closed because of it.
        self.event_ms = largest if self.event_ms is None else max(self.event_ms, largest)
        self.value_ms = self.event_ms if self.value_ms is None else max(self.value_ms, self.event_ms)
        self._silent_from_ms = self.event_ms

    def idle(self, at_s: float, *, at_end: bool) -> None:
        """No valid event came. At the end of the log and after the time-out the silence itself counts."""
        silent_s = at_s - self._heard_at_s
        if self._silent_from_ms is None or self.value_ms is None or not at_end or silent_s < self._idle_timeout_s:
            return
        self.value_ms = max(self.value_ms, self._silent_from_ms + int(silent_s * 1000))
