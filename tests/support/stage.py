"""One test's topics on the shared broker, its reader, and the way to start scorers there."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import history
from brokers import Broker, Cluster
from confluent_kafka import Consumer, TopicPartition
from oracle import WAIT_S, Names, Reader, Sent, create_topics, open_transactions, send
from services import Service

from driftline.replay import EventSource, open_source


class Stage:
    """Broker, topics, reader and the way to start scorers, for one test."""

    def __init__(self, broker: Broker | Cluster, prefix: str, bundle: Path, folder: Path, replicas: int = 1) -> None:
        self.bootstrap = broker.bootstrap_servers
        self.names = Names(prefix)
        self.bundle = bundle
        self.folder = folder
        self._scorers = 0  # started so far: each has a log of its own
        for log in broker.logs:
            history.log(log)
        create_topics(self.bootstrap, self.names, replicas=replicas)
        self.reader = Reader(self.bootstrap, self.names)

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
        return open_source(Path("training/data/telco_churn.csv"), model=self.bundle, run="test", **options)

    def send_customers(self, count: int, into: Sent | None = None, **options: object) -> Sent:
        return self.send_from(self.source(**options), count, into)

    def send_from(self, source: EventSource, count: int, sent: Sent | None = None, **options: object) -> Sent:
        """`options`: the producer's."""
        records = source.take(count, 0.0, time.time_ns() // 1_000_000)
        return send(self.bootstrap, self.names.events, records, sent, **options)

    def records(self, topic: str) -> list[tuple[bytes | None, bytes | None]]:
        """Every committed record of a one-partition topic, (key, value)."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": f"{topic}-reader",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
            }
        )
        where = TopicPartition(topic, 0, 0)
        _, end = consumer.get_watermark_offsets(where, timeout=30)
        consumer.assign([where])
        records: list[tuple[bytes | None, bytes | None]] = []
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            for message in consumer.consume(1000, timeout=0.2):
                assert message.error() is None, message.error()
                records.append((message.key(), message.value()))
            if consumer.position([where])[0].offset >= end:
                break
        consumer.close()
        return records

    def freeze_inside_a_transaction(self, scorer: Service) -> None:
        """SIGSTOP at a moment when records of the scorer are written but not committed."""
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
