"""A transaction that another program leaves open: later records wait, the services report it, no record is lost."""

from __future__ import annotations

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing

import pytest
from confluent_kafka import Producer
from support.drifting import measurements_of, start_worker
from support.oracle import assert_exactly_once, send
from support.services import Service
from support.stage import Stage
from support.waiting import wait_until

from kafka_runtime.errors import BlockedError
from kafka_runtime.kafka_types import TopicPartition
from kafka_runtime.service.settings import KafkaSettings
from kafka_runtime.topic_reader import reader
from schemas.timestamps import render

# What takes a minute takes a second.
HURRY = {
    "kafka_runtime.group_member.PROBE_S": 0.3,
    "kafka_runtime.open_transaction.BLOCKED_AFTER_S": 1.0,
}
SHORT = {"DRIFT_WINDOWS": "2s,4s", "DRIFT_IDLE_TIMEOUT": "2s", "DRIFT_MIN_EVENTS": "50"}


def _open(stage: Stage, topic: str, record: tuple[bytes | None, bytes | None], partition: int) -> Producer:
    """A foreign producer with one record in a transaction."""
    stranger = Producer({"bootstrap.servers": stage.bootstrap, "transactional.id": f"{stage.names.prefix}-{topic}"})
    stranger.init_transactions(30)
    stranger.begin_transaction()
    stranger.produce(topic, key=record[0], value=record[1], partition=partition)
    assert stranger.flush(30) == 0
    return stranger


def _degraded(service: Service) -> list[str]:
    return service.get("/health").json()["degraded"]


def _watermark_ms(worker: Service, topic: str, partition: int) -> float:
    """How far the evaluator has seen a partition come, epoch ms."""
    lag_s = worker.metric("driftline_drift_watermark_lag_seconds", topic=topic, partition=str(partition))
    return (time.time() - lag_s) * 1000


