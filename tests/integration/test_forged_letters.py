"""`driftline dead-letters` on letters that no scorer wrote: a producer with write access to the topic can forge any."""

from __future__ import annotations

import json

import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource
from support.oracle import send
from support.stage import Stage


def values(stage: Stage, topic: str) -> dict[int, int]:
    """How many records each partition of a topic holds."""
    return {partition: len(stage.records(topic, partition)) for partition in range(4)}


def letter(topic: str | None, partition: bytes | None, value: bytes = b"{}", **more: bytes):
    """A record for the dead-letter topic, and where it goes; None leaves a header out."""
    headers = [("driftline-reason", b"wrong_type"), ("driftline-source-offset", b"7"), *more.items()]
    headers += [] if topic is None else [("driftline-source-topic", topic.encode())]
    headers += [] if partition is None else [("driftline-source-partition", partition)]
    return b"k", value, headers, 0


@pytest.fixture
def forged(stage: Stage):
    """Letters that name no partition of the input topic, and a good one behind them all."""
    events = stage.names.events
    headers = (
        (f"{stage.names.prefix}-measurements", b"0"),
        (stage.names.predictions, b"0"),
        ("not-a-topic", b"0"),
        (None, b"0"),
        (events, None),
        (events, b"9999"),
        (events, b"-1"),
        (events, b"00"),
        (events, b" 1"),
        (events, "²".encode()),
        (events, b"9" * 5000),
        (events, b"one"),
        (events, b""),
    )
    letters = [letter(topic, partition) for topic, partition in headers]
    send(stage.bootstrap, stage.names.dead_letters, [*letters, letter(events, b"2", b'{"good": 1}')])
    return len(letters)


def test_a_record_goes_to_partitions_of_the_input_topic_only(stage: Stage, forged: int) -> None:
    """For any topic or partition in a header: the good letter behind them is sent, and each other one counted."""
    done = stage.driftline("dead-letters", "redrive", "--reason", "wrong_type", "--json")
    assert done.returncode == 0, done.stderr
    tally = json.loads(done.stdout)
    assert (tally["sent"], tally["foreign"]) == (1, forged)
    assert stage.records(f"{stage.names.prefix}-measurements") == []
    assert values(stage, stage.names.events) == {0: 0, 1: 0, 2: 1, 3: 0}
    assert values(stage, stage.names.predictions) == dict.fromkeys(range(4), 0)


def test_what_is_passed_over_is_shown_once_and_not_looked_at_again(stage: Stage, forged: int) -> None:
    """At most ten lines on standard error, then how many more; the second run has nothing to do."""
    done = stage.driftline("dead-letters", "redrive")
    lines = done.stderr.splitlines()
    assert f"{stage.names.dead_letters}-0@0: its source is {stage.names.prefix}-measurements-0@7" in lines[0]
    assert (len(lines), lines[-1]) == (11, f"passed over: {forged - 10} more like these")
    assert f"{forged} from no partition of {stage.names.events}" in done.stdout
    again = stage.driftline("dead-letters", "redrive", "--json")
    assert (json.loads(again.stdout)["sent"], json.loads(again.stdout)["foreign"], again.stderr) == (0, 0, "")


def test_a_dry_run_counts_the_same_and_leaves_them_where_they_are(stage: Stage, forged: int) -> None:
    """Nothing is sent or passed over."""
    for _ in range(2):
        dry = json.loads(stage.driftline("dead-letters", "redrive", "--dry-run", "--json").stdout)
        assert (dry["sent"], dry["foreign"]) == (1, forged)
    assert values(stage, stage.names.events) == dict.fromkeys(range(4), 0)


def test_a_letter_larger_than_the_input_topic_takes_does_not_block_its_reason(stage: Stage) -> None:
    """It is passed over by itself: the letters before and behind it, whose batch the broker refuses too, are sent."""
    events = stage.names.events
    admin = AdminClient({"bootstrap.servers": stage.bootstrap})
    entry = ConfigEntry("max.message.bytes", "20000", incremental_operation=AlterConfigOpType.SET)
    limit = ConfigResource("topic", events, incremental_configs=[entry])
    admin.incremental_alter_configs([limit])[limit].result(20)
    sizes = (9000, 9000, 9000, 300_000, 9000)
    send(stage.bootstrap, stage.names.dead_letters, [letter(events, b"1", b"x" * size) for size in sizes])
    done = stage.driftline("dead-letters", "redrive", "--json")
    assert done.returncode == 0, done.stderr
    tally = json.loads(done.stdout)
    assert (tally["sent"], tally["too_large"]) == (4, 1)
    assert f"{stage.names.dead_letters}-0@3: larger than the broker takes" in done.stderr
    assert values(stage, events)[1] == 4


def test_a_letter_that_no_producer_batch_holds_is_passed_over(stage: Stage) -> None:
    """Headers of a stranger's count as well: with them, a record can be larger than a scorer would ever write."""
    large = letter(stage.names.events, b"1", b"x" * 500_000, theirs=b"y" * 510_000)
    send(stage.bootstrap, stage.names.dead_letters, [large, letter(stage.names.events, b"1")])
    done = stage.driftline("dead-letters", "redrive", "--json")
    assert done.returncode == 0, done.stderr
    tally = json.loads(done.stdout)
    assert (tally["sent"], tally["too_large"]) == (1, 1)
