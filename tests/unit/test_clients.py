"""Stopping a consumer of aiokafka's while one of its fetches waits to be tried again."""

from __future__ import annotations

import asyncio

import pytest

from streaming import clients
from streaming.settings import KafkaSettings


class _Fetcher:
    """As aiokafka's in that moment: `close` cancels what waits, and waits for it."""

    def __init__(self) -> None:
        self.waiting = asyncio.create_task(asyncio.sleep(60))

    async def close(self) -> None:
        await asyncio.sleep(0)
        self.waiting.cancel()
        await self.waiting


def test_a_fetch_that_waits_cancels_nobody_who_stops_the_consumer() -> None:
    """The command goes on, and no connection is left open."""

    async def stops() -> list[str]:
        consumer, closed = clients.reader(KafkaSettings()), []

        async def close() -> None:
            closed.append("connections")

        consumer._client.close, consumer._fetcher = close, _Fetcher()
        await clients.stop(consumer)
        return closed

    assert asyncio.run(stops()) == ["connections"]


def test_whoever_is_cancelled_while_stopping_is() -> None:
    """A deadline for stopping still holds."""

    async def stops() -> None:
        consumer = clients.reader(KafkaSettings())
        consumer._fetcher = _Fetcher()
        async with asyncio.timeout(0):
            await clients.stop(consumer)

    with pytest.raises(TimeoutError):
        asyncio.run(stops())
