"""A broker in memory: an input log, transactions by transactional id with epochs, offsets, and a network that fails.

The model covers what the ownership protocol depends on: the first version of the transaction protocol, as Apache Kafka
4 keeps it for clients like aiokafka 0.14. InitProducerId raises the epoch and ends open transactions. A request of an
older epoch is fenced. Produced records are checked against the open transaction (KIP-890). EndTxn is answered before
its markers are written, and each marker is written at any later time. The broker ends a transaction that takes too
long. A repeated EndTxn of a finished transaction succeeds. Requests on one connection arrive in order, on two in any.
Each can be lost, arrive late, or be answered without a reader. A frozen broker processes them all when it wakes.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random

from aiokafka import TopicPartition
from aiokafka.errors import (
    InvalidTxnState,
    KafkaError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    ProducerFenced,
)

RETRY = object()  # the coordinator is still busy: ask again
OK = object()
FAULTS = ("lost", "late", "unanswered", "refused")
LATEST_S = 25.0
# How long a request travels, seconds: mostly next to nothing, now and then long enough for others to come between.
QUICK = ((0.0002, 0.002), (0.0002, 0.002), (0.0002, 0.002), (0.01, 0.1))


class ViolationError(AssertionError):
    """The promise was broken."""


@dataclass(eq=False)
class Connection:
    """Requests on it arrive in the order in which they were sent."""

    arrived: float = 0.0


@dataclass(eq=False)
class Entry:
    """A record on an output partition: which input record it answers, and what became of its transaction."""

    offset: int
    state: str = "open"


@dataclass(eq=False)
class Transaction:
    """What the coordinator knows of one transactional id."""

    epoch: int = -1
    state: str = "Empty"
    number: int = 0  # of the transaction, so that a time-out meets the one it was meant for
    members: set = field(default_factory=set)
    entries: list[Entry] = field(default_factory=list)
    offsets: dict[TopicPartition, int] = field(default_factory=dict)


class Cluster:
    """One broker and the network to it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, draw: Random, transaction_timeout_s: float) -> None:
        self.loop, self.draw = loop, draw
        self.check_epochs = True
        self.frozen_until = 0.0
        self.faults: dict[str, list[str]] = defaultdict(list)  # kind of request → what happens to the next ones
        self.inputs: dict[TopicPartition, int] = {}  # how many records there are
        self.outputs: dict[TopicPartition, list[Entry]] = defaultdict(list)
        self.committed: dict[TopicPartition, int] = {}
        self.taken_back = 0  # records whose commit was acknowledged and is undone
        self.requests = 0
        self._limit_s = transaction_timeout_s
        self._transactions: dict[str, Transaction] = defaultdict(Transaction)
        self._sequences: dict[tuple, int] = defaultdict(int)

    # -- the network --------------------------------------------------------------------------------------------------

    async def ask(
        self, sent_by: Callable[[], bool], connection: Connection, kind: str, effect: Callable[[], object]
    ) -> object:
        """Send a request; its answer. Waits for ever if there is none. sent_by: whether the sender still lives."""
        answer: asyncio.Future[object] = self.loop.create_future()
        if not sent_by():
            return await answer
        self.requests += 1
        waiting = self.faults[kind]
        fault = waiting.pop(0) if waiting else ""

        def arrive() -> None:
            now = self.loop.time()
            if now < self.frozen_until:
                at = max(self.frozen_until + self.draw.uniform(0, 0.01), connection.arrived + 1e-6)
                connection.arrived = at
                self.loop.call_at(at, arrive)
                return
            result = MessageSizeTooLargeError() if fault == "refused" and kind == "produce" else effect()
            if fault != "unanswered":
                self.loop.call_later(self.draw.uniform(0.0002, 0.002), reply, result)

        def reply(result: object) -> None:
            if sent_by() and not answer.done():
                answer.set_result(result)

        if fault != "lost":
            delay = self.draw.uniform(*self.draw.choice(QUICK))
            if fault == "late":
                delay = self.draw.uniform(0.5, self.draw.choice((2.0, LATEST_S)))
            connection.arrived = max(self.loop.time() + delay, connection.arrived + 1e-6)
            self.loop.call_at(connection.arrived, arrive)
        return await answer

    # -- the transaction coordinator ----------------------------------------------------------------------------------

    def init(self, name: str) -> object:
        """InitProducerId: the new epoch."""
        found = self._transactions[name]
        if found.state == "Ongoing":
            found.epoch += 1
            self._finish(found, "Abort")
            return RETRY
        if found.state.startswith("Prepare"):
            return RETRY
        found.epoch += 1
        found.state = "Empty"
        return found.epoch

    def add(self, name: str, epoch: int, member: object) -> object:
        """AddPartitionsToTxn, AddOffsetsToTxn."""
        found = self._transactions[name]
        if (wrong := self._fenced(found, epoch)) is not None:
            return wrong
        if found.state.startswith("Prepare"):
            return RETRY
        if found.state != "Ongoing":
            found.state, found.number = "Ongoing", found.number + 1
            found.members, found.entries, found.offsets = set(), [], {}
            self.loop.call_later(self._limit_s, self._expire, found, found.number)
        found.members.add(member)
        return OK

    def produce(self, name: str, epoch: int, target: TopicPartition, sequence: int, offsets: list[int]) -> object:
        """Produce: known batches are not written twice, and none outside a transaction."""
        found = self._transactions[name]
        if (wrong := self._outside(found, epoch, target)) is not None:
            return wrong
        key = (name, epoch, target)
        if sequence < self._sequences[key]:
            return OK
        if sequence > self._sequences[key]:
            return OutOfOrderSequenceNumber()
        self._sequences[key] += len(offsets)
        entries = [Entry(offset) for offset in offsets]
        self.outputs[target] += entries
        found.entries += entries
        return OK

    def commit_offset(self, name: str, epoch: int, source: TopicPartition, offset: int) -> object:
        """TxnOffsetCommit."""
        found = self._transactions[name]
        if (wrong := self._outside(found, epoch, "offsets")) is not None:
            return wrong
        found.offsets[source] = offset
        return OK

    def end(self, name: str, epoch: int, outcome: str) -> object:
        """EndTxn, outcome Commit or Abort: answered when it is decided."""
        found = self._transactions[name]
        if (wrong := self._fenced(found, epoch)) is not None:
            return wrong
        if found.state == "Ongoing":
            self._finish(found, outcome)
            return OK
        if found.state.startswith("Prepare"):
            return RETRY
        return OK if found.state == f"Complete{outcome}" else InvalidTxnState()

    def take_back(self, source: TopicPartition, target: TopicPartition, records: int) -> None:
        """Undo an acknowledged commit, as brokers do in an orderly restart: its last `records` are open to be answered.

        Repeats KAFKA-20734 from outside: the answers become invisible and the offset is the one before.
        """
        answers = [entry for entry in self.outputs[target] if entry.state == "Commit"]
        for entry in answers[-records:]:
            entry.state = "Abort"
        self.committed[source] -= records
        self.taken_back += records

    def _fenced(self, found: Transaction, epoch: int) -> KafkaError | None:
        return ProducerFenced() if epoch != found.epoch and self.check_epochs else None

    def _outside(self, found: Transaction, epoch: int, member: object) -> KafkaError | None:
        if (wrong := self._fenced(found, epoch)) is not None:
            return wrong
        return None if found.state == "Ongoing" and member in found.members else InvalidTxnState()

    def _expire(self, found: Transaction, number: int) -> None:
        if (found.state, found.number) != ("Ongoing", number):
            return
        if self.loop.time() < self.frozen_until:
            self.loop.call_at(self.frozen_until + self.draw.uniform(0, 0.02), self._expire, found, number)
            return
        found.epoch += 1
        self._finish(found, "Abort")

    def _finish(self, found: Transaction, outcome: str) -> None:
        found.state = f"Prepare{outcome}"
        entries, offsets = found.entries, found.offsets
        markers = [self.draw.choice((0.001, 0.005, 0.05)) for _ in range(2)]
        self.loop.call_later(markers[0], self._mark_entries, entries, outcome)
        self.loop.call_later(markers[1], self._mark_offsets, offsets, outcome)
        self.loop.call_later(max(markers) + 1e-6, setattr, found, "state", f"Complete{outcome}")

    def _mark_entries(self, entries: list[Entry], outcome: str) -> None:
        for entry in entries:
            entry.state = outcome

    def _mark_offsets(self, offsets: dict[TopicPartition, int], outcome: str) -> None:
        for source, offset in offsets.items() if outcome == "Commit" else ():
            if offset < self.committed.get(source, 0):
                raise ViolationError(f"{source}: the committed offset went from {self.committed[source]} to {offset}")
            self.committed[source] = offset

    # -- the oracle ---------------------------------------------------------------------------------------------------

    def visible(self, target: TopicPartition) -> list[int]:
        """Which input records are answered, as a read_committed reader sees them."""
        return [entry.offset for entry in self.outputs[target] if entry.state == "Commit"]

    def check(self) -> None:
        """At any moment: nothing answered twice, and in order."""
        for target in self.outputs:
            seen = self.visible(target)
            if any(later <= earlier for earlier, later in pairwise(seen)):
                raise ViolationError(f"{target}: answered {seen}")

    def answered(self, source: TopicPartition, target: TopicPartition) -> bool:
        """Whether every input record is."""
        return self.visible(target) == list(range(self.inputs[source]))
