"""A Kafka with TLS that lets in tokens alone, each until it expires: OAUTHBEARER with an issuer, and with a file."""

from __future__ import annotations

import asyncio
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.protocol.admin import ListGroupsRequest
from support import history, preloaded
from support.brokers import Broker
from support.issuer import SECRET, Issuer
from support.oracle import assert_exactly_once
from support.secured import Authority, documented_blocks, documented_settings
from support.services import Service
from support.stage import Stage
from support.waiting import wait_until

from kafka_runtime import clients
from kafka_runtime.service.settings import KafkaSettings

# Seconds. A login and a transaction must fit into it, on a machine that is busy with other tests.
LIFE = 10
# Tokens that the scorer has used up before the test ends, in its short and in its long form.
EXPIRIES, LONG_EXPIRIES = 2, 23
# Seconds within which 99 % of the events are answered, in the long form.
LATEST_S = 1.0


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Who signs the certificates of the broker and of the issuer."""
    return Authority(tmp_path)


@pytest.fixture
def issuer(authority: Authority) -> Iterator[Issuer]:
    """Of tokens that live some seconds."""
    with Issuer(LIFE, authority.issue("issuer")) as running:
        yield running


@pytest.fixture
def stage(
    issuer: Issuer, authority: Authority, topic_prefix: str, telco_bundle: Path, tmp_path: Path
) -> Iterator[Stage]:
    """Topics on a broker with a listener that accepts this issuer's tokens, and one that asks for nothing but TLS."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAVA_TOOL_OPTIONS", issuer.broker_options())
        settings = {**authority.broker_settings(), **issuer.broker_settings()}
        with Broker(listeners=("SASL_SSL", "SSL"), settings=settings) as broker:
            stage = Stage(broker, topic_prefix, telco_bundle, tmp_path)
            stage.broker, stage.authority = broker, authority
            yield stage
            stage.reader.close()


def _login(stage: Stage, example: dict[str, str], **changes: str) -> dict[str, str]:
    """An example of the document, with this test's addresses and files; nothing that the example does not have."""
    where = {"KAFKA_BOOTSTRAP_SERVERS": stage.broker.address(example["KAFKA_SECURITY_PROTOCOL"])}
    authorities = {name: str(stage.authority.ca) for name in example if name.endswith("CAFILE")}
    changed = where | authorities | changes
    assert changed.keys() <= example.keys()
    return example | changed


