"""What is exported before anything happened, and what is not: counters are 0, what is not known is absent."""

from aiokafka import TopicPartition
from prometheus_client import CollectorRegistry, generate_latest

from drift_worker.metrics import DriftMetrics
from drift_worker.report import Report as DriftReport
from drift_worker.report import StageTelemetry
from schemas.measurement import FeatureMeasurement, Measurement, Sample, Window
from scorer.metrics import ScorerMetrics
from scorer.report import Report
from streaming.work import State

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
        (scorer, Report(ScorerMetrics(scorer))),
        (drift, StageTelemetry(metrics, "counting")),
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
    report = DriftReport(metrics)

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

    report._measured(window(psi=0.3, null_999=0.02))
    labels = 'feature="tenure",model="churn"'
    samples = _samples(registry)
    assert samples[f'driftline_drift_psi{{{labels},window="1h"}}'] == 0.3
    assert samples[f'driftline_drift_null_999{{{labels},window="1h"}}'] == 0.02
    assert samples[f'driftline_drift_limit{{{labels},severity="warning",window="1h"}}'] == 0.15
    assert f'driftline_drift_ks{{{labels},window="1h"}}' not in samples
    report._measured(window())
    assert f'driftline_drift_psi{{{labels},window="1h"}}' not in _samples(registry)
