"""A service's life: start, run, drain on SIGTERM or SIGINT, stop; and the exit codes it ends with."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable

from streaming import logs

log = logs.get(__name__)

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_WRONG_USE = 2


def refuse_optimised_python() -> None:
    """Refuse `python -O`: aiokafka's transactions are guarded by assert statements and corrupt silently without."""
    if sys.flags.optimize:
        sys.stderr.write("python -O and PYTHONOPTIMIZE remove the checks that transactions rely on: run without\n")
        raise SystemExit(EXIT_WRONG_USE)


def settle_memory() -> None:
    """Call once everything long-lived is loaded: keep the cycle collector from walking it again and again.

    A batch makes tens of thousands of short-lived tuples, none in a cycle; with Python's thresholds they trigger
    collections that walk all of scikit-learn's modules each time (measured: a quarter of the CPU per event).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)


def run(serve: Callable[[asyncio.Event], Awaitable[None]], drain_timeout_s: float) -> int:
    """Run `serve(drain)` until it returns; the exit code.

    The first SIGTERM or SIGINT sets `drain`; `serve` then has `drain_timeout_s` to return, else the code is 1. A second
    signal ends the process at once with 128 + its number.
    """
    return asyncio.run(_run(serve, drain_timeout_s))


async def _run(serve: Callable[[asyncio.Event], Awaitable[None]], drain_timeout_s: float) -> int:
    drain = asyncio.Event()

    def on_signal(number: signal.Signals) -> None:
        if drain.is_set():
            log.warning("forced_exit", signal=number.name)
            os._exit(128 + number)
        log.info("draining", signal=number.name)
        drain.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    serving = asyncio.ensure_future(serve(drain))
    draining = asyncio.ensure_future(drain.wait())
    await asyncio.wait((serving, draining), return_when=asyncio.FIRST_COMPLETED)
    draining.cancel()
    if not serving.done():
        await asyncio.wait((serving,), timeout=drain_timeout_s)
    if not serving.done():
        log.error("drain_deadline_passed", seconds=drain_timeout_s)
        # threads may still be computing; what is uncommitted is answered again after the restart
        os._exit(EXIT_FAILED)
    if (error := serving.exception()) is not None:
        log.error("service_failed", exc_info=error)
        return EXIT_FAILED
    log.info("drained")
    return EXIT_DONE
