"""The scorer's metrics, in one class that takes a registry. Updated per batch, never per record."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import HistogramMetricFamily, Metric
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from kafka_runtime.login import oauth
from kafka_runtime.service.metrics import AskedGauge, KnownGauge, PartsGauge
from schemas.rejection_reasons import Reason
from schemas.validation import Ignored
from scorer.challenger.protocol import DROPPED, FALLBACKS

PREFIX = "driftline_scorer_"
STAGES = ("decode", "columns", "predict", "encode", "produce", "commit")
PARTS = ("scoring", "reload", "challenger")
OUTCOMES = ("committed", "aborted", "fenced", "unknown")
REBUILD_CAUSES = ("fenced", "rebuild", "lost", "no_offset")
# 2.0 is the objective: 99 % of events predicted within 2 s of their Kafka timestamp
AGE_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)
STAGE_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
# In any unit, so that they span the usual magnitudes. Prometheus takes negative edges.
VALUE_BUCKETS = (
    *(-(10.0**i) for i in range(6, -1, -1)),
    *(0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 1e4, 1e5, 1e6),
)
BATCH_BUCKETS = (1, 5, 10, 50, 100, 500, 1000, 2000, 5000, 10_000)


class BatchHistogram(Collector):
    """A histogram that takes a whole array at once: prometheus_client's own costs a microsecond per observation."""

    def __init__(
        self, name: str, text: str, buckets: Sequence[float], label: str | None, registry: CollectorRegistry
    ) -> None:
        self._name, self._text, self._label = name, text, label
        self._edges = np.array(buckets, dtype=np.float64)
        self._counts: dict[str, NDArray[np.int64]] = {}
        self._exemplars: dict[tuple[str, int], Exemplar] = {}  # by label value and bucket
        self._sums: dict[str, float] = {}
        self._lock = threading.Lock()
        registry.register(self)

    def expect(self, label_values: Iterable[str]) -> None:
        """Export these label values from the start, at 0."""
        for value in label_values:
            self.observe(np.empty(0), value)

    def observe(
        self, values: NDArray[np.float64], label_value: str = "", traced: Sequence[tuple[float, str]] = ()
    ) -> None:
        """Count every value; a bucket holds values up to and including its edge.

        traced: some of the values with the trace ids of their events; a bucket shows the newest as its exemplar.
        """
        counts = np.bincount(np.searchsorted(self._edges, values, side="left"), minlength=len(self._edges) + 1)
        with self._lock:
            self._counts[label_value] = self._counts.get(label_value, 0) + counts
            self._sums[label_value] = self._sums.get(label_value, 0.0) + float(values.sum())
            for value, trace_id in traced:
                bucket = int(np.searchsorted(self._edges, value, side="left"))
                self._exemplars[label_value, bucket] = Exemplar({"trace_id": trace_id}, value, time.time())

    def collect(self) -> Iterator[Metric]:
        """Yield one family with one set of buckets per label value."""
        family = HistogramMetricFamily(self._name, self._text, labels=[self._label] if self._label else [])
        with self._lock:
            for value, counts in self._counts.items():
                names = [*map(str, self._edges.tolist()), "+Inf"]
                totals = zip(names, np.cumsum(counts).astype(float).tolist(), strict=True)
                buckets = [
                    (name, total, example) if (example := self._exemplars.get((value, bucket))) else (name, total)
                    for bucket, (name, total) in enumerate(totals)
                ]
                family.add_metric([value] if self._label else [], buckets, self._sums[value])
        yield family


class ScorerMetrics:
    """All series of a scorer. Label values come from closed sets and exist from the start at 0."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, labels: Sequence[str] = ()) -> Counter:
            return Counter(PREFIX + name, text, labels, registry=registry)

        def gauge(name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
            return Gauge(PREFIX + name, text, labels, registry=registry)

        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.parts = PartsGauge(PREFIX + "part_up", "1 for a part of the process that works", PARTS, registry)
        self.consumed = counter("consumed_records_total", "Input records whose outcome is committed")
        self.records = counter("records_total", "Committed outcomes", ["outcome"])
        self.dead_letters = counter("dead_letters_total", "Records rejected, by reason", ["reason"])
        self.ignored = counter("ignored_records_total", "Records that are no events, by reason", ["reason"])
        self.unknown_fields = counter("unknown_fields_total", "Fields of accepted events that are unknown to the model")
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
            "Records that are answered again or left out because the offset was moved before the start",
            ["topic", "partition", "effect"],
        )
        self.assigned_partitions = gauge("assigned_partitions", "Partitions assigned to this process")
        self.partition_state = gauge(
            "partition_state", "1 for the state a partition is in", ["topic", "partition", "state"]
        )
        self.rebalances = counter("rebalances_total", "Assignments received")
        self.transactions = counter("transactions_total", "Transactions by outcome", ["outcome"])
        self.torn_records = counter(
            "torn_records_total", "Records answered again because a broker took back the end of their transaction"
        )
        self.rebuilds = counter("producer_rebuilds_total", "Producers closed and replaced", ["cause"])
        self.last_progress = KnownGauge(
            PREFIX + "last_progress_timestamp_seconds", "When an outcome was last committed", registry
        )
        self.loop_lag = gauge("loop_lag_seconds", "Delay of the event loop")
        self.in_flight = gauge("in_flight_records", "Records read and not committed yet")
        self.predictions = counter("predictions_total", "Predictions by label", ["predicted"])
        self.probability = BatchHistogram(
            PREFIX + "probability",
            "Predicted probability of the positive class, or of the likeliest of several classes",
            tuple(round(0.05 * i, 2) for i in range(1, 21)),
            None,
            registry,
        )
        self.value = BatchHistogram(
            PREFIX + "value",
            "Predicted value, of a regression only; without sum and count, because values may be negative",
            VALUE_BUCKETS,
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
            "challenger_fallbacks_total", "Predictions by the champion in place of the challenger", ["reason"]
        )
        self.model_age = Gauge("driftline_model_age_seconds", "Time since the bundle was made", registry=registry)
        AskedGauge(
            "driftline_kafka_token_age_seconds", "Time since the token for Kafka was made", registry, oauth.age_s
        )
        AskedGauge("driftline_kafka_token_left_seconds", "Time until that token expires", registry, oauth.left_s)
        self._from_zero()

    def expect_categories(self, features: Iterable[str]) -> None:
        """Export a model's categorical features from the moment it is served, at 0."""
        for feature in features:
            self.unseen.labels(feature)

    def expect_results(self, *, values: bool, classes: Iterable[str]) -> None:
        """Export the values of a regression, or the classes of a model, from the moment it is served, at 0."""
        if values:
            self.value.expect([""])
        for label in classes:
            self.predictions.labels(label)

    def _from_zero(self) -> None:
        for outcome in ("predicted", "dead_lettered", "ignored"):
            self.records.labels(outcome)
        for refusal in Reason:
            self.dead_letters.labels(refusal.value)
        for why in Ignored:
            self.ignored.labels(why.value)
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
