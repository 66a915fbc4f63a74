"""Records into a topic without a transaction: for those who only send."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from functools import lru_cache
from types import TracebackType
from typing import Any, Self

from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError
from aiokafka.partitioner import murmur2

from streaming import clients
from streaming.settings import KafkaSettings
from streaming.transactions import Output, Result, deliver

# aiokafka asks again and again for an unknown topic, for as long as a request may take. A new one is known within 1 s,
# but where a broker has just died, the answer comes only when another was asked.
TOPIC_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 5.0


class SendError(Exception):
    """Records that were not, or may not have been, written. The text is one line."""


@lru_cache(maxsize=200_000)
def _hash(key: bytes) -> int:
    # 5 µs in pure Python, ten times what a record costs otherwise; the same customers come again and again
    return int(murmur2(key)) & 0x7FFFFFFF


def partition_of(key: bytes | None, partitions: int) -> int:
    """The partition in which Kafka's own clients put a key (murmur2); partition 0 for a record without one."""
    return 0 if key is None else _hash(key) % partitions


class PlainProducer:
    """An idempotent producer as a context manager: broker retries double nothing, but nothing is atomic either."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._where = settings.kafka_bootstrap_servers
        self._producer = clients.idempotent_producer(settings)

    async def __aenter__(self) -> Self:
        try:
            await self._producer.start()
        except (KafkaError, OSError, TimeoutError) as error:
            await self._producer.stop()
            raise SendError(f"no Kafka at {self._where}: {error}") from error
        return self

    async def give_up(self) -> None:
        """Close without waiting long for what was not acknowledged."""
        with contextlib.suppress(KafkaError, OSError, TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self._producer.stop()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._producer.stop()

    async def partitions(self, topic: str) -> int:
        """Number of partitions; SendError if the topic does not exist."""
        try:
            async with asyncio.timeout(TOPIC_TIMEOUT_S):
                return len(await self._producer.partitions_for(topic))
        except (UnknownTopicOrPartitionError, TimeoutError) as error:
            raise SendError(f"no topic {topic} at {self._where}: driftline topics create makes it") from error
        except (KafkaError, OSError) as error:
            raise SendError(f"{topic}: {error}") from error

    async def send(self, topic: str, records: Sequence[Output]) -> None:
        """Write all `records` (key, value, headers) and return when the broker has them; SendError if it may not."""
        producer = self._producer
        partitions = await self.partitions(topic)
        timestamp = time.time_ns() // 1_000_000
        batches: dict[int, Any] = {}
        deliveries: list[asyncio.Future[object]] = []
        try:
            for key, value, headers in records:
                partition = partition_of(key, partitions)
                batch = batches.get(partition)
                if batch is not None and batch.append(key=key, value=value, timestamp=timestamp, headers=list(headers)):
                    continue  # append answers None when the batch is full
                if batch is not None:
                    deliveries.append(await producer.send_batch(batch, topic, partition=partition))
                batch = batches[partition] = producer.create_batch()
                if batch.append(key=key, value=value, timestamp=timestamp, headers=list(headers)) is None:
                    raise SendError(f"{topic}: a record of {len(value or b'')} bytes is too large to send")
            for partition, batch in batches.items():
                deliveries.append(await producer.send_batch(batch, topic, partition=partition))
            for delivery in deliveries:
                await delivery
        except (KafkaError, OSError, TimeoutError) as error:
            raise SendError(f"{topic}: {error}") from error

    async def write(self, topic: str, input_partition: int, records: Sequence[Output]) -> None:
        """Write `records` to the partition that answers to `input_partition` go to; SendError if they may not be there.

        After that, this producer is used up.
        """
        try:
            async with asyncio.timeout(TOPIC_TIMEOUT_S):
                await deliver(self._producer, input_partition, Result({topic: records}))
        except (KafkaError, OSError, TimeoutError, AssertionError) as error:
            raise SendError(f"{topic}: {error!r}") from error
