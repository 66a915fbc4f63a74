"""Log in again on a live connection before its session ends (KIP-368): aiokafka 0.14 only logs in once.

A broker limits a session to the life of its token, and to `connections.max.reauth.ms`. It closes a connection at the
first request after that: the request is lost, and so is the time for a new connection. `install` makes aiokafka's
clients open connections that renew their session in time.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from typing import Any

from aiokafka import conn
from aiokafka.errors import KafkaConnectionError, SaslAuthenticationFailed
from aiokafka.protocol.admin import SaslAuthenticateRequest, SaslHandShakeRequest

from kafka_runtime.login.oauth import Tokens
from kafka_runtime.service import logs

log = logs.get(__name__)

# Part of a session after which the next request waits for a new login; drawn, because a process has many connections.
# Later than oauth.RENEW_AT: a newer token is there by then.
RENEW_BETWEEN = (0.82, 0.92)
# A broker rejects a second login within a second.
LEAST_S = 1.1
# While the issuer is away, a login would only repeat the session's own token. Then the token is looked at again soon.
GAIN_S = 1.0
SOON_S, SOON_MOST_S = 0.1, 30.0


class RenewingConnection(conn.AIOKafkaConnection):  # type: ignore[misc] # the base class has no types
    """A connection that logs in again, between two requests, when its session is nearly over.

    Nothing happens while nothing is sent: a broker lets a session be renewed even after its end.
    """

    _renew_at = _ends = math.inf  # monotonic
    _login: asyncio.Task[None] | None = None  # while it runs, every other request waits
    _answer: Any = None  # the last one to a SaslAuthenticate request

    def send(self, request: Any, expect_response: bool = True) -> Any:
        """Return an awaitable for the answer, as aiokafka's connection does."""
        if isinstance(request, SaslAuthenticateRequest):
            return self._authenticate(request)
        own = isinstance(request, SaslHandShakeRequest)
        if own or (self._login is None and time.monotonic() < self._renew_at):
            return super().send(request, expect_response)
        return self._send_later(request, expect_response)

    async def _authenticate(self, request: SaslAuthenticateRequest) -> Any:
        self._answer = await super().send(request)
        return self._answer

    async def _send_later(self, request: Any, expect_response: bool) -> Any:
        if self._login is None:
            self._login = asyncio.create_task(self._log_in_again())
        # if the login has failed, the connection is closed, and `send` raises that
        await asyncio.shield(self._login)
        return await super().send(request, expect_response)

    async def _do_sasl_handshake(self) -> None:
        started, self._answer = time.monotonic(), None
        await super()._do_sasl_handshake()
        life_s = getattr(self._answer, "session_lifetime_ms", 0) / 1000 or math.inf
        self._ends = started + life_s
        self._renew_at = started + max(life_s * random.uniform(*RENEW_BETWEEN), LEAST_S)

    async def _log_in_again(self) -> None:
        """Renew the session; close the connection if the broker refuses.

        Answers to earlier requests come first: a broker works through the requests of a connection one by one.
        """
        try:
            if await self._gains():
                await self._do_sasl_handshake()
                self._check_token()
        except Exception as error:  # noqa: BLE001 - whatever it was, the broker accepts nothing else on this connection
            # closed meanwhile, by either side
            write = log.debug if isinstance(error, KafkaConnectionError) else log.warning
            write("session_not_renewed", exception=repr(error), broker=f"{self.host}:{self.port}")
            self.close(reason=conn.CloseReason.CONNECTION_BROKEN, exc=error)
        finally:
            self._login = None

    async def _gains(self) -> bool:
        """Return whether a login would make the session longer; if not, look again soon."""
        tokens: Tokens | None = self._sasl_oauth_token_provider
        if tokens is None:
            return True
        left = max(0.0, self._ends - time.monotonic())
        try:
            await tokens.token()
        except SaslAuthenticationFailed as error:  # the session lasts as long as it may
            log.debug("session_not_renewed", exception=str(error))
            token_left: float | None = 0.0
        else:
            token_left = tokens.left_s()
        if token_left is None or token_left > left + GAIN_S:
            return True
        self._renew_at = time.monotonic() + min(max(left / 8, SOON_S), SOON_MOST_S)
        return False

    def _check_token(self) -> None:
        """Raise SaslAuthenticationFailed for a rejected token: its answer looks like a success (RFC 7628, 3.2.3)."""
        if self._sasl_mechanism == "OAUTHBEARER" and (words := self._answer.sasl_auth_bytes):
            raise SaslAuthenticationFailed(words.decode(errors="replace"))


def install() -> None:
    """Make every client of aiokafka's open such connections. Repeated calls have no further effect."""
    conn.AIOKafkaConnection = RenewingConnection
