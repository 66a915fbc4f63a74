"""`python -m scorer.challenger`: the process of a challenger in shadow, which the scorer starts for itself.

A process of its own, because a thread would take turns with the champion for Python's interpreter lock, and a model
that crashes would take the champion with it. It runs at a lower priority: it has what the champion leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from schemas.bundle import MANIFEST, BundleError, Manifest, parse_manifest
from schemas.environment import KNOWN
from scorer.handover import (
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
from streaming import lifecycle, logs
from streaming.producing import PlainProducer, SendError

log = logs.get(__name__)

# On a core that both want, a tenth of it; at 19, one in seventy, a busy machine would never get through its imports.
NICE = 10
# A topic that does not take records is tried again so often, and what comes meanwhile is dropped without being scored.
RETRY_S = 5.0
ORPHAN_POLL_S = 1.0
CONDITION_S = 0.25


class ChallengerProcess:
    """Events in, predictions to the shadow topic, and word of both to the scorer."""

    def __init__(self, settings: ScorerSettings, tell: Callable[[Said], None]) -> None:
        assert settings.scorer_challenger is not None, "the scorer starts it only with one"  # noqa: S101
        self._settings = settings
        self._tell = tell
        # fields that the champion knows and the challenger does not are no defect of the event
        self._rules = replace(settings.rules, reject_unknown_fields=False)
        self._champion: Manifest | None = None
        self._pipeline: Pipeline | None = None
        self._measuring = threading.Lock()  # the reloader has a thread of its own
        self._producer: PlainProducer | None = None
        self._retry_at = 0.0
        self._reloader = Reloader(
            settings.scorer_challenger,
            settings.model_public_key,
            settings.scorer_model_poll.total_seconds(),
            lambda: self._pipeline.model if self._pipeline is not None else None,
            self._serve,
            self._unfit,
            self,
        )

    # -- the model, told by the reloader's thread ------------------------------------------------------------------

    def _serve(self, model: Model) -> None:
        s = self._settings
        with self._measuring:
            # asked again under the lock: the champion may have changed since
            if (why := self._unfit(model.manifest)) is not None:
                raise BundleError(f"{MANIFEST}: {why}")
            self._pipeline = Pipeline(model, self._rules, s.scorer_group, s.scorer_max_dead_letter_bytes)

    def _unfit(self, manifest: Manifest) -> str | None:
        assert self._champion is not None, "nothing is loaded before it is known"  # noqa: S101
        return unfit_challenger(self._champion, manifest)

    def model_loaded(self, model: Model, *, first: bool) -> None:  # noqa: ARG002
        """The challenger is ready for events."""
        manifest = model.manifest
        log.info("challenger_loaded", model=manifest.name, version=manifest.version, form=model.form)

    def model_refused(self, reason: str) -> None:
        """The bundle is not taken; one that was taken before goes on."""
        log.warning("challenger_refused", reason=reason)

    def condition(self) -> Condition:
        """How the challenger is now."""
        model = self._pipeline.model if self._pipeline is not None else None
        served = Served(model.manifest.name, model.manifest.version, model.sha256, model.form) if model else None
        return Condition(served, **self._reloader.state())

    # -- frames ----------------------------------------------------------------------------------------------------

    async def run(self, frames: asyncio.StreamReader) -> None:
        """Until the scorer closes its end."""
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
        """Another champion: the challenger may fit no more, or now."""
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
        topic, partition = records[0].topic, records[0].partition
        answer = await asyncio.to_thread(pipeline.answer, records, topic, partition, _now_ms, time.perf_counter)
        written = await self._write(partition, answer.predictions)
        dropped = {NOT_SCORED: len(answer.dead_letters), NOT_WRITTEN: len(answer.predictions) - written}
        self._tell(Said(produced=written, dropped={reason: count for reason, count in dropped.items() if count}))

    async def _write(self, partition: int, predictions: list[Output]) -> int:
        """How many of them are on the topic: all or none, as far as the broker has said."""
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
    """Whatever the model is doing: a scorer that was killed leaves nothing behind."""
    while os.getppid() == scorer:
        time.sleep(ORPHAN_POLL_S)
    os._exit(1)


async def _run(settings: ScorerSettings, out: int) -> None:
    loop = asyncio.get_running_loop()
    frames = asyncio.StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(frames), sys.stdin.buffer)

    def tell(said: Said) -> None:
        with contextlib.suppress(BrokenPipeError):  # the scorer has gone, and so shall we
            os.write(out, line(said))

    await ChallengerProcess(settings, tell).run(frames)


def main() -> None:
    """Serve one scorer, whose ends of standard input and output these are."""
    lifecycle.refuse_optimised_python()
    # a signal to the whole group is for the scorer; what it drains, this one must still take
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.nice(NICE)
    threading.Thread(target=_end_with_the_scorer, args=(os.getppid(),), daemon=True).start()
    out = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a model that prints must not be heard as if we had spoken
    settings = ScorerSettings.read(os.environ, KNOWN)
    logs.configure(settings, "scorer")
    lifecycle.settle_memory()
    asyncio.run(_run(settings, out))
    os._exit(0)  # a model that never returns, in a thread, must not keep the process


if __name__ == "__main__":
    main()
