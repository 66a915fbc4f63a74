"""Where a partition starts when its offset is no help: new partitions, first starts, lost offsets (rows 21 and 22)."""

from __future__ import annotations

import json
import time

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions
from support.drifting import start_worker
from support.oracle import WAIT_S, Sent, assert_exactly_once, committed, send
from support.stage import Stage
from support.waiting import wait_until

HURRY = {"kafka_runtime.clients.METADATA_MAX_AGE_MS": 2000}


def send_to(stage: Stage, partitions: range, count: int, sent: Sent, seed: int = 0) -> None:
    """Send this number of events into each of these partitions."""
    source = stage.source(seed=seed)
    for partition in partitions:
        records = source.take(count, 0.0, time.time_ns() // 1_000_000)
        send(stage.bootstrap, stage.names.events, [(key, value, [], partition) for key, value in records], sent)


@pytest.mark.parametrize("events_before", [True, False])
@pytest.mark.row(21)
def test_new_partitions_are_read_from_their_first_record(stage: Stage, events_before: bool) -> None:
    """Row 21: 4 → 8 while two scorers run; what was written before they saw it is answered, FIRST_START=latest or not.

    Also if there was not a single event before, so that no offset but the starting one could have been committed.
    """
    sent = Sent()
    admin = AdminClient({"bootstrap.servers": stage.bootstrap})
    with (
        stage.scorer(HURRY, SCORER_FIRST_START="latest") as first,
        stage.scorer(HURRY, SCORER_FIRST_START="latest") as second,
    ):
        for scorer in (first, second):
            wait_until(lambda s=scorer: s.reasons() == [] and s.assigned() == 2, "two partitions each", 60)
        if events_before:
            send_to(stage, range(4), 50, sent)
            stage.reader.wait_for(200)
        admin.create_partitions([NewPartitions(stage.names.events, 8)])[stage.names.events].result(WAIT_S)
        wait_until(lambda: len(admin.list_topics(stage.names.events).topics[stage.names.events].partitions) == 8, "8")
        send_to(stage, range(8) if events_before else range(4, 8), 50, sent, seed=1)
        for scorer in (first, second):
            wait_until(lambda s=scorer: s.assigned() == 4, "four partitions each")
        stage.reader.wait_for(len(sent.records))
        assert first.stop() == 0
        assert second.stop() == 0
    assert_exactly_once(sent, stage.reader.answers)
    assert all(answer.partition == answer.source[0] % 4 for answer in stage.reader.answers)


def test_a_first_start_from_the_end_is_decided_once(stage: Stage) -> None:
    """FIRST_START=latest: the past is left alone, and what comes after is answered, even if the scorer dies at once."""
    send_to(stage, range(4), 50, Sent())
    with stage.scorer(SCORER_FIRST_START="latest") as scorer:
        wait_until(lambda: [state for state, _ in scorer.partitions().values()] == ["running"] * 4, "running")
        scorer.kill()
    sent = Sent()
    send_to(stage, range(4), 50, sent, seed=1)
    with stage.scorer(SCORER_FIRST_START="latest") as scorer:
        stage.reader.wait_for(200)
        assert scorer.stop() == 0
    assert_exactly_once(sent, stage.reader.answers)


@pytest.mark.row(22)
def test_an_offset_that_retention_left_behind_stops_its_partition_until_it_is_decided(stage: Stage) -> None:
    """Row 22: records were deleted before they were answered. The lost range is named, and nothing moves by itself."""
    sent = Sent()
    send_to(stage, range(4), 50, sent)
    with stage.scorer() as scorer:
        stage.reader.wait_for(200)
        assert scorer.stop() == 0
    send_to(stage, range(4), 50, sent, seed=1)
    admin = AdminClient({"bootstrap.servers": stage.bootstrap})
    for future in admin.delete_records([TopicPartition(stage.names.events, 2, 80)]).values():
        future.result(WAIT_S)
    lost = [source for source in sent.records if source[0] == 2 and 50 <= source[1] < 80]
    with stage.scorer() as scorer:
        wait_until(lambda: scorer.reasons() == ["offset_lost"], "offset_lost")
        stage.reader.wait_for(350)  # the other partitions go on
        state, detail = scorer.partitions()[2]
        assert state == "offset_lost"
        assert "50" in detail
        assert "80 to 100" in detail
        time.sleep(6.0)  # it looks again every 5 s
        assert scorer.reasons() == ["offset_lost"]
        assert committed(stage.bootstrap, stage.names.group, stage.names.events)[2] == 50
        assert len(stage.reader.answers) == 350
        assert scorer.stop() == 0
    with stage.scorer(SCORER_OFFSET_LOST="earliest") as scorer:
        stage.reader.wait_for(370)
        assert scorer.stop() == 0
    for source in lost:
        del sent.records[source]
    assert_exactly_once(sent, stage.reader.answers)


@pytest.mark.row(22)
def test_a_group_whose_offsets_expired_does_not_begin_anew(stage: Stage) -> None:
    """Row 22: no offset, although answers of this group exist: nothing is answered again, and nothing skipped."""
    sent = Sent()
    send_to(stage, range(4), 50, sent)
    with stage.scorer() as scorer:
        stage.reader.wait_for(200)
        assert scorer.stop() == 0
    admin = AdminClient({"bootstrap.servers": stage.bootstrap})
    for future in admin.delete_consumer_groups([stage.names.group]).values():
        future.result(WAIT_S)
    with stage.scorer() as scorer:
        wait_until(lambda: scorer.reasons() == ["offset_lost"], "offset_lost")
        wait_until(lambda: [state for state, _ in scorer.partitions().values()] == ["offset_lost"] * 4, "all four")
        assert all("the log holds 0 to 50" in detail for _, detail in scorer.partitions().values())
        assert committed(stage.bootstrap, stage.names.group, stage.names.events) == {}
        assert scorer.stop() == 0
    (future,) = admin.alter_consumer_group_offsets(
        [ConsumerGroupTopicPartitions(stage.names.group, [TopicPartition(stage.names.events, 0, 50)])]
    ).values()
    future.result(WAIT_S)
    with stage.scorer(SCORER_OFFSET_LOST="latest", SCORER_FIRST_START="earliest") as scorer:
        scorer.wait_ready()
        send_to(stage, range(4), 10, sent, seed=1)
        stage.reader.wait_for(240)
        assert scorer.stop() == 0
    assert_exactly_once(sent, stage.reader.answers)


def test_an_offset_that_was_moved_by_hand_is_reported_with_its_numbers(stage: Stage) -> None:
    """Partition 0 is moved back by 20 records, partition 1 forward over 15; nobody touches the others."""
    names, sent = stage.names, Sent()
    send_to(stage, range(4), 50, sent)
    with stage.scorer() as scorer:
        stage.reader.wait_for(200)
        assert scorer.stop() == 0
    send_to(stage, range(1, 2), 15, sent, seed=1)
    moved = [TopicPartition(names.events, 0, 30), TopicPartition(names.events, 1, 65)]
    admin = AdminClient({"bootstrap.servers": stage.bootstrap})
    (future,) = admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(names.group, moved)]).values()
    future.result(WAIT_S)
    with stage.scorer() as scorer:
        stage.reader.wait_for(220)
        shown = "driftline_scorer_offset_moved_records{"  # the comparison is made beside the first batches
        wait_until(lambda: scorer.get("/metrics").text.count(shown) == 8, "every partition is compared")
        found = {
            (partition, effect): scorer.metric(
                "driftline_scorer_offset_moved_records", partition=str(partition), effect=effect
            )
            for partition in range(4)
            for effect in ("again", "left_out")
        }
        lines = [json.loads(line) for line in scorer.log_lines() if "offset_moved" in line]
        assert not any("offset_not_compared" in line for line in scorer.log_lines())
    assert {key: value for key, value in found.items() if value} == {(0, "again"): 20, (1, "left_out"): 15}
    told = [
        {key: line[key] for key in ("partition", "committed", "answered_to", "again", "left_out")} for line in lines
    ]
    assert sorted(told, key=lambda line: line["partition"]) == [
        {"partition": 0, "committed": 30, "answered_to": 50, "again": 20, "left_out": 0},
        {"partition": 1, "committed": 65, "answered_to": 50, "again": 0, "left_out": 15},
    ]


