"""The drift worker's metrics, in one class that takes a registry. A statistic that is not known is absent, never 0."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from drift_worker.counts.wire_format import NOT_A_PREDICTION, OTHER_MODEL
from drift_worker.statistics.catalogue import CATALOGUE
from kafka_runtime.login import oauth
from kafka_runtime.service.metrics import AskedGauge, KnownGauge, PartsGauge
from schemas.alert import AlertName, Severity
from schemas.label import LabelReason
from schemas.rejection_reasons import Reason

PREFIX = "driftline_drift_"
MODEL_PREFIX = "driftline_model_"
SUBJECT = ["model", "feature", "window"]
STATISTICS = {
    **{statistic.name: statistic.help for statistic in CATALOGUE if statistic.help is not None},
    "log10_p": "log10 of the p-value of the strongest test of the distribution",
    "null_999": "PSI that one window in a thousand exceeds without drift",
    "effect": "The value that is compared with the limit",
    "natural_variation": "How many times more the distribution varies from window to window than its customers explain",
    "missing_ratio": "Share of events without a value",
    "unseen_ratio": "Share of values in categories that the reference does not have",
}
# The score's place among the features.
SCORE = "score"
STAGES = ("counting", "evaluating", "labels")
PARTS = (*STAGES, "performance", "reference", "scores")
COHORT = ["model", "version", "status"]
# Series by the name of the metric in a cohort.
REALISED = {
    "accuracy": ("accuracy", "Accuracy of the newest cohort of its status, by labels"),
    "f1": ("f1", "F1 by labels"),
    "roc_auc": ("auc", "ROC AUC by labels"),
    "brier": ("brier", "Brier score by labels; lower is better"),
    "f1_macro": ("f1_macro", "Of several classes, the mean F1 by labels"),
    "roc_auc_ovr": ("auc_ovr", "Of several classes, the mean ROC AUC of each against the rest, by labels"),
    "mae": ("mae", "Of a regression, mean absolute error by labels, in the value's unit"),
    "rmse": ("rmse", "Of a regression, root mean square error by labels, in the value's unit"),
    "bias": ("bias", "Of a regression, mean of value minus outcome, in the value's unit"),
    "r2": ("r2", "Of a regression, R squared by labels"),
    "interval_coverage": ("interval_coverage_ratio", "Of a regression, share of outcomes within their intervals"),
}
# The same of what is estimated from scores alone.
ESTIMATED = {
    "accuracy": ("estimated_accuracy", "Accuracy to be expected from the scores alone"),
    "f1_macro": ("estimated_f1_macro", "Of several classes, the mean F1 to be expected from the probabilities alone"),
    "mae": ("estimated_mae", "Of a regression, the mean absolute error to be expected from the values alone"),
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
        """Take the `topics` that are counted, the `internal` ones, and the labels of `windows`."""

        def counter(name: str, text: str, labels: Sequence[str] = ()) -> Counter:
            return Counter(PREFIX + name, text, labels, registry=registry)

        def gauge(name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
            return Gauge(PREFIX + name, text, labels, registry=registry)

        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.parts = PartsGauge(PREFIX + "part_up", "1 for a part of the process that works", PARTS, registry)
        self.read = counter(
            "read_records_total", "Records whose outcome is committed: counted, refused, future", ["topic"]
        )
        self.counted = counter("counted_events_total", "Records that were counted", ["topic"])
        self.future = counter("future_events_total", "Records rejected because they are from the future", ["topic"])
        self.refused = counter("refused_events_total", "Other records that were rejected", ["reason"])
        self.late = counter("late_events_total", "Events that came after their unit of time was evaluated")
        self.unreadable = counter("unreadable_records_total", "Internal records that could not be read", ["topic"])
        self.alerts = counter("alerts_total", "Alerts written", ["status", "severity"])
        self.found_late = counter(
            "found_late_episodes_total",
            "Episodes in windows that ended more than a day before they were evaluated: not announced",
            ["alertname"],
        )
        self.windows = counter("windows_total", "Windows measured", ["window"])
        self.statistics = {name: gauge(name, text, SUBJECT) for name, text in STATISTICS.items()}
        self.relation = gauge(
            "relation_change",
            "Largest change of a correlation, an association or a segment's mean (in standard deviations)",
            ["model", "window", "kind"],
        )
        self.relation_limit = gauge(
            "relation_limit", "Limit from which that change becomes an alert", ["model", "window", "kind", "severity"]
        )
        self.limit = gauge("limit", "Limit from which an effect becomes an alert", [*SUBJECT, "severity"])
        self.window_events = gauge("window_events", "Events in the last window", ["model", "window"])
        self.window_effective = gauge(
            "window_effective_events", "Least number of independent events that they count as", ["model", "window"]
        )
        self.window_judged = gauge(
            "window_judged_seconds",
            "How much event time the last window was judged over: more than its length where it has too few events",
            ["model", "window"],
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
        self.unwatched = gauge(
            "unwatched", "1 for a feature whose reference has too few values to watch it", ["model", "feature"]
        )
        self.reference_info = gauge("reference_info", "The reference", ["model", "version", "sha256", "rows"])
        self.lag_records = gauge("lag_records", "Last stable offset minus position", ["topic", "partition"])
        self.blocked_records = gauge(
            "blocked_records",
            "High watermark minus last stable offset: behind an open transaction",
            ["topic", "partition"],
        )
        self.blocked_seconds = gauge(
            "blocked_seconds", "For how long that transaction has been open, at least", ["topic", "partition"]
        )
        self.offset_moved = gauge(
            "offset_moved_records",
            "Records that are counted again or left out because the offset was moved before the start",
            ["topic", "partition", "effect"],
        )
        self.assigned_partitions = gauge("assigned_partitions", "Partitions assigned to this process", ["stage"])
        self.partition_state = gauge(
            "partition_state", "1 for the state a partition is in", ["topic", "partition", "state"]
        )
        self.rebalances = counter("rebalances_total", "Assignments received", ["stage"])
        self.transactions = counter("transactions_total", "Transactions by outcome", ["stage", "outcome"])
        self.torn_records = counter(
            "torn_records_total",
            "Records processed again because a broker took back the end of their transaction",
            ["stage"],
        )
        self.rebuilds = counter("producer_rebuilds_total", "Producers closed and replaced", ["stage", "cause"])
        self.last_progress = KnownGauge(
            PREFIX + "last_progress_timestamp_seconds", "When counts or windows were last committed", registry
        )
        self.loop_lag = gauge("loop_lag_seconds", "Delay of the event loop")
        self.model_info = Gauge(
            "driftline_model_info",
            "The model that is served, or whose reference is used",
            ["name", "version", "sha256", "form"],
            registry=registry,
        )
        self.model_age = Gauge("driftline_model_age_seconds", "Time since the bundle was made", registry=registry)
        AskedGauge(
            "driftline_kafka_token_age_seconds", "Time since the token for Kafka was made", registry, oauth.age_s
        )
        AskedGauge("driftline_kafka_token_left_seconds", "Time until that token expires", registry, oauth.left_s)
        self._of_models(registry)
        self._from_zero(tuple(topics), tuple(internal), tuple(windows))

    def _of_models(self, registry: CollectorRegistry) -> None:
        """Make the series of the business level. status: final (once, after the horizon) or provisional."""

        def gauge(name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
            return Gauge(MODEL_PREFIX + name, text, [*COHORT, *labels], registry=registry)

        self.realised = {metric: gauge(name, text) for metric, (name, text) in REALISED.items()}
        self.estimated = {metric: gauge(name, text) for metric, (name, text) in ESTIMATED.items()}
        self.label_coverage = gauge("label_coverage_ratio", "Known outcomes over predictions", ["outcome"])
        self.business_value = gauge("business_value", "Money of the outcomes that are known", ["currency"])
        self.cohort_end = gauge("cohort_end_timestamp_seconds", "End of the cohort that the other series are of")
        self.labels = Counter(MODEL_PREFIX + "labels_total", "Labels that were read", registry=registry)
        self.refused_labels = Counter(
            MODEL_PREFIX + "refused_labels_total",
            "Records on the labels' topic that are not labels",
            ["reason"],
            registry=registry,
        )
        self.cohorts = Counter(MODEL_PREFIX + "cohorts_total", "Cohorts that became final", registry=registry)
        for reason in LabelReason:
            self.refused_labels.labels(reason.value)

    def forget_cohorts(self) -> None:
        """Remove the series of cohorts: the next ones may be of other versions and other cohorts."""
        for gauge in (
            *self.realised.values(),
            *self.estimated.values(),
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
        for name in (n for n in AlertName if n is not AlertName.PERFORMANCE_DROP):
            self.found_late.labels(name.value)
        for status, severity in product(("firing", "resolved"), Severity):
            self.alerts.labels(status, severity.value)
        for stage in STAGES:
            self.rebalances.labels(stage)
            self.torn_records.labels(stage)
            self.assigned_partitions.labels(stage)
            for outcome in OUTCOMES:
                self.transactions.labels(stage, outcome)
            for cause in REBUILD_CAUSES:
                self.rebuilds.labels(stage, cause)
        for topic in internal:
            self.unreadable.labels(topic)
        for window in windows:
            self.windows.labels(window)

    def forget_drift(self) -> None:
        """Remove the series of drift: another process evaluates, and the last values are out of date."""
        for gauge in (
            *self.statistics.values(),
            self.limit,
            self.relation,
            self.relation_limit,
            self.window_events,
            self.window_effective,
            self.window_complete,
            self.window_judged,
            self.state,
            self.watermark_lag,
        ):
            gauge.clear()
        self.forget_cohorts()
