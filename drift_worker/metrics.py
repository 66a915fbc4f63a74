"""The drift worker's metrics, in one class that takes a registry. A statistic that is not known is absent, never 0."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from drift_worker.deltas import NOT_A_PREDICTION, OTHER_MODEL
from schemas.alert import Severity
from schemas.label import LabelReason
from schemas.verdict import Reason
from streaming.metrics import KnownGauge

PREFIX = "driftline_drift_"
MODEL_PREFIX = "driftline_model_"
SUBJECT = ["model", "feature", "window"]
STATISTICS = {
    "psi": "Population stability index on cells that do not collapse",
    "psi_corrected": "PSI less its expectation without drift, at least 0",
    "psi_textbook": "Population stability index of the textbook",
    "ks": "Kolmogorov-Smirnov distance",
    "log10_p": "log10 of the p-value of the strongest test of the distribution",
    "null_999": "PSI that one window in a thousand exceeds without drift",
    "effect": "What is compared with the limit",
    "missing_ratio": "Share of events without a value",
    "unseen_ratio": "Share of values in categories that the reference does not have",
}
# The score's place among the features.
SCORE = "score"
STAGES = ("counting", "evaluating", "labels")
COHORT = ["model", "version", "status"]
# Series by the name of the metric in a cohort.
REALISED = {
    "accuracy": ("accuracy", "Accuracy of the newest cohort of its status, by labels"),
    "f1": ("f1", "F1 by labels"),
    "roc_auc": ("auc", "ROC AUC by labels"),
    "brier": ("brier", "Brier score by labels; lower is better"),
}
OUTCOMES = ("committed", "aborted", "fenced", "unknown")
REBUILD_CAUSES = ("fenced", "rebuild", "lost", "no_offset")


class DriftMetrics:
    """Every series of a drift worker. Label values come from closed sets; only the active evaluator exports drift."""

    def __init__(
        self,
        registry: CollectorRegistry,
        topics: Iterable[str],
        *,
        internal: Iterable[str] = (),
        windows: Iterable[str] = (),
    ) -> None:
        """`topics`: those that are counted; `internal`: those of records of our own; `windows`: their lengths."""

        def counter(name: str, text: str, labels: Sequence[str] = ()) -> Counter:
            return Counter(PREFIX + name, text, labels, registry=registry)

        def gauge(name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
            return Gauge(PREFIX + name, text, labels, registry=registry)

        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.read = counter(
            "read_records_total", "Records whose outcome is committed: counted, refused, future", ["topic"]
        )
        self.counted = counter("counted_events_total", "Records that were counted", ["topic"])
        self.future = counter("future_events_total", "Records refused because they are from the future", ["topic"])
        self.refused = counter("refused_events_total", "Other records that were refused", ["reason"])
        self.late = counter("late_events_total", "Events that came after their unit of time was evaluated")
        self.unreadable = counter("unreadable_records_total", "Internal records that could not be read", ["topic"])
        self.alerts = counter("alerts_total", "Alerts written", ["status", "severity"])
        self.windows = counter("windows_total", "Windows measured", ["window"])
        self.statistics = {name: gauge(name, text, SUBJECT) for name, text in STATISTICS.items()}
        self.limit = gauge("limit", "Where an effect becomes an alert", [*SUBJECT, "severity"])
        self.window_events = gauge("window_events", "Events in the last window", ["model", "window"])
        self.window_effective = gauge(
            "window_effective_events", "As how many independent events they count, at least", ["model", "window"]
        )
        self.window_complete = gauge("window_complete", "1 if no partition was missing", ["model", "window"])
        self.state = gauge(
            "state",
            "0 inactive, 1 pending, 2 warning, 3 critical, -1 not enough data",
            ["model", "feature", "alertname"],
        )
        self.watermark_lag = gauge(
            "watermark_lag_seconds",
            "Wall clock minus the watermark, which is event time",
            ["topic", "partition"],
        )
        self.reference_info = gauge("reference_info", "The reference", ["model", "version", "sha256", "rows"])
        self.lag_records = gauge("lag_records", "Last stable offset minus position", ["topic", "partition"])
        self.assigned_partitions = gauge("assigned_partitions", "Partitions the group gave this process", ["stage"])
        self.partition_state = gauge(
            "partition_state", "1 for the state a partition is in", ["topic", "partition", "state"]
        )
        self.rebalances = counter("rebalances_total", "Assignments received", ["stage"])
        self.transactions = counter("transactions_total", "Transactions by how they ended", ["stage", "outcome"])
        self.rebuilds = counter("producer_rebuilds_total", "Producers thrown away and made anew", ["stage", "cause"])
        self.last_progress = KnownGauge(
            PREFIX + "last_progress_timestamp_seconds", "When counts or windows were last committed", registry
        )
        self.loop_lag = gauge("loop_lag_seconds", "How late the event loop came round")
        self.model_info = Gauge(
            "driftline_model_info",
            "The model that is served, or whose reference is used",
            ["name", "version", "sha256", "form"],
            registry=registry,
        )
        self.model_age = Gauge("driftline_model_age_seconds", "Time since the bundle was made", registry=registry)
        self._of_models(registry)
        self._from_zero(tuple(topics), tuple(internal), tuple(windows))

    def _of_models(self, registry: CollectorRegistry) -> None:
        """The business level. status: final (said once, after the horizon) or provisional."""

        def gauge(name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
            return Gauge(MODEL_PREFIX + name, text, [*COHORT, *labels], registry=registry)

        self.realised = {metric: gauge(name, text) for metric, (name, text) in REALISED.items()}
        self.estimated_accuracy = gauge("estimated_accuracy", "Accuracy to be expected from the scores alone")
        self.label_coverage = gauge("label_coverage_ratio", "Known outcomes over predictions", ["outcome"])
        self.business_value = gauge("business_value", "Money of the outcomes that are known", ["currency"])
        self.cohort_end = gauge("cohort_end_timestamp_seconds", "End of the cohort that the other series are of")
        self.labels = Counter(MODEL_PREFIX + "labels_total", "Labels that were read", registry=registry)
        self.refused_labels = Counter(
            MODEL_PREFIX + "refused_labels_total",
            "Records on the labels' topic that are none",
            ["reason"],
            registry=registry,
        )
        self.cohorts = Counter(MODEL_PREFIX + "cohorts_total", "Cohorts that became final", registry=registry)
        for reason in LabelReason:
            self.refused_labels.labels(reason.value)

    def forget_cohorts(self) -> None:
        """What is said next may be of other versions and other cohorts."""
        for gauge in (
            *self.realised.values(),
            self.estimated_accuracy,
            self.label_coverage,
            self.business_value,
            self.cohort_end,
        ):
            gauge.clear()

    def _from_zero(self, topics: Sequence[str], internal: Sequence[str], windows: Sequence[str]) -> None:
        for topic in topics:
            for family in (self.read, self.counted, self.future):
                family.labels(topic)
        for reason in (
            *(r.value for r in Reason if r is not Reason.EVENT_TIME_IN_FUTURE),
            NOT_A_PREDICTION,
            OTHER_MODEL,
        ):
            self.refused.labels(reason)
        for status in ("firing", "resolved"):
            for severity in Severity:
                self.alerts.labels(status, severity.value)
        for stage in STAGES:
            self.rebalances.labels(stage)
            self.assigned_partitions.labels(stage)
            for outcome in OUTCOMES:
                self.transactions.labels(stage, outcome)
            for cause in REBUILD_CAUSES:
                self.rebuilds.labels(stage, cause)
        for topic in internal:
            self.unreadable.labels(topic)
        for window in windows:
            self.windows.labels(window)

    def put(self, gauge: Gauge, labels: Sequence[str], value: float | None) -> None:
        """The value, or no series where there is none."""
        if value is not None:
            gauge.labels(*labels).set(value)
            return
        with contextlib.suppress(KeyError):
            gauge.remove(*labels)

    def forget_drift(self) -> None:
        """Another process evaluates: what this one said last is not what is."""
        for gauge in (
            *self.statistics.values(),
            self.limit,
            self.window_events,
            self.window_effective,
            self.window_complete,
            self.state,
            self.watermark_lag,
        ):
            gauge.clear()
        self.forget_cohorts()
