"""Telemetry of a scorer: each function writes one log line and moves the counters."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import structlog

from kafka_runtime.kafka_types import ConsumerRecord, TopicPartition
from kafka_runtime.partition_telemetry import PartitionTelemetry
from kafka_runtime.service import logs
from kafka_runtime.service.metrics import put
from schemas.validation import NO_TIMESTAMP
from scorer.challenger.protocol import NO_MODEL, NOT_SCORED
from scorer.metrics import ScorerMetrics
from scorer.model import Model
from scorer.pipeline import Answer

if TYPE_CHECKING:
    from scorer.tracing import BatchTraces

log = logs.get(__name__)

_TIMESTAMP_TYPES = {0: "create", 1: "append"}


class ScorerTelemetry(PartitionTelemetry):
    """A scorer's telemetry: its partitions, and its own events."""

    def __init__(self, metrics: ScorerMetrics, traces: BatchTraces | None = None) -> None:
        """Take `traces` where traces are on."""
        super().__init__(metrics)
        self.traces = traces
        self._metrics = metrics
        self._model_info: tuple[str, str, str, str] | None = None
        self._challenger_info: tuple[str, ...] | None = None
        self.progressed_at: float | None = None  # wall clock, seconds

    def transaction(self, source: TopicPartition, outcome: str, produce_s: float, commit_s: float) -> None:
        """Count an ended transaction, and the time of a committed one."""
        with structlog.contextvars.bound_contextvars(**self._trace_of(source)):
            super().transaction(source, outcome, produce_s, commit_s)
        if self.traces is not None and outcome == "committed":
            self.traces.written(source, produce_s, commit_s)
        elif self.traces is not None:
            self.traces.failed(source, outcome)
        if outcome == "committed":
            self._metrics.stage_seconds.labels("produce").observe(produce_s)
            self._metrics.stage_seconds.labels("commit").observe(commit_s)

    def _trace_of(self, source: TopicPartition) -> dict[str, str]:
        """Return the members that log lines about the partition's batch in progress have beside others."""
        batch = self.traces.batch(source) if self.traces is not None else None
        return batch.log_fields if batch is not None else {}

    def lag(self, source: TopicPartition, records: int, newest_ms: int | None) -> None:
        """Show how far the reader of a partition is behind, in records and in time."""
        super().lag(source, records, newest_ms)
        age_s = 0.0 if newest_ms is None else max(0.0, time.time() - newest_ms / 1000)
        # no record is read yet, or it has no timestamp: the age is unknown
        unknown = records and newest_ms is None
        put(self._metrics.lag_seconds, (source.topic, str(source.partition)), None if unknown else age_s)

    def _remove(self, source: TopicPartition) -> None:
        super()._remove(source)
        if self.traces is not None:
            self.traces.failed(source, "revoked")
        put(self._metrics.lag_seconds, (source.topic, str(source.partition)), None)

    def model_loaded(self, model: Model, *, first: bool) -> None:
        """Show the model that is served from the next batch on."""
        manifest = model.manifest
        served = (manifest.name, manifest.version, model.sha256, model.form)
        self._metrics.model_info.labels(*served).set(1)
        if self._model_info is not None and self._model_info != served:
            self._metrics.model_info.remove(*self._model_info)
        self._model_info = served
        self._metrics.expect_results(values=manifest.predicts.name == "regression", classes=manifest.classes or ())
        self._metrics.expect_categories(f.name for f in manifest.features if f.kind == "categorical")
        self._metrics.model_age.set_function(lambda: time.time() - manifest.created_at.timestamp())
        if not first:
            self._metrics.model_reloads.labels("loaded").inc()
        log.info("model_loaded", model=manifest.name, version=manifest.version, form=model.form, sha256=model.sha256)
        if not model.signed:
            log.warning("model_unsigned", detail="the hashes protect against damage, not against an attacker")

    def model_refused(self, reason: str) -> None:
        """Count a changed bundle that was rejected; the present model stays."""
        self._metrics.model_reloads.labels("refused").inc()
        log.warning("model_refused", reason=reason)

    def challenger(self, served: tuple[str, ...] | None) -> None:
        """Show the name, version, sha256 and form of the challenger that scores now; None: no challenger."""
        if served == self._challenger_info:
            return
        if self._challenger_info is not None:
            self._metrics.challenger_info.remove(*self._challenger_info)
        if served is not None:
            self._metrics.challenger_info.labels(*served).set(1)
        self._challenger_info = served
        log.info("challenger", served=served)

    def expect_classes(self, classes: Iterable[str]) -> None:
        """Export the classes of a challenger that answers part of the customers, at 0."""
        self._metrics.expect_results(values=False, classes=classes)

    def split(self, answer: Answer) -> None:
        """Count the predictions of a committed batch by champion and challenger."""
        if answer.challenged is None:
            self._metrics.challenger_fallbacks.labels(NO_MODEL).inc(len(answer.predictions))
        else:
            self._metrics.challenger_predictions.inc(answer.challenged)
            self._metrics.challenger_fallbacks.labels(NOT_SCORED).inc(answer.fallbacks)

    def shadow_produced(self, count: int) -> None:
        """Count shadow predictions that the broker has acknowledged."""
        self._metrics.shadow_produced.inc(count)

    def shadow_dropped(self, reason: str, count: int) -> None:
        """Count events that get no shadow prediction."""
        if count:
            self._metrics.shadow_dropped.labels(reason).inc(count)
            log.debug("shadow_dropped", reason=reason, count=count)

    def answered(self, records: Sequence[ConsumerRecord], answer: Answer) -> None:
        """Count a committed batch: consumed = predicted + dead-lettered + ignored, moved together."""
        m = self._metrics
        now = time.time()
        predicted, refused = len(answer.predictions), len(answer.dead_letters)
        m.consumed.inc(len(records))
        m.records.labels("predicted").inc(predicted)
        m.records.labels("dead_lettered").inc(refused)
        m.records.labels("ignored").inc(answer.ignored.total())
        for why, count in answer.ignored.items():
            m.ignored.labels(why.value).inc(count)
        by_label = answer.classes
        if answer.labels is not None:
            by_label = {"true": answer.labels, "false": predicted - answer.labels}
        for label, count in (by_label or {}).items():
            m.predictions.labels(label).inc(count)
        (m.value if by_label is None else m.probability).observe(answer.scores)
        for reason, count in answer.reasons.items():
            m.dead_letters.labels(reason.value).inc(count)
        for feature, count in answer.unseen.items():
            m.unseen.labels(feature).inc(count)
        m.unknown_fields.inc(answer.unknown_fields)
        m.key_mismatches.inc(answer.key_mismatches)
        m.spoofed_headers.inc(answer.spoofed_headers)
        m.batch_records.observe(len(records))
        for stage, seconds in answer.seconds.items():
            m.stage_seconds.labels(stage).observe(seconds)
        timestamps = np.array([r.timestamp for r in records if r.timestamp != NO_TIMESTAMP], dtype=np.float64)
        ages = np.maximum(0.0, now - timestamps / 1000)
        source = TopicPartition(records[0].topic, records[0].partition)
        batch = self.traces.batch(source) if self.traces is not None else None
        examples = [
            (max(0.0, now - event.record.timestamp / 1000), event.trace_id)
            for event in (batch.events if batch is not None else ())
            if event.record.timestamp != NO_TIMESTAMP
        ]
        m.event_age.observe(ages, _TIMESTAMP_TYPES.get(records[0].timestamp_type, "create"), examples)
        m.event_delay.observe(np.maximum(0.0, now - answer.event_time_ms / 1000))
        self.progressed_at = now
        m.last_progress.set(now)
        if refused:
            log.info(
                "records_refused",
                topic=source.topic,
                partition=source.partition,
                first_offset=records[0].offset,
                reasons={reason.value: count for reason, count in answer.reasons.items()},
                **self._trace_of(source),
            )
        if self.traces is not None:
            self.traces.committed(source)


class ChallengerTelemetry:
    """Receives a reloader's results for a challenger in this process (`scorer.reload.Told`)."""

    def __init__(self, report: ScorerTelemetry) -> None:
        self._report = report

    def model_loaded(self, model: Model, *, first: bool) -> None:  # noqa: ARG002
        """Show the challenger that scores its customers from the next batch on."""
        self._report.expect_classes(model.manifest.classes or ())
        self._report.challenger((model.manifest.name, model.manifest.version, model.sha256, model.form))

    def model_refused(self, reason: str) -> None:
        """Log that its bundle was rejected; the one before stays in use."""
        log.warning("challenger_refused", reason=reason)
