"""An asyncio loop whose time advances only when no task can run: hours in milliseconds, and always the same."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from random import Random
from typing import Any


class _Selector(selectors.SelectSelector):
    """Waits for nothing: what the loop would have slept, its time moves on by."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> list:
        """No socket is ever ready."""
        if timeout is None:
            raise RuntimeError("nothing will ever happen again")
        # a timer is due slightly before its time (the clock's resolution): without a separate step the time would not
        # advance
        self.now += max(timeout, 1e-9)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Virtual time; what is sent to a thread is done here instead, some drawn time later."""

    def __init__(self, draw: Random) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)
        self._draw = draw

    def time(self) -> float:
        """Virtual seconds."""
        return self._virtual.now

    def run_in_executor(self, executor: object, func: Callable[..., Any], *args: Any) -> asyncio.Future:  # noqa: ARG002
        """As if a thread had done it."""
        future = self.create_future()

        def work() -> None:
            if not future.cancelled():
                try:
                    future.set_result(func(*args))
                except Exception as error:  # noqa: BLE001 - what a thread raises is raised at who waits for it
                    future.set_exception(error)

        self.call_later(self._draw.choice((0.001, 0.005, 0.4)), work)
        return future


class Clock:
    """Replaces the module `time` where the code under test reads it."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.monotonic = loop.time
        self.time = loop.time
        self.time_ns = lambda: int(loop.time() * 1e9)
