"""A service's life: start, run, drain on SIGTERM or SIGINT, stop; and the exit codes it ends with."""

from __future__ import annotations

import argparse
import asyncio
import atexit
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Collection, Sequence
from importlib.metadata import version
from typing import NoReturn, Protocol, TypeVar

import orjson

from kafka_runtime.service import logs
from kafka_runtime.service.printable import clean, clean_json
from kafka_runtime.service.process import raise_descriptor_limit
from kafka_runtime.service.settings import ServiceSettings, SettingsError

log = logs.get(__name__)

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_WRONG_USE = 2

S = TypeVar("S", bound=ServiceSettings)
_HOW = (
    "Configured by environment variables only (docs/contracts.md lists them). "
    "On SIGTERM or SIGINT it finishes the open batch and stops."
)


def refuse_optimised_python() -> None:
    """Reject `python -O`: assert statements guard aiokafka's transactions, which break silently without them."""
    if sys.flags.optimize:
        sys.stderr.write("python -O and PYTHONOPTIMIZE remove the checks that transactions rely on: run without\n")
        raise SystemExit(EXIT_WRONG_USE)


def settle_memory() -> None:
    """Keep the cycle collector from walking long-lived objects. Call once they are all loaded.

    A batch makes tens of thousands of short-lived tuples, none in a cycle. With Python's thresholds they trigger
    collections that walk all of scikit-learn's modules (measured: a quarter of the CPU per event).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)


class RefusedError(Exception):
    """A model or a reference must not be used. The text is one line."""


class Service(Protocol):
    """A service: loaded when it is made, and run until it is drained."""

    async def run(self, drain: asyncio.Event) -> None:
        """Serve until `drain` is set, then finish what is in progress and close."""


def main(
    prog: str,
    description: str,
    example: str,
    settings_type: type[S],
    service: Callable[[S, str], Service],
    known: Collection[str],
    arguments: Sequence[str] | None = None,
) -> NoReturn:
    """Run a service as a process, or print its settings, and end the process with the contract's exit code.

    `service` makes the service from its settings and our version; it raises RefusedError for a model or reference that
    must not be used.
    """
    parser = argparse.ArgumentParser(
        prog=prog, description=f"{description} {_HOW}", epilog=f"example: {example} {prog}"
    )
    parser.add_argument("--print-settings", action="store_true", help="print the settings, secrets masked, and exit")
    parsed = parser.parse_args(arguments)
    refuse_optimised_python()
    try:
        settings = settings_type.read(os.environ, known)
    except SettingsError as error:
        _complain(error)
        raise SystemExit(EXIT_WRONG_USE) from None
    if parsed.print_settings:
        options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
        lines = orjson.dumps(settings.public(), default=str, option=options).decode().splitlines()
        sys.stdout.write("".join(f"{clean_json(line)}\n" for line in lines))
        raise SystemExit(EXIT_DONE)
    logs.configure(settings, prog.rpartition(" ")[2].replace("_", "-"))
    raise_descriptor_limit()
    try:
        made = service(settings, version("driftline"))
    except RefusedError as error:
        _complain(error)
        raise SystemExit(EXIT_WRONG_USE) from None
    settle_memory()
    _end(run(made.run, settings.scorer_drain_timeout.total_seconds()))


def _complain(error: Exception) -> None:
    """Write why the process does not start, one line for each problem."""
    sys.stderr.write("".join(f"{clean(line)}\n" for line in str(error).split("\n")))


def _end(code: int) -> NoReturn:
    """End the process now: a model that still computes in a thread must not keep a drained process."""
    atexit._run_exitfuncs()  # noqa: SLF001 - os._exit would leave out what a normal exit runs
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def run(serve: Callable[[asyncio.Event], Awaitable[None]], drain_timeout_s: float) -> int:
    """Run `serve(drain)` until it returns; return the exit code.

    The first SIGTERM or SIGINT sets `drain`. `serve` then has `drain_timeout_s` to return, else the code is 1. A second
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
