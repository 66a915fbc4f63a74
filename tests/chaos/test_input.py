"""Bad input from upstream: only bad records, records too large, unreadable batches, any codec.

Rows 12, 13 and 14.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from fractions import Fraction

import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from support.network import Network
from support.oracle import Sent, assert_exactly_once, committed, members, send
from support.segments import Batch, batches, rewrite
from support.stage import Stage
from support.waiting import wait_until

from driftline.local_kafka.broker import LocalBroker

# The group leaves out a member that has not polled for so long: 5 minutes, were it not for this.
POLL_INTERVAL_S = 3.0
IMPATIENT = {"kafka_runtime.clients.MAX_POLL_INTERVAL_MS": 1000 * POLL_INTERVAL_S, "kafka_runtime.prefetch.ROOM_S": 0.5}


@pytest.mark.row(12)
def test_nothing_but_bad_records_pauses_the_scorer_until_a_person_decides(stage: Stage) -> None:
    """Row 12: it stops at the limit, reports it, drops nothing, stays in its group; a higher limit lets it continue."""
    good = stage.send_customers(400)
    with stage.scorer(IMPATIENT, SCORER_MAX_BATCH_RECORDS="200") as scorer:
        stage.reader.wait_for(400)
        bad = stage.source(bad=Fraction(1), seed=1).take(3000, 0.0, time.time_ns() // 1_000_000)
        records = [(key, value, [], i % 4) for i, (key, value) in enumerate(bad)]
        sent = send(stage.bootstrap, stage.names.events, records)
        wait_until(lambda: scorer.reasons() == ["dead_letter_limit"], "paused at the limit")
        wait_until(lambda: {state for state, _ in scorer.partitions().values()} == {"paused"}, "all four")
        offsets = committed(stage.bootstrap, stage.names.group, stage.names.events)
        answered = sum(offsets.values())
        # at most half of what was answered was refused, once there were 1,000 to judge by: that would be 500 + 500
        assert 400 < answered < 1000
        rebalances = scorer.metric("driftline_scorer_rebalances_total")
        more = stage.send_customers(100, seed=2)
        time.sleep(2.5 * POLL_INTERVAL_S)  # long enough to be thrown out twice
        assert scorer.reasons() == ["dead_letter_limit"]
        assert members(stage.bootstrap, stage.names.group) == 1, "it has left its group"
        assert scorer.get("/livez").status_code == 200
        assert scorer.metric("driftline_scorer_rebalances_total") == rebalances
        assert committed(stage.bootstrap, stage.names.group, stage.names.events) == offsets
        stage.reader.wait_for(answered)
        assert len(stage.reader.answers) == answered
        wait_until(
            lambda: scorer.metric("driftline_scorer_lag_records") == 3500 - answered, "what waits is seen as lag"
        )
        assert scorer.stop() == 0
    with stage.scorer(SCORER_DEAD_LETTER_LIMIT="1.0") as scorer:
        stage.reader.wait_for(3500)
        assert scorer.stop() == 0
    assert_exactly_once(Sent({**good.records, **sent.records, **more.records}), stage.reader.answers)
    assert sum(answer.topic == stage.names.dead_letters for answer in stage.reader.answers) == 3000


@pytest.mark.row(13)
def test_what_is_too_large_becomes_a_dead_letter_or_its_stub(stage: Stage) -> None:
    """Row 13: key, value or headers too large: refused whole, or cut to what the topic takes; neighbours are scored."""
    good = stage.source().take(60, 0.0, time.time_ns() // 1_000_000)
    event = good[0][1]
    # value, key and headers above 65,536 bytes; then above the 900,000 that a dead letter may have
    large = {
        "value": (b"key", b"v" * 70_000, []),
        "key": (b"k" * 70_000, event, []),
        "header": (b"key", event, [("h", b"h" * 70_000)]),
        "huge value": (b"key", b"v" * 950_000, [("h", b"1")]),
        "huge key": (b"k" * 950_000, event, []),
        "huge header": (b"key", event, [("h", b"h" * 950_000)]),
        "huge all": (b"k" * 320_000, b"v" * 320_000, [("h", b"h" * 320_000)]),
    }
    records = [record for i, record in enumerate(large.values()) for record in (*good[8 * i : 8 * i + 8], record)]
    sent = send(stage.bootstrap, stage.names.events, [(*(*r, [])[:3], i % 2) for i, r in enumerate(records)])
    with stage.scorer() as scorer:
        stage.reader.wait_for(len(records))
        assert scorer.stop() == 0
    assert_exactly_once(sent, stage.reader.answers)
    letters = {}
    for answer in stage.reader.answers:
        if answer.topic == stage.names.dead_letters:
            assert answer.reason == "too_large"
            found = dict(answer.headers)
            original = sent.records[answer.source]
            (name,) = [name for name, record in large.items() if record == tuple(original)]
            letters[name] = found.get("driftline-truncated"), (answer.key, answer.value, answer.headers[:1])
            if "driftline-truncated" in found:
                assert int(found["driftline-size"]) == len(original[1])
                assert found["driftline-sha256"].decode() == hashlib.sha256(original[1]).hexdigest()
    for name in ("value", "key", "header"):
        key, value, headers = large[name]
        cut, (its_key, its_value, its_headers) = letters[name]
        assert (cut, its_key, its_value) == (None, key, value)
        assert not headers or its_headers == headers
    assert letters["huge value"] == (b"value", (b"key", b"v" * 1024, [("h", b"1")]))
    assert letters["huge key"][0] == b"key"
    assert letters["huge key"][1][:2] == (b"k" * 1024, event)
    assert letters["huge header"][0] == b"headers"
    assert letters["huge header"][1][:2] == (b"key", event)
    assert letters["huge all"][0] == b"value"
    assert letters["huge all"][1] == (b"k" * 320_000, b"v" * 1024, [("h", b"h" * 320_000)])


@pytest.mark.row(13)
def test_a_topic_that_takes_less_than_a_batch_is_named_at_the_start(stage: Stage) -> None:
    """Row 13: else every large batch would be refused for ever. The service ends with 1, naming topic and limit."""
    admin = AdminClient({"bootstrap.servers": stage.bootstrap})
    limit = ConfigEntry("max.message.bytes", "500000", incremental_operation=AlterConfigOpType.SET)
    topic = ConfigResource(ResourceType.TOPIC, stage.names.dead_letters, incremental_configs=[limit])
    for future in admin.incremental_alter_configs([topic]).values():
        future.result(30)
    with stage.scorer() as scorer:
        assert scorer.process.wait(60) == 1
        assert f"{stage.names.dead_letters}: max.message.bytes is 500000, and 1000000 are needed" in scorer.tail()


def spoil_crc(batch: Batch) -> None:
    """One bit of a record is not what it was."""
    batch.records[-1] ^= 1


def spoil_codec(batch: Batch) -> None:
    """Compressed with a codec that does not exist; the checksum is right."""
    batch.attributes |= 6
    batch.seal()


def spoil_header_key(batch: Batch) -> None:
    """The name of the last record's header is not UTF-8; the checksum is right."""
    at = batch.records.rindex(b"name")
    batch.records[at : at + 4] = b"\xff\xfe\xfd\xfc"
    batch.seal()


