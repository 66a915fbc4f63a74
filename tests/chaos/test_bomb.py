"""A small batch that becomes hundreds of megabytes (row 15)."""

from __future__ import annotations

import time

import pytest
from support.oracle import Sent, assert_exactly_once, committed, send
from support.stage import Stage
from support.waiting import wait_until

MEGABYTE = 1 << 20
BOMB_BYTES = 400 * MEGABYTE


@pytest.mark.row(15)
@pytest.mark.parametrize("codec", ["zstd", pytest.param("gzip", marks=pytest.mark.long_only)])
def test_a_batch_that_becomes_400_megabytes_stops_its_partition_alone(stage: Stage, codec: str) -> None:
    """Memory stays bounded; the partition is quarantined with a reason; earlier records are answered, others go on."""
    source, sent = stage.source(), Sent()

    def produce(count: int, partitions: range) -> None:
        for partition in partitions:
            records = source.take(count, 0.0, time.time_ns() // 1_000_000)
            records = [(key, value, [], partition) for key, value in records]
            send(stage.bootstrap, stage.names.events, records, sent, **{"linger.ms": 1000})

    with stage.scorer() as first, stage.scorer() as second:
        scorers = (first, second)
        for scorer in scorers:
            wait_until(lambda s=scorer: s.reasons() == [] and s.assigned() == 2, "two partitions each")
        produce(50, range(4))
        stage.reader.wait_for(200)
        before = [scorer.memory_bytes() for scorer in scorers]
        bomb = Sent()
        options = {"compression.type": codec, "message.max.bytes": 1_000_000_000}
        send(stage.bootstrap, stage.names.events, [(b"bomb", bytes(BOMB_BYTES), [], 1)], bomb, **options)
        assert list(bomb.records) == [(1, 50)], "the broker takes it: it is small"
        produce(50, range(4))

        def quarantined() -> list[str]:
            return [d for s in scorers for state, d in s.partitions().values() if state == "quarantined"]

        wait_until(quarantined, "quarantined")
        (detail,) = quarantined()
        assert "offset 50" in detail
        assert f"a {codec} batch becomes larger than 67108864 bytes" in detail
        stage.reader.wait_for(350)
        for scorer, memory in zip(scorers, before, strict=True):
            assert scorer.memory_bytes() < memory + 150 * MEGABYTE
            assert scorer.peak_memory_bytes() < memory + 250 * MEGABYTE, "in between"
        assert committed(stage.bootstrap, stage.names.group, stage.names.events)[1] == 50
        assert [scorer.stop() for scorer in scorers] == [0, 0]
    answered = {source: record for source, record in sent.records.items() if source[0] != 1 or source[1] < 50}
    assert_exactly_once(Sent(answered), stage.reader.answers)