def _command(stage: Stage, login: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return preloaded.run(["-m", "driftline", *arguments], {**os.environ, **stage.names.environment, **login})


def _refused(service: Service, words: str) -> bool:
    if not service.reasons():
        return False
    ready = service.get("/readyz").json()
    return "not_authorised" in ready["reasons"] and words in ready.get("refusal", "")


def _stay_away_for_a_renewal(issuer: Issuer, scorer: Service) -> None:
    """Until the scorer has asked for a token in vain."""

    def missed() -> int:
        return sum("token_not_renewed" in line for line in scorer.log_lines())

    before = missed()
    issuer.go_away()
    wait_until(lambda: missed() > before, "it is missed")
    issuer.come_back()


class _Idle:
    """A connection that is opened with a token, and used after this token has expired."""

    def __init__(self, stage: Stage, issuer: Issuer, runner: asyncio.Runner) -> None:
        self._token, self._issuer, self._runner = stage.folder / "brief", issuer, runner
        self._token.write_text(issuer.token())
        file = _login(stage, documented_settings("A token in a file"), KAFKA_OAUTH_TOKEN_FILE=str(self._token))
        options = clients.connection(KafkaSettings.read(file, []))
        ((host, port, _),) = collect_hosts(options.pop("bootstrap_servers"))
        del options["retry_backoff_ms"]
        self._connection = runner.run(create_conn(host, port, **options))

    def use(self) -> None:
        self._token.write_text(self._issuer.token())
        self._runner.run(self._use())

    async def _use(self) -> None:
        assert (await self._connection.send(ListGroupsRequest())).error_code == 0
        await self._connection.close()


def _late(stage: Stage) -> float:
    """99 % of the events were answered within this number of seconds after they were sent."""
    sent = {(partition, offset): at for at, _, partition, offset in history.current.sent}
    waits = sorted(answer.seen - sent[answer.source] for answer in stage.reader.answers)
    return waits[math.ceil(0.99 * len(waits)) - 1]


@pytest.mark.row(27)
@pytest.mark.timeout(900)
def test_tokens_expire_and_nothing_is_lost(stage: Stage, issuer: Issuer, long: bool) -> None:
    """A wrong secret, then tokens that expire under load, with the issuer away for one renewal; a token file, too."""
    secret, token = stage.folder / "secret", stage.folder / "token"
    secret.write_text("wrong\n")
    token.write_text(Issuer().token(life=86_400))  # another issuer's
    asking = {"KAFKA_OAUTH_TOKEN_URL": issuer.token_url, "KAFKA_OAUTH_CLIENT_SECRET_FILE": str(secret)}
    login = _login(stage, documented_settings("OAUTHBEARER"), **asking)
    worker = Service(
        "drift_worker",
        {
            "SCORER_MODEL": str(stage.bundle),
            **stage.names.environment,
            **_login(stage, documented_settings("A token in a file"), KAFKA_OAUTH_TOKEN_FILE=str(token)),
        },
        stage.folder / "drift.log",
    )
    with stage.scorer(**login) as scorer, worker, asyncio.Runner() as runner:
        wait_until(lambda: _refused(scorer, "invalid_client: the secret is wrong"), "the issuer's words are shown")
        wait_until(lambda: _refused(worker, "invalid_token"), "the broker's words are shown")
        for command in (("verify",), ("topics", "check")):
            refused = _command(stage, login, *command)
            assert refused.returncode == 1
            assert "invalid_client: the secret is wrong" in refused.stderr
        assert "\ndriftline_kafka_token_age_seconds " not in scorer.get("/metrics").text
        secret.write_text(f"{SECRET}\n")
        token.write_text(issuer.token(life=86_400))
        for service in (scorer, worker):
            service.wait_ready()
        assert scorer.metric("driftline_kafka_token_left_seconds") <= issuer.life
        first = issuer.issued
        idle = _Idle(stage, issuer, runner)
        sent, away = stage.send_customers(50), False
        while issuer.issued < first + (LONG_EXPIRIES if long else EXPIRIES):
            stage.send_customers(20, sent, seed=len(sent.records))
            time.sleep(0.1)  # 200 events a second at most: the machine has other things to do
            if issuer.issued == first + 1 and not away:
                away = True
                _stay_away_for_a_renewal(issuer, scorer)
        idle.use()
        stage.reader.wait_for(len(sent.records))
        verified = _command(stage, login, "verify")
        (confluent,) = (block for block in documented_blocks() if "KAFKA_OAUTH_EXTENSIONS" in block)
        trusting = {"SSL_CERT_FILE": str(stage.authority.ca)}  # in place of the system's authorities
        others = (_login(stage, documented_settings("TLS alone")), _login(stage, confluent, **asking) | trusting)
        also = [_command(stage, other, "verify") for other in others]
        wait_until(lambda: worker.metric("driftline_drift_read_records_total") >= 2 * len(sent.records), "all counted")
        assert (scorer.stop(), worker.stop()) == (0, 0)
    assert_exactly_once(sent, stage.reader.answers)
    assert verified.returncode == 0, verified.stderr
    assert [done.returncode for done in also] == [0, 0], also
    rebuilt, late = sum("producer_rebuilt" in line for line in scorer.log_lines()), _late(stage)
    figures = (
        f"{issuer.issued - first} tokens, {len(sent.records)} events, p99 {late:.3f} s, producers made anew: {rebuilt}"
    )
    sys.stdout.write(f"{figures}\n")
    assert not long or late <= LATEST_S
