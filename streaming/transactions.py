"""How a batch's outputs and its input's offset are written: all or nothing, or at least once.

Exactly once, the transactional id is bound to the input partition, so the broker itself fences whoever owned the
partition before. (aiokafka 0.14 speaks the first version of the protocol, in which offsets carry no member or
generation: one producer per process would let a process that was paused commit old offsets.)
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata

from streaming import clients, logs
from streaming.settings import KafkaSettings

log = logs.get(__name__)

# key, value, headers (aiokafka takes a list of pairs, and no tuple of them)
Output = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]
# Asked right before the commit; it may also raise.
StillOurs = Callable[[], Awaitable[bool]]
# Every await on the producer is bounded: several of its calls never return (docs/delivery.md, traps).
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 5.0
ABORT_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a batch: records to write (key, value, headers), and what to commit with them.

    outputs: per topic, written to partition input partition mod count; or per topic and partition.
    offset: the position to commit, None for the position after the batch. metadata: committed beside it. context:
    the work's own, handed back after the commit.
    """

    outputs: Mapping[str | TopicPartition, Sequence[Output]]
    offset: int | None = None
    metadata: str = ""
    context: object = field(default=None, repr=False)


class Sink(Protocol):
    """Where one input partition's results go. Used by one task; thrown away after any failure."""

    async def start(self) -> None:
        """Connect; whatever a predecessor left open is settled when this returns."""

    async def write(self, result: Result, offset: int, still_ours: StillOurs) -> tuple[float, float]:
        """Write one batch and commit `offset`. After any exception the sink must be stopped and the offset read again.

        Returns the seconds until every record was acknowledged, and the seconds from there to the end of the commit.
        Raises KafkaError, TimeoutError, or AssertionError (aiokafka's state machine); IllegalStateError if the
        partition was lost before the commit.
        """

    async def abandon(self, outputs: Sequence[TopicPartition], offset: int) -> None:
        """End, as aborted, what a broker left open of an earlier transaction of ours in `outputs`; commit nothing.

        Raises as `write` does.
        """

    async def stop(self) -> None:
        """Close, within bounds."""


def transactional_id(group: str, source: TopicPartition) -> str:
    """The one id under which anybody of `group` may answer `source`."""
    return f"{group}.{source.topic}.{source.partition}"


class TransactionalSink:
    """One transactional producer bound to the input partition: outputs and offset are one transaction."""

    def __init__(self, settings: KafkaSettings, group: str, source: TopicPartition) -> None:
        self._group = group
        self._source = source
        self.transactional_id = transactional_id(group, source)
        # the transaction must end before the broker ends it
        self._limit_s = settings.kafka_transaction_timeout.total_seconds()
        self._producer: AIOKafkaProducer = clients.transactional_producer(settings, self.transactional_id)
        self._abortable = False

    async def start(self) -> None:
        """Fence the previous owner; its open transaction is aborted, or completed if it was being committed."""
        async with asyncio.timeout(START_TIMEOUT_S):
            await self._producer.start()

    async def write(self, result: Result, offset: int, still_ours: StillOurs) -> tuple[float, float]:
        """Begin, write outputs and offset side by side, wait for every acknowledgement, commit."""
        producer = self._producer
        async with asyncio.timeout(self._limit_s):
            started = time.monotonic()
            await producer.begin_transaction()
            self._abortable = True
            offsets = {self._source: OffsetAndMetadata(offset, result.metadata)}
            # commit_transaction succeeds although a produce in it failed: every delivery is awaited first
            await _all(
                deliver(producer, self._source.partition, result),
                producer.send_offsets_to_transaction(offsets, self._group),
            )
            acknowledged = time.monotonic()
            if not await still_ours():
                raise IllegalStateError(f"{self._source} was lost before the commit")
            self._abortable = False
            await producer.commit_transaction()
            return acknowledged - started, time.monotonic() - acknowledged

    async def abandon(self, outputs: Sequence[TopicPartition], offset: int) -> None:
        """Abort a transaction with one empty record in each of `outputs`, and an offset.

        Its markers end whatever stands open there under our transactional id, older records and offsets included.
        """
        # with a key: a compacted topic takes no record without one
        remains = Result({output: [(b"aborted", None, [])] for output in outputs})
        async with asyncio.timeout(self._limit_s):
            await self._producer.begin_transaction()
            self._abortable = True
            await _all(
                deliver(self._producer, self._source.partition, remains),
                self._producer.send_offsets_to_transaction({self._source: OffsetAndMetadata(offset, "")}, self._group),
            )
            self._abortable = False
            await self._producer.abort_transaction()
        where = {"topic": self._source.topic, "partition": self._source.partition}
        log.warning("torn_transaction_aborted", outputs=[str(output) for output in outputs], offset=offset, **where)

    async def stop(self) -> None:
        """End an open transaction if its outcome is still ours to decide, and close, within bounds."""
        if self._abortable:
            try:
                async with asyncio.timeout(ABORT_TIMEOUT_S):
                    await self._producer.abort_transaction()
            except (KafkaError, AssertionError, TimeoutError) as error:
                # after a fence this is the rule; the next owner's start ends the transaction
                log.debug("abort_failed", transactional_id=self.transactional_id, exception=repr(error))
        await _stop(self._producer, self._source)