def test_a_moved_offset_of_the_drift_worker_is_reported_with_its_numbers(stage: Stage) -> None:
    """As above, by what an earlier drift worker counted; its predictions' topic is empty, and that is no move."""
    names, sent = stage.names, Sent()
    group = names.environment["DRIFT_GROUP"]
    send_to(stage, range(4), 50, sent)
    counted = "driftline_drift_counted_events_total"
    with start_worker(stage, "before") as worker:
        wait_until(lambda: worker.reasons() == [] and worker.metric(counted) == 200, "all are counted")
        assert worker.stop() == 0
    send_to(stage, range(1, 2), 15, sent, seed=1)
    moved = [TopicPartition(names.events, 0, 30), TopicPartition(names.events, 1, 65)]
    admin = AdminClient({"bootstrap.servers": stage.bootstrap})
    (future,) = admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, moved)]).values()
    future.result(WAIT_S)
    with start_worker(stage, "after") as worker:
        worker.wait_ready()
        shown = f'driftline_drift_offset_moved_records{{effect="again",partition="%d",topic="{names.events}"}}'
        wait_until(
            lambda: all(shown % partition in worker.get("/metrics").text for partition in range(4)), "all are compared"
        )
        found = {
            (partition, effect): worker.metric(
                "driftline_drift_offset_moved_records", topic=names.events, partition=str(partition), effect=effect
            )
            for partition in range(4)
            for effect in ("again", "left_out")
        }
        lines = [json.loads(line) for line in worker.log_lines() if '"offset_moved"' in line]
        assert not any("offset_not_compared" in line for line in worker.log_lines())
    assert {key: value for key, value in found.items() if value} == {(0, "again"): 20, (1, "left_out"): 15}
    said = [(line["partition"], line["committed"], line["answered_to"]) for line in lines]
    assert sorted(said) == [(0, 30, 50), (1, 65, 50)]