@pytest.mark.row(28)
def test_events_behind_an_open_transaction_are_reported_and_later_scored_and_counted(stage: Stage) -> None:
    """200 events are behind one record, in partition 0: both services are ready and degraded, and no window closes."""
    topic, source = stage.names.events, stage.source()
    begun_ms = time.time_ns() // 1_000_000
    with (
        stage.scorer(HURRY) as scorer,
        start_worker(stage, "drift", hurry=HURRY, **SHORT) as worker,
        ThreadPoolExecutor(1) as pool,
    ):
        for service, prefix in ((scorer, "driftline_scorer"), (worker, "driftline_drift")):
            known = f'{prefix}_blocked_seconds{{partition="0",topic="{topic}"}} 0.0'
            wait_until(lambda s=service, k=known: k in s.wait_ready().get("/metrics").text, "known to be free")
        sent = stage.send_from(source, 400)
        stage.reader.wait_for(400)
        key, value = source.take(1, 0.0, time.time_ns() // 1_000_000)[0]
        stranger = _open(stage, topic, (key, value), 0)
        records = source.take(400, 0.0, time.time_ns() // 1_000_000)
        send(
            stage.bootstrap,
            topic,
            [(*record, [], 0 if i % 2 else 1 + i // 2 % 3) for i, record in enumerate(records)],
            sent,
        )
        last_ms = time.time_ns() // 1_000_000

        for service, prefix in ((scorer, "driftline_scorer"), (worker, "driftline_drift")):
            wait_until(lambda s=service: _degraded(s) == ["input_blocked"], "it says that its input is blocked")
            assert service.get("/readyz").status_code == 200
            assert service.metric(f"{prefix}_blocked_records", topic=topic, partition="0") == 201
            assert service.metric(f"{prefix}_blocked_seconds", topic=topic, partition="0") >= 1
            assert service.metric(f"{prefix}_blocked_records", topic=topic) == 201
            assert service.metric(f"{prefix}_lag_records", topic=topic, partition="0") == 0
            (detail,) = {p["detail"] for p in service.get("/health").json()["partitions"] if p["detail"]}
            assert detail.startswith("201 offsets from ")
        stage.reader.wait_for(600)
        verifying = pool.submit(stage.driftline, "verify", "--json")
        # by now the three other partitions are so far that the windows would be closed without the one that waits
        for partition in (1, 2, 3):
            wait_until(lambda p=partition: _watermark_ms(worker, topic, p) > last_ms + 6000, "silence is counted")
        assert {m["sample"]["late"] for m in measurements_of(stage)} <= {0}
        assert all(m["window"]["end"] <= render(last_ms) for m in measurements_of(stage))

        answer = verifying.result()
        found = json.loads(answer.stdout)
        assert (answer.returncode, found["answer"], found["blocked"], found["inputs"]) == (3, "not_yet", 201, 600)
        stranger.abort_transaction(30)
        stage.reader.wait_for(800)
        assert_exactly_once(sent, stage.reader.answers)
        for service in (scorer, worker):
            wait_until(lambda s=service: _degraded(s) == [], "it is blocked no more")
            logged = [json.loads(line) for line in service.log_lines() if "input_" in line]
            assert [(line["event"], line["topic"], line["partition"]) for line in logged] == [
                ("input_blocked", topic, 0),
                ("input_unblocked", topic, 0),
            ]
        assert stage.driftline("verify").returncode == 0

        def counted(length: str) -> int:
            return sum(m["sample"]["events"] for m in measurements_of(stage) if m["window"]["length"] == length)

        wait_until(lambda: counted("2s") >= 800 <= counted("4s"), f"every window is closed\n{worker.tail()}")
        found = measurements_of(stage)
        assert counted("2s") == counted("4s") == 800
        assert {m["sample"]["late"] for m in found} == {0}
        assert all(m["complete"] for m in found if m["window"]["start"] >= render(begun_ms))


def test_a_topic_whose_first_record_is_in_an_open_transaction_was_written_to(stage: Stage) -> None:
    """Who waits for the first label begins, and can report what holds it back."""
    topic = stage.names.environment["TOPIC_LABELS"]
    settings = KafkaSettings(kafka_bootstrap_servers=stage.bootstrap)

    async def written() -> bool:
        async with reader(settings) as reading:
            return await reading.written(topic)

    assert not asyncio.run(written())
    stranger = _open(stage, topic, (b"a", b"{}"), 0)
    assert asyncio.run(written())
    stranger.abort_transaction(30)


def test_who_reads_a_topic_to_its_end_gets_an_error_or_goes_on_with_a_word(stage: Stage, monkeypatch) -> None:
    """A restart that must have all of its state waits; a command prints what it did not read, and exits with 0."""
    topic = stage.names.environment["TOPIC_ALERTS"]
    send(stage.bootstrap, topic, [(b"a", None, [], 0)])
    stranger = _open(stage, topic, (b"b", None), 0)
    send(stage.bootstrap, topic, [(b"c", None, [], 0)])
    settings = KafkaSettings(kafka_bootstrap_servers=stage.bootstrap)
    told: list[tuple] = []

    async def keys(**options: object) -> list[bytes]:
        async with reader(settings, **options) as reading:
            return [record.key async for record in reading.scan(topic)]

    with pytest.raises(BlockedError, match=f"{topic}-0: 2 offsets from 1 on are behind an open transaction"):
        asyncio.run(keys())
    assert asyncio.run(keys(blocked=lambda *what: told.append(what))) == [b"a"]
    assert told == [(TopicPartition(topic, 0), 1, 2)]
    # one who follows the topic gets it once, although more comes behind it
    monkeypatch.setattr("kafka_runtime.topic_reader.SETTLE_S", 0.3)

    async def follows() -> list[bytes]:
        found: list[bytes] = []
        async with (
            reader(settings, blocked=lambda *what: told.append(what)) as reading,
            aclosing(reading.follow(topic, from_start=True)) as records,
        ):
            until = time.monotonic() + 3
            async for record in records:
                found += [] if record is None else [record.key]
                if time.monotonic() > until:
                    return found
        return found

    told.clear()
    assert asyncio.run(follows()) == [b"a"]
    assert told == [(TopicPartition(topic, 0), 1, 2)]
    monkeypatch.undo()
    listed = stage.driftline("alerts", "list")
    assert listed.returncode == 0
    assert listed.stderr == f"{topic}-0: 2 offsets from 1 on are behind an open transaction, and were not read\n"
    stranger.commit_transaction(30)
    assert asyncio.run(keys()) == [b"a", b"b", b"c"]
