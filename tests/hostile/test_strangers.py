"""What a stranger who may write to one topic can do to a drift worker that reads it: be refused, and no more."""

import asyncio
from collections.abc import Callable

import bundles
import msgspec
import pytest
from aiokafka import ConsumerRecord, TopicPartition
from prometheus_client import CollectorRegistry

from drift_worker import deltas
from drift_worker.counting import CountingWork
from drift_worker.deltas import Progress
from drift_worker.metrics import DriftMetrics
from drift_worker.reference import load
from drift_worker.report import Report
from schemas.headers import Stamp
from schemas.prediction import ModelRef, PredictionEncoder
from schemas.verdict import Rules

PREDICTIONS = TopicPartition("predictions", 1)
OFFSET_METADATA_BYTES = 4096  # offset.metadata.max.bytes, a broker's default


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """The drift worker's half of a bundle."""
    directory = tmp_path_factory.mktemp("strangers") / "model"
    bundles.write(directory)
    return load(directory, None)


@pytest.fixture
def counting(loaded) -> Callable[[], CountingWork]:
    """Stage 1 over topics of two partitions."""

    async def two(_topic: str) -> int:
        return 2

    return CountingWork(
        loaded,
        Report(DriftMetrics(CollectorRegistry(), ["events", "predictions"])),
        events_topic="events",
        panes_topic="panes",
        rules=Rules(),
        pane_ms=1000,
        idle_timeout_s=5.0,
        partitions_of=two,
        now_ms=lambda: 1_795_327_200_000,
        monotonic=iter(range(0, 10_000_000, 10)).__next__,
    )


def _prediction(offset: int, partition: int, answers: int) -> ConsumerRecord:
    """A prediction that claims to answer an offset of a partition."""
    encoder = PredictionEncoder(ModelRef("churn-small", "1.4.0"), 0.5)
    (value,) = encoder.encode(["id"], ["e"], ["c"], ["2026-11-22T05:59:59.123Z"], "now", [0.5])
    headers = Stamp("events", partition, "1.4.0", "g").headers(
        ConsumerRecord("events", partition, answers, 0, 0, None, None, None, 0, 0, ())
    )
    return ConsumerRecord("predictions", 1, offset, 0, 0, None, value, None, 0, len(value), tuple(headers))


def test_predictions_that_name_any_partition_leave_an_offset_that_a_broker_takes(counting):
    """A thousand invented partitions and an offset beyond all: noted is only what can be answered there."""
    asyncio.run(counting.opened(PREDICTIONS, 0, ""))
    claims = [(partition, 10**17) for partition in range(1000)] + [(1, 41)]
    records = [_prediction(i, partition, answers) for i, (partition, answers) in enumerate(claims)]
    result = counting.process(PREDICTIONS, records, at_end=True) or counting.process(PREDICTIONS, [], at_end=True)
    assert len(result.metadata) < OFFSET_METADATA_BYTES
    assert msgspec.json.decode(result.metadata)["answered"] == {"1": 42}
    progress = deltas.decode(result.outputs["panes"][-1][1])
    assert isinstance(progress, Progress)
    assert (progress.read, progress.counted, progress.answered) == (1001, 1001, {1: 42})


def test_what_was_committed_before_is_held_to_the_same(counting):
    """An offset whose metadata a stranger's headers had filled is cleaned by the next start."""
    kept = {"watermark_ms": 1, "event_ms": 1, "accepted_next": 0, "answered": {str(p): 5 for p in range(100)}}
    asyncio.run(counting.opened(PREDICTIONS, 0, msgspec.json.encode(kept).decode()))
    result = counting.process(PREDICTIONS, [_prediction(0, 1, 7)], at_end=True) or counting.process(
        PREDICTIONS, [], at_end=True
    )
    assert msgspec.json.decode(result.metadata)["answered"] == {"1": 8}
