"""What happens in a drift worker, said once: each function writes the log line and moves the counters."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from drift_worker.metrics import SCORE, STATISTICS, DriftMetrics
from schemas.alert import Alert, AlertName
from schemas.bundle import Manifest
from schemas.rfc3339 import parse
from streaming import logs
from streaming.records import TopicPartition
from streaming.work import State

if TYPE_CHECKING:
    from drift_worker.counting import Counted
    from drift_worker.evaluating import Evaluated
    from drift_worker.joining import Noted
    from drift_worker.reference import LoadedReference
    from schemas.measurement import FeatureMeasurement, Measurement
    from schemas.performance import Performance

log = logs.get(__name__)

VERSIONS_SHOWN = 5

_STATE_VALUES = {"not_enough_data": -1, "inactive": 0, "pending": 1, "warning": 2, "critical": 3}


class Report:
    """Telemetry of both stages' works."""

    def __init__(self, metrics: DriftMetrics) -> None:
        self._metrics = metrics
        self.progressed_at: float | None = None  # wall clock, seconds
        self._unread: dict[str, str] = {}  # topic → what kept it from being read, last

    def reference_loaded(self, loaded: LoadedReference) -> None:
        """This is what windows are compared with."""
        manifest, sha256 = loaded.manifest, loaded.identity.reference
        rows = str(loaded.reference.rows)
        self._metrics.reference_info.labels(manifest.name, manifest.version, sha256, rows).set(1)
        self._metrics.model_info.labels(manifest.name, manifest.version, loaded.manifest_sha256, "reference").set(1)
        self._metrics.model_age.set_function(lambda: time.time() - manifest.created_at.timestamp())
        log.info("reference_loaded", model=manifest.name, version=manifest.version, sha256=sha256, rows=rows)

    def counted(self, source: TopicPartition, counted: Counted) -> None:
        """Deltas are committed: read = counted + refused + future, moved together."""
        m = self._metrics
        m.read.labels(source.topic).inc(counted.read)
        m.counted.labels(source.topic).inc(counted.counted)
        m.future.labels(source.topic).inc(counted.future)
        for reason, number in counted.refused.items():
            m.refused.labels(reason).inc(number)
        self._progressed()
        if counted.refused or counted.future:
            log.info(
                "records_refused",
                topic=source.topic,
                partition=source.partition,
                reasons={**counted.refused, "event_time_in_future": counted.future},
            )

    def restored(self, source: TopicPartition, position: int, units: int, hours: int) -> None:
        """This process evaluates now, and knows what its predecessor knew. hours: of past weeks."""
        at = {"topic": source.topic, "partition": source.partition, "offset": position}
        log.info("evaluator_restored", **at, counts=units, hours=hours)

    def standing_by(self) -> None:
        """Another process evaluates."""
        self._metrics.forget_drift()
        log.info("evaluator_standing_by")

    def unreadable(self, topic: str, error: Exception) -> None:
        """An internal record is not one of ours, or of another layout; it is passed over."""
        self._metrics.unreadable.labels(topic).inc()
        log.warning("record_unreadable", topic=topic, exception=str(error))

    def extra_panes_partition(self, source: TopicPartition) -> None:
        """The panes' topic must have one partition; what stands in others is not evaluated."""
        log.error("panes_topic_has_several_partitions", topic=source.topic, partition=source.partition)

    def watermarks(self, watermarks: Mapping[tuple[str, int], int], now_ms: int) -> None:
        """How far each counted partition has come."""
        for (topic, partition), value in watermarks.items():
            self._metrics.watermark_lag.labels(topic, str(partition)).set((now_ms - value) / 1000)

    def evaluated(self, evaluated: Evaluated) -> None:
        """Windows are measured and what there was to say is said."""
        m = self._metrics
        m.late.inc(evaluated.late)
        for measurement in evaluated.measurements:
            self._measured(measurement)
        self._announced(evaluated.alerts)
        if evaluated.measurements:
            self.states(evaluated.measurements[0].model, evaluated.states)
        self._progressed()

    def _announced(self, alerts: Sequence[Alert]) -> None:
        for alert in alerts:
            self._metrics.alerts.labels(alert.status, alert.labels["severity"]).inc()
            log.warning(
                "alert",
                status=alert.status,
                summary=alert.annotations["summary"],
                fingerprint=alert.fingerprint,
                starts_at=alert.starts_at,
                ends_at=alert.ends_at,
                sequence=alert.sequence,
                **alert.labels,
            )

    def states(self, model: str, states: Mapping[tuple[str, str], str]) -> None:
        """Where every episode stands, by (alertname, feature). Said at a start, too: a restart resolves no alert."""
        for (alertname, feature), state in states.items():
            self._metrics.state.labels(model, feature, alertname).set(_STATE_VALUES[state])

    def noted(self, source: TopicPartition, noted: Noted) -> None:
        """Facts are committed: labels that were read, and refused ones by reason."""
        self._metrics.labels.inc(noted.labels)
        for reason, number in noted.refused.items():
            self._metrics.refused_labels.labels(reason).inc(number)
        if noted.refused:
            log.info("labels_refused", topic=source.topic, partition=source.partition, reasons=dict(noted.refused))

    def labels_unread(self, topic: str, error: BaseException) -> None:
        """Labels or their state could not be read; it will be tried again, and drift goes on meanwhile."""
        if self._unread.get(topic) != repr(error):  # it is tried again every few seconds
            self._unread[topic] = repr(error)
            log.warning("labels_unread", topic=topic, exception=repr(error))

    def performing_failed(self, error: BaseException) -> None:
        """The business level of this process has ended by a defect; a restart begins it anew."""
        self._metrics.forget_cohorts()  # absent: nobody knows them any more
        log.error("performing_failed", exc_info=error)

    def performed(self, cohorts: Sequence[Performance], alerts: Sequence[Alert]) -> None:
        """Cohorts are final and what there was to say is said."""
        self._metrics.cohorts.inc(len(cohorts))
        self._announced(alerts)
        for one in cohorts:
            log.info(
                "cohort_final",
                day=one.cohort.day,
                version=one.model_version,
                predictions=one.predictions,
                coverage=round(one.coverage.all, 4),
                state=one.state,
                reason=one.reason,
                **{name: metric.value for name, metric in one.metrics.items()},
            )

    def cohorts(self, manifest: Manifest, cohorts: Sequence[Performance], state: str) -> None:
        """`cohorts` newest first: the gauges show the newest of each version and status. state: PerformanceDrop's.

        Versions come out of a topic: of others than the manifest's, the newest few have series.
        """
        m, model = self._metrics, manifest.name
        versions = dict.fromkeys([manifest.version, *(one.model_version for one in cohorts)])
        shown = set(list(versions)[:VERSIONS_SHOWN])
        m.state.labels(model, "", AlertName.PERFORMANCE_DROP.value).set(_STATE_VALUES[state])
        m.forget_cohorts()
        newest: dict[tuple[str, str], Performance] = {}
        for one in cohorts:
            if one.model_version in shown:
                newest.setdefault((one.model_version, one.status), one)
        for (version, status), one in newest.items():
            labels = (model, version, status)
            for name, gauge in m.realised.items():
                m.put(gauge, labels, one.metrics[name].value if name in one.metrics else None)
            accuracy = one.estimated.get("accuracy")
            m.put(m.estimated_accuracy, labels, None if accuracy is None else accuracy.value)
            for outcome in ("all", "positive", "negative"):
                m.put(m.label_coverage, [*labels, outcome], getattr(one.coverage, outcome))
            if one.business is not None:
                m.put(m.business_value, [*labels, one.business.currency], one.business.total.value)
            m.cohort_end.labels(*labels).set((parse(one.cohort.end) or 0) / 1000)

    def _measured(self, measurement: Measurement) -> None:
        m, where = self._metrics, (measurement.model, measurement.window.length)
        m.windows.labels(measurement.window.length).inc()
        if measurement.features:
            m.window_events.labels(*where).set(measurement.sample.events)
            m.window_complete.labels(*where).set(float(measurement.complete))
            known = [f.effective for f in measurement.features.values() if f.effective is not None]
            m.put(m.window_effective, where, min(known, default=None))
        subjects: dict[str, FeatureMeasurement] = dict(measurement.features)
        if measurement.score is not None and measurement.score.reason != "pending":
            subjects[SCORE] = measurement.score
        for name, subject in subjects.items():
            labels = (measurement.model, name, measurement.window.length)
            for statistic in STATISTICS:
                m.put(m.statistics[statistic], labels, getattr(subject, statistic))
            m.put(m.limit, [*labels, "warning"], subject.effect_warning)
            m.put(m.limit, [*labels, "critical"], subject.effect_critical)
        log.info(
            "window_measured",
            window=measurement.window.length,
            start=measurement.window.start,
            end=measurement.window.end,
            events=measurement.sample.events,
            late=measurement.sample.late,
            complete=measurement.complete,
            strongest=_strongest(subjects),
        )

    def _progressed(self) -> None:
        self.progressed_at = time.time()
        self._metrics.last_progress.set(self.progressed_at)


