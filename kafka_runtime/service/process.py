"""The process's use of the machine: file descriptors, CPU and memory."""

from __future__ import annotations

import errno
import resource
import time
from typing import Any

import psutil

# Enough for hundreds of partitions; an unlimited hard limit must not lead to tables of a billion entries.
WANTED_DESCRIPTORS = 65_536
# Kept for HTTP, for files that are read again, and for connections that a Kafka client opens later.
SPARE_DESCRIPTORS = 24


def raise_descriptor_limit() -> int:
    """Raise the soft limit of open files as far as it may go; return the limit in force."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, WANTED_DESCRIPTORS)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft if soft != resource.RLIM_INFINITY else WANTED_DESCRIPTORS
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def descriptor_limit() -> int:
    """Return how many files this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return WANTED_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft


def few_descriptors_left() -> bool:
    """Return whether so few descriptors are free that no partition may be started."""
    try:
        used: int = psutil.Process().num_fds()
    except OSError as error:  # counting needs one
        if error.errno not in {errno.EMFILE, errno.ENFILE}:
            raise
        return True
    return descriptor_limit() - used < SPARE_DESCRIPTORS


def require_descriptors() -> None:
    """Raise OSError (EMFILE) if few descriptors are left."""
    if few_descriptors_left():
        raise OSError(errno.EMFILE, f"too many open files: the limit is {descriptor_limit()} (ulimit -n)")


class Usage:
    """CPU and memory of this process, for `/health`. CPU is measured between two calls, the first since its start."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        times = self._process.cpu_times()
        self._seen = (self._process.create_time(), 0.0)
        self._last = (times.user + times.system) / max(0.001, time.time() - self._seen[0])

    def now(self) -> dict[str, Any]:
        """Return CPU percent (of one core), memory percent (of the machine) and resident bytes."""
        times, at = self._process.cpu_times(), time.time()
        used = times.user + times.system
        before_at, before_used = self._seen
        if at - before_at >= 1.0:  # shorter than a clock tick of CPU time would be noise
            self._last = (used - before_used) / (at - before_at)
            self._seen = (at, used)
        return {
            "cpu_percent": round(100 * self._last, 1),
            "memory_percent": round(self._process.memory_percent(), 1),
            "resident_bytes": self._process.memory_info().rss,
        }
