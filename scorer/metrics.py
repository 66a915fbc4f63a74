"""The scorer's metrics, in one class that takes a registry. Updated per batch, never per record."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import HistogramMetricFamily, Metric
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from schemas.verdict import Reason
from scorer.handover import DROPPED, FALLBACKS
from streaming.metrics import KnownGauge

PREFIX = "driftline_scorer_"
STAGES = ("decode", "columns", "predict", "encode", "produce", "commit")
OUTCOMES = ("committed", "aborted", "fenced", "unknown")
REBUILD_CAUSES = ("fenced", "rebuild", "lost", "no_offset")
# 2.0 is the objective: 99 % of events predicted within 2 s of their Kafka timestamp
AGE_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)
STAGE_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
BATCH_BUCKETS = (1, 5, 10, 50, 100, 500, 1000, 2000, 5000, 10_000)


class BatchHistogram(Collector):
    """A histogram that takes a whole array at once: prometheus_client's own costs a microsecond per observation."""

    def __init__(
        self, name: str, text: str, buckets: Sequence[float], label: str | None, registry: CollectorRegistry
    ) -> None:
        self._name, self._text, self._label = name, text, label
        self._edges = np.array(buckets, dtype=np.float64)
        self._counts: dict[str, NDArray[np.int64]] = {}
        self._sums: dict[str, float] = {}
        self._lock = threading.Lock()
        registry.register(self)

    def expect(self, label_values: Iterable[str]) -> None:
        """Export these label values from the start, at 0."""
        for value in label_values:
            self.observe(np.empty(0), value)

    def observe(self, values: NDArray[np.float64], label_value: str = "") -> None:
        """Count every value; a bucket holds what is at most its edge."""
        counts = np.bincount(np.searchsorted(self._edges, values, side="left"), minlength=len(self._edges) + 1)
        with self._lock:
            self._counts[label_value] = self._counts.get(label_value, 0) + counts
            self._sums[label_value] = self._sums.get(label_value, 0.0) + float(values.sum())

    def collect(self) -> Iterator[Metric]:
        """One family with one set of buckets per label value."""
        family = HistogramMetricFamily(self._name, self._text, labels=[self._label] if self._label else [])
        with self._lock:
            for value, counts in self._counts.items():
                names = [*map(str, self._edges.tolist()), "+Inf"]
                buckets = list(zip(names, np.cumsum(counts).astype(float).tolist(), strict=True))
                family.add_metric([value] if self._label else [], buckets, self._sums[value])
        yield family


class ScorerMetrics:
    """Every series of a scorer. Label values come from closed sets and exist from start at 0."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, labels: Sequence[str] = ()) -> Counter:
            return Counter(PREFIX + name, text, labels, registry=registry)

        def gauge(name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
            return Gauge(PREFIX + name, text, labels, registry=registry)

        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.consumed = counter("consumed_records_total", "Input records whose outcome is committed")
        self.records = counter("records_total", "Committed outcomes", ["outcome"])
        self.dead_letters = counter("dead_letters_total", "Records refused, by reason", ["reason"])
        self.unknown_fields = counter("unknown_fields_total", "Fields of accepted events that the model does not know")
        self.key_mismatches = counter("key_mismatches_total", "Accepted records whose key differs from customer_id")
        self.spoofed_headers = counter("spoofed_headers_total", "Incoming driftline-* headers that were dropped")
        self.unseen = counter("unseen_categories_total", "Values outside the training categories", ["feature"])
        self.batch_records = Histogram(
            PREFIX + "batch_records", "Records per batch", buckets=BATCH_BUCKETS, registry=registry
        )
        self.stage_seconds = Histogram(
            PREFIX + "stage_seconds", "Time per batch and stage", ["stage"], buckets=STAGE_BUCKETS_S, registry=registry
        )
        self.event_age = BatchHistogram(
            PREFIX + "event_age_seconds",
            "Commit of the outcome minus the record's Kafka timestamp: what users feel",
            AGE_BUCKETS_S,
            "timestamp_type",
            registry,
        )
        self.event_delay = BatchHistogram(
            PREFIX + "event_delay_seconds",
            "Commit of the outcome minus the event's own time",
            AGE_BUCKETS_S,
            None,
            registry,
        )
        self.lag_records = gauge("lag_records", "Last stable offset minus position", ["topic", "partition"])
        self.lag_seconds = gauge("lag_seconds", "Age of the last record read, 0 at the end", ["topic", "partition"])
        self.assigned_partitions = gauge("assigned_partitions", "Partitions the group gave this process")
        self.partition_state = gauge(
            "partition_state", "1 for the state a partition is in", ["topic", "partition", "state"]
        )
        self.rebalances = counter("rebalances_total", "Assignments received")
        self.transactions = counter("transactions_total", "Transactions by how they ended", ["outcome"])
        self.rebuilds = counter("producer_rebuilds_total", "Producers thrown away and made anew", ["cause"])
        self.last_progress = KnownGauge(
            PREFIX + "last_progress_timestamp_seconds", "When an outcome was last committed", registry
        )
        self.loop_lag = gauge("loop_lag_seconds", "How late the event loop came round")
        self.in_flight = gauge("in_flight_records", "Records read and not committed yet")
        self.predictions = counter("predictions_total", "Predictions by label", ["predicted"])
        self.probability = BatchHistogram(
            PREFIX + "probability",
            "Predicted probability of the positive class",
            tuple(round(0.05 * i, 2) for i in range(1, 21)),
            None,
            registry,
        )
        self.model_reloads = counter("model_reloads_total", "Bundles tried after the first", ["outcome"])
        self.model_info = Gauge(
            "driftline_model_info",
            "The model that is served, or whose reference is used",
            ["name", "version", "sha256", "form"],
            registry=registry,
        )
        self.challenger_info = gauge(
            "challenger_info", "The challenger that scores beside the model", ["name", "version", "sha256", "form"]
        )
        self.shadow_produced = counter("shadow_produced_total", "Shadow predictions that the broker has acknowledged")
        self.shadow_dropped = counter("shadow_dropped_total", "Answered events without a shadow prediction", ["reason"])
        self.challenger_predictions = counter("challenger_predictions_total", "Predictions that are the challenger's")
        self.challenger_fallbacks = counter(
            "challenger_fallbacks_total", "Predictions that are the champion's for want of the challenger's", ["reason"]
        )
        self.model_age = Gauge("driftline_model_age_seconds", "Time since the bundle was made", registry=registry)
        self._from_zero()

    def expect_categories(self, features: Iterable[str]) -> None:
        """Export a model's categorical features from the moment it is served, at 0."""
        for feature in features:
            self.unseen.labels(feature)

    def _from_zero(self) -> None:
        for outcome in ("predicted", "dead_lettered"):
            self.records.labels(outcome)
        for refusal in Reason:
            self.dead_letters.labels(refusal.value)
        for stage in STAGES:
            self.stage_seconds.labels(stage)
        for outcome in OUTCOMES:
            self.transactions.labels(outcome)
        for predicted in ("true", "false"):
            self.predictions.labels(predicted)
        for outcome in ("loaded", "refused"):
            self.model_reloads.labels(outcome)
        for reason in DROPPED:
            self.shadow_dropped.labels(reason)
        for reason in FALLBACKS:
            self.challenger_fallbacks.labels(reason)
        for cause in REBUILD_CAUSES:
            self.rebuilds.labels(cause)
        self.event_age.expect(("create", "append"))
        self.event_delay.expect([""])
        self.probability.expect([""])
