"""What is exported before anything happened, and what is not: counters are 0, what is not known is absent."""

import time

from aiokafka import TopicPartition
from prometheus_client import CollectorRegistry, generate_latest
from support import bundles
from support.events import NOW_MS, raw, record

from drift_worker.metrics import DriftMetrics
from drift_worker.telemetry import DriftTelemetry
from kafka_runtime.partition_telemetry import PartitionTelemetry
from kafka_runtime.processor import State
from schemas.measurement import FeatureMeasurement, Measurement, Sample, Window
from schemas.validation import Rules
from scorer.metrics import ScorerMetrics
from scorer.model import load
from scorer.pipeline import Pipeline
from scorer.telemetry import ScorerTelemetry

SOURCE = TopicPartition("events", 3)


def _samples(registry):
    """Every exported sample as text → value, without those of the process."""
    lines = generate_latest(registry).decode().splitlines()
    found = dict(line.rsplit(" ", 1) for line in lines if line.startswith("driftline_"))
    return {name: float(value) for name, value in found.items() if "_created" not in name}


def _drift():
    registry = CollectorRegistry()
    metrics = DriftMetrics(registry, ["events", "predictions"], internal=["panes", "measurements"], windows=["1h"])
    return registry, metrics


def test_a_scorers_counters_exist_from_the_start_at_0():
    """Every label value of a closed set: an increase from nothing to 1 would else be no increase for Prometheus."""
    registry = CollectorRegistry()
    ScorerMetrics(registry)
    samples = _samples(registry)
    assert set(samples.values()) == {0.0}
    for sample in (
        'driftline_scorer_records_total{outcome="dead_lettered"}',
        'driftline_scorer_dead_letters_total{reason="model_error"}',
        'driftline_scorer_transactions_total{outcome="fenced"}',
        'driftline_scorer_producer_rebuilds_total{cause="rebuild"}',
        'driftline_scorer_model_reloads_total{outcome="refused"}',
        'driftline_scorer_predictions_total{predicted="true"}',
        'driftline_scorer_event_age_seconds_bucket{le="2.0",timestamp_type="append"}',
    ):
        assert sample in samples


def test_a_drift_workers_counters_exist_from_the_start_at_0():
    """Topics, windows, stages and causes are known then."""
    samples = _samples(_drift()[0])
    assert set(samples.values()) == {0.0}
    for sample in (
        'driftline_drift_unreadable_records_total{topic="panes"}',
        'driftline_drift_windows_total{window="1h"}',
        'driftline_drift_producer_rebuilds_total{cause="fenced",stage="evaluating"}',
        'driftline_drift_assigned_partitions{stage="evaluating"}',
        'driftline_drift_alerts_total{severity="critical",status="firing"}',
    ):
        assert sample in samples


def test_what_is_not_known_yet_is_absent():
    """No progress is not progress in 1970; no lag is not a lag of 0."""
    registry = CollectorRegistry()
    ScorerMetrics(registry)
    names = {*_samples(registry), *_samples(_drift()[0])}
    for unknown in ("last_progress", "lag_", "watermark", "psi", "limit", "state{", "window_"):
        assert not [name for name in names if name.split("_", 2)[2].startswith(unknown)], unknown


def test_progress_is_exported_once_there_is_some():
    """In seconds since the epoch."""
    registry, metrics = _drift()
    metrics.last_progress.set(1_795_327_200.0)
    assert _samples(registry)["driftline_drift_last_progress_timestamp_seconds"] == 1_795_327_200.0


def test_a_partitions_series_go_with_the_partition():
    """Of both services: who exports on what another process owns now would be believed."""
    scorer, (drift, metrics) = CollectorRegistry(), _drift()
    for registry, telemetry in (
        (scorer, ScorerTelemetry(ScorerMetrics(scorer))),
        (drift, PartitionTelemetry(metrics, "counting")),
    ):
        telemetry.state(SOURCE, State.RUNNING, "")
        telemetry.lag(SOURCE, 7, 1_000)
        of_partition = {name for name in _samples(registry) if 'partition="3"' in name}
        assert len(of_partition) >= 1 + len(State)
        telemetry.state(SOURCE, State.DRAINED, "")
        assert not [name for name in _samples(registry) if 'partition="3"' in name]


