"""Telemetry of a drift worker: each function writes the log line and moves the counters of one kind of occurrence."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from drift_worker.alerting.limits import RELATION_LIMITS
from drift_worker.counts.wire_format import OTHER_MODEL
from drift_worker.metrics import SCORE, STATISTICS, DriftMetrics
from drift_worker.reference import LoadedReference
from kafka_runtime.kafka_types import TopicPartition
from kafka_runtime.service import logs
from kafka_runtime.service.metrics import put
from schemas.alert import Alert, AlertName, Severity
from schemas.bundle.manifest import Manifest
from schemas.measurement import FeatureMeasurement, Measurement
from schemas.performance import AnyPerformance, Performance
from schemas.timestamps import parse, render

log = logs.get(__name__)

VERSIONS_SHOWN = 5
# A flood of records on an internal topic must not become a flood of log lines.
UNREADABLE_LOG_S = 60.0

_STATE_VALUES = {"not_enough_data": -1, "inactive": 0, "pending": 1, "warning": 2, "critical": 3}


@dataclass(frozen=True, slots=True)
class Counted:
    """What a transaction of the counting stage committed."""

    #: Records that were read: counted + refused + future.
    read: int
    #: Records that were counted.
    counted: int
    #: Rejected records by reason.
    refused: Mapping[str, int]
    #: Records rejected because they are from the future.
    future: int
    #: Of the counted, events that were too old for any window.
    late: int


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What a transaction of the evaluating stage committed."""

    #: Windows that were measured.
    measurements: Sequence[Measurement]
    #: Messages of episodes.
    alerts: Sequence[Alert]
    #: The state of every possible episode, by (alertname, feature).
    states: Mapping[tuple[str, str], str]
    #: Events that came after their unit of time was evaluated.
    late: int
    #: Episodes that are too old to be announced, by alertname.
    passed_over: Mapping[str, int]
    #: The end of the last such window, milliseconds since the epoch.
    until_ms: int
    #: The command that lists them.
    look: str


@dataclass(frozen=True, slots=True)
class Joined:
    """What a transaction of the labels' stage committed."""

    #: Labels that were read.
    labels: int
    #: Rejected records by reason.
    refused: Mapping[str, int]


