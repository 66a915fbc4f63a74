"""Clients of aiokafka's: credentials as their files have them now, and stopping one whose fetch waits."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs
from support.secured import Authority

from kafka_runtime import clients
from kafka_runtime.service.settings import KafkaSettings


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


def _login(tmp_path):
    secret = tmp_path / "password"
    secret.write_text("correct horse\n")
    environment = {
        "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "KAFKA_SASL_USERNAME": "driftline",
        "KAFKA_SASL_PASSWORD_FILE": str(secret),
    }
    return secret, KafkaSettings.read(environment, [])


def test_a_password_file_is_read_for_every_client(tmp_path) -> None:
    """The next client has the new password, and the digest of the credentials has changed."""
    secret, settings = _login(tmp_path)
    before = clients.credentials(settings)
    assert clients.connection(settings)["sasl_plain_password"] == "correct horse"  # noqa: S105 - of a test
    assert clients.credentials(settings) == before
    secret.write_text("battery staple")
    assert clients.connection(settings)["sasl_plain_password"] == "battery staple"  # noqa: S105 - of a test
    assert clients.credentials(settings) != before


def test_a_password_file_that_is_gone_for_a_moment_changes_nothing(tmp_path) -> None:
    """Rotation may remove the file before it writes the next: the password of the start is used meanwhile."""
    secret, settings = _login(tmp_path)
    secret.unlink()
    assert clients.connection(settings)["sasl_plain_password"] == "correct horse"  # noqa: S105 - of a test


def test_certificates_are_loaded_for_every_client_and_the_last_good_ones_kept(tmp_path) -> None:
    """A half-written file does not take the service's connections away."""
    certificate, key = Authority(tmp_path).issue("scorer")
    settings = KafkaSettings(
        kafka_security_protocol="SSL",
        kafka_ssl_cafile=tmp_path / "ca.pem",
        kafka_ssl_certfile=certificate,
        kafka_ssl_keyfile=key,
    )
    first = clients.connection(settings)["ssl_context"]
    before = clients.credentials(settings)
    good = certificate.read_bytes()
    certificate.write_text("half")
    with capture_logs() as told:
        last = clients.connection(settings)["ssl_context"]
    assert [line["event"] for line in told] == ["certificates_not_loaded"]
    assert clients.connection(settings)["ssl_context"] is last
    certificate.write_bytes(good + b"\n")
    assert clients.connection(settings)["ssl_context"] not in {first, last}
    assert clients.credentials(settings) != before
