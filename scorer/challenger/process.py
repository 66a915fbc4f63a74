"""`python -m scorer.challenger.process`: the process of a challenger in shadow, which the scorer starts for itself.

A separate process, because a thread would compete with the champion for Python's interpreter lock. A model that crashes
would also end the champion. The process has a lower priority: it gets the time that the champion leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from kafka_runtime.producer import PlainProducer, SendError
from kafka_runtime.schema_registry.cache import SchemaCache, schemas_for
from kafka_runtime.service import lifecycle, logs
from schemas.bundle.manifest import MANIFEST, BundleError, Manifest, parse_manifest
from schemas.formats.registered import schema_ids
from schemas.setting_names import KNOWN
from scorer.challenger.protocol import (
    LENGTH_BYTES,
    NO_MODEL,
    NOT_SCORED,
    NOT_WRITTEN,
    Champion,
    Condition,
    Events,
    Said,
    Served,
    line,
    read_frame,
)
from scorer.model import Model
from scorer.pipeline import Output, Pipeline
from scorer.reload import Reloader, unfit_challenger
from scorer.settings import ScorerSettings

log = logs.get(__name__)

# If both processes use one core, this one gets a tenth of it. At 19 it would get one in seventy and never finish its
# imports on a busy machine.
NICE = 10
# Pause before a topic that takes no records is tried again; records that arrive meanwhile are dropped without being
# scored.
RETRY_S = 5.0
ORPHAN_POLL_S = 1.0
CONDITION_S = 0.25


class ChallengerProcess:
    """Scores events, writes predictions to the shadow topic, and reports both to the scorer."""

    def __init__(self, settings: ScorerSettings, tell: Callable[[Said], None]) -> None:
        assert settings.scorer_challenger is not None, "the scorer starts it only with one"  # noqa: S101
        self._settings = settings
        self._tell = tell
        # unknown fields that only the champion has are no fault of the event
        self._rules = replace(settings.rules, reject_unknown_fields=False)
        self._champion: Manifest | None = None
        self._pipeline: Pipeline | None = None
        self._schemas: SchemaCache | None = None
        self._measuring = threading.Lock()  # the reloader runs in a separate thread
        self._producer: PlainProducer | None = None
        self._retry_at = 0.0
        self._reloader = Reloader(
            directory=settings.scorer_challenger,
            public_key=settings.model_public_key,
            poll_s=settings.scorer_model_poll.total_seconds(),
            served=lambda: self._pipeline.model if self._pipeline is not None else None,
            serve=self._serve,
            unfit=self._unfit,
            report=self,
        )

    # -- the model, in the reloader's thread -------------------------------------------------------------------------

    def _serve(self, model: Model) -> None:
        s = self._settings
        with self._measuring:
            # look this up again under the lock: the champion may have changed since
            if (why := self._unfit(model.manifest)) is not None:
                raise BundleError(f"{MANIFEST}: {why}")
            if self._schemas is None:
                self._schemas = schemas_for(model.manifest.event.format, s)
            self._pipeline = Pipeline(
                model, self._rules, s.scorer_group, s.scorer_max_dead_letter_bytes, schemas=self._schemas
            )

    def _unfit(self, manifest: Manifest) -> str | None:
        assert self._champion is not None, "no bundle is loaded before it is known"  # noqa: S101
        return unfit_challenger(self._champion, manifest)

    def model_loaded(self, model: Model, *, first: bool) -> None:  # noqa: ARG002
        """Log that the challenger is ready for events."""
        manifest = model.manifest
        log.info("challenger_loaded", model=manifest.name, version=manifest.version, form=model.form)

    def model_refused(self, reason: str) -> None:
        """Log that the bundle was rejected; the one before stays in use."""
        log.warning("challenger_refused", reason=reason)

    def condition(self) -> Condition:
        """Return the state of the challenger."""
        model = self._pipeline.model if self._pipeline is not None else None
        served = Served(model.manifest.name, model.manifest.version, model.sha256, model.form) if model else None
        return Condition(served, **self._reloader.state())

    # -- frames ----------------------------------------------------------------------------------------------------

    async def run(self, frames: asyncio.StreamReader) -> None:
        """Serve until the scorer closes its end."""
        telling = asyncio.create_task(self._tell_condition())
        try:
            while True:
                try:
                    length = int.from_bytes(await frames.readexactly(LENGTH_BYTES), "big")
                    content = read_frame(await frames.readexactly(length))
                except asyncio.IncompleteReadError:
                    return
                if isinstance(content, Champion):
                    await asyncio.to_thread(self._measure_against, parse_manifest(content.manifest))
                else:
                    await self._answer(content)
        finally:
            telling.cancel()
            if self._producer is not None:
                await self._producer.give_up()

    async def _tell_condition(self) -> None:
        told: Condition | None = None
        while True:
            if (now := self.condition()) != told:
                self._tell(Said(condition=now))
                told = now
            await asyncio.sleep(CONDITION_S)

    def _measure_against(self, champion: Manifest) -> None:
        """Take another champion: the challenger may no longer fit it, or fit it now."""
        with self._measuring:
            first, self._champion = self._champion is None, champion
            pipeline = self._pipeline
            if pipeline is not None and unfit_challenger(champion, pipeline.model.manifest) is not None:
                self._pipeline = None
        self._reloader.retry()
        if first:
            self._reloader.start()

    async def _answer(self, content: Events) -> None:
        records, pipeline = content.records, self._pipeline
        if pipeline is None:
            self._tell(Said(dropped={NO_MODEL: len(records)}))
            return
        if time.monotonic() < self._retry_at:
            self._tell(Said(dropped={NOT_WRITTEN: len(records)}))
            return
        if self._schemas is not None and await self._schemas.fetch(schema_ids([r.value for r in records])) is not None:
            # nothing waits here: the champion has answered these events
            self._tell(Said(dropped={NOT_SCORED: len(records)}))
            return
        topic, partition = records[0].topic, records[0].partition
        answer = await asyncio.to_thread(pipeline.answer, records, topic, partition, _now_ms, time.perf_counter)
        written = await self._write(partition, answer.predictions)
        dropped = {NOT_SCORED: len(answer.dead_letters), NOT_WRITTEN: len(answer.predictions) - written}
        self._tell(Said(produced=written, dropped={reason: count for reason, count in dropped.items() if count}))

    async def _write(self, partition: int, predictions: Sequence[Output]) -> int:
        """Write the predictions; return how many the broker has acknowledged, all or none."""
        if not predictions:
            return 0
        try:
            if self._producer is None:
                self._producer = await PlainProducer(self._settings).__aenter__()
            await self._producer.write(self._settings.topic_shadow, partition, predictions)
        except SendError as error:
            log.warning("shadow_not_written", exception=str(error))
            if self._producer is not None:
                await self._producer.give_up()
                self._producer = None
            self._retry_at = time.monotonic() + RETRY_S
            return 0
        return len(predictions)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _end_with_the_scorer(scorer: int) -> None:
    """End this process when the scorer has gone, also while the model computes."""
    while os.getppid() == scorer:
        time.sleep(ORPHAN_POLL_S)
    os._exit(1)


async def _run(settings: ScorerSettings, out: int) -> None:
    loop = asyncio.get_running_loop()
    frames = asyncio.StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(frames), sys.stdin.buffer)

    def tell(said: Said) -> None:
        with contextlib.suppress(BrokenPipeError):  # the scorer has ended, so this process ends, too
            os.write(out, line(said))

    await ChallengerProcess(settings, tell).run(frames)


def main() -> None:
    """Serve the scorer at the other ends of standard input and output."""
    lifecycle.refuse_optimised_python()
    # a signal to the whole group is for the scorer; this process must still take the records that it drains
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.nice(NICE)
    threading.Thread(target=_end_with_the_scorer, args=(os.getppid(),), daemon=True).start()
    out = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # output that a model prints must not reach the protocol
    settings = ScorerSettings.read(os.environ, KNOWN)
    logs.configure(settings, "scorer")
    lifecycle.settle_memory()
    asyncio.run(_run(settings, out))
    os._exit(0)  # a model that never returns, in a thread, must not keep the process


if __name__ == "__main__":
    main()
