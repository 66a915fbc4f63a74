"""Whole topics, read outside any group: the state for a restart, and records for people."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Container, Iterable, Sequence
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError, for_code

from kafka_runtime import clients
from kafka_runtime.errors import BlockedError
from kafka_runtime.service.settings import KafkaSettings

CALL_TIMEOUT_S = 30.0
# A poll without records for this long, while the log continues, means a broker that does not answer.
STALLED_S = 30.0
# A transaction that goes on ends within moments. One that lasts for longer holds back what is behind it.
SETTLE_S = 3.0
_SETTLE_POLL_S = 0.1
_POLL_MS = 200
_COUNTED_AT_A_TIME = 2000
# The errors that every call here may raise.
READ_ERRORS = (KafkaError, TimeoutError, OSError)


# Gets a partition, the offset from which on nothing is visible, and how many offsets there are.
Blocked = Callable[[TopicPartition, int, int], None]


class Reader:
    """Committed records of any topic, from any time on. Every call is bounded: TimeoutError or KafkaError.

    Records behind a transaction that stays open are not visible. A reader of a topic to its end then gets BlockedError.
    With `blocked` it continues without them; `blocked` is called for each partition.
    """

    def __init__(self, consumer: AIOKafkaConsumer, admin: AIOKafkaAdminClient, blocked: Blocked | None = None) -> None:
        self._consumer = consumer
        self._admin = admin
        self._blocked = blocked

    async def partitions(self, topic: str) -> list[TopicPartition]:
        """Return the topic's partitions; UnknownTopicOrPartitionError if there is no such topic."""
        # a consumer has the metadata only of topics that it reads, so the admin client is used
        async with asyncio.timeout(CALL_TIMEOUT_S):
            (found,) = await self._admin.describe_topics([topic])
        if found["error_code"]:
            raise for_code(found["error_code"])(topic)
        return [TopicPartition(topic, number) for number in sorted(p["partition"] for p in found["partitions"])]

    async def ends(self, topic: str) -> dict[TopicPartition, int]:
        """Return the end of every partition: its last stable offset, once that has passed all that is written now."""
        return await self._settled(await self.partitions(topic))

    async def high_watermarks(self, topic: str) -> dict[TopicPartition, int]:
        """Return the end of every partition with what is behind an open transaction."""
        partitions = await self.partitions(topic)
        async with asyncio.timeout(CALL_TIMEOUT_S):
            return await clients.high_watermarks(self._consumer, partitions)

    async def _settled(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """Last stable offsets at or above the high watermarks of before; BlockedError after SETTLE_S, or `blocked`."""
        deadline = asyncio.get_running_loop().time() + SETTLE_S
        async with asyncio.timeout(CALL_TIMEOUT_S):
            high = await clients.high_watermarks(self._consumer, partitions)
            while True:
                ends: dict[TopicPartition, int] = await self._consumer.end_offsets(list(partitions))
                behind = {partition: high[partition] - end for partition, end in ends.items() if end < high[partition]}
                if not behind or asyncio.get_running_loop().time() > deadline:
                    break
                await asyncio.sleep(_SETTLE_POLL_S)
        for partition, offsets in behind.items():
            if self._blocked is None:
                raise BlockedError(f"{partition.topic}-{partition.partition}: {_behind(ends[partition], offsets)}")
            self._blocked(partition, ends[partition], offsets)
        return ends

    async def written(self, topic: str) -> bool:
        """Return whether the topic exists and a record was ever written to it; it may have been deleted since.

        A record in an open transaction counts: who waits for the first one has to report what holds it back.
        """
        try:
            return any((await self.high_watermarks(topic)).values())
        except UnknownTopicOrPartitionError:
            return False

    async def wait_written(self, topic: str, every_s: float) -> None:
        """Return when `written` is true; check at this interval."""
        while not await self.written(topic):  # noqa: ASYNC110 - the broker tells nobody
            await asyncio.sleep(every_s)

    async def read(self, topic: str, since_ms: int = 0) -> list[ConsumerRecord]:
        """Return every committed record written since `since_ms` (wall clock) up to now, in each partition's order."""
        return [record async for record in self.scan(topic, since_ms)]

    async def scan(self, topic: str, since_ms: int = 0) -> AsyncGenerator[ConsumerRecord]:
        """Yield the records of `read` one by one."""
        ends = await self.ends(topic)
        await self._seek(ends, since_ms)
        for partition, end in ends.items():
            async for record in self._up_to(partition, end):
                yield record

    async def scan_from(self, partition: TopicPartition, start: int) -> AsyncGenerator[ConsumerRecord]:
        """Yield the records of one partition from offset `start` up to now."""
        end = (await self._settled([partition]))[partition]
        if start < end:
            self._consumer.assign([partition])
            self._consumer.seek(partition, start)
            async for record in self._up_to(partition, end):
                yield record

    async def _up_to(self, partition: TopicPartition, end: int) -> AsyncGenerator[ConsumerRecord]:
        loop = asyncio.get_running_loop()
        heard = loop.time()
        while (position := await self._position(partition)) < end:
            batch = (await self._consumer.getmany(partition, timeout_ms=_POLL_MS)).get(partition, [])
            for record in batch:
                if record.offset < end:
                    yield record
            if batch or await self._position(partition) > position:
                heard = loop.time()
            elif loop.time() > heard + STALLED_S:
                raise TimeoutError(f"{partition.topic}: no record below offset {end} arrived for {STALLED_S:.0f} s")

    async def _stable(self, topic: str) -> dict[TopicPartition, int]:
        partitions = await self.partitions(topic)
        async with asyncio.timeout(CALL_TIMEOUT_S):
            offsets: dict[TopicPartition, int] = await self._consumer.end_offsets(partitions)
        return offsets

    async def end(self, partition: TopicPartition) -> int:
        """Return the last stable offset, or with `read_uncommitted` the offset on all replicas."""
        async with asyncio.timeout(CALL_TIMEOUT_S):
            offset: int = (await self._consumer.end_offsets([partition]))[partition]
        return offset

    async def first(self, partition: TopicPartition) -> int:
        """Return the first offset that the log still holds."""
        self._consumer.assign([partition])
        async with asyncio.timeout(CALL_TIMEOUT_S):
            offset: int = (await self._consumer.beginning_offsets([partition]))[partition]
        return offset

    async def committed(self, group: str, partition: TopicPartition) -> int | None:
        """Return the group's committed offset; None if there is none."""
        async with asyncio.timeout(CALL_TIMEOUT_S):
            found = (await self._admin.list_consumer_group_offsets(group, partitions=[partition])).get(partition)
        return int(found.offset) if found is not None and found.offset >= 0 else None

    async def between(self, partition: TopicPartition, start: int, end: int, most: int) -> list[ConsumerRecord]:
        """Return at most `most` committed records of a partition from offset `start` on, below `end`."""
        self._consumer.assign([partition])
        async with asyncio.timeout(CALL_TIMEOUT_S):
            first: int = (await self._consumer.beginning_offsets([partition]))[partition]
            self._consumer.seek(partition, max(first, start))
            while await self._consumer.position(partition) < end:
                got = await self._consumer.getmany(partition, timeout_ms=_POLL_MS, max_records=most)
                if records := [record for record in got.get(partition, []) if record.offset < end]:
                    return records
        return []

    async def count(
        self, partition: TopicPartition, start: int, end: int, most: int, without: Container[int] = ()
    ) -> int:
        """Return how many committed records [start, end) have an offset that is not in `without`; `most` at most."""
        found = 0
        while start < end and found < most:
            records = await self.between(partition, start, end, _COUNTED_AT_A_TIME)
            if not records:
                break
            found += sum(record.offset not in without for record in records)
            start = records[-1].offset + 1
        return min(found, most)

    async def tail(self, partition: TopicPartition, offsets: int, end: int | None = None) -> list[ConsumerRecord]:
        """Return the committed records among the last `offsets` offsets of a partition, up to now or below `end`."""
        async with asyncio.timeout(CALL_TIMEOUT_S):
            self._consumer.assign([partition])
            first: int = (await self._consumer.beginning_offsets([partition]))[partition]
            if end is None:
                end = (await self._settled([partition]))[partition]
            self._consumer.seek(partition, max(first, end - offsets))
            records: list[ConsumerRecord] = []
            while await self._consumer.position(partition) < end:
                records += (await self._consumer.getmany(partition, timeout_ms=_POLL_MS)).get(partition, [])
        return [record for record in records if record.offset < end]

    async def follow(self, topic: str, from_start: bool) -> AsyncGenerator[ConsumerRecord | None]:
        """Yield committed records as they arrive, without end; None after each look, also one without records.

        `blocked` is called once for each open transaction that lasts.
        """
        ends = await self._stable(topic)
        held = _Held(self._consumer, list(ends), self._blocked)
        if from_start:
            await self._seek(ends, 0)
        else:
            self._consumer.assign(list(ends))
            for partition, end in ends.items():
                self._consumer.seek(partition, end)
        while True:
            clients.check_fetching(self._consumer)
            batches = await self._consumer.getmany(timeout_ms=_POLL_MS)
            for batch in batches.values():
                for record in batch:
                    yield record
            yield None
            await held.look()

    async def reached(self, ends: dict[TopicPartition, int]) -> bool:
        """Return whether `follow` has reached these offsets.

        Call it when `follow` yielded None: then no record is held back.
        """
        return all([await self._position(partition) >= end for partition, end in ends.items()])

    async def _seek(self, ends: dict[TopicPartition, int], since_ms: int) -> None:
        self._consumer.assign(list(ends))
        for partition, start in (await self.starts(ends, since_ms)).items():
            self._consumer.seek(partition, start)

    async def starts(self, ends: dict[TopicPartition, int], since_ms: int) -> dict[TopicPartition, int]:
        """Return, by partition, the first offset written at or after `since_ms`; the end, as in `ends`, without one."""
        async with asyncio.timeout(CALL_TIMEOUT_S):
            starts: dict[TopicPartition, int] = await self._consumer.beginning_offsets(list(ends))
            if since_ms > 0:
                found = await self._consumer.offsets_for_times(dict.fromkeys(ends, since_ms))
                # None: no record was written since
                starts = {p: ends[p] if found[p] is None else max(found[p].offset, starts[p]) for p in ends}
        return starts

    async def _position(self, partition: TopicPartition) -> int:
        async with asyncio.timeout(CALL_TIMEOUT_S):
            position: int = await self._consumer.position(partition)
        return position


class _Held:
    """What open transactions hold back from one who follows a topic."""

    def __init__(self, consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition], tell: Blocked | None) -> None:
        self._consumer = consumer
        self._partitions = partitions
        self._tell = tell
        self._before: dict[TopicPartition, int] = {}
        self._told: dict[TopicPartition, int] = {}
        self._at = asyncio.get_running_loop().time()

    async def look(self) -> None:
        """Call `tell` for each partition whose last stable offset is below its end, and was at the look before."""
        now = asyncio.get_running_loop().time()
        if self._tell is None or now - self._at < SETTLE_S:
            return
        self._at = now
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                high = await clients.high_watermarks(self._consumer, self._partitions)
                stable: dict[TopicPartition, int] = await self._consumer.end_offsets(list(self._partitions))
        except READ_ERRORS:  # a broker that is away holds back everything; who follows waits for it
            return
        held = {partition: end for partition, end in stable.items() if end < high[partition]}
        for partition, end in held.items():
            if self._before.get(partition) == end and self._told.get(partition) != end:
                self._told[partition] = end
                self._tell(partition, end, high[partition] - end)
        self._before = held


