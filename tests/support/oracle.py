"""The tests' own eyes on Kafka: confluent-kafka (librdkafka), which shares no code with the services."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from support import history

WAIT_S = 120.0


@dataclass(frozen=True)
class Names:
    """Topic and group names of one test, and the environment that passes them to a service."""

    prefix: str

    @property
    def events(self) -> str:
        return f"{self.prefix}-events"

    @property
    def predictions(self) -> str:
        return f"{self.prefix}-predictions"

    @property
    def dead_letters(self) -> str:
        return f"{self.prefix}-dead-letters"

    @property
    def shadow(self) -> str:
        return f"{self.prefix}-shadow"

    @property
    def group(self) -> str:
        return f"{self.prefix}-scorer"

    @property
    def environment(self) -> dict[str, str]:
        kinds = (
            "events",
            "predictions",
            "shadow",
            "dead-letters",
            "labels",
            "panes",
            "measurements",
            "label-state",
            "alerts",
        )
        topics = {f"TOPIC_{kind.upper().replace('-', '_')}": f"{self.prefix}-{kind}" for kind in kinds}
        return {**topics, "SCORER_GROUP": self.group, "DRIFT_GROUP": f"{self.prefix}-drift"}


def create_topics(bootstrap: str, names: Names, partitions: int = 4, replicas: int = 1) -> None:
    """Create every topic of one test; panes, measurements and alerts have one partition."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    new = []
    for topic in (value for key, value in names.environment.items() if key.startswith("TOPIC_")):
        single = topic.endswith(("-panes", "-measurements", "-alerts"))
        new.append(NewTopic(topic, num_partitions=1 if single else partitions, replication_factor=replicas))
    for future in admin.create_topics(new).values():
        future.result(timeout=WAIT_S)


@dataclass
class Sent:
    """What was produced: (partition, offset) → (key, value, headers)."""

    records: dict[tuple[int, int], tuple[bytes | None, bytes | None, list]] = field(default_factory=dict)


def send(bootstrap: str, topic: str, records: list[tuple], sent: Sent | None = None, **options: object) -> Sent:
    """Produce (key, value[, headers[, partition]]) tuples and note where each one is."""
    sent = sent or Sent()
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5, "message.max.bytes": 5_000_000, **options})
    failures = []

    def delivered(error: object, message: Message, record: tuple) -> None:
        if error is not None:
            failures.append(error)
        else:
            sent.records[message.partition(), message.offset()] = (*record, *([[]] * (3 - len(record))))[:3]
            history.sent(topic, message.partition(), message.offset())

    for record in records:
        headers = list(record[2]) if len(record) > 2 else []
        where = {"partition": record[3]} if len(record) > 3 else {}
        while True:
            try:
                producer.produce(
                    topic, key=record[0], value=record[1], headers=headers, **where,
                    on_delivery=lambda e, m, r=record: delivered(e, m, r),
                )  # fmt: skip
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    assert producer.flush(WAIT_S) == 0
    assert not failures, failures[:3]
    return sent


