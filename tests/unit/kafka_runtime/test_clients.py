"""Clients of aiokafka's: credentials as their files have them now, and stopping one whose fetch waits."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

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


def _refusal(authority: Authority, certificate, key, ca) -> str | None:
    """What a client reports about a TLS server that asks for a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("broker"))
    context.load_verify_locations(authority.ca)
    context.verify_mode = ssl.CERT_REQUIRED

    def serve() -> None:
        connected, _ = listening.accept()
        with connected, contextlib.suppress(OSError), context.wrap_socket(connected, server_side=True) as talking:
            talking.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as pool:
        served = pool.submit(serve)
        settings = KafkaSettings(
            kafka_bootstrap_servers=f"127.0.0.1:{listening.getsockname()[1]}",
            kafka_security_protocol="SSL",
            kafka_ssl_cafile=ca,
            kafka_ssl_certfile=certificate,
            kafka_ssl_keyfile=key,
        )
        error = asyncio.run(clients.refusal(settings))
        served.result(10)
    return None if error is None else str(error).lower().replace("_", " ")


def test_a_certificate_that_one_side_rejects_is_named(tmp_path, monkeypatch) -> None:
    """Expired, none at all, of another authority; and a server that is not trusted. A good one is not rejected."""
    monkeypatch.setattr(clients, "ALERT_TIMEOUT_S", 0.2)
    own, foreign = (Authority(folder) for folder in (tmp_path / "own", tmp_path / "foreign") if folder.mkdir() is None)
    assert _refusal(own, *own.issue("scorer"), own.ca) is None
    expired = own.issue("expired", valid=timedelta(minutes=-30))
    assert "certificate expired" in (_refusal(own, *expired, own.ca) or "")
    assert "certificate required" in (_refusal(own, None, None, own.ca) or "")
    assert "unknown ca" in (_refusal(own, *foreign.issue("scorer"), own.ca) or "")
    assert "certificate verify failed" in (_refusal(own, *own.issue("scorer"), foreign.ca) or "")


def test_a_port_without_tls_rejects_no_certificate(tmp_path) -> None:
    """It speaks another protocol: that is no question of access."""

    async def asks() -> object:
        async def answers(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            writer.close()
            await writer.wait_closed()

        async with await asyncio.start_server(answers, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            settings = KafkaSettings(
                kafka_bootstrap_servers=f"127.0.0.1:{port}",
                kafka_security_protocol="SSL",
                kafka_ssl_cafile=Authority(tmp_path).ca,
            )
            return await clients.refusal(settings)

    assert asyncio.run(asks()) is None
