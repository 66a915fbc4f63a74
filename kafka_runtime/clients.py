"""aiokafka clients made from settings, in one place: consumer, producers, admin."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import hashlib
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.conn import AIOKafkaConnection, collect_hosts, create_conn
from aiokafka.consumer.fetcher import READ_UNCOMMITTED
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import KafkaError, SaslAuthenticationFailed, UnsupportedSaslMechanismError
from aiokafka.helpers import create_ssl_context
from aiokafka.protocol.admin import SaslAuthenticateRequest
from pydantic import SecretStr

from kafka_runtime import decompression
from kafka_runtime.errors import CertificateRefusedError
from kafka_runtime.login import oauth, reauthentication
from kafka_runtime.service import logs
from kafka_runtime.service.settings import OAUTHBEARER, TOKEN_MECHANISMS, KafkaSettings

log = logs.get(__name__)

# Below the broker's 1,048,588 (message.max.bytes): otherwise a fresh batch would accept more, and the broker would
# reject it.
MAX_BATCH_BYTES = 1_000_000
# aiokafka's default is 40 s; a request that takes longer than a transaction is of no use.
REQUEST_TIMEOUT_MS = 10_000
# aiokafka waits this long before it repeats a request, also one that cannot be sent while a broker is unreachable.
RETRY_BACKOFF_MS = 100
# Time after which new partitions are seen.
METADATA_MAX_AGE_MS = 10_000
# A member that takes no records for this long is removed from the group; a waiting partition keeps polling.
MAX_POLL_INTERVAL_MS = 300_000
# Explicit reconnects must not keep a process from draining.
REFUSAL_TIMEOUT_S = 5.0
# With TLS 1.3, a broker rejects a certificate after the handshake. One that accepts it is silent until it is asked.
ALERT_TIMEOUT_S = 1.0
# One partition's part, half of it, must fill a batch of 5,000 events of 600 bytes. Otherwise batches become small and
# transactions many: with 2.5 MiB the throughput was a fifth less. aiokafka holds a response three times while it parses
# it: without a bound, four partitions took 40 MB more.
FETCH_BYTES = 6 << 20
# A transaction right after another is rejected until the other one's markers are written: 100 ms would cost 75 ms of
# tail latency.
TRANSACTION_RETRY_BACKOFF_MS = 20


def connection(settings: KafkaSettings) -> dict[str, Any]:
    """Return the keyword arguments of every aiokafka client."""
    reauthentication.install()
    options: dict[str, Any] = {
        "bootstrap_servers": settings.kafka_bootstrap_servers,
        "security_protocol": settings.kafka_security_protocol,
        "retry_backoff_ms": RETRY_BACKOFF_MS,
        "request_timeout_ms": REQUEST_TIMEOUT_MS,
    }
    if settings.kafka_security_protocol.endswith("SSL"):
        options["ssl_context"] = _ssl_context(settings)
    if _logs_in_with_a_token(settings):
        options["sasl_mechanism"] = OAUTHBEARER
        options["sasl_oauth_token_provider"] = oauth.tokens(settings)
    elif settings.kafka_security_protocol.startswith("SASL"):
        options["sasl_mechanism"] = settings.kafka_sasl_mechanism
        options["sasl_plain_username"] = settings.kafka_sasl_username
        options["sasl_plain_password"] = _secret(settings, "kafka_sasl_password")
    return options


def _logs_in_with_a_token(settings: KafkaSettings) -> bool:
    return settings.kafka_security_protocol.startswith("SASL") and settings.kafka_sasl_mechanism in TOKEN_MECHANISMS


def _secret(settings: KafkaSettings, field: str) -> str:
    """Return a secret as its file holds it now; if that cannot be read, as it was at the start."""
    try:
        return settings.secret(field) or ""
    except (OSError, ValueError) as error:
        log.warning("secret_not_read", setting=field.upper(), exception=str(error))
        value: SecretStr = getattr(settings, field)
        return value.get_secret_value()


# By the files that they were made of: used while one of these cannot be loaded, in the middle of a rotation.
_loaded: dict[tuple[Path | None, ...], ssl.SSLContext] = {}


def _ssl_context(settings: KafkaSettings) -> ssl.SSLContext:
    """Return a context made of the PEM files as they are now; if these cannot be loaded, the last one that was made."""
    files = _pem_files(settings)
    try:
        context: ssl.SSLContext = create_ssl_context(
            cafile=settings.kafka_ssl_cafile,
            certfile=settings.kafka_ssl_certfile,
            keyfile=settings.kafka_ssl_keyfile,
            password=_secret(settings, "kafka_ssl_key_password"),
        )
    except OSError as error:
        if files not in _loaded:
            raise
        log.warning("certificates_not_loaded", exception=str(error))
        return _loaded[files]
    _loaded[files] = context
    return context


def _pem_files(settings: KafkaSettings) -> tuple[Path | None, ...]:
    return settings.kafka_ssl_cafile, settings.kafka_ssl_certfile, settings.kafka_ssl_keyfile


def credentials(settings: KafkaSettings) -> bytes:
    """Return a digest of the secrets and PEM files as they are now: a client made with others must be replaced."""
    digest = hashlib.sha256()
    for field in ("kafka_sasl_password", "kafka_ssl_key_password"):
        try:
            digest.update(hashlib.sha256((settings.secret(field) or "").encode()).digest())
        except (OSError, ValueError):
            digest.update(b"unreadable")
    for path in _pem_files(settings):
        try:
            digest.update(hashlib.sha256(path.read_bytes() if path is not None else b"").digest())
        except OSError:
            digest.update(b"unreadable")
    return digest.digest()


async def refusal(settings: KafkaSettings) -> KafkaError | None:
    """Return the error if the broker rejects our certificate, user name, password, token or mechanism.

    Also if its own certificate is not trusted, or if there is no token. None if nothing is rejected. aiokafka's clients
    only log it, and raise the same as for a broker that is not there.
    """
    protocol = settings.kafka_security_protocol
    if protocol == "PLAINTEXT":
        return None
    options = connection(settings)
    del options["retry_backoff_ms"]
    for host, port, _ in collect_hosts(options.pop("bootstrap_servers")):
        try:
            async with asyncio.timeout(REFUSAL_TIMEOUT_S):
                if protocol.endswith("SSL"):
                    await _check_certificates(host, port, options["ssl_context"])
                if not protocol.startswith("SASL"):
                    return None
                connected = await create_conn(host, port, **options)
                if _logs_in_with_a_token(settings):
                    await _check_token(connected)
        except (CertificateRefusedError, SaslAuthenticationFailed, UnsupportedSaslMechanismError) as error:
            return error
        except (KafkaError, OSError, TimeoutError):
            continue
        connected.close()
        return None
    return None


async def _check_certificates(host: str, port: int, context: ssl.SSLContext) -> None:
    """Raise CertificateRefusedError if one side rejects the other's certificate; OSError if there is no connection."""
    writer: asyncio.StreamWriter | None = None
    try:
        stream, writer = await asyncio.open_connection(host, port, ssl=context)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ALERT_TIMEOUT_S):
                await stream.read(1)
    except ssl.SSLError as error:
        # other errors of TLS mean that the port speaks another protocol
        if isinstance(error, ssl.SSLCertVerificationError) or "ALERT" in (error.reason or ""):
            raise CertificateRefusedError(error.strerror or str(error)) from None
        raise
    finally:
        if writer is not None:
            writer.transport.abort()
            with contextlib.suppress(OSError):  # what ended the connection, and was raised above
                await writer.wait_closed()


