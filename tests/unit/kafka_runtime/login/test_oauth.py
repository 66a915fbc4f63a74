"""Tokens: shared by all clients, renewed at 80 % of their life, never dropped while they are good."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from pathlib import Path

import pytest
from aiokafka.errors import SaslAuthenticationFailed
from support.issuer import CLIENT, SECRET, Issuer

from kafka_runtime import clients
from kafka_runtime.login import oauth
from kafka_runtime.login.oauth import Token, TokenError, Tokens, file_token, issued_token, msk_token
from kafka_runtime.service.settings import KafkaSettings


class _Source:
    """Tokens t1, t2, … that live `life` seconds, or the error that is set."""

    def __init__(self, life: float | None = 100.0) -> None:
        self.life = life
        self.asked = 0
        self.error: TokenError | None = None

    def __call__(self) -> Token:
        self.asked += 1
        if self.error is not None:
            raise self.error
        now = time.monotonic()
        return Token(f"t{self.asked}", now, None if self.life is None else now + self.life)


@pytest.fixture(autouse=True)
def _none_made(monkeypatch):
    """No test of another file sees the age of these tokens in its metrics."""
    monkeypatch.setattr(oauth, "_made", {})


@pytest.fixture
def source():
    """What tokens come from."""
    return _Source()


@pytest.fixture
def tokens(source):
    """They are renewed no more when the test ends."""
    tokens = Tokens(source, {"logicalCluster": "lkc-1"}, keep=True)
    yield tokens
    tokens.close()


async def _many(tokens, count=20):
    return await asyncio.gather(*(tokens.token() for _ in range(count)))


def test_all_clients_share_one_token(source, tokens):
    """Of 20 connections that open at once, one requests a token; the next ones have it already."""
    assert set(asyncio.run(_many(tokens))) == {"t1"}
    assert set(asyncio.run(_many(tokens))) == {"t1"}
    assert source.asked == 1
    assert tokens.extensions() == {"logicalCluster": "lkc-1"}


def test_a_token_is_renewed_at_80_percent_of_its_life(source, tokens):
    """By a timer: no connection has to wait for the issuer."""
    assert tokens.age_s() is None
    assert tokens.left_s() is None
    asyncio.run(tokens.token())
    assert tokens._timer.interval == pytest.approx(80.0)
    assert 0 <= tokens.age_s() < 60
    assert 40 < tokens.left_s() <= 100
    tokens._on_time()
    assert asyncio.run(tokens.token()) == "t2"
    assert source.asked == 2


def test_a_failed_renewal_never_drops_a_good_token(source, tokens):
    """It is tried again well before the token expires."""
    asyncio.run(tokens.token())
    source.error = TokenError("the issuer is away")
    tokens._on_time()
    assert asyncio.run(tokens.token()) == "t1"
    assert tokens._timer.interval == pytest.approx(25.0, abs=5)
    source.error = None
    tokens._on_time()
    assert asyncio.run(tokens.token()) == "t3"


def test_without_a_good_token_the_issuers_words_are_raised(source, tokens, monkeypatch):
    """As the error of a login, which a service reports as `not_authorised`; the issuer is not called again at once."""
    source.life = -1.0
    source.error = TokenError("https://issuer answered 401: invalid_client")
    for _ in range(3):
        with pytest.raises(SaslAuthenticationFailed, match="answered 401: invalid_client"):
            asyncio.run(_many(tokens))
    assert source.asked == 1
    monkeypatch.setattr(oauth, "FAILURE_HOLDS_S", 0.0)
    source.error, source.life = None, 100.0
    assert asyncio.run(tokens.token()) == "t2"


def test_an_expired_token_is_not_used(source, tokens):
    """Nor is one that arrives expired."""
    source.life = -1.0
    with pytest.raises(SaslAuthenticationFailed, match="the token has expired"):
        asyncio.run(tokens.token())
    assert tokens.left_s() == 0.0


def _settings(issuer, tmp_path, **more):
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    environment = {
        "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "KAFKA_SASL_MECHANISM": "OAUTHBEARER",
        "KAFKA_OAUTH_TOKEN_URL": f"{issuer.url}/token",
        "KAFKA_OAUTH_CLIENT_ID": CLIENT,
        "KAFKA_OAUTH_CLIENT_SECRET_FILE": str(tmp_path / "secret"),
        **more,
    }
    return KafkaSettings.read(environment, [])


def test_an_issuer_is_asked_with_client_credentials(tmp_path):
    """Scope and audience only if they are set; the secret's file is read each time."""
    with Issuer(life=30) as issuer:
        before = time.monotonic()
        plain = issued_token(_settings(issuer, tmp_path))
        settings = _settings(issuer, tmp_path, KAFKA_OAUTH_SCOPE="a b", KAFKA_OAUTH_AUDIENCE="kafka")
        issued_token(settings)
        (tmp_path / "secret").write_text("old")
        with pytest.raises(TokenError, match=r"/token answered 401: invalid_client: the secret is wrong$"):
            issued_token(settings)
        asked = issuer.asked
    assert before + 30 <= plain.expires <= time.monotonic() + 30
    assert asked[:2] == [
        {"grant_type": "client_credentials"},
        {"grant_type": "client_credentials", "scope": "a b", "audience": "kafka"},
    ]
    with pytest.raises(TokenError, match=r"/token: .*refused"):
        issued_token(settings)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((500, b"<html>\n  down </html>"), "answered 500: <html> down </html>"),
        ((200, b"[]"), "answered without access_token"),
        ((200, b'{"access_token": "a\\u0001b", "expires_in": 60}'), "expected a token: printable ASCII"),
        ((200, b'{"access_token": "opaque"}'), "without expires_in, and the token is no JWT"),
        ((200, b'{"access_token": "opaque", "expires_in": "soon"}'), "could not convert"),
        ((200, b'{"access_token": "opaque", "expires_in": 1e300}'), "a token's life in seconds"),
        ((302, b""), "answered 302: nothing"),
    ],
)
def test_an_answer_that_is_no_token_is_quoted(tmp_path, answer, words):
    """One line, bounded."""
    with Issuer() as issuer:
        issuer.answer = answer
        with pytest.raises(TokenError) as raised:
            issued_token(_settings(issuer, tmp_path))
    assert words in str(raised.value)


