"""Telemetry of a group member's partitions: each function writes the log line and the metric."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from prometheus_client import Counter, Gauge

from kafka_runtime.kafka_types import TopicPartition
from kafka_runtime.processor import State
from kafka_runtime.service import logs
from kafka_runtime.service.metrics import put
from kafka_runtime.topic_reader import READ_ERRORS

log = logs.get(__name__)

# What a moved offset does to records: they are read again, or never.
MOVES = ("again", "left_out")
# Input records that are read to count what a moved offset means; more are reported as this number.
MOST_COUNTED = 10_000

M = TypeVar("M", Counter, Gauge)


@dataclass(frozen=True, slots=True)
class OffsetMove:
    """Where a committed offset is beside this group's last outputs.

    answered_to: the offset after the last record that has outputs. again: records with outputs that get others.
    left_out: records without outputs that get none. Both are at most MOST_COUNTED.
    """

    committed: int
    answered_to: int
    again: int = 0
    left_out: int = 0


class PartitionMetrics(Protocol):
    """The series that each service has; those of a service with several stages have the stage as their first label."""

    rebalances: Counter
    assigned_partitions: Gauge
    #: By outcome.
    transactions: Counter
    torn_records: Counter
    #: By cause.
    rebuilds: Counter
    # By topic and partition, of any stage:
    lag_records: Gauge
    blocked_records: Gauge
    blocked_seconds: Gauge
    #: And by effect.
    offset_moved: Gauge
    #: And by state.
    partition_state: Gauge


class PartitionTelemetry:
    """What a service and each stage of it report of their partitions (kafka_runtime.processor.Telemetry)."""

    def __init__(self, metrics: PartitionMetrics, stage: str | None = None, *, not_of: str | None = None) -> None:
        """Take `not_of`: a topic that another stage reads, too, and whose series by partition it exports."""
        self._series = metrics
        self._labels = () if stage is None else (stage,)
        self._named = {} if stage is None else {"stage": stage}
        self._not_of = not_of
        #: Unread records of each partition.
        self.lags: dict[TopicPartition, int] = {}

    def assigned(self, sources: Sequence[TopicPartition]) -> None:
        """Report that the group assigned these partitions, and no others."""
        _child(self._series.rebalances, *self._labels).inc()
        _child(self._series.assigned_partitions, *self._labels).set(len(sources))
        log.info("partitions_assigned", **self._named, partitions=[f"{s.topic}-{s.partition}" for s in sources])

    def revoked(self, sources: Sequence[TopicPartition]) -> None:
        """Report that the group is about to reassign these partitions."""
        _child(self._series.assigned_partitions, *self._labels).set(0)
        if sources:
            log.info("partitions_revoked", **self._named, partitions=[f"{s.topic}-{s.partition}" for s in sources])

    def state(self, source: TopicPartition, state: State, detail: str) -> None:
        """Report that a partition entered `state`; remove its series when it is drained."""
        where = {"topic": source.topic, "partition": source.partition}
        if state is State.DRAINED:
            self.lags.pop(source, None)
            if source.topic != self._not_of:
                self._remove(source)
            log.info("partition_drained", **where)
            return
        if source.topic != self._not_of:
            for other in State:
                self._series.partition_state.labels(*_place(source), other.value).set(other is state)
        if state in {State.FENCING, State.RUNNING}:
            log.info("partition_state", state=state.value, **where)
        else:
            log.warning("partition_state", state=state.value, detail=detail, **where)

    def _remove(self, source: TopicPartition) -> None:
        """Remove the series of a partition that is no longer served here."""
        for gauge in (self._series.lag_records, self._series.blocked_records, self._series.blocked_seconds):
            put(gauge, _place(source), None)
        for effect in MOVES:
            put(self._series.offset_moved, [*_place(source), effect], None)
        for state in State:
            put(self._series.partition_state, [*_place(source), state.value], None)

    def transaction(self, source: TopicPartition, outcome: str, produce_s: float, commit_s: float) -> None:
        """Count an ended transaction (committed, aborted, fenced, unknown); log any but a committed one."""
        self._series.transactions.labels(*self._labels, outcome).inc()
        if outcome != "committed":
            log.warning(
                "transaction_ended",
                outcome=outcome,
                topic=source.topic,
                partition=source.partition,
                duration_s=round(produce_s + commit_s, 3),
            )

    def torn(self, records: int) -> None:
        """Count records whose committed results a broker had left in an open transaction, now aborted."""
        _child(self._series.torn_records, *self._labels).inc(records)

    def producer_rebuilt(
        self, source: TopicPartition, cause: str, error: BaseException, transactional_id: str | None
    ) -> None:
        """Count a producer that is replaced; log an error if another process has used its transactional id."""
        self._series.rebuilds.labels(*self._labels, cause).inc()
        write = log.error if cause == "fenced" else log.warning
        write(
            "producer_rebuilt",
            cause=cause,
            exception=repr(error),
            topic=source.topic,
            partition=source.partition,
            **({"transactional_id": transactional_id} if transactional_id is not None else {}),
        )

    def start_position(self, source: TopicPartition, position: int, why: str) -> None:
        """Log where a partition without a usable committed offset starts."""
        log.warning("partition_placed", position=position, why=why, topic=source.topic, partition=source.partition)

    def lag(self, source: TopicPartition, records: int, newest_ms: int | None) -> None:  # noqa: ARG002
        """Show how far the reader of a partition is behind."""
        self.lags[source] = records
        if source.topic != self._not_of:
            self._series.lag_records.labels(*_place(source)).set(records)

    def blocked(self, source: TopicPartition, records: int | None, seconds: float | None) -> None:
        """Show what is behind an open transaction, and for how long; nothing while that is not known."""
        if source.topic != self._not_of:
            put(self._series.blocked_records, _place(source), records)
            put(self._series.blocked_seconds, _place(source), seconds)


class OffsetComparisons:
    """Compare each partition's committed offset with the outputs of earlier processes, once, and report a move.

    A comparison runs beside the first batches: what it reads is fixed, and a successor must not wait for it.
    """

    def __init__(
        self, compare: Callable[[TopicPartition, int], Awaitable[OffsetMove | None]], offset_moved: Gauge
    ) -> None:
        """Take `compare`, which returns None where earlier outputs do not show the move, and the series for it."""
        self._compare = compare
        self._offset_moved = offset_moved
        self._compared: set[TopicPartition] = set()
        self._comparing: dict[TopicPartition, asyncio.Task[None]] = {}

    def start(self, source: TopicPartition, committed: int) -> None:
        """Compare, unless it was done before: an offset can be moved only while the group has no member."""
        if source not in self._compared:
            self._compared.add(source)
            self._comparing[source] = asyncio.create_task(self._run(source, committed))

    def cancel(self, source: TopicPartition) -> None:
        """Drop the comparison of a partition that was revoked."""
        if (comparing := self._comparing.pop(source, None)) is not None:
            comparing.cancel()

    async def _run(self, source: TopicPartition, committed: int) -> None:
        where = {"topic": source.topic, "partition": source.partition}
        try:
            found = await self._compare(source, committed)
        except READ_ERRORS as error:
            log.warning("offset_not_compared", exception=repr(error), **where)
            return
        except Exception:
            log.exception("offset_not_compared", **where)
            return
        for effect in MOVES:
            put(self._offset_moved, [*_place(source), effect], None if found is None else getattr(found, effect))
        if found is not None and (found.again or found.left_out):
            numbers = {effect: getattr(found, effect) for effect in MOVES}
            log.warning("offset_moved", **where, committed=found.committed, answered_to=found.answered_to, **numbers)


def _place(source: TopicPartition) -> tuple[str, str]:
    return source.topic, str(source.partition)


def _child(metric: M, *labels: str) -> M:
    """Return the series with these labels; the metric itself if it has none."""
    return metric.labels(*labels) if labels else metric
