"""Stage 2 of the business level: facts → cohorts, in the process that evaluates drift; what is final is said once.

A task of its own follows `driftline-label-state` from its beginning, and all that takes time (decoding, joining) runs
in a thread beside the windows' one. What is due is left for the evaluator's next transaction, so that a cohort, the
record that it was evaluated, its alert and the tombstones of what it no longer needs are one.

"Now" is event time: the largest time of any fact, capped at the clock. A cohort that is due waits until the stage
before has read everything that stood on the inputs when it became due: otherwise a partition that is behind would be
missing from it for ever.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

from drift_worker import facts
from drift_worker.cohorts import Terms, evaluate
from drift_worker.label_store import DAY_MS, LabelStore, day_name
from drift_worker.performance_drop import Judge, Remembered
from drift_worker.report import Report
from schemas.alert import Alert
from schemas.measurement import as_json
from schemas.performance import Performance
from streaming.reading import READ_ERRORS, Reader
from streaming.records import ConsumerRecord, TopicPartition
from streaming.transactions import Output

# Facts decoded at a time: some milliseconds of a thread that shares the interpreter with the windows.
BATCH = 2000
# How soon a topic that was empty, or a broker that was away, is looked at again.
RETRY_S = 5.0
# How often it is asked whether a cohort is due.
DUE_INTERVAL_S = 1.0
# Provisional cohorts are evaluated this often at most, and never for more than a hundredth of the time.
LEAST_INTERVAL_S = 5.0
SHARE = 0.01
# Of one transaction, far below its time-out; more follow.
MAX_TOMBSTONES = 10_000
# Cohorts in one answer of /performance: a horizon and as much again, at one version a day.
SHOWN = 200


@dataclass(frozen=True, slots=True)
class Step:
    """What one transaction has to say, and what is true once it is committed."""

    outputs: dict[str | TopicPartition, list[Output]]
    cohorts: list[Performance] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Names:
    """Topics, and the group of the stage before."""

    predictions: str
    labels: str
    state: str
    measurements: str
    alerts: str
    group: str


class Performing:
    """Evaluates cohorts from `start` to `stop`, once. `shown` is for people: replaced as a whole, never changed."""

    def __init__(
        self,
        terms: Terms,
        report: Report,
        names: Names,
        *,
        min_customers: int,
        runbook_url: str,
        reader: Callable[[], AbstractAsyncContextManager[Reader]],
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """`reader` opens a Reader of its own for each call."""
        self._terms = terms
        self._report = report
        self._names = names
        self._reader = reader
        self._now_ms = now_ms
        manifest = terms.manifest
        self._store = LabelStore(manifest.name, terms.horizon_ms)
        self._judge = Judge(manifest.name, manifest.version, min_customers, runbook_url)
        self._judging = False  # the judge remembers what the topic says
        self._written: set[tuple[str, str]] = set()  # cohorts that were handed over, by (day, version)
        self._partitions = 1
        self._ends: dict[TopicPartition, int] | None = None  # to be read before anything is evaluated
        self._confirmed: list[tuple[int, int]] | None = None  # due, and the inputs were read
        # due, and where the inputs ended then: a stream that goes on is never read to its end of the moment
        self._awaited: tuple[list[tuple[int, int]], dict[TopicPartition, int]] | None = None
        self._crowded = False  # more may go than one transaction says
        self._again = True  # something waits although no fact has come
        self._revision = -1  # of the store, when it was last looked at
        self._next_look_s = 0.0
        self._next_due_s = 0.0  # monotonic
        self._task: asyncio.Task[None] | None = None
        self._ready: Step | None = None
        self._in_hand = False  # a step was taken and is not committed yet
        self.shown: list[dict[str, Any]] = []

    # -- life, on the event loop --------------------------------------------------------------------------------------

    def start(self) -> None:
        """This process evaluates; the predecessor is fenced, and its last transaction is settled."""
        self._task = asyncio.create_task(self._run(), name="performing")
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A defect of ours ends this level and is said; the windows go on without it."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self.shown = []
            self._report.performing_failed(error)

    @property
    def running(self) -> bool:
        """Whether cohorts are evaluated here."""
        return self._task is not None and not self._task.done()

    def stop(self) -> None:
        """Another one evaluates now, or will."""
        if self._task is not None:
            self._task.cancel()

    def take(self) -> Step | None:
        """What the next transaction has to say; None if nothing. Called from the batch thread."""
        step = self._ready
        if step is not None:
            self._in_hand, self._ready = True, None
        return step

    def committed(self, step: Step) -> None:
        """It is said."""
        self._in_hand = False
        self._report.performed(step.cohorts, step.alerts)

    async def _run(self) -> None:
        while True:
            try:
                async with self._reader() as reading:
                    # without labels there is no label state, and nothing that costs anything
                    await reading.wait_written(self._names.state, RETRY_S)
                    await self._follow(reading)
            except READ_ERRORS as error:
                self._report.labels_unread(self._names.state, error)
            await asyncio.sleep(RETRY_S)

    async def _follow(self, reading: Reader) -> None:
        """Read from the beginning (once more, after an error: facts that are known change nothing), and go on."""
        self._ends, self._confirmed, self._awaited = await reading.ends(self._names.state), None, None
        self._partitions = len(self._ends)
        batch: list[ConsumerRecord] = []
        async for record in reading.follow(self._names.state, from_start=True):
            if record is not None:
                batch.append(record)
                if len(batch) < BATCH:
                    continue
            if batch:
                await asyncio.to_thread(self._take_in, batch)
                batch = []
            if self._ends is not None and record is None and await reading.reached(self._ends):
                self._ends = None
            if self._ends is None:
                await self._consider(reading)

    def _take_in(self, batch: Sequence[ConsumerRecord]) -> None:
        for error in self._store.take((record.key, record.value) for record in batch):
            self._report.unreadable(self._names.state, error)

    # -- what is to be said -------------------------------------------------------------------------------------------

    async def _consider(self, reading: Reader) -> None:
        """Evaluate what is due as soon as it may be, and the rest now and then."""
        if self._ready is not None or self._in_hand:
            return
        if self._crowded:
            # what may go must not wait for the next look at what stays
            if tombstones := await asyncio.to_thread(self._tombstones, self._now()):
                self._ready = Step(tombstones)
            return
        started = time.monotonic()
        due, self._confirmed = self._confirmed or [], None
        if not due:
            stirred = self._again or self._revision != self._store.revision
            if not stirred or started < self._next_due_s:
                return
            self._next_due_s = started + DUE_INTERVAL_S
            if self._awaited is None and (found := await asyncio.to_thread(self._due)):
                self._awaited = found, await self._input_ends()
            if self._awaited is not None and await self._inputs_read(self._awaited[1]):
                # what the stage before has written by now is read first
                self._confirmed, self._ends = self._awaited[0], await reading.ends(self._names.state)
                self._awaited = None
                return
            self._again, due = self._awaited is not None, []
            if started < self._next_look_s:
                return
        revision = self._store.revision
        step, cohorts = await asyncio.to_thread(self._evaluate, due)
        took_s = time.monotonic() - started
        self._revision, self._next_look_s = revision, time.monotonic() + max(LEAST_INTERVAL_S, took_s / SHARE)
        self.shown = [as_json(one) for one in cohorts[:SHOWN]]
        self._report.cohorts(self._terms.manifest, cohorts, self._judge.state)
        if step.outputs:
            self._ready, self._again = step, True

    def _now(self) -> int:
        return min(self._now_ms(), self._store.latest_ms)

    def _due(self) -> list[tuple[int, int]]:
        return [one for one in self._store.due(self._now()) if self._named(one) not in self._written]

    def _named(self, cohort: tuple[int, int]) -> tuple[str, str]:
        return day_name(cohort[0]), self._store.versions[cohort[1]]

    async def _input_ends(self) -> dict[TopicPartition, int]:
        async with self._reader() as reading:
            return {**await reading.ends(self._names.predictions), **await reading.ends(self._names.labels)}

    async def _inputs_read(self, ends: dict[TopicPartition, int]) -> bool:
        """Whether the stage before has read everything below `ends`."""
        async with self._reader() as reading:
            for partition, end in ends.items():
                read = await reading.committed(self._names.group, partition)
                if await reading.between(partition, read or 0, end, 1):
                    return False
        return True

    def _evaluate(self, due: list[tuple[int, int]]) -> tuple[Step, list[Performance]]:
        """In a thread. What a transaction must say: final cohorts, their alerts, and what is not needed any more.

        And every cohort that is known, newest first.
        """
        now_ms, alerts = self._now(), []
        if not self._judging:
            self._judging = True
            alerts = self._recall()
        final = []
        for cohort in evaluate(self._terms, self._store, due, now_ms, "final"):
            judged, alert = self._judge.step(cohort)
            final.append(judged)
            alerts += [] if alert is None else [alert]
        self._written |= {self._named(one) for one in due}
        rest = [one for one in self._store.open_days(now_ms) if self._named(one) not in self._written]
        provisional = evaluate(self._terms, self._store, rest, now_ms, "provisional")
        self._store.cohorts |= {(one.cohort.day, one.model_version): one for one in final}
        cohorts = [*self._store.cohorts.values(), *provisional]
        cohorts.sort(key=lambda one: (one.cohort.day, one.model_version), reverse=True)
        return Step(self._outputs(final, alerts, now_ms), final, alerts), cohorts

    def _recall(self) -> list[Alert]:
        """What was decided before; an alert if that was of a version that is compared with no longer."""
        if self._store.decisions is not None:
            try:
                self._judge.remembered = Remembered.decode(self._store.decisions)
            except ValueError as error:
                self._report.unreadable(self._names.state, error)
        ended = self._judge.renew(self._now() // DAY_MS * DAY_MS)
        return [] if ended is None else [ended]

    def _outputs(
        self, final: Sequence[Performance], alerts: Sequence[Alert], now_ms: int
    ) -> dict[str | TopicPartition, list[Output]]:
        manifest = self._terms.manifest
        outputs: dict[str | TopicPartition, list[Output]] = {}
        own: list[Output] = []
        if final or alerts:
            outputs[self._names.measurements] = [(one.key(), one.encode(), []) for one in final]
            outputs[self._names.alerts] = [(alert.key(), alert.encode(), []) for alert in alerts]
            own += [(facts.cohort_key(one.model, one.model_version, one.cohort.day), one.encode(), []) for one in final]
            own.append((facts.decisions_key(manifest.name), self._judge.remembered.encode(), []))
        if own:
            outputs[TopicPartition(self._names.state, 0)] = own
        for place, gone in self._tombstones(now_ms).items():
            outputs.setdefault(place, []).extend(gone)
        return outputs

    def _tombstones(self, now_ms: int) -> dict[str | TopicPartition, list[Output]]:
        """Of one transaction; whether there are more is known then."""
        outputs: dict[str | TopicPartition, list[Output]] = {}
        for customer, key in self._store.evict(now_ms, MAX_TOMBSTONES):
            place = TopicPartition(self._names.state, (customer or 0) % self._partitions)
            outputs.setdefault(place, []).append((key, None, []))
        self._crowded = sum(map(len, outputs.values())) >= MAX_TOMBSTONES
        return outputs
