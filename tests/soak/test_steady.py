"""Both services under a steady stream: what they hold stays as much as it was, and nothing is lost or doubled."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import pytest
from confluent_kafka import Consumer, TopicPartition
from support.oracle import Names, create_topics
from support.preloaded import OWN_INTERPRETER
from support.services import Service
from support.waiting import wait_until

from bench.figures import age_ms, quantile
from bench.stage import Feeder
from driftline.local_kafka.broker import LocalBroker

LOOKS = 5
MEGABYTE = 1 << 20
PARTITIONS = 4


@dataclass(frozen=True)
class Form:
    """How fast, how often what is held is looked at, and how often in all."""

    rate: int  # events per second
    slice_s: int
    slices: int

    @property
    def sent(self) -> int:
        """How many events all slices have."""
        return self.rate * self.slice_s * self.slices


def form(minutes: float, rate: int) -> Form:
    """Return the short form, of every test run (0 minutes), or the long one: it finds what grows slowly."""
    return Form(rate, 20, max(9, round(minutes * 3))) if minutes else Form(1000, 4, 9)


@dataclass
class Position:
    """How far the answers to one input partition have come."""

    answers: int = 0
    last: int = -1
    offsets: int = 0  # their sum


class Tally(threading.Thread):
    """Reads the predictions as a downstream consumer does, record by record, and keeps only sums.

    A stream of hours does not fit into memory. Answers in rising order of their source's offset hold no duplicate, and
    if there are as many as were sent, none is missing.
    """

    def __init__(self, bootstrap: str, topic: str) -> None:
        super().__init__(name="tally", daemon=True)
        self.sources = {partition: Position() for partition in range(PARTITIONS)}
        self.disorder: list[tuple[int, int]] = []
        self.ages_ms: list[float] = []
        self._ended = threading.Event()
        self._consumer = Consumer(
            {"bootstrap.servers": bootstrap, "group.id": topic, "isolation.level": "read_committed",
             "enable.auto.commit": False, "auto.offset.reset": "earliest"}
        )  # fmt: skip
        self._consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
        self.start()

    @property
    def answers(self) -> int:
        return sum(position.answers for position in self.sources.values())

    def run(self) -> None:
        while not self._ended.is_set():
            message = self._consumer.poll(0.2)
            if message is None or message.error() is not None:
                continue
            self.ages_ms.append(age_ms(time.time_ns(), message.value())[1])
            headers = dict(message.headers())
            offset = int(headers["driftline-source-offset"])
            position = self.sources[int(headers["driftline-source-partition"])]
            if offset <= position.last:
                self.disorder.append((message.partition(), message.offset()))
            position.answers += 1
            position.offsets += offset
            position.last = offset

    def taken(self) -> list[float]:
        """The ages since the last call, ascending."""
        ages, self.ages_ms = self.ages_ms, []
        return sorted(ages)

    def close(self) -> None:
        self._ended.set()
        self.join(10)
        self._consumer.close()


@dataclass
class Held:
    """What the scorer held at the end of each slice, and how old answers were in it.

    Held is what each of several looks finds: a batch has separate tasks for some milliseconds (three were seen).
    """

    memory: list[int] = field(default_factory=list)
    tasks: list[int] = field(default_factory=list)
    sockets: list[int] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)

    def look(self, scorer: Service, ages: list[float], second: int) -> None:
        self.memory.append(scorer.memory_bytes())
        self.tasks.append(min(scorer.tasks() for _ in range(LOOKS)))
        self.sockets.append(min(scorer.sockets() for _ in range(LOOKS)))
        self.p99_ms.append(quantile(ages, 0.99))
        sys.stdout.write(
            f"{second:6} s  {self.memory[-1] / 1e6:6.1f} MB  {self.tasks[-1]} tasks  "
            f"{self.sockets[-1]} sockets  event age p50 {quantile(ages, 0.5):5.1f}  p99 {self.p99_ms[-1]:6.1f} ms\n"
        )
        sys.stdout.flush()


@pytest.mark.timeout(0)  # the requested duration
def test_what_a_scorer_holds_does_not_grow_under_a_steady_stream(
    broker: LocalBroker, topic_prefix: str, telco_bundle: Path, tmp_path: Path, minutes: float
) -> None:
    """5,000 events a second (short form: 1,000): memory, tasks, sockets and event age do not grow in the last third."""
    its = form(minutes, 5000)
    names = Names(topic_prefix)
    create_topics(broker.bootstrap_servers, names)
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "SCORER_MODEL": str(telco_bundle),
        **OWN_INTERPRETER,
        **names.environment,
    }
    held = Held()
    tally = Tally(broker.bootstrap_servers, names.predictions)
    with (
        Feeder(broker.bootstrap_servers, telco_bundle) as feeder,
        Service("scorer", environment, tmp_path / "scorer.log") as scorer,
    ):
        scorer.wait_ready()
        for number in range(1, its.slices + 1):
            feeder.send(names.events, its.rate, its.rate * its.slice_s)
            held.look(scorer, tally.taken(), number * its.slice_s)
        wait_until(lambda: tally.answers >= its.sent, f"{its.sent} answers")
        assert scorer.metric("driftline_scorer_producer_rebuilds_total") == 0
        assert scorer.metric("driftline_scorer_transactions_total", outcome="committed") > 0
        assert scorer.stop() == 0
    tally.close()
    assert not tally.disorder, f"{len(tally.disorder)} answers out of order or doubled"
    for partition, position in tally.sources.items():
        n = position.answers
        assert position.offsets == n * (n - 1) // 2, f"partition {partition}: {n} answers are not offsets 0 to {n - 1}"
    assert tally.answers == its.sent
    third = len(held.memory) // 3
    before, after = slice(third, 2 * third), slice(-third, None)
    assert median(held.memory[after]) < median(held.memory[before]) + 10 * MEGABYTE
    # medians: one slice of a busy machine has some tasks more
    assert median(held.tasks[after]) <= median(held.tasks[before]) + 2
    assert median(held.sockets[after]) <= median(held.sockets[before]) + 2
    # independent of other load; a queue that grows is another matter
    assert median(held.p99_ms[after]) < 3 * median(held.p99_ms[before]) + 100


@pytest.mark.timeout(0)
def test_what_a_drift_worker_holds_does_not_grow_while_windows_close(
    broker: LocalBroker, topic_prefix: str, telco_bundle: Path, tmp_path: Path, minutes: float
) -> None:
    """2,000 events a second (short form: 1,000) and their predictions, a third of the time: memory stays flat."""
    its = form(minutes / 3, 2000)
    names = Names(topic_prefix)
    create_topics(broker.bootstrap_servers, names)
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "SCORER_MODEL": str(telco_bundle),
        **OWN_INTERPRETER,
        "DRIFT_WINDOWS": "10s,30s",
        "DRIFT_PANE": "5s",
        "DRIFT_ALLOWED_LATENESS": "5s",
        **names.environment,
    }
    memory: list[int] = []
    with (
        Feeder(broker.bootstrap_servers, telco_bundle) as feeder,
        Service("scorer", environment, tmp_path / "scorer.log") as scorer,
        Service("drift_worker", environment, tmp_path / "drift_worker.log") as worker,
    ):
        for service in (scorer, worker):
            service.wait_ready()
        for number in range(1, its.slices + 1):
            feeder.send(names.events, its.rate, its.rate * its.slice_s)
            memory.append(worker.memory_bytes())
            sys.stdout.write(f"{number * its.slice_s:6} s  drift worker {memory[-1] / 1e6:6.1f} MB\n")
            sys.stdout.flush()
        counted = "driftline_drift_counted_events_total"
        wait_until(lambda: worker.metric(counted) == 2 * its.sent, "every event and every prediction is counted")
        windows = its.slices * its.slice_s // 10 - 3
        wait_until(
            lambda: worker.metric("driftline_drift_windows_total", window="10s") >= windows, f"{windows} windows"
        )
        assert (scorer.stop(), worker.stop()) == (0, 0)
    third = len(memory) // 3
    assert median(memory[-third:]) < median(memory[third : 2 * third]) + 10 * MEGABYTE
