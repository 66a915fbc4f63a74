"""Python starts this by itself where its folder is on PYTHONPATH: a wall clock that a test moves.

The file that TEST_CLOCK names holds the seconds by which it is wrong. The monotonic clock is left alone, as by anybody
who sets a computer's clock.
"""

import os
import time
from pathlib import Path

if moved := os.environ.get("TEST_CLOCK"):
    _file, _time, _time_ns = Path(moved), time.time, time.time_ns

    def _wrong_s() -> int:
        return int(_file.read_text())

    time.time = lambda: _time() + _wrong_s()
    time.time_ns = lambda: _time_ns() + _wrong_s() * 1_000_000_000