def _jwt(expires: object) -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": expires}).encode()).rstrip(b"=").decode()
    return f"e30.{claims}.c2ln"


def _from_file(path: Path) -> KafkaSettings:
    return KafkaSettings(
        kafka_security_protocol="SASL_SSL", kafka_sasl_mechanism="OAUTHBEARER", kafka_oauth_token_file=path
    )


def test_a_token_file_is_read_for_each_connection(tmp_path):
    """What is in it now counts; while it cannot be read, the last one, until that expires."""
    path = tmp_path / "token"
    path.write_text(f"{_jwt(time.time() + 600)}\n")
    settings = _from_file(path)
    tokens = clients.connection(settings)["sasl_oauth_token_provider"]
    assert clients.connection(settings)["sasl_oauth_token_provider"] is tokens
    first = asyncio.run(tokens.token())
    assert first == path.read_text().strip()
    assert 500 < tokens.left_s() <= 600
    path.write_text(_jwt(time.time() + 700))
    second = asyncio.run(tokens.token())
    assert second == path.read_text()
    path.unlink()
    assert asyncio.run(tokens.token()) == second


def test_what_a_token_file_may_hold(tmp_path):
    """An opaque token has no known end; one that has expired is not tried."""
    path = tmp_path / "token"
    path.write_text("opaque")
    settings = _from_file(path)
    assert file_token(settings).expires is None
    for text, words in ((_jwt(time.time() - 5), "has expired"), ("", "expected a token"), ("a b", "expected a token")):
        path.write_text(text)
        with pytest.raises(TokenError, match=words):
            file_token(settings)


def test_msk_needs_its_own_addresses():
    """They name the region that a token is signed for."""
    with pytest.raises(TokenError, match="KAFKA_BOOTSTRAP_SERVERS: AWS_MSK_IAM needs the addresses that MSK gives"):
        msk_token(KafkaSettings(kafka_bootstrap_servers="broker:9098"))


def test_an_msk_token_is_a_signed_request(monkeypatch):
    """Signed by Amazon's own package with the process's identity, for the region of the address; 15 minutes long."""
    pytest.importorskip("aws_msk_iam_sasl_signer", reason="the extra msk is not installed")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    servers = "b-1.demo.abc123.c2.kafka.eu-central-1.amazonaws.com:9098"
    token = msk_token(KafkaSettings(kafka_bootstrap_servers=servers))
    request = base64.urlsafe_b64decode(token.text + "=" * (-len(token.text) % 4)).decode()
    assert request.startswith("https://kafka.eu-central-1.amazonaws.com/?Action=kafka-cluster%3AConnect")
    assert 800 < token.expires - token.obtained <= 900