@asynccontextmanager
async def reader(
    settings: KafkaSettings, isolation_level: str = "read_committed", *, blocked: Blocked | None = None
) -> AsyncIterator[Reader]:
    """Open a Reader for the block; `read_uncommitted` also returns records of open and aborted transactions.

    blocked: what to do about records behind an open transaction, instead of BlockedError.
    """
    consumer, admin = clients.reader(settings, isolation_level), clients.admin(settings)
    try:
        async with asyncio.timeout(CALL_TIMEOUT_S):
            await clients.start(settings, admin, consumer)
        yield Reader(consumer, admin, blocked)
    finally:
        async with asyncio.timeout(CALL_TIMEOUT_S):
            await clients.stop(consumer)
            await admin.close()


def _behind(offset: int, offsets: int) -> str:
    """Return the message about records that cannot be seen."""
    return f"{offsets} offsets from {offset} on are behind an open transaction"


async def unfinished(
    settings: KafkaSettings,
    stable: Reader,
    targets: Iterable[TopicPartition],
    covers: Callable[[ConsumerRecord], int | None],
) -> dict[TopicPartition, int]:
    """Return the partitions with own records in a transaction still open, and how many input records these cover.

    stable: a Reader of committed records. covers: the number of input records that a record is the result of; None for
    a record of somebody else.
    """
    found: dict[TopicPartition, int] = {}
    async with reader(settings, "read_uncommitted") as everything:
        for target in targets:
            async for record in everything.scan_from(target, await stable.end(target)):
                if (covered := covers(record)) is not None:
                    found[target] = found.get(target, 0) + covered
    return found
