"""The scorer's side of a challenger in shadow: its process, a bounded queue to it, and its state.

No call here waits, and no error here stops the champion. Committed records go into the pipe's buffer, or are dropped
and counted. The process is started again when it ends; it runs scorer/challenger/process.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from kafka_runtime.service import logs
from schemas.bundle.manifest import manifest_bytes
from schemas.validation import Record
from scorer.challenger.protocol import ENDED, NO_MODEL, QUEUE_FULL, Champion, Condition, events, frame, read_line
from scorer.model import Model
from scorer.telemetry import ScorerTelemetry

log = logs.get(__name__)

# Bytes that may wait for the challenger: some 13,000 events of 600 bytes. One more frame is accepted below it.
MAX_QUEUE_BYTES = 8 << 20
# Small enough that a slow challenger drops little at once, large enough for a model with a fixed cost per call.
FRAME_RECORDS = 500
MAX_BACKOFF_S = 60.0
STOP_S = 2.0
_STARTING = Condition(None, "starting", None, None)


class Shadow:
    """Offers committed events to the challenger."""

    def __init__(self, champion: Callable[[], Model], report: ScorerTelemetry) -> None:
        """Start. `champion`: the model that answers now."""
        self._champion = champion
        self._report = report
        self._process: asyncio.subprocess.Process | None = None
        self._told: Model | None = None  # the champion that the process has
        self._condition = _STARTING
        self._in_hand = 0  # events sent to the process without an outcome yet
        self._serving: asyncio.Task[None] | None = None
        self._stopping = False

    def start(self) -> None:
        """Keep a process running from now on."""
        self._serving = asyncio.create_task(self._keep(), name="shadow")

    async def stop(self) -> None:
        """Let the process finish its events for a moment, then end it."""
        self._stopping = True
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_S):
                    await process.wait()
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.gather(self._serving, return_exceptions=True)

    def offer(self, records: Sequence[Record]) -> None:
        """Send records of one partition whose predictions by the champion are committed, or drop and count them."""
        writer = self._writer()
        if writer is not None and self._told is not self._champion():
            self._introduce(writer)
        for start in range(0, len(records), FRAME_RECORDS):
            part = records[start : start + FRAME_RECORDS]
            if writer is None or self._condition.served is None:
                self._report.shadow_dropped(NO_MODEL, len(part))
            elif writer.transport.get_write_buffer_size() >= MAX_QUEUE_BYTES:
                self._report.shadow_dropped(QUEUE_FULL, len(part))
            else:
                self._in_hand += len(part)
                writer.write(frame(events(part)))

    def state(self) -> dict[str, Any]:
        """Return the state for `/health`."""
        found: dict[str, Any] = msgspec.to_builtins(self._condition)
        return {"mode": "shadow", "model": found.pop("served"), **found}

    @property
    def down(self) -> str | None:
        """Return why no event is scored in the shadow; None while a challenger is served."""
        if self._serving is not None and self._serving.done():
            return "the task that keeps its process running has ended"
        condition = self._condition
        return None if condition.served is not None else condition.reason or condition.state

    # -- the process -----------------------------------------------------------------------------------------------

    def _writer(self) -> asyncio.StreamWriter | None:
        process = self._process
        if process is None or process.returncode is not None or process.stdin is None or process.stdin.is_closing():
            return None
        return process.stdin

    def _introduce(self, writer: asyncio.StreamWriter) -> None:
        self._told = self._champion()
        writer.write(frame(Champion(manifest_bytes(self._told.manifest))))

    async def _keep(self) -> None:
        """Start one process after the other, further apart each time that one ends."""
        backoff_s = 1.0
        while not self._stopping:
            started = asyncio.get_running_loop().time()
            try:
                await self._serve()
                if self._stopping:
                    return
                log.warning("challenger_ended", again_in_s=backoff_s)
            except Exception as error:  # on any error the champion continues, and another process may succeed
                log.exception("challenger_failed", exception=repr(error), again_in_s=backoff_s)
            await asyncio.sleep(backoff_s)
            long = asyncio.get_running_loop().time() - started > MAX_BACKOFF_S + backoff_s
            backoff_s = 1.0 if long else min(MAX_BACKOFF_S, 2 * backoff_s)

    async def _serve(self) -> None:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "scorer.challenger.process", stdin=pipe, stdout=pipe
        )
        self._process = process
        assert process.stdin is not None, "both are pipes"  # noqa: S101
        assert process.stdout is not None, "both are pipes"  # noqa: S101
        try:
            self._introduce(process.stdin)
            while raw := await process.stdout.readline():
                self._hear(raw)
        finally:
            self._process, self._told = None, None
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            self._report.shadow_dropped(ENDED, self._in_hand)
            self._in_hand = 0
            self._set(_STARTING)

    def _hear(self, raw: bytes) -> None:
        try:
            said = read_line(raw)
        except ValueError as error:
            log.warning("challenger_not_understood", exception=str(error))
            return
        self._in_hand -= said.produced + sum(said.dropped.values())
        self._report.shadow_produced(said.produced)
        for reason, count in said.dropped.items():
            self._report.shadow_dropped(reason, count)
        if said.condition is not None:
            self._set(said.condition)

    def _set(self, condition: Condition) -> None:
        self._condition = condition
        served = condition.served
        self._report.challenger(None if served is None else msgspec.structs.astuple(served))
