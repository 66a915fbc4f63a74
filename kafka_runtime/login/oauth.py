"""Tokens for SASL OAUTHBEARER: from an OIDC issuer, a file or AWS; renewed in time, shared by a process's clients."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import SaslAuthenticationFailed

from kafka_runtime.service import logs
from kafka_runtime.service.settings import AWS_MSK_IAM, KafkaSettings, read_secret

log = logs.get(__name__)

# The rest of a token's life is left for an issuer that is away.
RENEW_AT = 0.8
# Of one request to the issuer; aiokafka waits as long for the whole login.
ISSUER_TIMEOUT_S = 8.0
# A process has some clients for each partition: after a failure they do not all ask again at once.
FAILURE_HOLDS_S = 1.0
RETRY_MOST_S = 30.0
LONGEST_S = 1e9
# An issuer's words go into a log line and into /health.
MOST_WORDS = 300
_MSK_ADDRESS = re.compile(r"\.kafka(?:-serverless)?\.([a-z]{2}(?:-[a-z]+)+-\d)\.amazonaws\.com(?:\.cn)?\b")


class TokenError(Exception):
    """There is no token: who refuses it or cannot be reached, and in which words."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token and its life in seconds of the monotonic clock; `expires` is None if the token does not reveal it."""

    text: str
    obtained: float
    expires: float | None

    def left(self, now: float) -> float:
        """Return the seconds until it expires."""
        return float("inf") if self.expires is None else self.expires - now


class Tokens(AbstractTokenProvider):  # type: ignore[misc] # the base class has no types
    """Gives every client of a process the same token, and renews it at 80 % of its life.

    A renewal that fails leaves the token in use until it expires. `source` returns a new token or raises TokenError; it
    is called in a thread, because aiokafka's clients may live in several event loops. keep: whether a token is kept
    until it must be renewed; a file is read each time instead.
    """

    def __init__(self, source: Callable[[], Token], extensions: dict[str, str], *, keep: bool) -> None:
        self._source = source
        self._extensions = extensions
        self._keep = keep
        self._lock = threading.Lock()
        self._token: Token | None = None
        self._failed: tuple[float, TokenError] | None = None
        self._timer: threading.Timer | None = None

    async def token(self) -> str:
        """Return a token that is good now; raise SaslAuthenticationFailed, with the issuer's words, if there is none.

        aiokafka calls it for each new connection.
        """
        token = self._token
        if token is None or not self._keep or token.left(time.monotonic()) <= 0:
            token = await asyncio.to_thread(self._good)
        return token.text

    def extensions(self) -> dict[str, str]:
        """Return the SASL extensions that go with each token."""
        return self._extensions

    def age_s(self) -> float | None:
        """Return the seconds since the token was obtained, None while there is none."""
        token = self._token
        return None if token is None else time.monotonic() - token.obtained

    def left_s(self) -> float | None:
        """Return the seconds until the token expires, 0 if it has; None while that is unknown."""
        token = self._token
        return None if token is None or token.expires is None else max(0.0, token.left(time.monotonic()))

    def close(self) -> None:
        """Renew no more."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()

    def _good(self) -> Token:
        with self._lock:
            now = time.monotonic()
            token = self._token
            if token is not None and self._keep and token.left(now) > 0:
                return token  # another client was faster
            if self._failed is not None and now - self._failed[0] < FAILURE_HOLDS_S:
                error: TokenError | None = self._failed[1]
            else:
                error = self._renew()
            token = self._token
            if token is not None and token.left(time.monotonic()) > 0:
                return token
        raise SaslAuthenticationFailed(str(error or "the token has expired"))

    def _renew(self) -> TokenError | None:
        """Replace the token, and return None; if there is no new one, keep the old one and return why."""
        try:
            token = self._source()
        except TokenError as error:
            left = max(0.0, self._token.left(time.monotonic())) if self._token is not None else 0.0
            log.warning(
                "token_not_renewed", exception=str(error), token_left_s=round(left, 1) if left < LONGEST_S else None
            )
            self._failed = (time.monotonic(), error)
            self._renew_in(min(max(left / 4, FAILURE_HOLDS_S), RETRY_MOST_S) if left > 0 else RETRY_MOST_S)
            return error
        self._failed = None
        if self._token is None or token.text != self._token.text:
            self._token = token
            log.debug("token_renewed", life_s=None if token.expires is None else round(token.expires - token.obtained))
        if token.expires is not None:
            self._renew_in(max((token.expires - token.obtained) * RENEW_AT, FAILURE_HOLDS_S))
        return None

    def _renew_in(self, seconds: float) -> None:
        if not self._keep:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = threading.Timer(seconds, self._on_time)
        self._timer.daemon = True
        self._timer.start()

    def _on_time(self) -> None:
        with self._lock:
            self._renew()


def tokens(settings: KafkaSettings) -> Tokens:
    """Return the process's tokens for these settings: one object, however many clients there are."""
    fields = (name for name in KafkaSettings.model_fields if name.startswith(("kafka_oauth_", "kafka_sasl_mechanism")))
    key = (settings.kafka_bootstrap_servers, *(getattr(settings, name) for name in fields))
    with _making:
        if key not in _made:
            _made[key] = _make(settings)
        return _made[key]


_making = threading.Lock()
_made: dict[tuple[Any, ...], Tokens] = {}


def age_s() -> float | None:
    """Return the age of this process's oldest token in seconds, None if it has none."""
    return max((age for one in list(_made.values()) if (age := one.age_s()) is not None), default=None)