class AtLeastOnceSink:
    """An idempotent producer, and the offset committed after every record of the batch is acknowledged.

    The commit runs beside the next batch, so that nobody waits for it; a crash before it repeats what it would have
    covered, and `prediction_id` lets consumers drop what they have seen.
    """

    def __init__(self, settings: KafkaSettings, consumer: AIOKafkaConsumer, source: TopicPartition) -> None:
        self._consumer = consumer
        self._source = source
        self._limit_s = settings.kafka_transaction_timeout.total_seconds()
        self._producer: AIOKafkaProducer = clients.idempotent_producer(settings)
        self._acknowledged: OffsetAndMetadata | None = None  # to commit; None when all is
        self._wake = asyncio.Event()
        self._settled = asyncio.Event()
        self._committing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect."""
        async with asyncio.timeout(START_TIMEOUT_S):
            await self._producer.start()
        self._committing = asyncio.create_task(self._commit(), name=f"commits of {self._source}")

    async def write(self, result: Result, offset: int, still_ours: StillOurs) -> tuple[float, float]:
        """Write, wait for every acknowledgement, leave the offset to be committed. Raises what a commit met, too."""
        async with asyncio.timeout(self._limit_s):
            started = time.monotonic()
            await deliver(self._producer, self._source.partition, result)
            if self._committing is not None and self._committing.done():
                self._committing.result()
            if not await still_ours():
                raise IllegalStateError(f"{self._source} was lost before the commit")
        self._acknowledged = OffsetAndMetadata(offset, result.metadata)
        self._settled.clear()
        self._wake.set()
        return time.monotonic() - started, 0.0

    async def abandon(self, outputs: Sequence[TopicPartition], offset: int) -> None:
        """Nothing to do: there are no transactions."""

    async def _commit(self) -> None:
        """Commit the latest acknowledged offset, as a member of the group, again and again."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if (latest := self._acknowledged) is not None:
                async with asyncio.timeout(self._limit_s):
                    await self._consumer.commit({self._source: latest})
                if self._acknowledged is latest:
                    self._acknowledged = None
                    self._settled.set()

    async def stop(self) -> None:
        """Commit what is acknowledged, if that can still be done, and close, within bounds."""
        if self._committing is not None:
            if self._acknowledged is not None:
                settled = asyncio.ensure_future(self._settled.wait())
                await asyncio.wait(
                    (settled, self._committing), timeout=ABORT_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED
                )
                settled.cancel()
            self._committing.cancel()
            (outcome,) = await asyncio.gather(self._committing, return_exceptions=True)
            if isinstance(outcome, Exception):
                log.warning("commit_failed", exception=repr(outcome), topic=self._source.topic)
        await _stop(self._producer, self._source)


async def _all(*calls: Awaitable[object]) -> None:
    """Every one to its end; then raise what the first failed one met."""
    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


async def deliver(producer: AIOKafkaProducer, input_partition: int, result: Result) -> None:
    """Every output of `result`, acknowledged; raises what the first failed one met, after all have ended."""
    deliveries: list[asyncio.Future[object]] = []
    for to, outputs in result.outputs.items():
        if isinstance(to, str):
            target = TopicPartition(to, input_partition % len(await producer.partitions_for(to)))
        else:
            target = to
        deliveries += await _send(producer, target, outputs)
    await _all(*deliveries)


async def _send(
    producer: AIOKafkaProducer, target: TopicPartition, outputs: Sequence[Output]
) -> list[asyncio.Future[object]]:
    """Hand `outputs` to the producer in as few batches as fit; one future per batch."""
    if not outputs:
        return []
    topic, partition = target
    timestamp = time.time_ns() // 1_000_000
    deliveries = []
    batch = producer.create_batch()
    for key, value, headers in outputs:
        if batch.append(key=key, value=value, timestamp=timestamp, headers=headers) is None:
            deliveries.append(await producer.send_batch(batch, topic, partition=partition))
            batch = producer.create_batch()
            appended = batch.append(key=key, value=value, timestamp=timestamp, headers=headers)
            assert appended is not None, "a record that fits no empty batch must not come this far"  # noqa: S101
    deliveries.append(await producer.send_batch(batch, topic, partition=partition))
    return deliveries


async def _stop(producer: AIOKafkaProducer, source: TopicPartition) -> None:
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await producer.stop()
    except (KafkaError, AssertionError, TimeoutError, OSError) as error:
        where = {"topic": source.topic, "partition": source.partition}
        log.warning("producer_stop_failed", exception=repr(error), **where)
