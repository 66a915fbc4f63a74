"""The stages of a drift worker around one reference: made, run and ended together. Another reference, another session.

So a running process changes to another reference exactly as a restart does. The next session reads the offsets and the
checkpoint of the last one, and follows the rules for a changed reference.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator, Sequence
from datetime import timedelta
from typing import Any

from drift_worker.alerting.limits import Policy
from drift_worker.counts.windows import Side
from drift_worker.lane import lane_for
from drift_worker.metrics import STAGES, DriftMetrics
from drift_worker.performance.cohorts import CohortConfig
from drift_worker.performance.label_records import is_decision
from drift_worker.reference import LoadedReference
from drift_worker.settings import DriftSettings
from drift_worker.stages.count_events import LONGEST_WAIT_S, READ_RECORDS, EventCounter
from drift_worker.stages.earlier_counts import EarlierCounts
from drift_worker.stages.evaluate_cohorts import RETRY_S, CohortEvaluator, TopicNames
from drift_worker.stages.evaluate_windows import WindowEvaluator
from drift_worker.stages.evaluator import Evaluator
from drift_worker.stages.record_labels import LabelRecorder
from drift_worker.statistics.self_check import unwatched, unwatched_sentence
from drift_worker.telemetry import DriftTelemetry
from kafka_runtime import fetched, processor
from kafka_runtime.group_member import GroupMember
from kafka_runtime.kafka_types import (
    ConsumerRecord,
    TopicAuthorizationFailedError,
    TopicPartition,
    UnknownTopicOrPartitionError,
)
from kafka_runtime.partition_telemetry import MOST_COUNTED, OffsetComparisons, OffsetMove, PartitionTelemetry
from kafka_runtime.readiness import NotReady
from kafka_runtime.schema_registry.cache import schemas_for
from kafka_runtime.service.setting_types import written_duration
from kafka_runtime.topic_reader import READ_ERRORS, reader, unfinished
from schemas.formats.registered import schema_ids
from schemas.validation import Rules

# Deltas of 20 features and 4 partitions: a poll holds a few seconds of a stream, or of its backlog.
MAX_DELTAS = 2000
COMMIT_INTERVAL_S = 0.01
# Facts are not urgent: labels arrive days later, and fewer transactions leave more of the machine to the windows.
FACTS_INTERVAL_S = 1.0
# Half of it, one partition's part, must fill a batch of 800 records. With the scorer's 6 MiB, a worker that had a
# backlog for a moment stayed at 155 MB. With this value it stayed at 131 MB, at the same CPU per record.
FETCH_BYTES = 1 << 20
# A scorer that loads the same new bundle may take this long; until then its predictions are the old model's.
OTHER_MODEL_S = 60.0


class Session:
    """Counts its share of the partitions against one reference, and evaluates or is on standby."""

    def __init__(
        self, settings: DriftSettings, loaded: LoadedReference, metrics: DriftMetrics, report: DriftTelemetry
    ) -> None:
        """Make the stages without starting them."""
        self._settings = s = settings
        #: The reference that windows are compared with.
        self.loaded = loaded
        self._metrics = metrics
        self._report = report
        #: Features that cannot be watched, with the number of their reference values.
        self.unwatched = unwatched(loaded.manifest.features, loaded.reference, s.drift_min_events)
        self.unwatched_text = (
            unwatched_sentence(self.unwatched, len(loaded.manifest.features), loaded.reference.rows, s.drift_min_events)
            or ""
        )
        #: Who reads records and events.
        self.lane = lane_for(s.scorer_lane, loaded.manifest, Rules.of(s))
        fetched.install([s.topic_events, s.topic_predictions], self.lane.records.library)
        self._earlier = EarlierCounts(s)
        self._schemas = schemas_for(loaded.manifest.event.format, s)
        #: The first stage.
        self.counting = self._event_counter()
        #: The second stage: of the windows alone, and with the cohorts.
        self.evaluating = self._window_evaluator()
        self.levels = Evaluator(self.evaluating, self._cohort_evaluator)
        self._lags: list[dict[TopicPartition, int]] = []
        tick_s = min(_seconds(s.drift_pane), LONGEST_WAIT_S) / 2
        policy = functools.partial(processor.Policy, commit_interval_s=COMMIT_INTERVAL_S, fetch_bytes=FETCH_BYTES)
        self._counter = self._member(
            "counting",
            [s.topic_events, s.topic_predictions],
            policy(
                group=s.drift_group,
                max_records=READ_RECORDS,
                first_start=s.drift_first_start,
                offset_lost=s.drift_offset_lost,
                tick_s=tick_s,
                unfinished=self._earlier.unfinished,
                prepare=None if self._schemas is None else self._fetched,
            ),
            self.counting,
        )
        self._evaluator = self._member(
            "evaluating",
            [s.topic_panes],
            policy(
                group=f"{s.drift_group}-evaluator",
                max_records=MAX_DELTAS,
                offset_lost="earliest",
                tick_s=tick_s,
                unfinished=self._undecided,
            ),
            self.levels,
        )
        self._joiner = self._member(
            "labels",
            [s.topic_predictions, s.topic_labels],
            policy(
                group=self._labels_group,
                max_records=READ_RECORDS,
                commit_interval_s=FACTS_INTERVAL_S,
                offset_lost="earliest",
            ),
            self._label_recorder(),
            not_of=s.topic_predictions,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._joins = False  # there are labels

    def _member(
        self,
        stage: str,
        topics: list[str],
        policy: processor.Policy,
        process: processor.PartitionProcessor[Any],
        *,
        not_of: str | None = None,
    ) -> GroupMember:
        telemetry = PartitionTelemetry(self._metrics, stage, not_of=not_of)
        self._lags.append(telemetry.lags)
        return GroupMember(self._settings, topics, policy, process, telemetry)

    def _event_counter(self) -> EventCounter:
        s = self._settings
        return EventCounter(
            self.loaded,
            self._report,
            events_topic=s.topic_events,
            panes_topic=s.topic_panes,
            rules=Rules.of(s),
            pane_ms=_ms(_seconds(s.drift_pane)),
            span_ms=max(s.lengths.values()) + _ms(_seconds(s.drift_allowed_lateness)),
            idle_timeout_s=_seconds(s.drift_idle_timeout),
            partitions_of=self._partitions_of,
            moves=OffsetComparisons(self._earlier.compare, self._metrics.offset_moved),
            schemas=self._schemas,
            decoder=self.lane.events,
        )

    async def _fetched(self, source: TopicPartition, records: Sequence[ConsumerRecord]) -> processor.Blocked | None:
        """Fetch the schemas of these records; predictions have none."""
        if self._schemas is None or source.topic != self._settings.topic_events:
            return None
        return await self._schemas.ready(records, schema_ids)

    def _window_evaluator(self) -> WindowEvaluator:
        s = self._settings
        policy = Policy(
            lengths=s.lengths,
            confirm=s.confirm,
            kind=s.drift_policy,
            budget=s.drift_false_pages_per_month,
            baseline=s.drift_baseline,
            effect_warning=s.drift_effect_warning,
            effect_critical=s.drift_effect_critical,
            limits={
                f.name: (f.effect_warning or s.drift_effect_warning, f.effect_critical or s.drift_effect_critical)
                for f in self.loaded.manifest.features
                if f.effect_warning is not None or f.effect_critical is not None
            },
        )
        return WindowEvaluator(
            self.loaded,
            policy,
            self._report,
            topics={Side.FEATURES: s.topic_events, Side.SCORE: s.topic_predictions},
            measurements_topic=s.topic_measurements,
            alerts_topic=s.topic_alerts,
            lateness_ms=_ms(_seconds(s.drift_allowed_lateness)),
            straggler_s=_seconds(s.drift_straggler),
            min_events=s.drift_min_events,
            runbook_url=s.runbook_url,
            read_back=self._read_back,
            partitions_of=self._partitions_now,
            max_future_skew_ms=_ms(_seconds(s.scorer_max_future_skew)),
            moves=OffsetComparisons(self._decided, self._metrics.offset_moved),
        )

    @property
    def _labels_group(self) -> str:
        return f"{self._settings.drift_group}-labels"

    def _label_recorder(self) -> LabelRecorder:
        s = self._settings
        return LabelRecorder(
            self.loaded.manifest.name,
            self.loaded.manifest.predicts,
            self._report,
            labels_topic=s.topic_labels,
            state_topic=s.topic_label_state,
            max_future_skew_ms=_ms(_seconds(s.scorer_max_future_skew)),
            partitions_of=self._partitions_of,
        )

    def _cohort_evaluator(self) -> CohortEvaluator:
        s = self._settings
        horizon_ms = _ms(_seconds(s.drift_label_horizon))
        return CohortEvaluator(
            CohortConfig(self.loaded.manifest, horizon_ms, written_duration(s.drift_label_horizon)),
            self._report,
            TopicNames(
                predictions=s.topic_predictions,
                labels=s.topic_labels,
                state=s.topic_label_state,
                measurements=s.topic_measurements,
                alerts=s.topic_alerts,
                group=self._labels_group,
            ),
            min_customers=s.drift_min_events,
            runbook_url=s.runbook_url,
            max_future_skew_ms=_ms(_seconds(s.scorer_max_future_skew)),
            reader=lambda: reader(s),
        )

    async def _partitions_of(self, topic: str) -> int:
        async with reader(self._settings) as reading:
            return len(await reading.partitions(topic))

    def _partitions_now(self, topic: str) -> int:
        """Return the same from a thread beside the event loop; 0 without the topic."""
        assert self._loop is not None, "the evaluator runs while the process does"  # noqa: S101
        try:
            return asyncio.run_coroutine_threadsafe(self._partitions_of(topic), self._loop).result()
        except UnknownTopicOrPartitionError:
            return 0

    async def _decided(self, source: TopicPartition, committed: int) -> OffsetMove | None:
        """Return how the evaluator's committed offset differs from its checkpoint; None without a checkpoint."""
        decided_to = self.evaluating.decided_to
        if decided_to is None:
            return None
        if committed <= decided_to:
            return OffsetMove(committed, decided_to)  # counts that are read again are known by their offset
        async with reader(self._settings) as reading:
            left_out = await reading.count(source, decided_to, committed, MOST_COUNTED)
        return OffsetMove(committed, decided_to, left_out=left_out)

    async def _undecided(self, source: TopicPartition, position: int) -> dict[TopicPartition, int]:  # noqa: ARG002
        """Return how many decisions are where in a transaction that no process will end: only the evaluator's."""
        s = self._settings
        outputs = [TopicPartition(topic, 0) for topic in (s.topic_measurements, s.topic_alerts)]
        async with reader(s) as reading:
            torn = await unfinished(s, reading, outputs, lambda _record: 1)
            try:
                joined = await reading.written(s.topic_label_state)
            except TopicAuthorizationFailedError as error:  # a worker that joins no labels needs no access to it
                self._report.labels_unread(s.topic_label_state, error)
                return torn
            # facts are written there, too, and facts that are repeated are the same facts
            place = TopicPartition(s.topic_label_state, 0)
            if joined:
                torn |= await unfinished(s, reading, [place], lambda record: 1 if is_decision(record.key) else None)
            return torn

    async def _read_back(self, topic: str, since_ms: int) -> AsyncGenerator[ConsumerRecord]:
        async with reader(self._settings) as reading:
            async for record in reading.scan(topic, since_ms):
                yield record

    async def run(self, until: asyncio.Event) -> None:
        """Serve until `until` is set, then finish the open batches and leave the groups."""
        self._loop = asyncio.get_running_loop()
        self._report.reference_loaded(self.loaded, self.unwatched, self.unwatched_text)
        self._metrics.loop_lag.set_function(lambda: self._counter.loop_lag_s)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._counter.run(until), name="counting")
            group.create_task(self._evaluator.run(until), name="evaluating")
            group.create_task(self._join(until), name="labels")

    async def _join(self, drain: asyncio.Event) -> None:
        """Join labels from the first one on: without labels this stage has no cost."""
        waiting = asyncio.create_task(self._first_label())
        draining = asyncio.create_task(drain.wait())
        done, _ = await asyncio.wait((waiting, draining), return_when=asyncio.FIRST_COMPLETED)
        for task in (waiting, draining):
            task.cancel()
        if waiting in done:
            waiting.result()
        if not drain.is_set():
            self._joins = True
            await self._joiner.run(drain)
        await asyncio.gather(waiting, draining, return_exceptions=True)

    async def _first_label(self) -> None:
        """Return when the labels' topic has ever had a record."""
        while True:
            try:
                async with reader(self._settings) as reading:
                    await reading.wait_written(self._settings.topic_labels, RETRY_S)
                    self._report.labels_read(self._settings.topic_labels)
                    return
            except READ_ERRORS as error:
                self._report.labels_unread(self._settings.topic_labels, error)
                await asyncio.sleep(RETRY_S)

    # -- what it reports of itself ------------------------------------------------------------------------------------

    @property
    def members(self) -> list[GroupMember]:
        """Return the members of groups that work: before the first label there are none for labels."""
        return [self._counter, self._evaluator, *([self._joiner] if self._joins else [])]

    @property
    def evaluates(self) -> bool:
        """Return whether this process evaluates; if not, another one does, or will."""
        return bool(self._evaluator.partitions)

    @property
    def lag_records(self) -> int:
        """Return the number of records of all partitions that are not read yet."""
        return sum(sum(lags.values()) for lags in self._lags)

    def standby(self) -> bool:
        """Return whether the process has no partition at all."""
        return self._counter.standby() and self._evaluator.standby()

    def not_ready(self) -> list[str]:
        """Return the reasons of `/readyz`, [] when ready."""
        reasons = [reason for member in self.members for reason in member.not_ready()]
        if self._report.other_model_s() > OTHER_MODEL_S:
            reasons.append(NotReady.OTHER_MODEL.value)
        return list(dict.fromkeys(reasons))

    def degraded(self) -> list[str]:
        """Return words for what limits this process although it is ready, [] if nothing does."""
        return list(dict.fromkeys(word for member in self.members for word in member.degraded()))

    def parts(self) -> dict[str, str | None]:
        """Return every part with the reason why it does not work, None while it does."""
        s, manifest = self._settings, self.loaded.manifest
        found = {stage: ", ".join(m.not_ready()) or None for stage, m in zip(STAGES, self.members, strict=False)}
        if not self._joins and (unread := self._report.unread(s.topic_labels)) is not None:
            found["labels"] = unread
        if (cohorts := self.levels.cohorts) is not None:
            found["performance"] = cohorts.failure or self._report.unread(s.topic_label_state)
        foreign = self._report.other_model_s() > OTHER_MODEL_S
        found["scores"] = f"no prediction is of {manifest.name} {manifest.version}" if foreign else None
        return found


def _seconds(duration: timedelta) -> float:
    return duration.total_seconds()


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
