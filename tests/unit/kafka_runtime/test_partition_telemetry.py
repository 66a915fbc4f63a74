"""Telemetry of partitions: the same for a service without stages and for one with them."""

import asyncio

import pytest
from aiokafka.errors import KafkaError
from prometheus_client import CollectorRegistry

from drift_worker.metrics import DriftMetrics
from kafka_runtime.kafka_types import TopicPartition
from kafka_runtime.partition_telemetry import OffsetComparisons, OffsetMove, PartitionTelemetry
from kafka_runtime.processor import State
from scorer.metrics import ScorerMetrics

EVENTS, OTHER = TopicPartition("events", 3), TopicPartition("predictions", 0)
PLACE = {"topic": "events", "partition": "3"}


def _scorer():
    registry = CollectorRegistry()
    return registry, PartitionTelemetry(ScorerMetrics(registry)), "driftline_scorer_", {}


def _stage(**options):
    registry = CollectorRegistry()
    metrics = DriftMetrics(registry, ["events"])
    return registry, PartitionTelemetry(metrics, "counting", **options), "driftline_drift_", {"stage": "counting"}


@pytest.mark.parametrize("make", [_scorer, _stage])
def test_a_stage_is_a_label_where_there_are_several(make):
    """Assignments, transactions and rebuilt producers."""
    registry, telemetry, prefix, stage = make()
    telemetry.assigned([EVENTS, OTHER])
    telemetry.transaction(EVENTS, "fenced", 0.1, 0.2)
    telemetry.producer_rebuilt(EVENTS, "fenced", RuntimeError("x"), None)
    assert registry.get_sample_value(f"{prefix}assigned_partitions", stage) == 2
    assert registry.get_sample_value(f"{prefix}transactions_total", {**stage, "outcome": "fenced"}) == 1
    assert registry.get_sample_value(f"{prefix}producer_rebuilds_total", {**stage, "cause": "fenced"}) == 1
    telemetry.revoked([EVENTS, OTHER])
    assert registry.get_sample_value(f"{prefix}assigned_partitions", stage) == 0
    assert registry.get_sample_value(f"{prefix}rebalances_total", stage) == 1


@pytest.mark.parametrize("make", [_scorer, _stage])
def test_series_of_a_partition_go_when_it_is_drained(make):
    """Another process serves it then, and a value that stays would be added to that one's."""
    registry, telemetry, prefix, _ = make()
    telemetry.state(EVENTS, State.RUNNING, "")
    telemetry.lag(EVENTS, 7, 1000)
    telemetry.blocked(EVENTS, 5, 2.0)
    assert registry.get_sample_value(f"{prefix}partition_state", {**PLACE, "state": "running"}) == 1
    assert registry.get_sample_value(f"{prefix}partition_state", {**PLACE, "state": "fencing"}) == 0
    assert registry.get_sample_value(f"{prefix}lag_records", PLACE) == 7
    assert telemetry.lags == {EVENTS: 7}
    telemetry.state(EVENTS, State.DRAINED, "")
    left = [s for family in registry.collect() for s in family.samples if s.labels.get("partition") == "3"]
    assert (left, telemetry.lags) == ([], {})


def test_a_topic_of_another_stage_has_no_series_here():
    """Two stages read the predictions: one of them exports their lag."""
    registry, telemetry, _, _ = _stage(not_of="events")
    telemetry.state(EVENTS, State.RUNNING, "")
    telemetry.lag(EVENTS, 7, None)
    telemetry.blocked(EVENTS, 5, 2.0)
    telemetry.state(EVENTS, State.DRAINED, "")
    assert [s for family in registry.collect() for s in family.samples if s.labels.get("topic") == "events"
            and "partition" in s.labels] == []  # fmt: skip
    telemetry.lag(EVENTS, 9, None)
    assert telemetry.lags == {EVENTS: 9}


@pytest.mark.parametrize(
    ("found", "shown"),
    [
        (OffsetMove(30, 50, again=20), (20, 0)),
        (OffsetMove(50, 50), (0, 0)),
        (None, (None, None)),
        (KafkaError("away"), (None, None)),
        (RuntimeError("a defect"), (None, None)),
    ],
)
@pytest.mark.parametrize("make", [_scorer, _stage])
def test_a_moved_offset_is_compared_once_and_is_absent_where_it_is_unknown(make, found, shown):
    """The comparison runs beside the batches; neither an error nor a defect in it ends the partition."""
    registry, telemetry, prefix, _ = make()
    calls = []

    async def compare(source, committed):
        calls.append((source, committed))
        if isinstance(found, Exception):
            raise found
        return found

    async def run():
        moves = OffsetComparisons(compare, telemetry._series.offset_moved)
        moves.start(EVENTS, 30)
        moves.start(EVENTS, 31)
        await asyncio.gather(*moves._comparing.values())

    asyncio.run(run())
    names = ({**PLACE, "effect": effect} for effect in ("again", "left_out"))
    assert tuple(registry.get_sample_value(f"{prefix}offset_moved_records", labels) for labels in names) == shown
    assert calls == [(EVENTS, 30)]
    telemetry.state(EVENTS, State.DRAINED, "")
    left = [s for family in registry.collect() for s in family.samples if "effect" in s.labels]
    assert left == []


def test_a_comparison_ends_with_its_partition():
    """A partition that was revoked is another process's, and so is what would be reported of it."""
    registry, telemetry, prefix, _ = _scorer()

    async def run():
        never = asyncio.Event()

        async def compare(_source, _committed):
            await never.wait()

        moves = OffsetComparisons(compare, telemetry._series.offset_moved)
        moves.start(EVENTS, 30)
        (task,) = moves._comparing.values()
        moves.cancel(EVENTS)
        await asyncio.wait([task], timeout=30)
        assert task.cancelled()

    asyncio.run(run())
    assert registry.get_sample_value(f"{prefix}offset_moved_records", {**PLACE, "effect": "again"}) is None
