"""The inbox ends when it is told to, whatever its reader was waiting for."""

import asyncio

from aiokafka import TopicPartition
from events import record

from streaming.inbox import Inbox

SOURCE = TopicPartition("customer-events", 3)
CAPACITY = 10


class Log:
    """An endless partition, as far as an inbox asks aiokafka's consumer about it."""

    def __init__(self) -> None:
        self.read = 0

    async def getmany(self, source, *, timeout_ms, max_records):  # noqa: ARG002
        """The next records, at once."""
        start, self.read = self.read, self.read + max_records
        return {source: [record(b"{}", offset=offset) for offset in range(start, self.read)]}

    async def position(self, source):  # noqa: ARG002
        """After the last record handed out."""
        return self.read


def test_an_inbox_that_is_closed_in_the_moment_in_which_there_is_room_again_ends() -> None:
    """On Python 3.11 `asyncio.wait_for` forgets a cancellation that comes just after what it waits for: it hung."""

    async def scenario() -> None:
        inbox = Inbox(Log(), SOURCE, 0, CAPACITY, asyncio.get_running_loop().create_future())
        async with asyncio.timeout(5):
            await inbox.wait(1)
            assert inbox.full
            await asyncio.sleep(0)  # the reader now waits for room
            assert [r.offset for r in inbox.take(CAPACITY)] == list(range(CAPACITY))
            await inbox.close()

    asyncio.run(scenario())
