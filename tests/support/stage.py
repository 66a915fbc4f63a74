"""One test's topics on the shared broker, its reader, and the way to start scorers there."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from confluent_kafka import Consumer, KafkaError, TopicPartition
from support import history, preloaded
from support.brokers import Broker, Cluster
from support.oracle import WAIT_S, Names, Reader, Sent, create_topics, open_transactions, send
from support.services import Service

from driftline.replay.event_source import EventSource, open_source


class Stage:
    """Broker, topics, reader and the way to start scorers, for one test."""

    def __init__(
        self,
        broker: Broker | Cluster,
        prefix: str,
        bundle: Path,
        folder: Path,
        replicas: int = 1,
        partitions: int = 4,
    ) -> None:
        self.bootstrap = broker.bootstrap_servers
        self.names = Names(prefix)
        self.bundle = bundle
        self.folder = folder
        self._scorers = 0  # started so far: each has a separate log
        for log in broker.logs:
            history.log(log)
        create_topics(self.bootstrap, self.names, partitions, replicas)
        self.reader = Reader(self.bootstrap, self.names, partitions)

    def scorer(self, hurry: Mapping[str, float] | None = None, **environment: str) -> Service:
        self._scorers += 1
        return Service(
            "scorer",
            {
                "KAFKA_BOOTSTRAP_SERVERS": self.bootstrap,
                "SCORER_MODEL": str(self.bundle),
                **self.names.environment,
                **environment,
            },
            self.folder / f"scorer-{self._scorers}.log",
            hurry,
        )

    def source(self, **options: object) -> EventSource:
        return open_source(Path("examples/telco_churn.csv"), model=self.bundle, run="test", **options)

    def send_customers(self, count: int, into: Sent | None = None, **options: object) -> Sent:
        return self.send_from(self.source(**options), count, into)

    def send_from(self, source: EventSource, count: int, sent: Sent | None = None, **options: object) -> Sent:
        """Start a producer. `options`: the producer's."""
        records = source.take(count, 0.0, time.time_ns() // 1_000_000)
        return send(self.bootstrap, self.names.events, records, sent, **options)

    def driftline(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a command with this test's topics and group, and these variables; no exit code raises."""
        named = {n: v for n, v in self.names.environment.items() if n.startswith(("TOPIC_", "SCORER_"))}
        environment = {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": self.bootstrap, **named, **more}
        return preloaded.run(["-m", "driftline", *arguments], environment, 200)

    def records(self, topic: str, partition: int = 0) -> list[tuple[bytes | None, bytes | None]]:
        """Return every committed record of a partition, (key, value)."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": f"{topic}-reader",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "enable.partition.eof": True,  # a position does not pass the marker that ends a transaction
            }
        )
        consumer.assign([TopicPartition(topic, partition, 0)])
        records: list[tuple[bytes | None, bytes | None]] = []
        while True:
            message = consumer.poll(WAIT_S)
            assert message is not None, f"{topic}: no answer within {WAIT_S} s"
            if message.error() is not None:
                assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
                break
            records.append((message.key(), message.value()))
        consumer.close()
        return records

    def freeze_inside_a_transaction(self, scorer: Service) -> None:
        """Send SIGSTOP at a moment when records of the scorer are written but not committed."""
        self.reader.wait_for(500)
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            scorer.suspend()
            time.sleep(0.1)  # what is in the sockets arrives at the broker
            if open_transactions(self.bootstrap, self.names):
                return
            scorer.resume()
            time.sleep(0.013)
        raise AssertionError("no open transaction was caught")
