"""aiokafka clients made from settings, in one place: consumer, producers, admin."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import KafkaError, SaslAuthenticationFailed, UnsupportedSaslMechanismError
from aiokafka.helpers import create_ssl_context

from streaming import decompression
from streaming.settings import KafkaSettings

# Below the broker's 1,048,588 (message.max.bytes): a fresh batch would accept more, and the broker then refuse it.
MAX_BATCH_BYTES = 1_000_000
# aiokafka's own is 40 s; a request that takes longer than a transaction may is of no use.
REQUEST_TIMEOUT_MS = 10_000
# aiokafka waits this long before it repeats a request, also one that cannot be sent while a broker is away.
RETRY_BACKOFF_MS = 100
# How soon new partitions are seen.
METADATA_MAX_AGE_MS = 10_000
# A member that takes no records for so long is left out of the group; whoever waits here keeps polling.
MAX_POLL_INTERVAL_MS = 300_000
# Connecting once more by hand must not keep a process from draining.
REFUSAL_TIMEOUT_S = 5.0
# One partition's part, half of it, must fill a batch of 5,000 events of 600 bytes, or batches become small and
# transactions many: with 2.5 MiB the throughput was a fifth less. aiokafka holds a response three times while it takes
# it apart: unbounded, with four partitions, that took 40 MB more.
FETCH_BYTES = 6 << 20
# A transaction that comes right after another is refused until that one's markers are written: 100 ms would cost 75 ms
# of tail latency.
TRANSACTION_RETRY_BACKOFF_MS = 20


def connection(settings: KafkaSettings) -> dict[str, Any]:
    """Keyword arguments that every aiokafka client takes."""
    options: dict[str, Any] = {
        "bootstrap_servers": settings.kafka_bootstrap_servers,
        "security_protocol": settings.kafka_security_protocol,
        "retry_backoff_ms": RETRY_BACKOFF_MS,
        "request_timeout_ms": REQUEST_TIMEOUT_MS,
    }
    if settings.kafka_security_protocol.endswith("SSL"):
        options["ssl_context"] = _ssl_context(settings)
    if settings.kafka_security_protocol.startswith("SASL") and settings.kafka_sasl_password is not None:
        options["sasl_mechanism"] = settings.kafka_sasl_mechanism
        options["sasl_plain_username"] = settings.kafka_sasl_username
        options["sasl_plain_password"] = settings.kafka_sasl_password.get_secret_value()
    return options


def _ssl_context(settings: KafkaSettings) -> ssl.SSLContext:
    context: ssl.SSLContext = create_ssl_context(
        cafile=settings.kafka_ssl_cafile,
        certfile=settings.kafka_ssl_certfile,
        keyfile=settings.kafka_ssl_keyfile,
        password=settings.key_password(),
    )
    return context


async def refusal(settings: KafkaSettings) -> KafkaError | None:
    """The broker's own word if it does not take our user name, password or mechanism; None if that is not the trouble.

    aiokafka's clients only log it, and raise the same as for a broker that is not there.
    """
    if not settings.kafka_security_protocol.startswith("SASL"):
        return None
    options = connection(settings)
    del options["retry_backoff_ms"]
    for host, port, _ in collect_hosts(options.pop("bootstrap_servers")):
        try:
            async with asyncio.timeout(REFUSAL_TIMEOUT_S):
                connected = await create_conn(host, port, **options)
        except (SaslAuthenticationFailed, UnsupportedSaslMechanismError) as error:
            return error
        except (KafkaError, OSError, TimeoutError):
            continue
        connected.close()
        return None
    return None


def group_consumer(
    settings: KafkaSettings, topics: Sequence[str], group: str, fetch_bytes: int, listener: Any
) -> AIOKafkaConsumer:
    """A group member that reads committed records and never commits by itself.

    fetch_bytes: of one response, half of it from one partition; a single larger batch comes all the same.
    """
    decompression.install()
    session_ms = round(settings.kafka_session_timeout.total_seconds() * 1000)
    consumer = AIOKafkaConsumer(
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="none",  # where to start is decided in one place: streaming.partitions
        isolation_level="read_committed",
        session_timeout_ms=session_ms,
        heartbeat_interval_ms=max(1, session_ms // 3),
        max_poll_interval_ms=MAX_POLL_INTERVAL_MS,
        partition_assignment_strategy=(StickyPartitionAssignor,),
        max_partition_fetch_bytes=fetch_bytes // 2,
        fetch_max_bytes=fetch_bytes,
        fetch_max_wait_ms=100,
        metadata_max_age_ms=METADATA_MAX_AGE_MS,
        **connection(settings),
    )
    consumer.subscribe(topics, listener=listener)
    return consumer


def reader(settings: KafkaSettings, isolation_level: str = "read_committed") -> AIOKafkaConsumer:
    """A reader outside any group; assign partitions and seek. Its end offsets are as its isolation level sees them."""
    decompression.install()
    return AIOKafkaConsumer(
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level=isolation_level,
        max_partition_fetch_bytes=3 << 20,
        **connection(settings),
    )


def check_fetching(consumer: AIOKafkaConsumer) -> None:
    """Raise KafkaError if aiokafka's fetch routine has ended: it only logs why, and nothing would ever come again."""
    routine = consumer._fetcher.error_future  # noqa: SLF001 - nothing public says it
    if routine.done() and not routine.cancelled():
        raise KafkaError("aiokafka does not fetch any more") from routine.exception()


async def stop(consumer: AIOKafkaConsumer) -> None:
    """Stop a consumer, also one whose fetch routine has ended, or whose failed fetch waits to be tried again.

    aiokafka 0.14 then raises what ended the one, or cancels the other and raises its CancelledError at whoever stops
    it, with the connections open.
    """
    try:
        await consumer.stop()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise  # it was us who were cancelled
        await _disconnect(consumer)
    except KafkaError:  # logged by aiokafka when it happened, and told by check_fetching
        await _disconnect(consumer)


async def _disconnect(consumer: AIOKafkaConsumer) -> None:
    """What stop() would have done next."""
    await consumer._client.close()  # noqa: SLF001 - nothing public does it


def transactional_producer(settings: KafkaSettings, transactional_id: str) -> AIOKafkaProducer:
    """A producer whose start fences every earlier one of the same id."""
    transaction_ms = round(settings.kafka_transaction_timeout.total_seconds() * 1000)
    options = connection(settings)
    options["retry_backoff_ms"] = TRANSACTION_RETRY_BACKOFF_MS
    # Longer than any transaction: a request that timed out would be repeated within it, the transaction succeed, and
    # the first one, arriving late, end the next transaction half-way (seen: a batch visible without its offset).
    options["request_timeout_ms"] = transaction_ms + 1000
    return AIOKafkaProducer(
        transactional_id=transactional_id,
        transaction_timeout_ms=transaction_ms,
        max_batch_size=MAX_BATCH_BYTES,
        max_request_size=8 * MAX_BATCH_BYTES,
        **options,
    )


def idempotent_producer(settings: KafkaSettings) -> AIOKafkaProducer:
    """A producer without transactions: for those who send events, and for at-least-once delivery."""
    return AIOKafkaProducer(
        enable_idempotence=True,
        max_batch_size=MAX_BATCH_BYTES,
        max_request_size=8 * MAX_BATCH_BYTES,
        **connection(settings),
    )


def admin(settings: KafkaSettings) -> AIOKafkaAdminClient:
    """An admin client; its calls do not time out by themselves."""
    return AIOKafkaAdminClient(**connection(settings))