async def _check_token(connected: AIOKafkaConnection) -> None:
    """Raise SaslAuthenticationFailed, with the broker's words, if it has rejected the token of this connection.

    A broker rejects a token in an answer that looks like a success, and gives its error to the client's next message
    (RFC 7628, 3.2.3), which aiokafka 0.14 never sends. After a success it answers that the state does not fit.
    """
    try:
        answer = await connected.send(SaslAuthenticateRequest(b"\x01"))
    finally:
        connected.close()
    if answer.error_code == SaslAuthenticationFailed.errno:
        raise SaslAuthenticationFailed(answer.error_message)


async def start(settings: KafkaSettings, *clients: AIOKafkaAdminClient | AIOKafkaConsumer | AIOKafkaProducer) -> None:
    """Start clients; raise the rejection of the broker or the token issuer if there is one, else aiokafka's error."""
    try:
        for client in clients:
            await client.start()
    except (KafkaError, OSError) as error:
        raise await refusal(settings) or error from None


def group_consumer(
    settings: KafkaSettings, topics: Sequence[str], group: str, fetch_bytes: int, listener: Any
) -> AIOKafkaConsumer:
    """Return a group member that reads committed records and never commits by itself.

    fetch_bytes: the most in one response, half of it from one partition. A single larger batch is sent all the same.
    """
    decompression.install()
    session_ms = round(settings.kafka_session_timeout.total_seconds() * 1000)
    consumer = AIOKafkaConsumer(
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="none",  # the start position is decided in one place: kafka_runtime.owned_partition
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
    """Return a reader outside any group; assign partitions and seek. Its isolation level decides on end offsets."""
    decompression.install()
    return AIOKafkaConsumer(
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level=isolation_level,
        max_partition_fetch_bytes=3 << 20,
        # A broker answers the requests of a connection in their order: where a partition ends is known only after the
        # fetch before. With aiokafka's 500 ms, the look at earlier answers took a second or two of each start.
        fetch_max_wait_ms=100,
        **connection(settings),
    )


async def high_watermarks(
    consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]
) -> dict[TopicPartition, int]:
    """Return the end of each partition with everything in it, also what is behind an open transaction.

    aiokafka requests end offsets at the consumer's own isolation level, so a copy of its fetcher requests them at the
    other one. Call it before `end_offsets`: then a last stable offset below the result is due to a transaction, not to
    records that arrived between the two requests. Raises KafkaError.
    """
    asking = copy.copy(consumer._fetcher)  # noqa: SLF001 - nothing public asks for it
    asking._isolation_level = READ_UNCOMMITTED  # noqa: SLF001
    ends: dict[TopicPartition, int] = await asking.end_offsets(list(partitions), REQUEST_TIMEOUT_MS)
    return ends


