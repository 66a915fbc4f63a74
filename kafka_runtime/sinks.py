"""Write a batch's outputs and its input's offset: all or none of them, or at least once.

With exactly once, the transactional id is bound to the input partition, so the broker itself fences the previous owner.
(aiokafka 0.14 implements the first version of the protocol, in which offsets carry no member or generation. With one
producer per process, a paused process could commit old offsets.)
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.structs import OffsetAndMetadata

from kafka_runtime import clients
from kafka_runtime.service import logs
from kafka_runtime.service.settings import KafkaSettings

log = logs.get(__name__)

C = TypeVar("C", covariant=True)  # noqa: PLC0105 - as short as the other type variables

# key, value, headers (aiokafka takes a list of pairs, and no tuple of them)
Output = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]
# Called right before the commit; it may also raise.
StillOurs = Callable[[], Awaitable[bool]]
# Every await on the producer has a limit: several of its calls may never return (docs/delivery.md, traps).
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 5.0
ABORT_TIMEOUT_S = 2.0


@runtime_checkable
class Encoded(Protocol):
    """Outputs that are encoded as record batches already, all but their time and their producer."""

    def batches(self, timestamp_ms: int, *, transactional: bool) -> Sequence[object]:
        """Return the batches in order, of MAX_BATCH_BYTES at most.

        Each has the methods of aiokafka's BatchBuilder that `send_batch` and the sender call.
        """


@dataclass(frozen=True, slots=True)
class Result(Generic[C]):
    """The result of a batch: records to write (key, value, headers), and the offset to commit with them."""

    #: Per topic, written to partition input partition mod count; or per topic and partition. They may be Encoded, too.
    outputs: Mapping[str | TopicPartition, Sequence[Output]]
    #: Whatever the processor needs after the commit.
    context: C = field(repr=False)
    #: The position to commit, None for the position after the batch.
    offset: int | None = None
    #: Committed with the offset.
    metadata: str = ""
    #: There is more to write, even if no record arrives.
    more: bool = False


class Sink(Protocol):
    """The destination of one input partition's results. Used by one task; replaced after any failure."""

    async def start(self) -> None:
        """Connect. A predecessor's open transaction is complete when this returns."""

    async def write(self, result: Result[object], offset: int, still_ours: StillOurs) -> tuple[float, float]:
        """Write one batch and commit `offset`.

        After any exception the sink must be stopped and the offset read again.

        Returns the seconds until every record was acknowledged, and the seconds from there to the end of the commit.
        Raises KafkaError, TimeoutError, or AssertionError (aiokafka's state machine); IllegalStateError if the
        partition was lost before the commit.
        """

    async def abandon(self, outputs: Sequence[TopicPartition], offset: int) -> None:
        """Abort an earlier transaction of this id that a broker left open in `outputs`; commit no offset.

        Raises as `write` does.
        """

    async def stop(self) -> None:
        """Close, within bounds."""


