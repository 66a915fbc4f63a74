"""Stage 2 of the business level: facts → cohorts, in the evaluator's process. Each final cohort is published once.

A separate task follows `driftline-label-state` from its beginning. Decoding and joining take time and run in a thread
beside the thread of the windows. Due cohorts wait for the evaluator's next transaction. This transaction holds the
cohort, the record that it was evaluated, its alert, and the tombstones of facts that are no longer needed.

"Now" is event time: the largest time of any fact, capped at the clock. A due cohort waits until the stage before it has
read all inputs up to the offsets at which they ended when the cohort became due. Otherwise a lagging partition would be
permanently missing from the cohort. drift_worker/performance/cohort_schedule.py has the phases.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

from drift_worker.performance import label_records
from drift_worker.performance.cohort_schedule import HAND_OVERS, PHASES, READING, Event, HandOver, Phase, Step
from drift_worker.performance.cohorts import CohortConfig, evaluate
from drift_worker.performance.label_store import DAY_MS, DayVersion, LabelStore, day_name
from drift_worker.performance.performance_drop import DropDetector, DropState
from drift_worker.performance.task_facts import facts_of
from drift_worker.telemetry import DriftTelemetry
from kafka_runtime.kafka_types import ConsumerRecord, TopicPartition
from kafka_runtime.sinks import Output
from kafka_runtime.topic_reader import READ_ERRORS, Reader
from schemas.alert import Alert
from schemas.measurement import as_json
from schemas.performance import AnyPerformance

# Facts decoded at a time: a few milliseconds of a thread that shares the interpreter with the windows' thread.
BATCH = 2000
# Pause before the next attempt after an empty topic or an unreachable broker.
RETRY_S = 5.0
# Interval between two checks whether a cohort is due.
DUE_INTERVAL_S = 1.0
# Provisional cohorts are evaluated at most this often, and for at most a hundredth of the time.
LEAST_INTERVAL_S = 5.0
SHARE = 0.01
# Tombstones in one transaction, far below its time-out; the rest follows in the next ones.
MAX_TOMBSTONES = 10_000
# Cohorts in one answer of /performance: twice the horizon in days, at one version a day.
SHOWN = 200

Outputs = dict[str | TopicPartition, list[Output]]


@dataclass(frozen=True, slots=True)
class PendingOutput:
    """The records of one transaction, and the cohorts and alerts that are reported once it is committed."""

    outputs: Outputs
    cohorts: list[AnyPerformance] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class TopicNames:
    """Topic names, and the consumer group of the stage before."""

    predictions: str
    labels: str
    state: str
    measurements: str
    alerts: str
    group: str


class CohortEvaluator:
    """Evaluates cohorts from `start` to `stop`, once. `shown` is for /performance: replaced, never changed in place."""

    def __init__(
        self,
        config: CohortConfig,
        report: DriftTelemetry,
        names: TopicNames,
        *,
        min_customers: int,
        runbook_url: str,
        max_future_skew_ms: int,
        reader: Callable[[], AbstractAsyncContextManager[Reader]],
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """Prepare without starting.

        reader: opens a separate Reader for each call. max_future_skew_ms: how far clocks may be ahead.
        """
        self._max_future_skew_ms = max_future_skew_ms
        self._config = config
        self._report = report
        self._names = names
        self._min_customers = min_customers
        self._runbook_url = runbook_url
        self._reader = reader
        self._now_ms = now_ms
        self._store = LabelStore(config.manifest.name, config.horizon_ms, facts_of(config.manifest.predicts))
        self._detector: DropDetector | None = None  # until the label state was read once
        self._written: set[tuple[str, str]] = set()  # cohorts that were handed over, by (day, version)
        self._partitions = 1
        self._phase = Phase.REPLAYING
        # What is read to its end in this phase: the label state, or the inputs as they ended when cohorts became due.
        # A stream that goes on is never read to its end of the moment.
        self._ends: Mapping[TopicPartition, int] = {}
        self._due: list[DayVersion] = []  # in WAITING_FOR_INPUTS, READING_UP and READY
        self._hand_over = HandOver.EMPTY
        self._pending: PendingOutput | None = None  # unless EMPTY
        self._more_tombstones = False  # than one transaction holds
        self._revision: int | None = None  # of the store, when it was last evaluated; None: evaluate again
        self._next_evaluation_s = 0.0  # monotonic, of provisional cohorts
        self._next_due_s = 0.0  # monotonic
        self._task: asyncio.Task[None] | None = None
        self.shown: list[dict[str, Any]] = []
        #: Why this level stopped because of an internal error; None while it has not.
        self.failure: str | None = None

    # -- life, on the event loop --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start evaluating. The predecessor is fenced, and its last transaction is complete."""
        self._task = asyncio.create_task(self._run(), name="performance")
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Stop this level after an internal error and report the error; the windows continue without it."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self.shown = []
            self.failure = f"{type(error).__name__}: {' '.join(str(error).split())}"
            self._report.performing_failed(error)

    @property
    def running(self) -> bool:
        """Return whether this process evaluates cohorts."""
        return self._task is not None and not self._task.done()

    def stop(self) -> None:
        """Stop evaluating: another process takes over."""
        if self._task is not None:
            self._task.cancel()

    def take(self) -> PendingOutput | None:
        """Return the records for the next transaction; None if there are none. Called from the batch thread."""
        if self._hand_over is not HandOver.WAITING:
            return None
        self._hand_over = HAND_OVERS[self._hand_over, Step.TAKEN]
        return self._pending

    def on_committed(self, pending: PendingOutput) -> None:
        """Report what was taken; the transaction that holds it is committed."""
        self._pending = None
        self._hand_over = HAND_OVERS[self._hand_over, Step.COMMITTED]
        self._report.cohorts_committed(pending.cohorts, pending.alerts)

    def _offer(self, pending: PendingOutput) -> None:
        self._pending = pending
        self._hand_over = HAND_OVERS[self._hand_over, Step.OFFERED]

    def _enter(self, event: Event) -> None:
        self._phase = PHASES[self._phase, event]

    async def _run(self) -> None:
        while True:
            try:
                async with self._reader() as reading:
                    # without labels there is no label state, and this level has no cost
                    await reading.wait_written(self._names.state, RETRY_S)
                    self._report.labels_read(self._names.state)
                    await self._follow(reading)
            except READ_ERRORS as error:
                self._report.labels_unread(self._names.state, error)
            await asyncio.sleep(RETRY_S)

    async def _follow(self, reading: Reader) -> None:
        """Read from the beginning, then follow. After an error, read again: known facts change nothing."""
        self._ends = await reading.ends(self._names.state)
        self._enter(Event.RESTARTED)
        self._partitions = len(self._ends)
        batch: list[ConsumerRecord] = []
        async for record in reading.follow(self._names.state, from_start=True):
            if record is not None:
                batch.append(record)
                if len(batch) < BATCH:
                    continue
            if batch:
                await asyncio.to_thread(self._add_records, batch)
                batch = []
            if self._phase in READING and record is None and await reading.reached(dict(self._ends)):
                self._enter(Event.READ_TO_END)
            if self._phase not in READING and self._hand_over is HandOver.EMPTY:
                await self._advance(reading)

    def _add_records(self, batch: Sequence[ConsumerRecord]) -> None:
        latest_ms = self._now_ms() + self._max_future_skew_ms
        for error in self._store.add(((record.key, record.value) for record in batch), latest_ms):
            self._report.unreadable(self._names.state, error)

    # -- one step at a time -------------------------------------------------------------------------------------------

    async def _advance(self, reading: Reader) -> None:
        """Evaluate due cohorts as soon as their inputs are read, and the other ones at intervals."""
        now_s = time.monotonic()
        if self._more_tombstones:
            # tombstones must not wait for the next evaluation of the remaining cohorts
            if tombstones := await asyncio.to_thread(self._tombstones, self._event_time_ms()):
                self._offer(PendingOutput(tombstones))
        elif self._phase is Phase.READY:
            await self._evaluate(self._due)
        elif now_s >= self._next_due_s and (
            self._phase is Phase.WAITING_FOR_INPUTS or self._revision != self._store.revision
        ):
            self._next_due_s = now_s + DUE_INTERVAL_S
            await self._look_for_due(reading)
            if self._phase is not Phase.READING_UP and now_s >= self._next_evaluation_s:
                await self._evaluate([])

    async def _look_for_due(self, reading: Reader) -> None:
        """Note the inputs' ends when cohorts become due; when these are read, note the label state's."""
        if self._phase is Phase.IDLE and (due := await asyncio.to_thread(self._due_cohorts)):
            self._due, self._ends = due, await self._input_ends()
            self._enter(Event.COHORTS_DUE)
        if self._phase is Phase.WAITING_FOR_INPUTS and await self._inputs_read(self._ends):
            self._ends = await reading.ends(self._names.state)
            self._enter(Event.INPUTS_READ)

    async def _evaluate(self, due: list[DayVersion]) -> None:
        """Evaluate the due cohorts as final ones, and all others that are open as provisional ones."""
        started_s, revision = time.monotonic(), self._store.revision
        pending, cohorts, state = await asyncio.to_thread(self._evaluated, due)
        took_s = time.monotonic() - started_s
        self._next_evaluation_s = time.monotonic() + max(LEAST_INTERVAL_S, took_s / SHARE)
        self._revision = None if pending.outputs else revision
        self._enter(Event.EVALUATED)
        self.shown = [as_json(one) for one in cohorts[:SHOWN]]
        self._report.cohorts(self._config.manifest, cohorts, state)
        if pending.outputs:
            self._offer(pending)

    def _event_time_ms(self) -> int:
        return min(self._now_ms(), self._store.latest_ms)

    def _due_cohorts(self) -> list[DayVersion]:
        return [one for one in self._store.due(self._event_time_ms()) if self._name(one) not in self._written]

    def _name(self, cohort: DayVersion) -> tuple[str, str]:
        return day_name(cohort[0]), self._store.versions[cohort[1]]

    async def _input_ends(self) -> dict[TopicPartition, int]:
        async with self._reader() as reading:
            # what is behind an open transaction may yet become a label of the cohort
            names = (self._names.predictions, self._names.labels)
            return {p: end for name in names for p, end in (await reading.high_watermarks(name)).items()}

    async def _inputs_read(self, ends: Mapping[TopicPartition, int]) -> bool:
        """Return whether the stage before has read all records below `ends`."""
        async with self._reader() as reading:
            for partition, end in ends.items():
                if await reading.end(partition) < end:
                    return False
                read = await reading.committed(self._names.group, partition)
                if await reading.between(partition, read or 0, end, 1):
                    return False
        return True

    # -- in a thread --------------------------------------------------------------------------------------------------

    def _evaluated(self, due: list[DayVersion]) -> tuple[PendingOutput, list[AnyPerformance], str]:
        """Return what a transaction must write, every known cohort (newest first), and PerformanceDrop's state.

        The transaction holds final cohorts, their alerts, and the tombstones of facts that are no longer needed.
        """
        now_ms, alerts = self._event_time_ms(), list[Alert]()
        if self._detector is None:
            self._detector, alerts = self._restored_detector()
        final = []
        for cohort in evaluate(self._config, self._store, due, now_ms, "final"):
            judged, alert = self._detector.step(cohort)
            final.append(judged)
            alerts += [] if alert is None else [alert]
        self._written |= {self._name(one) for one in due}
        rest = [one for one in self._store.open_days(now_ms) if self._name(one) not in self._written]
        provisional = evaluate(self._config, self._store, rest, now_ms, "provisional")
        self._store.cohorts |= {(one.cohort.day, one.model_version): one for one in final}
        cohorts = [*self._store.cohorts.values(), *provisional]
        cohorts.sort(key=lambda one: (one.cohort.day, one.model_version), reverse=True)
        outputs = self._outputs(final, alerts, self._detector.remembered, now_ms)
        return PendingOutput(outputs, final, alerts), cohorts, self._detector.state

    def _restored_detector(self) -> tuple[DropDetector, list[Alert]]:
        """Return the detector as the label state holds it, and an alert that ends with a replaced version."""
        manifest, remembered = self._config.manifest, DropState()
        if self._store.decisions is not None:
            try:
                remembered = DropState.decode(self._store.decisions, self._now_ms() + self._max_future_skew_ms)
            except ValueError as error:
                self._report.unreadable(self._names.state, error)
        detector = DropDetector(manifest.name, manifest.version, self._min_customers, self._runbook_url, remembered)
        ended = detector.renew(self._event_time_ms() // DAY_MS * DAY_MS)
        return detector, [] if ended is None else [ended]

    def _outputs(
        self, final: Sequence[AnyPerformance], alerts: Sequence[Alert], remembered: DropState, now_ms: int
    ) -> Outputs:
        outputs: Outputs = {}
        if final or alerts:
            outputs[self._names.measurements] = [(one.key(), one.encode(), []) for one in final]
            outputs[self._names.alerts] = [(alert.key(), alert.encode(), []) for alert in alerts]
            outputs[TopicPartition(self._names.state, 0)] = [
                *(
                    (label_records.cohort_key(one.model, one.model_version, one.cohort.day), one.encode(), [])
                    for one in final
                ),
                (label_records.decisions_key(self._config.manifest.name), remembered.encode(), []),
            ]
        for place, tombstones in self._tombstones(now_ms).items():
            outputs.setdefault(place, []).extend(tombstones)
        return outputs

    def _tombstones(self, now_ms: int) -> Outputs:
        """Return those of one transaction, and note whether there are more."""
        outputs: Outputs = {}
        for customer, key in self._store.evict(now_ms, MAX_TOMBSTONES):
            place = TopicPartition(self._names.state, (customer or 0) % self._partitions)
            outputs.setdefault(place, []).append((key, None, []))
        self._more_tombstones = sum(map(len, outputs.values())) >= MAX_TOMBSTONES
        return outputs