class StageTelemetry:
    """What the supervisor of one stage's partitions reports (streaming.work.Telemetry)."""

    def __init__(self, metrics: DriftMetrics, stage: str, *, not_of: str | None = None) -> None:
        """not_of: a topic that another stage reads, too: its series by partition are that one's."""
        self._metrics = metrics
        self._stage = stage
        self._not_of = not_of
        self.lags: dict[TopicPartition, int] = {}

    def assigned(self, sources: Sequence[TopicPartition]) -> None:
        """The group gave us these partitions, and no others."""
        self._metrics.rebalances.labels(self._stage).inc()
        self._metrics.assigned_partitions.labels(self._stage).set(len(sources))
        log.info("partitions_assigned", stage=self._stage, partitions=[f"{s.topic}-{s.partition}" for s in sources])

    def revoked(self, sources: Sequence[TopicPartition]) -> None:
        """The group is about to give these partitions away."""
        self._metrics.assigned_partitions.labels(self._stage).set(0)
        if sources:
            log.info("partitions_revoked", stage=self._stage, partitions=[f"{s.topic}-{s.partition}" for s in sources])

    def state(self, source: TopicPartition, state: State, detail: str) -> None:
        """A partition entered `state`; when it is drained, its series go."""
        where = {"topic": source.topic, "partition": source.partition}
        labels = (source.topic, str(source.partition))
        if state is State.DRAINED:
            self.lags.pop(source, None)
            if source.topic == self._not_of:
                log.info("partition_drained", **where)
                return
            with contextlib.suppress(KeyError):
                self._metrics.lag_records.remove(*labels)
            for other in State:
                with contextlib.suppress(KeyError):
                    self._metrics.partition_state.remove(*labels, other.value)
            log.info("partition_drained", **where)
            return
        for other in State if source.topic != self._not_of else ():
            self._metrics.partition_state.labels(*labels, other.value).set(other is state)
        if state in {State.FENCING, State.RUNNING}:
            log.info("partition_state", state=state.value, **where)
        else:
            log.warning("partition_state", state=state.value, detail=detail, **where)

    def transaction(self, source: TopicPartition, outcome: str, produce_s: float, commit_s: float) -> None:
        """A transaction ended."""
        self._metrics.transactions.labels(self._stage, outcome).inc()
        if outcome != "committed":
            log.warning(
                "transaction_ended",
                outcome=outcome,
                topic=source.topic,
                partition=source.partition,
                duration_s=round(produce_s + commit_s, 3),
            )

    def rebuilt(self, source: TopicPartition, cause: str, error: BaseException, transactional_id: str | None) -> None:
        """A producer is thrown away and made anew; an error if somebody else has used its transactional id."""
        self._metrics.rebuilds.labels(self._stage, cause).inc()
        say = log.error if cause == "fenced" else log.warning
        say(
            "producer_rebuilt",
            cause=cause,
            exception=repr(error),
            topic=source.topic,
            partition=source.partition,
            transactional_id=transactional_id,
        )

    def placed(self, source: TopicPartition, position: int, why: str) -> None:
        """A partition without a usable committed offset starts at `position`."""
        log.warning("partition_placed", position=position, why=why, topic=source.topic, partition=source.partition)

    def lag(self, source: TopicPartition, records: int, newest_ms: int | None) -> None:  # noqa: ARG002
        """How far a partition's reader is behind."""
        self.lags[source] = records
        if source.topic == self._not_of:
            return
        self._metrics.lag_records.labels(source.topic, str(source.partition)).set(records)


def _strongest(subjects: Mapping[str, FeatureMeasurement]) -> str | None:
    """The subject with the largest effect, and how large it is: enough to follow a log by eye."""
    known = [(subject.effect, name) for name, subject in subjects.items() if subject.effect is not None]
    if not known:
        return None
    effect, name = max(known)
    return f"{name} {effect:.3f}"
