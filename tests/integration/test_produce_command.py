"""`driftline produce` as a process against a real broker, counted by an independent reader."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from support.processes import running

ROOT = Path(__file__).parents[2]
DATA = ROOT / "examples" / "telco_churn.csv"
SPEC = ROOT / "examples" / "telco.toml"
PARTITIONS = 4


@contextmanager
def _producing(broker, topic, *arguments):
    command = [sys.executable, "-m", "driftline", "produce", "--data", str(DATA), "--spec", str(SPEC), "--json"]
    environment = os.environ | {"KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers, "TOPIC_EVENTS": topic}
    with running([*command, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        yield process


def _records(broker, topic):
    """Every record of the topic from the beginning to the end it has now."""
    consumer = Consumer(
        {
            "bootstrap.servers": broker.bootstrap_servers,
            "group.id": f"{topic}-reader",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
    )
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
    records, ended = [], 0
    while ended < PARTITIONS:
        record = consumer.poll(20)
        assert record is not None, "the broker did not answer within 20 s"
        if record.error() is None:
            records.append(record)
        else:
            assert record.error().code() == KafkaError._PARTITION_EOF, record.error()
            ended += 1
    consumer.close()
    return records


@pytest.fixture
def topic(broker, topic_prefix):
    """A topic of four partitions."""
    name = f"{topic_prefix}-events"
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    admin.create_topics([NewTopic(name, PARTITIONS, 1)])[name].result(20)
    return name


def test_every_record_arrives_once_in_the_partition_of_its_customer(broker, topic):
    """20,000 at full speed, 50 of them bad; a customer's events all lie in one partition, in their order."""
    with _producing(broker, topic, "--rate", "0", "--count", "20000", "--bad-records", "50") as process:
        out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    summary = json.loads(out)
    records = _records(broker, topic)

    assert (summary["topic"], summary["records"], sum(summary["bad"].values())) == (topic, 20_000, 50)
    assert len(records) == 20_000
    places = {(record.key(), record.partition()) for record in records}
    assert len(places) == len({key for key, _ in places}) == 7_043
    assert min(Counter(record.partition() for record in records).values()) > 4_000
    numbers = {}
    for record in records:
        if record.value() and record.value().endswith(b"}}") and b"NaN" not in record.value():
            event = json.loads(record.value())
            assert event["customer_id"].encode() == record.key()
            numbers.setdefault(record.key(), []).append(int(event["event_id"].rpartition("-")[2]))
    every = [number for of_customer in numbers.values() for number in of_customer]
    assert len(every) == len(set(every)) >= 19_950
    assert all(of_customer == sorted(of_customer) for of_customer in numbers.values())


def test_the_rate_is_kept_and_an_interrupt_ends_it_cleanly(broker, topic):
    """At 400 a second without a count, stopped by Ctrl-C: exit code 0, and the reported records are there.

    What a pause kept back is made up for; so the longer it runs, the less of a pause is left in the rate.
    """
    started = time.monotonic()
    with _producing(broker, topic, "--rate", "400") as process:
        while time.monotonic() < started + 60 and len(_records(broker, topic)) < 2000:
            pass
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=240)

    assert process.returncode == 0, err
    summary = json.loads(out)
    assert len(_records(broker, topic)) == summary["records"] >= 2000
    assert summary["records"] == pytest.approx(400 * summary["seconds"], rel=0.1)


def test_an_absent_topic_is_one_line_and_exit_code_1(broker, topic_prefix):
    """With the command that makes it."""
    with _producing(broker, f"{topic_prefix}-absent", "--rate", "0", "--count", "1") as process:
        out, err = process.communicate(timeout=240)

    assert process.returncode == 1
    assert out == ""
    assert err.count("\n") == 1
    assert "driftline topics create makes it" in err
