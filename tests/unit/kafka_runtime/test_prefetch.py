"""The prefetcher ends on request, for any wait of its reader."""

import asyncio

from aiokafka import TopicPartition
from support.events import record

from kafka_runtime.prefetch import Prefetcher

SOURCE = TopicPartition("customer-events", 3)
CAPACITY = 10


class Log:
    """An endless partition, with the part of aiokafka's consumer that a prefetcher calls."""

    def __init__(self) -> None:
        self.read = 0

    async def getmany(self, source, *, timeout_ms, max_records):  # noqa: ARG002
        """The next records, at once."""
        start, self.read = self.read, self.read + max_records
        return {source: [record(b"{}", offset=offset) for offset in range(start, self.read)]}

    async def position(self, source):  # noqa: ARG002
        """After the last record handed out."""
        return self.read


def test_a_prefetcher_that_is_closed_in_the_moment_in_which_there_is_room_again_ends() -> None:
    """On Python 3.11 `asyncio.wait_for` forgets a cancellation that comes just after what it waits for: it hung."""

    async def scenario() -> None:
        prefetcher = Prefetcher(Log(), SOURCE, 0, CAPACITY, asyncio.get_running_loop().create_future())
        async with asyncio.timeout(5):
            await prefetcher.wait(1)
            assert prefetcher.full
            await asyncio.sleep(0)  # the reader now waits for room
            assert [r.offset for r in prefetcher.take(CAPACITY)] == list(range(CAPACITY))
            await prefetcher.close()

    asyncio.run(scenario())
