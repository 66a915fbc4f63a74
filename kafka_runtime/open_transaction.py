"""How long the records of a partition have been held back by an open transaction.

A reader of committed records gets nothing from the last stable offset on: the first record of the oldest transaction
that is open. Where that offset is below the high watermark and does not move, records wait and no reader can see them.
"""

from __future__ import annotations

import time

from aiokafka import TopicPartition

from kafka_runtime.service import logs

log = logs.get(__name__)

# An upstream that writes in transactions has one open most of the time. It is reported once it lasts.
BLOCKED_AFTER_S = 10.0


class OpenTransaction:
    """What is known of the open transaction in one partition, if there is one."""

    def __init__(self, source: TopicPartition) -> None:
        self._source = source
        self._offset: int | None = None  # the last stable offset while it is below the high watermark
        self._since = 0.0  # monotonic; when it was first seen there
        self._reported = False
        #: Offsets behind it, markers included; 0 without one, None while that is not known.
        self.records: int | None = None
        #: For how long at least it has been open; 0 without one, None while that is not known.
        self.seconds: float | None = None

    def observe(self, high: int, stable: int) -> None:
        """Note the high watermark and the last stable offset, requested later; log the begin and end of a long one."""
        now = time.monotonic()
        if stable >= high:
            if self._reported:
                self._log("input_unblocked", stable, high, now - self._since)
            self._offset, self._reported, self.records, self.seconds = None, False, 0, 0.0
            return
        if self._offset != stable:
            if self._reported:
                self._log("input_unblocked", stable, high, now - self._since)
            self._offset, self._since, self._reported = stable, now, False
        self.records, self.seconds = high - stable, now - self._since
        if self.lasts and not self._reported:
            self._reported = True
            self._log("input_blocked", stable, high, self.seconds)

    def unknown(self) -> None:
        """Note that the cluster did not answer."""
        self.records = self.seconds = None

    @property
    def lasts(self) -> bool:
        """Return whether it has been open for longer than a live transaction."""
        return self.seconds is not None and self.seconds >= BLOCKED_AFTER_S

    @property
    def text(self) -> str:
        """Return what a person should read about it; empty unless it lasts."""
        if not self.lasts:
            return ""
        return f"{self.records} offsets from {self._offset} on are behind an open transaction, for {self.seconds:.0f} s"

    def _log(self, event: str, stable: int, high: int, seconds: float) -> None:
        write = log.warning if event == "input_blocked" else log.info
        where = {"topic": self._source.topic, "partition": self._source.partition}
        write(event, **where, offset=stable, end=high, records=high - stable, seconds=round(seconds, 1))
