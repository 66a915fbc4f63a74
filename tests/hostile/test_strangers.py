"""What a stranger who may write to one topic can do to a drift worker that reads it: be refused, and no more."""

import asyncio

import msgspec
import pytest
from aiokafka import ConsumerRecord, TopicPartition
from support import bundles

from drift_worker.counts import wire_format
from drift_worker.counts.wire_format import Progress
from schemas.headers import Stamp
from schemas.prediction import ModelRef, PredictionEncoder

PREDICTIONS = TopicPartition("predictions", 1)
OFFSET_METADATA_BYTES = 4096  # offset.metadata.max.bytes, a broker's default


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A small bundle."""
    directory = tmp_path_factory.mktemp("strangers") / "model"
    bundles.write(directory)
    return directory


@pytest.fixture
def counting(bundle, counting_of):
    """Stage 1 over topics of two partitions."""
    return counting_of(bundle)[0]


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
    asyncio.run(counting.on_assigned(PREDICTIONS, 0, ""))
    claims = [(partition, 10**17) for partition in range(1000)] + [(1, 41)]
    records = [_prediction(i, partition, answers) for i, (partition, answers) in enumerate(claims)]
    result = counting.process(PREDICTIONS, records, at_end=True) or counting.process(PREDICTIONS, [], at_end=True)
    assert len(result.metadata) < OFFSET_METADATA_BYTES
    assert msgspec.json.decode(result.metadata)["answered"] == {"1": 42}
    progress = wire_format.decode(result.outputs["panes"][-1][1])
    assert isinstance(progress, Progress)
    assert (progress.read, progress.counted, progress.answered) == (1001, 1001, {1: 42})


def test_what_was_committed_before_is_held_to_the_same(counting):
    """An offset whose metadata a stranger's headers had filled is cleaned by the next start."""
    kept = {"watermark_ms": 1, "event_ms": 1, "accepted_next": 0, "answered": {str(p): 5 for p in range(100)}}
    asyncio.run(counting.on_assigned(PREDICTIONS, 0, msgspec.json.encode(kept).decode()))
    result = counting.process(PREDICTIONS, [_prediction(0, 1, 7)], at_end=True) or counting.process(
        PREDICTIONS, [], at_end=True
    )
    assert msgspec.json.decode(result.metadata)["answered"] == {"1": 8}


@pytest.mark.parametrize(
    ("claims", "noted"),
    [
        ([(1, 5), (1, 6), (1, 7)], {"1": 8}),
        ([(1, 5), (1, 6), (0, 7), (3, 8)], {"1": 7, "3": 9}),  # 0 is answered elsewhere, and 3 is answered here, too
        ([(3, 2), (1, 5), (1, 6), (1, 7)], {"1": 8, "3": 3}),
        ([(1, 5), (1, -1), (9, 1)], {"1": 6}),
    ],
)
def test_of_each_input_partition_the_last_answer_is_noted(bundle, counting_of, claims, noted):
    """Of four input partitions two are answered here. Another one's answer, or none, does not hide the last of ours."""
    counting = counting_of(bundle)[0]

    async def partitions_of(topic):
        return 4 if topic == "events" else 2

    counting._partitions_of = partitions_of
    asyncio.run(counting.on_assigned(PREDICTIONS, 0, ""))
    records = [_prediction(i, partition, answers) for i, (partition, answers) in enumerate(claims)]
    result = counting.process(PREDICTIONS, records, at_end=True) or counting.process(PREDICTIONS, [], at_end=True)
    assert msgspec.json.decode(result.metadata)["answered"] == noted