def check_fetching(consumer: AIOKafkaConsumer) -> None:
    """Raise KafkaError if aiokafka's fetch routine has ended.

    It only logs the reason, and no record would arrive again.
    """
    routine = consumer._fetcher.error_future  # noqa: SLF001 - nothing public says it
    if routine.done() and not routine.cancelled():
        raise KafkaError("aiokafka does not fetch any more") from routine.exception()


async def stop(consumer: AIOKafkaConsumer) -> None:
    """Stop a consumer, also one whose fetch routine has ended or whose failed fetch waits for a retry.

    aiokafka 0.14 then raises what ended the routine, or cancels the fetch and raises CancelledError in the caller.
    Either way the connections stay open.
    """
    try:
        await consumer.stop()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise  # the caller of `stop` was cancelled
        await _disconnect(consumer)
    except KafkaError:  # logged by aiokafka when it happened, and raised by check_fetching
        await _disconnect(consumer)


async def _disconnect(consumer: AIOKafkaConsumer) -> None:
    """Close the connections, as stop() would do next."""
    await consumer._client.close()  # noqa: SLF001 - nothing public does it


def transactional_producer(settings: KafkaSettings, transactional_id: str) -> AIOKafkaProducer:
    """Return a producer whose start fences every earlier one of the same id."""
    transaction_ms = round(settings.kafka_transaction_timeout.total_seconds() * 1000)
    options = connection(settings)
    options["retry_backoff_ms"] = TRANSACTION_RETRY_BACKOFF_MS
    # Longer than any transaction. With a shorter value, a request that timed out would be repeated in the same
    # transaction, which succeeds. The first request would then arrive late and end the next transaction half-way
    # (observed: a batch visible without its offset).
    options["request_timeout_ms"] = transaction_ms + 1000
    return AIOKafkaProducer(
        transactional_id=transactional_id,
        transaction_timeout_ms=transaction_ms,
        max_batch_size=MAX_BATCH_BYTES,
        max_request_size=8 * MAX_BATCH_BYTES,
        **options,
    )


def idempotent_producer(settings: KafkaSettings) -> AIOKafkaProducer:
    """Return a producer without transactions, to send events and for at-least-once delivery."""
    return AIOKafkaProducer(
        enable_idempotence=True,
        max_batch_size=MAX_BATCH_BYTES,
        max_request_size=8 * MAX_BATCH_BYTES,
        **connection(settings),
    )


def admin(settings: KafkaSettings) -> AIOKafkaAdminClient:
    """Return an admin client; its calls do not time out by themselves."""
    return AIOKafkaAdminClient(**connection(settings))
