"""Records into a topic without a transaction, for commands that only send."""

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

from kafka_runtime import clients
from kafka_runtime.service.settings import KafkaSettings
from kafka_runtime.sinks import Output, Result, deliver

# aiokafka requests the metadata of an unknown topic repeatedly, for as long as a request may take. A new topic is known
# within 1 s. Where a broker has just died, the answer arrives only from another broker.
TOPIC_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 5.0


class SendError(Exception):
    """Records were not written, or may not have been. The text is one line."""


@lru_cache(maxsize=200_000)
def _hash(key: bytes) -> int:
    # 5 µs in pure Python, ten times the other cost of a record; the same customers come again and again
    return int(murmur2(key)) & 0x7FFFFFFF


def partition_of(key: bytes | None, partitions: int) -> int:
    """Return the partition in which Kafka's clients put a key (murmur2); partition 0 for a record without one."""
    return 0 if key is None else _hash(key) % partitions


class PlainProducer:
    """An idempotent producer as a context manager: retries write no duplicates, but writes are not atomic."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._where = settings.kafka_bootstrap_servers
        self._settings = settings
        self._producer = clients.idempotent_producer(settings)

    async def __aenter__(self) -> Self:
        try:
            await clients.start(self._settings, self._producer)
        except (KafkaError, OSError, TimeoutError) as error:
            await self._producer.stop()
            raise SendError(f"no Kafka at {self._where}: {error}") from error
        return self

    async def give_up(self) -> None:
        """Close without a long wait for unacknowledged records."""
        with contextlib.suppress(KafkaError, OSError, TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self._producer.stop()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._producer.stop()

    async def partitions(self, topic: str) -> int:
        """Return the number of partitions; SendError if the topic does not exist."""
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
                    continue  # append returns None when the batch is full
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
        """Write `records` to the partition for answers to `input_partition`; SendError if they may be missing there.

        After that error, this producer cannot be used again.
        """
        try:
            async with asyncio.timeout(TOPIC_TIMEOUT_S):
                await deliver(self._producer, input_partition, Result({topic: records}, None))
        except (KafkaError, OSError, TimeoutError, AssertionError) as error:
            raise SendError(f"{topic}: {error!r}") from error
