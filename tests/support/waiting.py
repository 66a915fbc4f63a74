"""Waiting for what must come, with a deadline and never longer than needed.

A deadline detects that something hangs, and measures no speed: on a busy machine everything takes ten times as long,
and must not fail for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = 120.0) -> float:
    """Until `condition` holds; the seconds it took. AssertionError naming `what` if it does not in time."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() < started + timeout_s, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.02)
    return time.monotonic() - started
