"""Reading whole topics outside any group: what a restart must know, and what people want to see."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError, for_code

from streaming import clients
from streaming.settings import KafkaSettings

CALL_TIMEOUT_S = 30.0
# A poll that brings nothing for this long although the log goes on is a broker that does not answer.
STALLED_S = 30.0
_POLL_MS = 200
# What every call here may raise.
READ_ERRORS = (KafkaError, TimeoutError, OSError)


class Reader:
    """Committed records of any topic, from any time on. Every call is bounded: TimeoutError or KafkaError."""

    def __init__(self, consumer: AIOKafkaConsumer, admin: AIOKafkaAdminClient) -> None:
        self._consumer = consumer
        self._admin = admin

    async def partitions(self, topic: str) -> list[TopicPartition]:
        """The topic's partitions; UnknownTopicOrPartitionError if there is no such topic."""
        # a consumer knows only the topics it reads, so the admin client is asked
        async with asyncio.timeout(CALL_TIMEOUT_S):
            (found,) = await self._admin.describe_topics([topic])
        if found["error_code"]:
            raise for_code(found["error_code"])(topic)
        return [TopicPartition(topic, number) for number in sorted(p["partition"] for p in found["partitions"])]

    async def ends(self, topic: str) -> dict[TopicPartition, int]:
        """The last stable offset of every partition."""
        partitions = await self.partitions(topic)
        async with asyncio.timeout(CALL_TIMEOUT_S):
            offsets: dict[TopicPartition, int] = await self._consumer.end_offsets(partitions)
        return offsets

    async def written(self, topic: str) -> bool:
        """Whether there is such a topic and a record was ever written to it; it may have been deleted since."""
        try:
            return any((await self.ends(topic)).values())
        except UnknownTopicOrPartitionError:
            return False

    async def wait_written(self, topic: str, every_s: float) -> None:
        """Return when `written` is true, asking every so many seconds."""
        while not await self.written(topic):  # noqa: ASYNC110 - the broker tells nobody
            await asyncio.sleep(every_s)

    async def read(self, topic: str, since_ms: int = 0) -> list[ConsumerRecord]:
        """Every committed record written at or after `since_ms` (wall clock) up to now, in each partition's order."""
        return [record async for record in self.scan(topic, since_ms)]

    async def scan(self, topic: str, since_ms: int = 0) -> AsyncGenerator[ConsumerRecord]:
        """`read`, record by record."""
        ends = await self.ends(topic)
        await self._seek(ends, since_ms)
        for partition, end in ends.items():
            async for record in self._up_to(partition, end):
                yield record

    async def scan_from(self, partition: TopicPartition, start: int) -> AsyncGenerator[ConsumerRecord]:
        """The records of one partition from offset `start` up to now."""
        end = await self.end(partition)
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
                raise TimeoutError(f"{partition.topic}: nothing below offset {end} came for {STALLED_S:.0f} s")

    async def end(self, partition: TopicPartition) -> int:
        """Where the log ends: the last stable offset, or with `read_uncommitted` what every replica has."""
        async with asyncio.timeout(CALL_TIMEOUT_S):
            offset: int = (await self._consumer.end_offsets([partition]))[partition]
        return offset

    async def first(self, partition: TopicPartition) -> int:
        """The first offset that the log still holds."""
        self._consumer.assign([partition])
        async with asyncio.timeout(CALL_TIMEOUT_S):
            offset: int = (await self._consumer.beginning_offsets([partition]))[partition]
        return offset

    async def committed(self, group: str, partition: TopicPartition) -> int | None:
        """The group's committed offset; None if there is none."""
        async with asyncio.timeout(CALL_TIMEOUT_S):
            found = (await self._admin.list_consumer_group_offsets(group, partitions=[partition])).get(partition)
        return int(found.offset) if found is not None and found.offset >= 0 else None

    async def between(self, partition: TopicPartition, start: int, end: int, most: int) -> list[ConsumerRecord]:
        """At most `most` committed records of a partition from offset `start` on, below `end`."""
        self._consumer.assign([partition])
        async with asyncio.timeout(CALL_TIMEOUT_S):
            first: int = (await self._consumer.beginning_offsets([partition]))[partition]
            self._consumer.seek(partition, max(first, start))
            while await self._consumer.position(partition) < end:
                got = await self._consumer.getmany(partition, timeout_ms=_POLL_MS, max_records=most)
                if records := [record for record in got.get(partition, []) if record.offset < end]:
                    return records
        return []

    async def tail(self, partition: TopicPartition, offsets: int) -> list[ConsumerRecord]:
        """The committed records among the last so many offsets of a partition."""
        async with asyncio.timeout(CALL_TIMEOUT_S):
            self._consumer.assign([partition])
            first: int = (await self._consumer.beginning_offsets([partition]))[partition]
            end: int = (await self._consumer.end_offsets([partition]))[partition]
            self._consumer.seek(partition, max(first, end - offsets))
            records: list[ConsumerRecord] = []
            while await self._consumer.position(partition) < end:
                records += (await self._consumer.getmany(partition, timeout_ms=_POLL_MS)).get(partition, [])
        return records

    async def follow(self, topic: str, from_start: bool) -> AsyncGenerator[ConsumerRecord | None]:
        """Committed records as they come, for ever; None after each look, also one that brought nothing."""
        ends = await self.ends(topic)
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

    async def reached(self, ends: dict[TopicPartition, int]) -> bool:
        """Whether `follow` has come to these offsets; asked when it gave None: nothing is in hand then."""
        return all([await self._position(partition) >= end for partition, end in ends.items()])

    async def _seek(self, ends: dict[TopicPartition, int], since_ms: int) -> None:
        self._consumer.assign(list(ends))
        for partition, start in (await self.starts(ends, since_ms)).items():
            self._consumer.seek(partition, start)

    async def starts(self, ends: dict[TopicPartition, int], since_ms: int) -> dict[TopicPartition, int]:
        """By partition, where what was written at or after `since_ms` begins: its end, as in `ends`, if nothing was."""
        async with asyncio.timeout(CALL_TIMEOUT_S):
            starts: dict[TopicPartition, int] = await self._consumer.beginning_offsets(list(ends))
            if since_ms > 0:
                found = await self._consumer.offsets_for_times(dict.fromkeys(ends, since_ms))
                # None: nothing was written since
                starts = {p: ends[p] if found[p] is None else max(found[p].offset, starts[p]) for p in ends}
        return starts

    async def _position(self, partition: TopicPartition) -> int:
        async with asyncio.timeout(CALL_TIMEOUT_S):
            position: int = await self._consumer.position(partition)
        return position


@asynccontextmanager
async def reader(settings: KafkaSettings, isolation_level: str = "read_committed") -> AsyncIterator[Reader]:
    """A Reader for as long as the block lasts; `read_uncommitted` sees records of open and aborted ones, too."""
    consumer, admin = clients.reader(settings, isolation_level), clients.admin(settings)
    try:
        async with asyncio.timeout(CALL_TIMEOUT_S):
            await admin.start()
            await consumer.start()
        yield Reader(consumer, admin)
    finally:
        async with asyncio.timeout(CALL_TIMEOUT_S):
            await clients.stop(consumer)
            await admin.close()


async def unfinished(
    settings: KafkaSettings, stable: Reader, targets: Iterable[TopicPartition], ours: Callable[[ConsumerRecord], bool]
) -> list[TopicPartition]:
    """The partitions that hold a record of `ours` above their last stable offset: in a transaction still open there.

    stable: a Reader of committed records.
    """
    found = []
    async with reader(settings, "read_uncommitted") as everything:
        for target in targets:
            async for record in everything.scan_from(target, await stable.end(target)):
                if ours(record):
                    found.append(target)
                    break
    return found