@pytest.mark.row(14)
def test_a_batch_that_cannot_be_read_stops_its_partition_alone(network: Network, far: Stage) -> None:
    """Row 14: earlier records are answered, it is named, the other partitions continue; after a skip, so does its.

    The broker would refuse such batches: they are written well and spoilt on its disk.
    """
    spoilers = {0: spoil_crc, 1: spoil_codec, 2: spoil_header_key}
    source, sent = far.source(), Sent()

    def produce(partition: int, count: int) -> list[int]:
        """One batch; its offsets."""
        before = set(sent.records)
        records = source.take(count, 0.0, time.time_ns() // 1_000_000)
        records = [(key, value, [("name", b"x")], partition) for key, value in records]
        send(far.bootstrap, far.names.events, records, sent, **{"linger.ms": 1000})
        return sorted(offset for _, offset in set(sent.records) - before)

    bad = {}
    for partition in range(4):
        for part in range(3):
            offsets = produce(partition, 20)
            if part == 1:
                bad[partition] = offsets
    network.broker.stop(60)  # killed after that, it would look at its log when it starts, and cut off what is spoilt
    for partition, spoil in spoilers.items():
        log = network.broker.data_dir / "log" / f"{far.names.events}-{partition}"
        rewrite(next(log.glob("*.log")), bad[partition][0], spoil)
    network.broker.start()

    readable = {0: 20, 1: 20, 2: 39, 3: 60}
    with far.scorer() as scorer:
        wait_until(lambda: scorer.reasons() == ["quarantined"], "quarantined")
        wait_until(lambda: [state for state, _ in scorer.partitions().values()].count("quarantined") == 3, "all three")
        more = produce(3, 20)
        far.reader.wait_for(sum(readable.values()) + 20)
        seen = Counter(answer.source[0] for answer in far.reader.answers)
        assert seen == {**readable, 3: 80}
        assert len(more) == 20
        for partition in spoilers:
            state, detail = scorer.partitions()[partition]
            assert state == "quarantined"
            assert f"offset {readable[partition]}" in detail
        assert committed(far.bootstrap, far.names.group, far.names.events) == {**readable, 3: 80}
        assert scorer.stop() == 0
    skip(far, 2, to_offset=40)
    with far.scorer() as scorer:
        far.reader.wait_for(180)
        assert scorer.stop() == 0
    passed = {source: record for source, record in sent.records.items() if source[0] >= 2 or source[1] < 20}
    assert_exactly_once(Sent(passed), far.reader.answers)
    assert Counter(answer.reason for answer in far.reader.answers) == {None: 179, "skipped": 1}


def skip(stage: Stage, partition: int, to_offset: int) -> None:
    """Carry out the runbook's instructions."""
    where = ["--topic", stage.names.events, "--partition", str(partition), "--to-offset", str(to_offset)]
    done = stage.driftline("skip", *where, "--why", "spoilt on disk")
    assert done.returncode == 0, done.stderr


def test_upstream_chooses_the_codec(stage: Stage, broker: LocalBroker) -> None:
    """gzip, snappy, lz4 and zstd, side by side in the same partitions: every record is read, every neighbour, too."""
    source, sent = stage.source(bad=Fraction(1, 10)), Sent()
    codecs = ["gzip", "snappy", "lz4", "zstd"]
    for codec in [*codecs, "none"]:
        records = source.take(200, 0.0, time.time_ns() // 1_000_000)
        options = {"compression.type": codec, "linger.ms": 1000}
        send(stage.bootstrap, stage.names.events, records, sent, **options)
    written = [path for p in range(4) for path in (broker.data_dir / "log" / f"{stage.names.events}-{p}").glob("*.log")]
    assert {batch.codec for path in written for batch in batches(path)} == {*codecs, "none"}
    with stage.scorer() as scorer:
        stage.reader.wait_for(1000)
        assert scorer.stop() == 0
    assert_exactly_once(sent, stage.reader.answers)
