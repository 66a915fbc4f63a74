"""A session that ends, on a connection that does not: a login between two requests, and what happens if it fails.

The broker here speaks Kafka's framing and keeps the rules of KIP-368. A real one does in integration/test_oauth.py.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Awaitable, Callable

import pytest
from aiokafka import conn
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.admin import ListGroupsRequest

from kafka_runtime import clients
from kafka_runtime.login import oauth, reauthentication
from kafka_runtime.login.oauth import Token, TokenError, Tokens
from kafka_runtime.login.reauthentication import LEAST_S, RenewingConnection
from kafka_runtime.service.settings import KafkaSettings

LIST_GROUPS, HANDSHAKE, API_VERSIONS, AUTHENTICATE = 16, 17, 18, 36
ACCEPTED = (0, b"")


class _Broker:
    """Ends each session after `session_s`; closes a connection that breaks a rule. seen: api keys of all requests."""

    def __init__(self, session_s: float) -> None:
        self.session_s = session_s
        self.later: tuple[int, bytes] = ACCEPTED  # error code and bytes that answer every login but the first
        self.thinks_s = 0.01  # about a login
        self.seen: list[int] = []
        self.broken: list[str] = []  # rules

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends, between, logins = 0.0, False, 0
        try:
            while True:
                (size,) = struct.unpack(">i", await reader.readexactly(4))
                key, _, correlation = struct.unpack(">hhi", (await reader.readexactly(size))[:8])
                self.seen.append(key)
                if key == API_VERSIONS:
                    known = ((LIST_GROUPS, 0), (HANDSHAKE, 1), (API_VERSIONS, 0), (AUTHENTICATE, 1))
                    body = struct.pack(">hi", 0, len(known)) + b"".join(struct.pack(">hhh", k, 0, v) for k, v in known)
                elif key == HANDSHAKE:
                    between = True
                    names = (b"PLAIN", b"OAUTHBEARER")
                    body = struct.pack(">hi", 0, 2) + b"".join(struct.pack(">h", len(n)) + n for n in names)
                elif key == AUTHENTICATE:
                    await asyncio.sleep(self.thinks_s)
                    code, text = self.later if logins else ACCEPTED
                    logins, between, ends = logins + 1, False, time.monotonic() + self.session_s
                    life_ms = round(self.session_s * 1000)
                    body = struct.pack(">hhi", code, -1, len(text)) + text + struct.pack(">q", life_ms)
                elif between or (self.session_s and time.monotonic() > ends):
                    self.broken.append("in the middle of a login" if between else "after the end of a session")
                    return
                else:
                    body = struct.pack(">hi", 0, 0)
                writer.write(struct.pack(">ii", 4 + len(body), correlation) + body)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    @property
    def logins(self) -> int:
        return self.seen.count(AUTHENTICATE)


class _Source:
    """Tokens that live `life_s`, or none."""

    life_s: float | None = 60.0

    def __call__(self) -> Token:
        if self.life_s is None:
            raise TokenError("the issuer is away")
        now = time.monotonic()
        return Token(f"t{self.life_s}", now, now + self.life_s)


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    """Sessions of these tests last fractions of a second."""
    monkeypatch.setattr(reauthentication, "LEAST_S", 0.0)
    monkeypatch.setattr(reauthentication, "RENEW_BETWEEN", (0.5, 0.6))
    monkeypatch.setattr(conn, "AIOKafkaConnection", RenewingConnection)


def _run(
    broker: _Broker, use: Callable[[conn.AIOKafkaConnection], Awaitable[None]], source: _Source | None = None
) -> None:
    async def connected() -> None:
        server = await asyncio.start_server(broker.serve, "127.0.0.1", 0)
        login = {"sasl_mechanism": "PLAIN", "sasl_plain_username": "u", "sasl_plain_password": "p"}
        if source is not None:  # as a file: read for every login
            login = {"sasl_mechanism": "OAUTHBEARER", "sasl_oauth_token_provider": Tokens(source, {}, keep=False)}
        port = server.sockets[0].getsockname()[1]
        connection = await conn.create_conn("127.0.0.1", port, security_protocol="SASL_PLAINTEXT", **login)
        try:
            async with asyncio.timeout(10):
                await use(connection)
        finally:
            await connection.close()
            server.close()

    asyncio.run(connected())


async def _ask(connection: conn.AIOKafkaConnection) -> None:
    assert (await connection.send(ListGroupsRequest())).error_code == 0


async def _ask_for(connection: conn.AIOKafkaConnection, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        await _ask(connection)
        await asyncio.sleep(0.003)


@pytest.mark.parametrize("source", [None, _Source()], ids=["PLAIN", "OAUTHBEARER"])
def test_a_connection_outlives_its_sessions(source):
    """Under requests of several tasks at once; none is sent in the middle of a login, and none is lost."""
    broker = _Broker(session_s=0.3)

    async def use(connection):
        await asyncio.gather(*(_ask_for(connection, 0.6) for _ in range(4)))

    _run(broker, use, source)
    assert broker.broken == []
    assert broker.logins >= 3
    assert broker.seen.count(API_VERSIONS) == 1  # one connection


def test_without_it_the_connection_is_closed(monkeypatch):
    """With aiokafka's own: this broker does what a real one does."""
    monkeypatch.setattr(conn, "AIOKafkaConnection", RenewingConnection.__base__)
    broker = _Broker(session_s=0.1)

    async def use(connection):
        with pytest.raises(KafkaConnectionError):
            await _ask_for(connection, 1)

    _run(broker, use)
    assert broker.broken == ["after the end of a session"]