def left_s() -> float | None:
    """Return the seconds until the first of this process's tokens expires, None if that is unknown."""
    return min((left for one in list(_made.values()) if (left := one.left_s()) is not None), default=None)


def _make(settings: KafkaSettings) -> Tokens:
    pairs = (entry.split("=", 1) for entry in (settings.kafka_oauth_extensions or "").split(",") if entry)
    extensions = {name: value for name, value in pairs}  # noqa: C416 - dict() of lists has no type
    if settings.kafka_sasl_mechanism == AWS_MSK_IAM:
        return Tokens(lambda: msk_token(settings), extensions, keep=True)
    if settings.kafka_oauth_token_file is not None:
        return Tokens(lambda: file_token(settings), extensions, keep=False)
    return Tokens(lambda: issued_token(settings), extensions, keep=True)


def issued_token(settings: KafkaSettings) -> Token:
    """Ask the issuer for a token: client credentials, as RFC 6749 has them in section 4.4; raise TokenError."""
    import httpx  # noqa: PLC0415 - takes 0.2 s, which only OAuth should cost

    url = settings.kafka_oauth_token_url or ""
    form = {"grant_type": "client_credentials"}
    form |= {"scope": settings.kafka_oauth_scope} if settings.kafka_oauth_scope else {}
    form |= {"audience": settings.kafka_oauth_audience} if settings.kafka_oauth_audience else {}
    try:
        secret = settings.secret("kafka_oauth_client_secret") or ""
        context = ssl.create_default_context(cafile=settings.kafka_oauth_cafile)
    except (OSError, ValueError) as error:
        raise TokenError(str(error)) from None
    # both are encoded before they are joined (RFC 6749, 2.3.1)
    login = (quote(settings.kafka_oauth_client_id or "", safe=""), quote(secret, safe=""))
    asked = time.monotonic()
    try:
        answer = httpx.post(url, data=form, auth=login, verify=context, timeout=ISSUER_TIMEOUT_S)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise TokenError(f"{url}: {str(error) or type(error).__name__}") from None
    if answer.status_code != 200:
        raise TokenError(f"{url} answered {answer.status_code}: {_words(answer.text)}")
    try:
        found = answer.json()
        text, life = found["access_token"], found.get("expires_in")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise TokenError(f"{url} answered without access_token: {_words(answer.text)}") from None
    try:
        token = _token(text, asked, None if life is None else float(life))
    except (ValueError, TypeError) as error:
        raise TokenError(f"{url}: {error}") from None
    if token.expires is None:
        raise TokenError(f"{url} answered without expires_in, and the token is no JWT")
    return token


def file_token(settings: KafkaSettings) -> Token:
    """Read a token from its file; raise TokenError."""
    path = settings.kafka_oauth_token_file
    if path is None:
        raise TokenError("KAFKA_OAUTH_TOKEN_FILE: not set")
    try:
        token = _token(read_secret(path).strip(), time.monotonic(), None)
    except (OSError, ValueError) as error:
        raise TokenError(f"{path}: {error}") from None
    if token.left(token.obtained) <= 0:
        raise TokenError(f"{path}: the token in this file has expired")
    return token


def msk_token(settings: KafkaSettings) -> Token:
    """Sign a token for Amazon MSK with this process's AWS identity (the extra `msk`); raise TokenError."""
    region = _MSK_ADDRESS.search(settings.kafka_bootstrap_servers)
    if region is None:
        raise TokenError(
            "KAFKA_BOOTSTRAP_SERVERS: AWS_MSK_IAM needs the addresses that MSK gives: they name the region"
        )
    try:
        from aws_msk_iam_sasl_signer import MSKAuthTokenProvider  # noqa: PLC0415 - an extra
    except ImportError:
        raise TokenError(
            "KAFKA_SASL_MECHANISM: AWS_MSK_IAM needs the extra msk: pip install 'driftline[msk]'"
        ) from None
    asked = time.monotonic()
    try:
        text, expires_ms = MSKAuthTokenProvider.generate_auth_token(region[1])
    except Exception as error:  # noqa: BLE001 - whatever AWS's library raises, there is no token
        raise TokenError(f"AWS: {type(error).__name__}: {error}") from None
    return _token(text, asked, expires_ms / 1000 - time.time())


def _token(text: object, asked: float, life: float | None) -> Token:
    """Make a token; raise ValueError for text that no token can be. life: seconds, None if only the token has it."""
    if not isinstance(text, str) or not text.isascii() or not text.isprintable() or not text or " " in text:
        raise ValueError("expected a token: printable ASCII without spaces")
    if life is None and (expires := _claimed_expiry(text)) is not None:
        life = expires - time.time()
    if life is not None and not abs(life) < LONGEST_S:
        raise ValueError(f"expected a token's life in seconds, got {life}")
    return Token(text, asked, None if life is None else asked + life)


def _claimed_expiry(text: str) -> float | None:
    """Return `exp` of a JWT, seconds since the epoch; None for any other token."""
    try:
        claims = text.split(".")[1]
        found = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
        return float(found["exp"])
    except (IndexError, ValueError, KeyError, TypeError):
        return None


def _words(text: str) -> str:
    """Return an issuer's error: `error` and `error_description` (RFC 6749, 5.2), else the beginning of its answer."""
    try:
        found = json.loads(text)
        said = ": ".join(str(found[name]) for name in ("error", "error_description") if name in found)
    except (ValueError, TypeError):
        said = ""
    return " ".join((said or text).split())[:MOST_WORDS] or "nothing"