@dataclass
class Answer:
    """One record of an output topic."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    seen: float = field(default_factory=time.time, compare=False)  # by the reader, wall clock

    @property
    def source(self) -> tuple[int, int]:
        """Return (partition, offset) of the input record that it answers."""
        found = dict(self.headers)
        return int(found["driftline-source-partition"]), int(found["driftline-source-offset"])

    @property
    def stamped(self) -> bool:
        """Return whether its headers name the record that it answers."""
        return "driftline-source-offset" in dict(self.headers)

    @property
    def reason(self) -> str | None:
        found = dict(self.headers).get("driftline-reason")
        return found.decode() if found is not None else None


class Reader(threading.Thread):
    """Reads output topics as a downstream consumer does (read_committed), all the time, from the start.

    Everything it has seen was visible: a duplicate that was visible only briefly is found, too.
    """

    def __init__(
        self, bootstrap: str, names: Names, partitions: int = 4, topics: tuple[str, ...] | None = None
    ) -> None:
        """Start reading. `topics`: predictions and dead letters, if not given."""
        super().__init__(name="reader", daemon=True)
        self.answers: list[Answer] = []
        self._ended = threading.Event()
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": f"{names.prefix}-reader",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
            }
        )
        self._consumer.assign(
            [
                TopicPartition(topic, p, 0)
                for topic in topics or (names.predictions, names.dead_letters)
                for p in range(partitions)
            ]
        )
        history.reader(self)
        self.start()

    def run(self) -> None:
        while not self._ended.is_set():
            for message in self._consumer.consume(num_messages=1000, timeout=0.2):
                if message.error() is None:
                    self.answers.append(
                        Answer(message.topic(), message.partition(), message.offset(), message.key(), message.value(),
                               list(message.headers() or []))
                    )  # fmt: skip

    def wait_for(self, count: int, timeout_s: float = WAIT_S) -> None:
        """Wait until `count` answers have been seen; the assertion has the number that was seen."""
        deadline = time.monotonic() + timeout_s
        while len(self.answers) < count and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(self.answers) >= count, f"{len(self.answers)} of {count} answers after {timeout_s} s"

    def close(self) -> None:
        self._ended.set()
        self.join(10)
        self._consumer.close()


def assert_exactly_once(sent: Sent, answers: list[Answer]) -> None:
    """Assert one answer and no more for every record sent; in each output partition the sources' order is kept."""
    seen: defaultdict[tuple[int, int], list[Answer]] = defaultdict(list)
    for answer in answers:
        seen[answer.source].append(answer)
    lost = [source for source in sent.records if source not in seen]
    doubled = {source: copies for source, copies in seen.items() if len(copies) > 1}
    extra = [source for source in seen if source not in sent.records]
    history.verdict(len(sent.records), len(lost), sum(len(copies) - 1 for copies in doubled.values()))
    assert not lost, f"{len(lost)} lost, e.g. {sorted(lost)[:5]}"
    assert not doubled, f"{len(doubled)} answered more than once: {_places(doubled)}"
    assert not extra, f"{len(extra)} answers to nothing, e.g. {extra[:5]}"
    last: dict[tuple[str, int], int] = {}
    for answer in sorted(answers, key=lambda a: a.offset):
        where = (answer.topic, answer.source[0])
        assert answer.source[1] > last.get(where, -1), f"order broken at {answer.topic} offset {answer.offset}"
        last[where] = answer.source[1]


def _places(doubled: dict[tuple[int, int], list[Answer]]) -> str:
    """Return where each copy is, of the first and last sources of every partition."""
    ends = []
    for partition in sorted({source[0] for source in doubled}):
        sources = sorted(source for source in doubled if source[0] == partition)
        ends += sources[:2] + sources[2:][-1:]
    told = []
    for source in ends:
        copies = ", ".join(
            f"{a.topic} {a.partition}@{a.offset} seen {a.seen:.3f}"
            for a in sorted(doubled[source], key=lambda a: a.seen)
        )
        told.append(f"{source[0]}@{source[1]} at {copies}")
    return "; ".join(told)


def committed(bootstrap: str, group: str, topic: str) -> dict[int, int]:
    """Return the group's committed offset per partition, once no transaction is about to move it.

    What a transaction has written may be seen a moment before its offset: the markers go to each partition on its own.
    """
    admin = AdminClient({"bootstrap.servers": bootstrap})
    deadline = time.monotonic() + WAIT_S
    while True:
        asked = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)], require_stable=True)
        (future,) = asked.values()
        found = [tp for tp in future.result(timeout=WAIT_S).topic_partitions if tp.topic == topic]
        unstable = [tp for tp in found if tp.error is not None]
        if not unstable:
            return {tp.partition: tp.offset for tp in found}
        assert time.monotonic() < deadline, f"offsets not stable after {WAIT_S} s: {unstable}"
        time.sleep(0.02)


def members(bootstrap: str, group: str) -> int:
    """Return how many members the broker counts in the group: a removed member may not have noticed it yet."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    (future,) = admin.describe_consumer_groups([group]).values()
    return len(future.result(timeout=WAIT_S).members)


def ends(bootstrap: str, topic: str, partitions: int = 4) -> dict[int, int]:
    """Return the end of each partition of a topic."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "ends"})
    found = {p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=WAIT_S)[1] for p in range(partitions)}
    consumer.close()
    return found


def open_transactions(bootstrap: str, names: Names, partitions: int = 4) -> list[int]:
    """Output partitions in which records are written but not committed yet: high watermark above last stable offset."""
    found = set()
    for topic in (names.predictions, names.dead_letters):
        ends = {}
        for level in ("read_uncommitted", "read_committed"):
            consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "ends", "isolation.level": level})
            for p in range(partitions):
                ends[level, p] = consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=WAIT_S)[1]
            consumer.close()
        found |= {p for p in range(partitions) if ends["read_uncommitted", p] > ends["read_committed", p]}
    return sorted(found)