def test_an_idle_connection_is_renewed_by_its_next_request():
    """Also after the session's end, which a broker allows. Nothing is sent before."""
    broker = _Broker(session_s=0.05)

    async def use(connection):
        await asyncio.sleep(0.1)
        assert broker.logins == 1
        await _ask(connection)

    _run(broker, use)
    assert (broker.logins, broker.broken) == (2, [])


def test_a_session_without_an_end_is_left_alone():
    """As with a broker that limits none."""
    broker = _Broker(session_s=0)
    _run(broker, lambda connection: _ask_for(connection, 0.1))
    assert broker.logins == 1


def test_a_second_login_is_never_within_a_second(monkeypatch):
    """A broker takes it for an error, and the session would be gone."""
    monkeypatch.setattr(reauthentication, "LEAST_S", LEAST_S)
    broker = _Broker(session_s=0.01)

    async def use(connection):
        assert connection._renew_at > time.monotonic() + 1

    _run(broker, use)


@pytest.mark.parametrize(
    ("answer", "source"),
    [((58, b""), None), ((0, b'{"status":"invalid_token"}'), _Source())],
    ids=["by its code", "by its words"],
)
def test_a_rejected_login_closes_the_connection(answer, source, capsys):
    """Requests that waited for it fail as on a lost connection, unsent: whoever sent them may send them again."""
    broker = _Broker(session_s=5)
    broker.later = answer

    async def use(connection):
        connection._renew_at = 0.0
        outcomes = await asyncio.gather(*(_ask(connection) for _ in range(3)), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [KafkaConnectionError] * 3
        assert not connection.connected()

    _run(broker, use, source)
    assert LIST_GROUPS not in broker.seen
    assert broker.broken == []
    assert "session_not_renewed" in capsys.readouterr().err


@pytest.mark.parametrize("life_s", [0.1, 5.0], ids=["no good token", "the session's own token"])
def test_a_session_lasts_as_long_as_it_may(life_s, monkeypatch):
    """While there is no newer token, nothing is risked; the next one is taken soon."""
    monkeypatch.setattr(oauth, "FAILURE_HOLDS_S", 0.0)
    broker, source = _Broker(session_s=5), _Source()
    source.life_s = life_s

    async def use(connection):
        await asyncio.sleep(0.1)
        source.life_s, connection._renew_at = None, 0.0
        await _ask(connection)
        assert broker.logins == 1
        assert time.monotonic() < connection._renew_at < connection._ends
        source.life_s, connection._renew_at = 60.0, 0.0
        await _ask(connection)

    _run(broker, use, source)
    assert (broker.logins, broker.broken) == (2, [])


def test_a_request_that_is_cancelled_while_it_waits_is_not_sent():
    """The login goes on without it."""
    broker = _Broker(session_s=5)
    broker.thinks_s = 0.05

    async def use(connection):
        connection._renew_at = 0.0
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await _ask(connection)
        await asyncio.sleep(0.1)
        assert broker.seen[-1] == AUTHENTICATE
        await _ask(connection)

    _run(broker, use)
    assert (broker.logins, broker.seen.count(LIST_GROUPS)) == (2, 1)


def test_a_connection_that_is_closed_during_a_login_is_closed():
    """By its own client, which stops."""
    broker = _Broker(session_s=5)
    broker.thinks_s = 0.05

    async def use(connection):
        connection._renew_at = 0.0
        waiting = asyncio.ensure_future(_ask(connection))
        await asyncio.sleep(0.01)
        connection.close()
        with pytest.raises(KafkaConnectionError):
            await waiting

    _run(broker, use)


def test_every_client_has_such_connections(monkeypatch):
    """Whoever makes one asks for its options first."""
    monkeypatch.setattr(conn, "AIOKafkaConnection", RenewingConnection.__base__)
    clients.connection(KafkaSettings())
    assert conn.AIOKafkaConnection is RenewingConnection