class DriftTelemetry:
    """Telemetry of the stages."""

    def __init__(self, metrics: DriftMetrics) -> None:
        self._metrics = metrics
        self.progressed_at: float | None = None  # wall clock, seconds
        self._late_in: set[TopicPartition] = set()  # partitions with events that are too old for any window
        self._passed_over: dict[str, tuple[float, int]] = {}  # topic → when the log had it last, records since then
        self._unread: dict[str, str] = {}  # topic → what kept it from being read, last
        self._foreign_since: dict[str, float] = {}  # topic → since when no record on it is of this model, monotonic

    def reference_loaded(self, loaded: LoadedReference, unwatched: Mapping[str, int], why: str) -> None:
        """Report what windows are compared with from now on, and the features that cannot be watched."""
        manifest, sha256 = loaded.manifest, loaded.identity.reference
        rows = str(loaded.reference.rows)
        self._foreign_since.clear()
        for gauge in (self._metrics.reference_info, self._metrics.model_info, self._metrics.unwatched):
            gauge.clear()
        for name in unwatched:
            self._metrics.unwatched.labels(manifest.name, name).set(1)
        if unwatched:
            log.warning("features_not_watched", features=dict(unwatched), text=why)
        self._metrics.reference_info.labels(manifest.name, manifest.version, sha256, rows).set(1)
        self._metrics.model_info.labels(manifest.name, manifest.version, loaded.manifest_sha256, "reference").set(1)
        self._metrics.model_age.set_function(lambda: time.time() - manifest.created_at.timestamp())
        log.info("reference_loaded", model=manifest.name, version=manifest.version, sha256=sha256, rows=rows)

    def deltas_committed(self, source: TopicPartition, counted: Counted) -> None:
        """Report committed deltas: read = counted + refused + future, moved together."""
        m = self._metrics
        m.read.labels(source.topic).inc(counted.read)
        m.counted.labels(source.topic).inc(counted.counted)
        m.future.labels(source.topic).inc(counted.future)
        for reason, number in counted.refused.items():
            m.refused.labels(reason).inc(number)
        if counted.counted:
            self._foreign_since.pop(source.topic, None)
        elif counted.refused.get(OTHER_MODEL):
            self._foreign_since.setdefault(source.topic, time.monotonic())
        self._progressed()
        if counted.late and source not in self._late_in:
            # once per partition: a backlog in another order than time has them in every batch
            self._late_in.add(source)
            log.warning("events_too_old", topic=source.topic, partition=source.partition, events=counted.late)
        if counted.refused or counted.future:
            log.info(
                "records_refused",
                topic=source.topic,
                partition=source.partition,
                reasons={**counted.refused, "event_time_in_future": counted.future},
            )

    def restored(self, source: TopicPartition, position: int, units: int, hours: int) -> None:
        """Report that this process evaluates now, with its predecessor's state. hours: of past weeks."""
        at = {"topic": source.topic, "partition": source.partition, "offset": position}
        log.info("evaluator_restored", **at, counts=units, hours=hours)

    def standing_by(self) -> None:
        """Report that another process evaluates."""
        self._metrics.forget_drift()
        log.info("evaluator_standing_by")

    def unreadable(self, topic: str, error: Exception) -> None:
        """Count an internal record that was passed over; log the first one and then one a minute at most."""
        self._metrics.unreadable.labels(topic).inc()
        at, others = self._passed_over.get(topic, (-UNREADABLE_LOG_S, 0))
        if time.monotonic() - at < UNREADABLE_LOG_S:
            self._passed_over[topic] = (at, others + 1)
            return
        self._passed_over[topic] = (time.monotonic(), 0)
        log.warning("record_unreadable", topic=topic, exception=str(error), others=others)

    def extra_panes_partition(self, source: TopicPartition) -> None:
        """Report a second partition of the panes' topic; records in it are not evaluated."""
        log.error("panes_topic_has_several_partitions", topic=source.topic, partition=source.partition)

    def watermarks(self, watermarks: Mapping[tuple[str, int], int], now_ms: int) -> None:
        """Show how far each counted partition has come."""
        for (topic, partition), value in watermarks.items():
            self._metrics.watermark_lag.labels(topic, str(partition)).set((now_ms - value) / 1000)

    def windows_committed(self, evaluated: Evaluated) -> None:
        """Report the windows and alerts that were committed."""
        m = self._metrics
        m.late.inc(evaluated.late)
        self._measured(evaluated.measurements)
        self._announced(evaluated.alerts)
        for name, number in evaluated.passed_over.items():
            m.found_late.labels(name).inc(number)
        if evaluated.passed_over:
            episodes = dict(evaluated.passed_over)
            log.warning("episodes_found_late", until=render(evaluated.until_ms), episodes=episodes, look=evaluated.look)
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
        """Show the state of every episode, by (alertname, feature); also at a start: a restart resolves no alert."""
        for (alertname, feature), state in states.items():
            self._metrics.state.labels(model, feature, alertname).set(_STATE_VALUES[state])

    def labels_committed(self, source: TopicPartition, joined: Joined) -> None:
        """Report committed facts: labels that were read, and rejected ones by reason."""
        self._metrics.labels.inc(joined.labels)
        for reason, number in joined.refused.items():
            self._metrics.refused_labels.labels(reason).inc(number)
        if joined.refused:
            log.info("labels_refused", topic=source.topic, partition=source.partition, reasons=dict(joined.refused))

    def other_model_s(self) -> float:
        """Return for how many seconds every prediction was another model's; 0 if one was ours."""
        return max((time.monotonic() - since for since in list(self._foreign_since.values())), default=0.0)

    def reference_refused(self, reason: str) -> None:
        """Report that another bundle is there and must not be used; the present reference stays."""
        log.error("reference_refused", reason=reason)

    def labels_read(self, topic: str) -> None:
        """Note that a topic of the labels can be read."""
        self._unread.pop(topic, None)

    def unread(self, topic: str) -> str | None:
        """Return the error that prevents reading a topic of the labels; None if there is none."""
        return self._unread.get(topic)

    def labels_unread(self, topic: str, error: BaseException) -> None:
        """Report that labels or their state cannot be read; they are read again, and drift goes on meanwhile."""
        if self._unread.get(topic) != repr(error):  # it is tried again every few seconds
            self._unread[topic] = repr(error)
            log.warning("labels_unread", topic=topic, exception=repr(error))

    def performing_failed(self, error: BaseException) -> None:
        """Report that a defect ended the business level of this process; a restart begins it again."""
        self._metrics.forget_cohorts()  # absent: the values are unknown from now on
        log.error("performing_failed", exc_info=error)

    def cohorts_committed(self, cohorts: Sequence[AnyPerformance], alerts: Sequence[Alert]) -> None:
        """Report final cohorts and their alerts."""
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

    def cohorts(self, manifest: Manifest, cohorts: Sequence[AnyPerformance], state: str) -> None:
        """Show the newest of each version and status of `cohorts`, newest first. state: PerformanceDrop's.

        Versions come out of a topic: of others than the manifest's, the newest few have series.
        """
        m, model = self._metrics, manifest.name
        versions = dict.fromkeys([manifest.version, *(one.model_version for one in cohorts)])
        shown = set(list(versions)[:VERSIONS_SHOWN])
        m.state.labels(model, "", AlertName.PERFORMANCE_DROP.value).set(_STATE_VALUES[state])
        m.forget_cohorts()
        newest: dict[tuple[str, str], AnyPerformance] = {}
        for one in cohorts:
            if one.model_version in shown:
                newest.setdefault((one.model_version, one.status), one)
        for (version, status), one in newest.items():
            labels = (model, version, status)
            for name, gauge in m.realised.items():
                put(gauge, labels, one.metrics[name].value if name in one.metrics else None)
            for name, gauge in m.estimated.items():
                band = one.estimated.get(name)
                put(gauge, labels, None if band is None else band.value)
            put(m.label_coverage, [*labels, "all"], one.coverage.all)
            if one.business is not None:
                put(m.business_value, [*labels, one.business.currency], one.business.total.value)
            if isinstance(one, Performance):
                self._binary(labels, one)
            m.cohort_end.labels(*labels).set((parse(one.cohort.end) or 0) / 1000)

    def _binary(self, labels: Sequence[str], one: Performance) -> None:
        """Show what only the cohorts of a binary model have."""
        m = self._metrics
        put(m.label_coverage, [*labels, "positive"], one.coverage.positive)
        put(m.label_coverage, [*labels, "negative"], one.coverage.negative)

    def _measured(self, measurements: Sequence[Measurement]) -> None:
        """Log and count every window; show the newest of each length: a backlog closes fifty in one transaction."""
        newest: dict[tuple[str, str], Measurement] = {}
        shown: dict[tuple[str, str, str], FeatureMeasurement] = {}
        for measurement in measurements:
            model, length = measurement.model, measurement.window.length
            self._metrics.windows.labels(length).inc()
            subjects: dict[str, FeatureMeasurement] = dict(measurement.features)
            if measurement.score is not None and measurement.score.reason != "pending":
                subjects[SCORE] = measurement.score
            if measurement.features:
                newest[model, length] = measurement
            shown |= {(model, name, length): subject for name, subject in subjects.items()}
            log.info(
                "window_measured",
                window=length,
                start=measurement.window.start,
                end=measurement.window.end,
                events=measurement.sample.events,
                judged=measurement.sample.events if measurement.span is None else measurement.span.events,
                late=measurement.sample.late,
                complete=measurement.complete,
                strongest=_strongest(subjects),
            )
        self._show_windows(newest, shown)

    def _show_windows(
        self,
        newest: Mapping[tuple[str, str], Measurement],
        shown: Mapping[tuple[str, str, str], FeatureMeasurement],
    ) -> None:
        m = self._metrics
        for where, measurement in newest.items():
            m.window_events.labels(*where).set(measurement.sample.events)
            m.window_complete.labels(*where).set(float(measurement.complete))
            since_ms, until_ms = parse(measurement.judged_from) or 0, parse(measurement.window.end) or 0
            m.window_judged.labels(*where).set((until_ms - since_ms) / 1000)
            known = [f.effective for f in measurement.features.values() if f.effective is not None]
            put(m.window_effective, where, min(known, default=None))
            for kind, limits in RELATION_LIMITS.items():
                largest = measurement.relations.largest if measurement.relations is not None else {}
                put(m.relation, [*where, kind], largest.get(kind))
                for severity, limit in zip(Severity, limits, strict=True):
                    put(m.relation_limit, [*where, kind, severity.value], limit if kind in largest else None)
        for labels, subject in shown.items():
            for statistic in STATISTICS:
                put(m.statistics[statistic], labels, getattr(subject, statistic))
            put(m.limit, [*labels, "warning"], subject.effect_warning)
            put(m.limit, [*labels, "critical"], subject.effect_critical)

    def _progressed(self) -> None:
        self.progressed_at = time.time()
        self._metrics.last_progress.set(self.progressed_at)


def _strongest(subjects: Mapping[str, FeatureMeasurement]) -> str | None:
    """Return the subject with the largest effect, and the effect: enough to follow a log by eye."""
    known = [(subject.effect, name) for name, subject in subjects.items() if subject.effect is not None]
    if not known:
        return None
    effect, name = max(known)
    return f"{name} {effect:.3f}"
