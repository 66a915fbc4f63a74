"""What happens in a scorer, said once: each function writes the log line and moves the counters."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence

import numpy as np

from scorer.handover import NO_MODEL, NOT_SCORED
from scorer.metrics import ScorerMetrics
from scorer.model import Model
from scorer.pipeline import Answer
from streaming import logs
from streaming.records import ConsumerRecord, TopicPartition
from streaming.work import State

log = logs.get(__name__)

_TIMESTAMP_TYPES = {0: "create", 1: "append"}


class Report:
    """A scorer's telemetry (streaming.work.Telemetry), and its own events."""

    def __init__(self, metrics: ScorerMetrics) -> None:
        self._metrics = metrics
        self._model_info: tuple[str, str, str, str] | None = None
        self._challenger_info: tuple[str, ...] | None = None
        self.lags: dict[TopicPartition, int] = {}
        self.progressed_at: float | None = None  # wall clock, seconds

    def assigned(self, sources: Sequence[TopicPartition]) -> None:
        """The group gave us these partitions, and no others."""
        self._metrics.rebalances.inc()
        self._metrics.assigned_partitions.set(len(sources))
        log.info("partitions_assigned", partitions=[f"{s.topic}-{s.partition}" for s in sources])

    def revoked(self, sources: Sequence[TopicPartition]) -> None:
        """The group is about to give these partitions away."""
        self._metrics.assigned_partitions.set(0)
        if sources:
            log.info("partitions_revoked", partitions=[f"{s.topic}-{s.partition}" for s in sources])

    def state(self, source: TopicPartition, state: State, detail: str) -> None:
        """A partition entered `state`; when it is drained, its series go."""
        where = {"topic": source.topic, "partition": source.partition}
        labels = (source.topic, str(source.partition))
        if state is State.DRAINED:
            self.lags.pop(source, None)
            for gauge in (self._metrics.lag_records, self._metrics.lag_seconds):
                with contextlib.suppress(KeyError):
                    gauge.remove(*labels)
            for other in State:
                with contextlib.suppress(KeyError):
                    self._metrics.partition_state.remove(*labels, other.value)
            log.info("partition_drained", **where)
            return
        for other in State:
            self._metrics.partition_state.labels(*labels, other.value).set(other is state)
        if state in {State.FENCING, State.RUNNING}:
            log.info("partition_state", state=state.value, **where)
        else:
            log.warning("partition_state", state=state.value, detail=detail, **where)

    def transaction(self, source: TopicPartition, outcome: str, produce_s: float, commit_s: float) -> None:
        """A transaction ended."""
        self._metrics.transactions.labels(outcome).inc()
        if outcome == "committed":
            self._metrics.stage_seconds.labels("produce").observe(produce_s)
            self._metrics.stage_seconds.labels("commit").observe(commit_s)
        else:
            log.warning("transaction_ended", outcome=outcome, topic=source.topic, partition=source.partition)

    def rebuilt(self, source: TopicPartition, cause: str, error: BaseException, transactional_id: str | None) -> None:
        """A producer is thrown away and made anew; an error if somebody else has used its transactional id."""
        self._metrics.rebuilds.labels(cause).inc()
        say = log.error if cause == "fenced" else log.warning
        say(
            "producer_rebuilt",
            cause=cause,
            exception=repr(error),
            topic=source.topic,
            partition=source.partition,
            **({"transactional_id": transactional_id} if transactional_id is not None else {}),
        )

    def placed(self, source: TopicPartition, position: int, why: str) -> None:
        """A partition without a usable committed offset starts at `position`."""
        log.warning("partition_placed", position=position, why=why, topic=source.topic, partition=source.partition)

    def lag(self, source: TopicPartition, records: int, newest_ms: int | None) -> None:
        """How far a partition's reader is behind."""
        self.lags[source] = records
        labels = (source.topic, str(source.partition))
        self._metrics.lag_records.labels(*labels).set(records)
        age_s = 0.0 if newest_ms is None else max(0.0, time.time() - newest_ms / 1000)
        self._metrics.lag_seconds.labels(*labels).set(age_s)

    def model_loaded(self, model: Model, *, first: bool) -> None:
        """A model is served from the next batch on."""
        manifest = model.manifest
        served = (manifest.name, manifest.version, model.sha256, model.form)
        self._metrics.model_info.labels(*served).set(1)
        if self._model_info is not None and self._model_info != served:
            self._metrics.model_info.remove(*self._model_info)
        self._model_info = served
        self._metrics.expect_categories(f.name for f in manifest.features if f.kind == "categorical")
        self._metrics.model_age.set_function(lambda: time.time() - manifest.created_at.timestamp())
        if not first:
            self._metrics.model_reloads.labels("loaded").inc()
        log.info("model_loaded", model=manifest.name, version=manifest.version, form=model.form, sha256=model.sha256)
        if not model.signed:
            log.warning("model_unsigned", detail="the hashes protect against damage, not against an attacker")

    def model_refused(self, reason: str) -> None:
        """A changed bundle is not served; the model in hand goes on."""
        self._metrics.model_reloads.labels("refused").inc()
        log.warning("model_refused", reason=reason)

    def challenger(self, served: tuple[str, ...] | None) -> None:
        """Name, version, sha256 and form of the challenger that scores now; None for none."""
        if served == self._challenger_info:
            return
        if self._challenger_info is not None:
            self._metrics.challenger_info.remove(*self._challenger_info)
        if served is not None:
            self._metrics.challenger_info.labels(*served).set(1)
        self._challenger_info = served
        log.info("challenger", served=served)

    def split(self, answer: Answer) -> None:
        """A batch is committed whose predictions are two models', or were to be."""
        if answer.challenged is None:
            self._metrics.challenger_fallbacks.labels(NO_MODEL).inc(len(answer.predictions))
        else:
            self._metrics.challenger_predictions.inc(answer.challenged)
            self._metrics.challenger_fallbacks.labels(NOT_SCORED).inc(answer.fallbacks)

    def shadow_produced(self, count: int) -> None:
        """So many shadow predictions are on their topic."""
        self._metrics.shadow_produced.inc(count)

    def shadow_dropped(self, reason: str, count: int) -> None:
        """So many events will have no shadow prediction."""
        if count:
            self._metrics.shadow_dropped.labels(reason).inc(count)
            log.debug("shadow_dropped", reason=reason, count=count)

    def answered(self, records: Sequence[ConsumerRecord], answer: Answer) -> None:
        """A batch is committed: consumed = predicted + dead-lettered, moved together."""
        m = self._metrics
        now = time.time()
        predicted, refused = len(answer.predictions), len(answer.dead_letters)
        m.consumed.inc(len(records))
        m.records.labels("predicted").inc(predicted)
        m.records.labels("dead_lettered").inc(refused)
        m.predictions.labels("true").inc(answer.labels)
        m.predictions.labels("false").inc(predicted - answer.labels)
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
        ages = np.maximum(0.0, now - np.array([r.timestamp for r in records], dtype=np.float64) / 1000)
        m.event_age.observe(ages, _TIMESTAMP_TYPES.get(records[0].timestamp_type, "create"))
        m.event_delay.observe(np.maximum(0.0, now - answer.event_time_ms / 1000))
        m.probability.observe(answer.probabilities)
        self.progressed_at = now
        m.last_progress.set(now)
        if refused:
            log.info(
                "records_refused",
                topic=records[0].topic,
                partition=records[0].partition,
                first_offset=records[0].offset,
                reasons={reason.value: count for reason, count in answer.reasons.items()},
            )


class ChallengerReport:
    """What a reloader says of a challenger in this process (scorer.reload.Told)."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def model_loaded(self, model: Model, *, first: bool) -> None:  # noqa: ARG002
        """It answers its customers from the next batch on."""
        self._report.challenger((model.manifest.name, model.manifest.version, model.sha256, model.form))

    def model_refused(self, reason: str) -> None:
        """Its bundle is not taken; what was taken before goes on."""
        log.warning("challenger_refused", reason=reason)
