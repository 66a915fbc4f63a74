"""Timestamps and samples → figures. Pure."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median

STEADY_RATE = 1_000
"""Events per second at which contestants are compared while they have no backlog."""
WARM_UP = 0.1
"""The first tenth of a backlog is not counted: processes, connections and caches are still warming up."""


def quantile(ordered: Sequence[float], q: float) -> float:
    """Return the smallest value that at least the share `q` of the values do not exceed; `ordered`: ascending.

    >>> quantile([1.0, 2.0, 3.0, 4.0], 0.5)
    2.0
    """
    if not ordered:
        raise ValueError("no values")
    return ordered[max(0, -int(-q * len(ordered) // 1) - 1)]


def steady_window(ordered_ms: Sequence[int]) -> tuple[int, int, int] | None:
    """Return the part of a backlog that counts: (from ms, to ms, records after `from` up to `to`).

    ordered_ms: when each answer was written, ascending. None without any span of time. Records of the same millisecond
    as the first counted moment are left out, because they were made before it.
    """
    if len(ordered_ms) < 2:
        return None
    start, end = ordered_ms[int(len(ordered_ms) * WARM_UP)], ordered_ms[-1]
    if start == end:
        return None
    return start, end, len(ordered_ms) - bisect_right(ordered_ms, start)


def cpu_between(samples: Sequence[tuple[float, float]], start: float, end: float) -> float:
    """Return CPU seconds used from `start` to `end`.

    Samples (at, cpu seconds so far) are ascending; values in between are interpolated.
    """
    return _at(samples, end) - _at(samples, start)


def _at(samples: Sequence[tuple[float, float]], moment: float) -> float:
    after = bisect_left(samples, (moment, 0.0))
    if after == 0:
        return samples[0][1]
    if after == len(samples):
        return samples[-1][1]
    (t0, c0), (t1, c1) = samples[after - 1], samples[after]
    return c0 + (c1 - c0) * (moment - t0) / (t1 - t0)


_EVENT_TIME = re.compile(rb'"event_time":\s*"([^"]+)"')


def age_ms(seen_ns: int, value: bytes) -> tuple[float, float]:
    """Return (event time in epoch ms, age in ms) of an answer that could be read at `seen_ns` (epoch nanoseconds).

    Every contestant copies the event's `event_time` into its answer; the producer wrote it there when it sent the
    event, with milliseconds. ValueError if there is none.

    >>> age_ms(1_000_000_250_000_000, b'{"event_time": "1970-01-12T13:46:40.000Z"}')
    (1000000000.0, 250.0)
    """
    found = _EVENT_TIME.search(value)
    if found is None:
        raise ValueError(f"an answer without event_time: {value[:100]!r}")
    time_ms = datetime.fromisoformat(found[1].decode()).timestamp() * 1000
    return time_ms, seen_ns / 1e6 - time_ms


@dataclass(frozen=True)
class Backlog:
    """One backlog run.

    rate: events per second. cpu_us: CPU microseconds per event, None where it cannot be read. peak_bytes: resident
    memory. answered: of the `offered` events, the number answered at the end. others: share of the machine used by
    programs outside the benchmark.
    """

    rate: float
    cpu_us: float | None
    peak_bytes: int | None
    answered: int
    offered: int
    others: float | None


@dataclass(frozen=True)
class Age:
    """Event age at `rate` events per second. p50_ms and p99_ms are None if the contestant did not keep up."""

    rate: int
    events: int
    p50_ms: float | None
    p99_ms: float | None
    cpu_us: float | None
    others: float | None


@dataclass
class Figures:
    """Everything measured of one contestant. cold_start_s: process start → first answer readable."""

    backlogs: list[Backlog] = field(default_factory=list)
    ages: list[Age] = field(default_factory=list)
    cold_start_s: float | None = None
    error: str | None = None

    @property
    def rate(self) -> float | None:
        """Return events per second on a backlog: the median of the rounds."""
        return median(b.rate for b in self.backlogs) if self.backlogs else None

    @property
    def cpu_us(self) -> float | None:
        """Return CPU microseconds per event on a backlog: the median of the rounds."""
        known = [b.cpu_us for b in self.backlogs if b.cpu_us is not None]
        return median(known) if known else None

    @property
    def peak_bytes(self) -> int | None:
        """Return the largest resident memory over all rounds."""
        return max((b.peak_bytes for b in self.backlogs if b.peak_bytes is not None), default=None)

    def age(self, rate: int) -> Age | None:
        """Return the age at this rate, None if it was not measured."""
        return next((age for age in self.ages if age.rate == rate), None)
