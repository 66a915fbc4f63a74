"""The contract between a service and its partitions (`kafka_runtime.owned_partition`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Protocol, TypeVar

from aiokafka import ConsumerRecord, TopicPartition

from kafka_runtime.clients import FETCH_BYTES
from kafka_runtime.sinks import Result

C = TypeVar("C")


class State(StrEnum):
    """The activity of a partition; the label of `partition_state`."""

    FENCING = "fencing"
    RUNNING = "running"
    BACKING_OFF = "backing_off"
    NOT_AUTHORISED = "not_authorised"
    TOPIC_MISSING = "topic_missing"
    OFFSET_LOST = "offset_lost"
    REGISTRY_UNREACHABLE = "registry_unreachable"
    INPUT_BLOCKED = "input_blocked"
    QUARANTINED = "quarantined"
    PAUSED = "paused"
    DRAINED = "drained"


class PausePartition(Exception):  # noqa: N818 - a decision, not an error
    """Raised by a work's `process`: pause this partition, commit no offset, report `reason` until a restart."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Blocked:
    """Why records cannot be processed yet.

    state, detail: of the partition meanwhile. ready: how many of the first records can be. why_still: looks again, and
    returns the new detail, or None once the records can be processed.
    """

    state: State
    detail: str
    ready: int
    why_still: Callable[[], Awaitable[str | None]]


class PartitionProcessor(Protocol[C]):
    """The processing of a partition's records. One object serves all partitions of a process."""

    async def on_assigned(self, source: TopicPartition, position: int, metadata: str) -> int | None:
        """Restore state. Called after fencing, before reading. May return another position to read from."""

    def process(self, source: TopicPartition, records: Sequence[ConsumerRecord], *, at_end: bool) -> Result[C] | None:
        """Turn records into outputs. Runs in a thread, one call at a time; no I/O. None: no commit yet.

        `records` is empty when `tick_s` passed without any. `at_end`: the partition has been read to its end, and
        nothing is behind an open transaction.
        """

    def on_committed(self, source: TopicPartition, result: Result[C], records: Sequence[ConsumerRecord]) -> None:
        """Update the counters. Called on the loop after the commit."""

    def on_revoked(self, source: TopicPartition) -> None:
        """Drop the state of a partition that is no longer assigned."""


class Telemetry(Protocol):
    """The telemetry of a service; each call writes the log line and the metric."""

    def assigned(self, sources: Sequence[TopicPartition]) -> None:
        """Report that the group assigned these partitions, and no others."""

    def revoked(self, sources: Sequence[TopicPartition]) -> None:
        """Report that the group is about to reassign these partitions."""

    def state(self, source: TopicPartition, state: State, detail: str) -> None:
        """Report that a partition entered `state`."""

    def transaction(self, source: TopicPartition, outcome: str, produce_s: float, commit_s: float) -> None:
        """Report an ended transaction (committed, aborted, fenced, unknown) with the seconds of writes and commit."""

    def torn(self, records: int) -> None:
        """Report records whose committed results a broker had left in an open transaction, now aborted."""

    def producer_rebuilt(
        self, source: TopicPartition, cause: str, error: BaseException, transactional_id: str | None
    ) -> None:
        """Report that a producer is replaced. `cause` fenced: another process has used its transactional id."""

    def start_position(self, source: TopicPartition, position: int, why: str) -> None:
        """Report that a partition without a usable committed offset starts at `position`."""

    def lag(self, source: TopicPartition, records: int, newest_ms: int | None) -> None:
        """Report the unanswered records below the last stable offset, and Kafka time of the last one read or None."""

    def blocked(self, source: TopicPartition, records: int | None, seconds: float | None) -> None:
        """Report the offsets behind an open transaction and its least age in seconds; None if unknown."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How partitions are served.

    max_records: of one batch; the same number is read ahead. tick_s: silence of a partition after which `process` is
    called without records (None: never). commit_interval_s: least time between commits. answered_before: whether
    outputs of this group exist for a partition without committed offset. Then the offset was lost, and this is not a
    first start. fetch_bytes: at most this many in one response of a broker, half of them of one partition. unfinished:
    the output partitions that hold results for the input from an offset on in a transaction that no process will end,
    and the number of those records.
    prepare: gets what records need from elsewhere, before they are processed; returns what is in the way.
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
    unfinished: Callable[[TopicPartition, int], Awaitable[Mapping[TopicPartition, int]]] | None = None
    prepare: Callable[[TopicPartition, Sequence[ConsumerRecord]], Awaitable[Blocked | None]] | None = None
