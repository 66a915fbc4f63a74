"""Parts of a process that end while the rest goes on: a gauge, a word in /health, and no part that is not there."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import TopicAuthorizationFailedError
from prometheus_client import CollectorRegistry
from support import bundles
from support.measured import feature, measurement
from support.waiting import wait_until

from drift_worker.counts.wire_format import OTHER_MODEL
from drift_worker.endpoints import _said_late
from drift_worker.metrics import DriftMetrics
from drift_worker.reference import load
from drift_worker.service import DriftWorker
from drift_worker.session import OTHER_MODEL_S, Session
from drift_worker.settings import DriftSettings
from drift_worker.stages.evaluate_cohorts import CohortEvaluator
from drift_worker.telemetry import Counted, DriftTelemetry, Evaluated
from kafka_runtime.partition_telemetry import OffsetMove
from kafka_runtime.service.metrics import PartsGauge, described
from schemas.measurement import Relations, Sample


@pytest.fixture
def bundle(tmp_path):
    """A bundle of 60 rows."""
    bundles.write(tmp_path, bundles.fitted())
    return tmp_path


def _session(bundle, **settings):
    registry = CollectorRegistry()
    metrics = DriftMetrics(registry, ["customer-events", "predictions"])
    telemetry = DriftTelemetry(metrics)
    session = Session(DriftSettings(scorer_model=bundle, **settings), load(bundle, None), metrics, telemetry)
    metrics.parts.source = session.parts
    return registry, session


def test_a_part_is_one_zero_or_absent():
    """A part without a reason works; a part that the process does not have has no series."""
    registry = CollectorRegistry()
    gauge = PartsGauge("part_up", "Parts", ["a", "b", "c"], registry)
    assert [family.samples for family in registry.collect()] == [[]]
    parts = {"a": None, "b": "RuntimeError: no"}
    gauge.source = lambda: parts
    assert [registry.get_sample_value("part_up", {"part": part}) for part in "abc"] == [1.0, 0.0, None]
    assert described(parts) == {
        "parts": {"a": {"up": True, "reason": None}, "b": {"up": False, "reason": "RuntimeError: no"}},
        "degraded": ["b"],
    }


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OverflowError("a time beyond\n64 bits"), "OverflowError: a time beyond 64 bits"),
        (TopicAuthorizationFailedError("driftline-label-state"), "TopicAuthorizationFailedError"),
    ],
)
def test_a_business_level_that_has_ended_or_cannot_read_is_down(bundle, error, reason):
    """A defect ends it, a refusal keeps it from reading: both are seen in the gauge and in /health."""
    registry, session = _session(bundle)

    @asynccontextmanager
    async def reader():
        raise error
        yield

    async def run():
        levels = session.levels
        levels.cohorts = CohortEvaluator(
            session._cohort_evaluator()._config,
            session._report,
            session._cohort_evaluator()._names,
            min_customers=10,
            runbook_url="docs/runbook.md",
            max_future_skew_ms=300_000,
            reader=reader,
        )
        levels.cohorts.start()
        await asyncio.to_thread(wait_until, lambda: session.parts()["performance"], "the level is down")
        levels.cohorts.stop()

    asyncio.run(asyncio.wait_for(run(), 30.0))
    assert reason in session.parts()["performance"]
    assert registry.get_sample_value("driftline_drift_part_up", {"part": "performance"}) == 0.0
    assert "performance" in described(session.parts())["degraded"]


def test_a_worker_that_only_reads_another_models_predictions_is_not_ready(bundle, monkeypatch):
    """For a minute it waits for the scorer; one prediction of its model ends it."""
    now = [1000.0]
    monkeypatch.setattr("drift_worker.telemetry.time.monotonic", lambda: now[0])
    registry, session = _session(bundle)
    report, predictions = session._report, TopicPartition("predictions", 0)
    report.deltas_committed(predictions, Counted(10, 0, {OTHER_MODEL: 10}, 0, 0))
    report.deltas_committed(TopicPartition("customer-events", 0), Counted(10, 10, {}, 0, 0))
    now[0] += OTHER_MODEL_S
    assert "other_model" not in session.not_ready()
    now[0] += 1.0
    assert "other_model" in session.not_ready()
    assert registry.get_sample_value("driftline_drift_part_up", {"part": "scores"}) == 0.0
    assert session.parts()["scores"] == "no prediction is of churn-small 1.4.0"
    report.deltas_committed(predictions, Counted(10, 1, {OTHER_MODEL: 9}, 0, 0))
    assert "other_model" not in session.not_ready()
    assert registry.get_sample_value("driftline_drift_part_up", {"part": "scores"}) == 1.0


def test_features_with_too_few_reference_values_are_named(bundle):
    """60 rows, DRIFT_MIN_EVENTS=55: three features have fewer values, and /health names them and what would help."""
    worker = DriftWorker(DriftSettings(scorer_model=bundle, drift_min_events=55), "1")
    found = worker.endpoints.health()["not_watched"]
    assert found["features"] == {"total_charges": 51, "payment": 48, "partner": 54}
    assert "total_charges (51 values), payment (48 values), partner (54 values)" in found["reason"]
    assert "more customers in the reference" in found["reason"]
    nothing = DriftWorker(DriftSettings(scorer_model=bundle, drift_min_events=48), "1").endpoints.health()[
        "not_watched"
    ]
    assert nothing == {"features": {}, "reason": None}


def test_features_that_are_not_watched_have_a_series(bundle):
    """One for each of them, as long as this reference is in use."""
    registry, session = _session(bundle, drift_min_events=52)
    until = asyncio.Event()
    until.set()
    asyncio.run(session.run(until))
    labels = [
        s.labels["feature"] for f in registry.collect() for s in f.samples if s.name == "driftline_drift_unwatched"
    ]
    assert labels == ["total_charges", "payment"]


@pytest.mark.parametrize(
    ("checkpoint", "committed", "found"),
    [
        (None, 7, None),
        (50, 40, OffsetMove(40, 50)),
        (50, 50, OffsetMove(50, 50)),
        (50, 65, OffsetMove(65, 50, left_out=15)),
    ],
)
def test_the_evaluators_offset_is_compared_with_its_checkpoint(bundle, monkeypatch, checkpoint, committed, found):
    """Forward: counts are in no window. Back: they are known by their offsets. Without a checkpoint: unknown."""
    _, session = _session(bundle)
    session.evaluating.decided_to = checkpoint
    asked = []

    class Panes:
        async def count(self, source, start, end, most):
            asked.append((source, start, end, most))
            return end - start

    @asynccontextmanager
    async def reader(_settings):
        yield Panes()

    monkeypatch.setattr("drift_worker.session.reader", reader)
    panes = TopicPartition("drift-panes", 0)
    assert asyncio.run(session._decided(panes, committed)) == found
    assert asked == ([(panes, 50, 65, 10_000)] if committed == 65 else [])


def test_episodes_that_are_not_announced_are_in_health_and_on_the_page(bundle):
    """How many, of what, when, and where to look; nothing where nothing was found."""
    worker = DriftWorker(DriftSettings(scorer_model=bundle), "1")
    assert worker.endpoints.health()["found_late"] is None
    late = {"windows": 1200, "episodes": {"FeatureDrift": 9}, "from": "F", "to": "T", "look": "driftline backtest"}
    worker._session.evaluating.found_late = late
    assert worker.endpoints.health()["found_late"] == late
    sentence = "9 FeatureDrift, in 1,200 windows from F to T that were measured more than a day after their end."
    assert _said_late(late) == f"Found late and not announced: {sentence} driftline backtest lists them."
    assert _said_late({**late, "episodes": {}}) is None
    assert _said_late(None) is None


def test_series_are_those_of_the_newest_window_of_each_length_in_a_transaction():
    """A backlog closes fifty at once. A score that is still pending leaves the one before it."""
    registry = CollectorRegistry()
    telemetry = DriftTelemetry(DriftMetrics(registry, ["events"], windows=["15m", "1h"]))
    pending = feature(None, "not_enough_data", kind="score", reason="pending")
    windows = [
        measurement(0, features={"tenure": feature(0.5), "gone": feature(0.4)}, sample=Sample(1, 0, 0)),
        measurement(0, "1h", features={"tenure": feature(0.7)}, sample=Sample(9, 0, 0)),
        measurement(
            1,
            features={"tenure": feature(None)},
            sample=Sample(2, 0, 0),
            score=pending,
            relations=Relations(largest={"segment": 0.3}),
        ),
        measurement(2, features={}),
    ]
    telemetry.windows_committed(Evaluated(windows, [], {}, 0, {}, 0, ""))

    def value(name, **labels):
        return registry.get_sample_value(f"driftline_drift_{name}", {"model": "churn-telco", **labels})

    assert registry.get_sample_value("driftline_drift_windows_total", {"window": "15m"}) == 3
    assert [value("window_events", window=length) for length in ("15m", "1h")] == [2, 9]
    assert value("effect", feature="tenure", window="15m") is None, "the newest is unknown"
    assert value("effect", feature="gone", window="15m") == 0.4
    assert value("effect", feature="tenure", window="1h") == 0.7
    assert value("effect", feature="score", window="15m") == 0.03
    assert value("relation_change", kind="segment", window="15m") == 0.3
    assert value("relation_limit", kind="segment", severity="critical", window="15m") == 1.0
    assert value("relation_change", kind="correlation", window="15m") is None
    assert value("relation_limit", kind="correlation", severity="warning", window="15m") is None


def test_a_reference_that_is_not_followed_any_more_is_down(bundle, monkeypatch):
    """A defect ends the following; the session goes on, and says so."""
    worker = DriftWorker(DriftSettings(scorer_model=bundle, scorer_model_poll="100ms"), "1")

    def defect(_used):
        raise RuntimeError("a defect\nof two lines")

    monkeypatch.setattr(worker._follower, "look", defect)

    async def run():
        following = asyncio.create_task(worker._follow())
        await asyncio.to_thread(wait_until, lambda: worker.parts()["reference"], "the part is down")
        following.cancel()

    asyncio.run(asyncio.wait_for(run(), 60.0))
    health = worker.endpoints.health()
    assert health["parts"]["reference"] == {"up": False, "reason": "RuntimeError: a defect of two lines"}
    assert "reference" in health["degraded"]
    assert worker._registry.get_sample_value("driftline_drift_part_up", {"part": "reference"}) == 0.0


def test_labels_that_cannot_be_read_are_a_part_that_is_down(bundle):
    """Before the first label there is no such part; an error that keeps it from being found is one."""
    registry, session = _session(bundle)
    assert "labels" not in session.parts()
    session._report.labels_unread("labels", TopicAuthorizationFailedError("labels"))
    assert "TopicAuthorizationFailedError" in session.parts()["labels"]
    assert registry.get_sample_value("driftline_drift_part_up", {"part": "labels"}) == 0.0
    session._report.labels_read("labels")
    assert "labels" not in session.parts()


def test_a_stage_that_ends_by_a_defect_ends_the_process(bundle, monkeypatch):
    """Counting, evaluating and labels have no life without each other: exit code 1, and a restart."""
    _, session = _session(bundle)

    async def defect(_until):
        raise RuntimeError("a defect")

    async def forever(until):
        await until.wait()

    monkeypatch.setattr(session._counter, "run", forever)
    monkeypatch.setattr(session._evaluator, "run", defect)
    monkeypatch.setattr(session, "_join", forever)
    with pytest.raises(ExceptionGroup) as raised:
        asyncio.run(asyncio.wait_for(session.run(asyncio.Event()), 60.0))
    assert [repr(error) for error in raised.value.exceptions] == ["RuntimeError('a defect')"]
