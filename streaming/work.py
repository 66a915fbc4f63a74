"""What a service brings to its partitions, and what it is told: between the services and `streaming.partitions`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Protocol

from aiokafka import ConsumerRecord, TopicPartition

from streaming.clients import FETCH_BYTES
from streaming.transactions import Result


class State(StrEnum):
    """What a partition is doing; the label of `partition_state`."""

    FENCING = "fencing"
    RUNNING = "running"
    BACKING_OFF = "backing_off"
    NOT_AUTHORISED = "not_authorised"
    TOPIC_MISSING = "topic_missing"
    OFFSET_LOST = "offset_lost"
    QUARANTINED = "quarantined"
    PAUSED = "paused"
    DRAINED = "drained"


class Stop(Exception):  # noqa: N818 - a decision, not an error
    """Raised by a work's `process`: pause this partition, commit nothing, say `reason` until the process restarts."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Work(Protocol):
    """What is done with the records of a partition. One object serves all partitions of a process."""

    async def opened(self, source: TopicPartition, position: int, metadata: str) -> int | None:
        """Called after fencing, before reading: restore state. May return another position to read from."""

    def process(self, source: TopicPartition, records: Sequence[ConsumerRecord], *, at_end: bool) -> Result | None:
        """Turn records into outputs. Runs in a thread, one call at a time; no I/O. None: nothing to commit yet.

        `records` is empty when `tick_s` passed without any. `at_end`: the partition has been read to its end.
        """

    def committed(self, source: TopicPartition, result: Result, records: Sequence[ConsumerRecord]) -> None:
        """Called on the loop after the commit: this is where counters move."""

    def closed(self, source: TopicPartition) -> None:
        """The partition is not ours any more."""


class Telemetry(Protocol):
    """What a service wants to know; each call writes the log line and the metric."""

    def assigned(self, sources: Sequence[TopicPartition]) -> None:
        """The group gave us these partitions, and no others."""

    def revoked(self, sources: Sequence[TopicPartition]) -> None:
        """The group is about to give these partitions away."""

    def state(self, source: TopicPartition, state: State, detail: str) -> None:
        """A partition entered `state`."""

    def transaction(self, source: TopicPartition, outcome: str, produce_s: float, commit_s: float) -> None:
        """A transaction ended: committed, aborted, fenced or unknown; how long the writes and the commit took."""

    def rebuilt(self, source: TopicPartition, cause: str, error: BaseException, transactional_id: str | None) -> None:
        """A producer is thrown away and made anew. `cause` fenced: somebody else has used its transactional id."""

    def placed(self, source: TopicPartition, position: int, why: str) -> None:
        """A partition without a usable committed offset starts at `position`."""

    def lag(self, source: TopicPartition, records: int, newest_ms: int | None) -> None:
        """Records below the last stable offset not answered; Kafka time of the last one read, None if at the end."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How partitions are served.

    max_records: of one batch, and so many more are read ahead. tick_s: how long a partition may be silent before
    `process` is called with no records (None: never). commit_interval_s: least time between commits. answered_before:
    whether outputs of this group exist for a partition that has no committed offset: then the offset was lost, and this
    is no first start. fetch_bytes: at most so many in one response of a broker, half of them of one partition.
    unfinished: in which output partitions records for the input from an offset on stand in a transaction that nobody
    will end.
    """

    group: str
    max_records: int
    commit_interval_s: float
    delivery: Literal["exactly_once", "at_least_once"] = "exactly_once"
    first_start: Literal["earliest", "latest"] = "earliest"
    offset_lost: Literal["stop", "earliest", "latest"] = "stop"
    tick_s: float | None = None
    answered_before: Callable[[TopicPartition], Awaitable[bool]] | None = None
    fetch_bytes: int = FETCH_BYTES
    unfinished: Callable[[TopicPartition, int], Awaitable[Sequence[TopicPartition]]] | None = None
