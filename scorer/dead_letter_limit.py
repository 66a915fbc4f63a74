"""The limit of rejected records: above it, a scorer stops instead of filling the dead letters. Pure."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Hashable

# The share is of this number of records, and exists from this number on.
LIMIT_WINDOW = 10_000
LIMIT_FROM = 1000


class RejectedShare:
    """The share of rejected records among the last 10,000 records, and those of the open batches."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._batches: deque[tuple[int, int]] = deque()
        self._answered = self._rejected = 0
        self._open: dict[Hashable, tuple[int, int]] = {}
        self._lock = threading.Lock()  # the batch thread reads, the event loop writes

    def would_cross(self, answered: int, rejected: int) -> bool:
        """Return whether the share with this batch exceeds the limit; below 1,000 records there is no share yet."""
        with self._lock:
            answered += self._answered + sum(batch[0] for batch in self._open.values())
            rejected += self._rejected + sum(batch[1] for batch in self._open.values())
            for gone in self._batches:
                if answered - gone[0] < LIMIT_WINDOW:
                    break
                answered -= gone[0]
                rejected -= gone[1]
            return answered >= LIMIT_FROM and rejected / answered > self._limit

    def hold(self, source: Hashable, answered: int, rejected: int) -> None:
        """Count a batch that is about to be written: other partitions' batches must not use the same room."""
        with self._lock:
            self._open[source] = (answered, rejected)

    def drop(self, source: Hashable) -> None:
        """Forget the open batch of `source`, which was not written."""
        with self._lock:
            self._open.pop(source, None)

    def add(self, answered: int, rejected: int, source: Hashable | None = None) -> None:
        """Count a committed batch, the open one of `source`; forget the oldest beyond the window."""
        with self._lock:
            if source is not None:
                self._open.pop(source, None)
            self._batches.append((answered, rejected))
            self._answered += answered
            self._rejected += rejected
            while self._answered - self._batches[0][0] >= LIMIT_WINDOW:
                gone = self._batches.popleft()
                self._answered -= gone[0]
                self._rejected -= gone[1]