def transactional_id(group: str, source: TopicPartition) -> str:
    """Return the only id under which any member of `group` may answer `source`."""
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

    async def write(self, result: Result[object], offset: int, still_ours: StillOurs) -> tuple[float, float]:
        """Begin, write outputs and offset side by side, wait for every acknowledgement, commit."""
        producer = self._producer
        async with asyncio.timeout(self._limit_s):
            started = time.monotonic()
            await producer.begin_transaction()
            self._abortable = True
            offsets = {self._source: OffsetAndMetadata(offset, result.metadata)}
            # commit_transaction succeeds although a produce in it failed: every delivery is awaited first
            await _all(
                deliver(producer, self._source.partition, result, transactional=True),
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

        Its markers end every open transaction of this transactional id there, older records and offsets included.
        """
        # with a key: a compacted topic rejects a record without one
        remains = Result({output: [(b"aborted", None, [])] for output in outputs}, None)
        async with asyncio.timeout(self._limit_s):
            await self._producer.begin_transaction()
            self._abortable = True
            await _all(
                deliver(self._producer, self._source.partition, remains, transactional=True),
                self._producer.send_offsets_to_transaction({self._source: OffsetAndMetadata(offset, "")}, self._group),
            )
            self._abortable = False
            await self._producer.abort_transaction()
        where = {"topic": self._source.topic, "partition": self._source.partition}
        log.warning("torn_transaction_aborted", outputs=[str(output) for output in outputs], offset=offset, **where)

    async def stop(self) -> None:
        """End an open transaction if its outcome is still undecided, and close, within bounds."""
        if self._abortable:
            try:
                async with asyncio.timeout(ABORT_TIMEOUT_S):
                    await self._producer.abort_transaction()
            except (KafkaError, AssertionError, TimeoutError) as error:
                # usual after a fence; the next owner's start ends the transaction
                log.debug("abort_failed", transactional_id=self.transactional_id, exception=repr(error))
        await _stop(self._producer, self._source)


class AtLeastOnceSink:
    """An idempotent producer, and the offset committed after every record of the batch is acknowledged.

    The commit runs beside the next batch, so that no batch waits for it. A crash before the commit repeats the batches
    that it would have covered; consumers drop duplicates by `prediction_id`.
    """

    def __init__(self, settings: KafkaSettings, consumer: AIOKafkaConsumer, source: TopicPartition) -> None:
        self._consumer = consumer
        self._source = source
        self._limit_s = settings.kafka_transaction_timeout.total_seconds()
        self._producer: AIOKafkaProducer = clients.idempotent_producer(settings)
        self._acknowledged: OffsetAndMetadata | None = None  # offset to commit; None if all are committed
        self._wake = asyncio.Event()
        self._settled = asyncio.Event()
        self._committing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect."""
        async with asyncio.timeout(START_TIMEOUT_S):
            await self._producer.start()
        self._committing = asyncio.create_task(self._commit(), name=f"commits of {self._source}")

    async def write(self, result: Result[object], offset: int, still_ours: StillOurs) -> tuple[float, float]:
        """Write, wait for every acknowledgement, leave the offset to be committed.

        Raises an earlier commit's error, too.
        """
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
        """Do nothing: there are no transactions."""

    async def _commit(self) -> None:
        """Commit the latest acknowledged offset, as a member of the group, repeatedly."""
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
        """Commit the acknowledged offset, if that is still possible, and close, within bounds."""
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
    """Await all to their end; then raise the error of the first failed one."""
    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


async def deliver(
    producer: AIOKafkaProducer, input_partition: int, result: Result[object], *, transactional: bool = False
) -> None:
    """Write every output of `result` and wait until all have ended; raise the error of the first failed one.

    transactional: whether the producer is; encoded batches carry it.
    """
    deliveries: list[asyncio.Future[object]] = []
    for to, outputs in result.outputs.items():
        if isinstance(to, str):
            target = TopicPartition(to, input_partition % len(await producer.partitions_for(to)))
        else:
            target = to
        deliveries += await _send(producer, target, outputs, transactional=transactional)
    await _all(*deliveries)


async def _send(
    producer: AIOKafkaProducer, target: TopicPartition, outputs: Sequence[Output], *, transactional: bool = False
) -> list[asyncio.Future[object]]:
    """Hand `outputs` to the producer in as few batches as fit; one future per batch."""
    if not outputs:
        return []
    topic, partition = target
    timestamp = time.time_ns() // 1_000_000
    if isinstance(outputs, Encoded):
        batches: Iterator[object] = iter(outputs.batches(timestamp, transactional=transactional))
    else:
        batches = _filled(producer.create_batch, outputs, timestamp)
    return [await producer.send_batch(batch, topic, partition=partition) for batch in batches]


def _filled(create: Callable[[], Any], outputs: Sequence[Output], timestamp_ms: int) -> Iterator[Any]:
    """Append `outputs` to as few builders as fit; yield each as soon as it is full."""
    batch = create()
    for key, value, headers in outputs:
        if batch.append(key=key, value=value, timestamp=timestamp_ms, headers=headers) is None:
            yield batch
            batch = create()
            appended = batch.append(key=key, value=value, timestamp=timestamp_ms, headers=headers)
            assert appended is not None, "a record that fits no empty batch must not come this far"  # noqa: S101
    yield batch


def record_batches(
    outputs: Sequence[Output], timestamp_ms: int, limit: int, producer: tuple[int, int, int]
) -> list[bytes]:
    """Return the record batches of a transaction as aiokafka makes them: what an Encoded must be equal to.

    limit: bytes of a batch. producer: id, epoch and first sequence number, the same in every batch.
    """
    filled = list(_filled(lambda: BatchBuilder(limit, 0, is_transactional=1), outputs, timestamp_ms))
    for batch in filled:
        batch._set_producer_state(*producer)  # noqa: SLF001 - as the sender calls it
    return [bytes(batch._build()) for batch in filled]  # noqa: SLF001 - the same


async def _stop(producer: AIOKafkaProducer, source: TopicPartition) -> None:
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await producer.stop()
    except (KafkaError, AssertionError, TimeoutError, OSError) as error:
        where = {"topic": source.topic, "partition": source.partition}
        log.warning("producer_stop_failed", exception=repr(error), **where)