def test_a_statistic_that_is_not_known_any_more_goes():
    """And the limits are those that the window was judged by."""
    registry, metrics = _drift()
    report = DriftTelemetry(metrics)

    def window(**numbers):
        feature = FeatureMeasurement(
            kind="numeric", events=900, effective=800.0, effect_warning=0.15, effect_critical=0.3, **numbers
        )
        span = Window("1h", "2026-11-22T05:00:00.000Z", "2026-11-22T06:00:00.000Z")
        return Measurement(
            model="churn",
            model_version="1.0.0",
            reference_sha256="ab12",
            window=span,
            complete=True,
            missing_partitions=[],
            sample=Sample(events=900, late=0, refused=0),
            features={"tenure": feature},
        )

    report._measured([window(psi=0.3, null_999=0.02)])
    labels = 'feature="tenure",model="churn"'
    samples = _samples(registry)
    assert samples[f'driftline_drift_psi{{{labels},window="1h"}}'] == 0.3
    assert samples[f'driftline_drift_null_999{{{labels},window="1h"}}'] == 0.02
    assert samples[f'driftline_drift_limit{{{labels},severity="warning",window="1h"}}'] == 0.15
    assert f'driftline_drift_ks{{{labels},window="1h"}}' not in samples
    report._measured([window()])
    assert f'driftline_drift_psi{{{labels},window="1h"}}' not in _samples(registry)


def test_a_record_without_a_kafka_timestamp_has_no_age(tmp_path):
    """Count the ages of the others only: -1 is no moment in 1969."""
    bundles.write(tmp_path / "model")
    registry = CollectorRegistry()
    pipeline = Pipeline(load(tmp_path / "model", None), Rules(), "driftline-scorer", 900_000)
    records = [record(raw(), offset=i, timestamp=at) for i, at in enumerate((NOW_MS, -1))]
    answer = pipeline.answer(records, "events", 3, lambda: NOW_MS, time.monotonic)
    ScorerTelemetry(ScorerMetrics(registry)).answered(records, answer)
    samples = _samples(registry)
    assert samples['driftline_scorer_event_age_seconds_count{timestamp_type="create"}'] == 1.0
    assert samples["driftline_scorer_event_delay_seconds_count"] == 2.0


def test_the_age_of_unread_records_is_unknown_without_a_timestamp():
    """Export no lag in seconds while records wait and no time is known of them; 0 only at the partition's end."""
    registry = CollectorRegistry()
    report = ScorerTelemetry(ScorerMetrics(registry))
    series = 'driftline_scorer_lag_seconds{partition="3",topic="events"}'
    report.lag(SOURCE, 10, None)
    assert series not in _samples(registry)
    report.lag(SOURCE, 10, round(time.time() * 1000) - 60_000)
    assert 59.0 <= _samples(registry)[series] < 120.0
    report.lag(SOURCE, 10, None)
    assert series not in _samples(registry)
    report.lag(SOURCE, 0, None)
    assert _samples(registry)[series] == 0.0


def test_the_values_of_a_regression_are_no_probabilities(tmp_path):
    """Its histogram exists from the moment that it is served; those of binary models stay 0."""
    bundles.write_regression(tmp_path / "model")
    registry = CollectorRegistry()
    report = ScorerTelemetry(ScorerMetrics(registry))
    count = 'driftline_scorer_value_bucket{le="+Inf"}'
    assert count not in _samples(registry)
    model = load(tmp_path / "model", None)
    report.model_loaded(model, first=True)
    assert _samples(registry)[count] == 0.0
    records = [record(raw(), offset=i) for i in range(3)]
    answer = Pipeline(model, Rules(), "g", 900_000).answer(records, "events", 3, lambda: NOW_MS, time.monotonic)
    report.answered(records, answer)
    samples = _samples(registry)
    assert samples[count] == 3.0
    assert samples['driftline_scorer_value_bucket{le="1.0"}'] == 0.0
    assert 1.0 < answer.scores[0] < 1e6
    assert samples["driftline_scorer_probability_count"] == 0.0
    assert samples['driftline_scorer_predictions_total{predicted="false"}'] == 0.0
