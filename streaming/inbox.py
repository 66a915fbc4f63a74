"""Reads one partition ahead of the task that answers its records.

aiokafka keeps one fetch per broker in flight and sends no other while any partition on that broker has records that
nobody took. A partition that waits for its transaction would make all others wait, too (measured: p50 of the event age
60 ms instead of 20 at 400 events a second). So a reader of its own takes what has arrived at once, up to a bound.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import RecordTooLargeError

from streaming.errors import Action, classify

POLL_MS = 500
# How long a full inbox may wait before the reader polls again, paused: a member that never polls is thrown out of the
# group after max.poll.interval (5 minutes), and thrown out again after it has come back.
ROOM_S = 10.0
# After an unreadable batch, so many records are read one by one: what stands before the bad one is then not lost.
ONE_BY_ONE = 5000


class Inbox:
    """At most `capacity` records of one partition, in order, read but not taken yet."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        source: TopicPartition,
        position: int,
        capacity: int,
        closing: asyncio.Future[None],
    ) -> None:
        """Start to read at `position`, where the consumer stands. `closing` ends every wait."""
        self.position = position  # after what was taken; what to commit
        self.read_to = position  # after what was read
        self._consumer = consumer
        self._source = source
        self._capacity = capacity
        self._closing = closing
        self._chunks: deque[list[ConsumerRecord]] = deque()
        self._size = 0
        self._one_by_one = 0
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._reader = asyncio.create_task(self._read(), name=f"inbox {source.topic}-{source.partition}")
        self._reader.add_done_callback(lambda _: self._changed.set())

    @property
    def full(self) -> bool:
        """A whole batch is waiting."""
        return self._size >= self._capacity

    async def wait(self, seconds: float) -> None:
        """Until there are records, or the time has passed, or we are closing.

        Raises what the reader met, once everything before it has been taken.
        """
        deadline = time.monotonic() + seconds
        while not self._size and not self._closing.done():
            if self._reader.done():
                if self._size == 0:
                    self._reader.result()
                return
            left = deadline - time.monotonic()
            if left <= 0:
                return
            self._changed.clear()
            changed = asyncio.ensure_future(self._changed.wait())
            await asyncio.wait((changed, self._closing), timeout=left, return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()

    def take(self, limit: int) -> list[ConsumerRecord]:
        """What has been read, at most `limit` records; `position` then is after them."""
        records = self._chunks.popleft() if self._chunks else []
        while self._chunks and len(records) < limit:
            records += self._chunks.popleft()
        if len(records) > limit:
            self._chunks.appendleft(records[limit:])
            del records[limit:]
        self._size -= len(records)
        self.position = self.read_to if self._size == 0 else records[-1].offset + 1
        self._room.set()
        return records

    async def close(self) -> None:
        """Stop reading. What was not taken is read again by whoever comes next."""
        self._reader.cancel()
        await asyncio.wait((self._reader,))
        if not self._reader.cancelled():
            self._reader.exception()  # has been raised by `wait`, or does not matter any more

    async def _read(self) -> None:
        while True:
            if self.full:
                await self._wait_for_room()
            limit = 1 if self._one_by_one else self._capacity - self._size
            try:
                got = await self._consumer.getmany(self._source, timeout_ms=POLL_MS, max_records=limit)
            except Exception as error:
                if not self._unreadable(error):
                    raise
                self._one_by_one = ONE_BY_ONE
                self._consumer.seek(self._source, self.read_to)
                continue
            # past the last record there may be markers: the position steps over them even if no record came
            self.read_to = await self._consumer.position(self._source)
            records = got.get(self._source)
            if records:
                self._one_by_one = max(0, self._one_by_one - len(records))
                self._chunks.append(records)
                self._size += len(records)
                self._changed.set()

    def _unreadable(self, error: Exception) -> bool:
        """Whether reading one by one may still get something: good records that stand before the bad one."""
        if self._one_by_one or isinstance(error, RecordTooLargeError):
            return False
        return classify(error, reading=True) is Action.QUARANTINE

    async def _wait_for_room(self) -> None:
        self._room.clear()
        # not asyncio.wait_for: Python 3.11's forgets a cancellation that comes just after the event was set
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ROOM_S):
                await self._room.wait()
            return
        self._consumer.pause(self._source)
        while self.full:
            await self._consumer.getmany(self._source, timeout_ms=POLL_MS, max_records=1)
        self._consumer.resume(self._source)
