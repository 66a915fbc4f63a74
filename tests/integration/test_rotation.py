"""Passwords and certificates that change while the services run: their files are read again, without a restart."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from support.oracle import assert_exactly_once
from support.secured import SecuredBroker, documented_acls, documented_settings
from support.services import Service
from support.stage import Stage
from support.waiting import wait_until

USERS = ("Scorer", "Drift worker")
NEW = "battery staple"
# A session of Kafka's lives so long; then the broker closes the connection, and the client must log in again.
SESSION_MS = 20_000


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredBroker]:
    """A broker that closes every connection a few seconds after its login."""
    settings = {"listener.name.sasl_ssl.connections.max.reauth.ms": str(SESSION_MS)}
    with SecuredBroker(tmp_path_factory.mktemp("rotation"), (), settings) as running:
        yield running


@pytest.fixture
def stage(secured: SecuredBroker, topic_prefix: str, telco_bundle: Path, tmp_path: Path) -> Iterator[Stage]:
    """Topics of this test's own on that broker."""
    stage = Stage(secured.local, topic_prefix, telco_bundle, tmp_path)
    yield stage
    stage.reader.close()


def _login(secured: SecuredBroker, stage: Stage, section: str) -> tuple[str, Path, dict[str, str]]:
    """A user with the ACLs of the document's section: its name, the file with its password, its environment."""
    user = f"{stage.names.prefix}-{section.split(maxsplit=1)[0].lower()}"
    secured.set_password(user, "SCRAM-SHA-512")
    secured.grant(documented_acls(section, stage.names, user))
    secret = stage.folder / f"{user}.password"
    secret.write_text("correct horse\n")
    return (
        user,
        secret,
        documented_settings("SASL SCRAM-SHA-512")
        | {
            "KAFKA_BOOTSTRAP_SERVERS": secured.local.address("SASL_SSL"),
            "KAFKA_SSL_CAFILE": str(secured.authority.ca),
            "KAFKA_SASL_USERNAME": user,
            "KAFKA_SASL_PASSWORD_FILE": str(secret),
        },
    )


@pytest.mark.row(29)
def test_a_rotated_password_needs_no_restart(secured: SecuredBroker, stage: Stage) -> None:
    """Both services are `not_authorised` while the file has the old password, and go on by themselves with the new."""
    logins = [_login(secured, stage, section) for section in USERS]
    scorer_settings, worker_settings = (settings for _, _, settings in logins)
    worker = Service(
        "drift_worker",
        {"SCORER_MODEL": str(stage.bundle), **stage.names.environment, **worker_settings},
        stage.folder / "drift.log",
    )
    sent = stage.send_customers(100)
    with stage.scorer(**scorer_settings) as scorer, worker:
        stage.reader.wait_for(100)
        worker.wait_ready()
        for user, _, _ in logins:
            secured.set_password(user, "SCRAM-SHA-512", NEW)
        for service in (scorer, worker):
            wait_until(lambda service=service: "not_authorised" in (service.reasons() or []), "the old one is refused")
            assert service.get("/livez").status_code == 200
        for _, secret, _ in logins:
            secret.write_text(f"{NEW}\n")
        sent.records.update(stage.send_customers(100, seed=2).records)
        stage.reader.wait_for(200)
        for service in (scorer, worker):
            wait_until(lambda service=service: service.reasons() == [], "it is ready again")
        wait_until(lambda: worker.metric("driftline_drift_read_records_total") >= 400, "all is counted")
        assert (scorer.stop(), worker.stop()) == (0, 0)
    assert_exactly_once(sent, stage.reader.answers)


# A certificate of the test lives so long: both services have started by then, on a busy machine, too.
LIFE = timedelta(seconds=60)


@pytest.mark.row(29)
@pytest.mark.long_only
def test_a_rotated_certificate_needs_no_restart(secured: SecuredBroker, stage: Stage) -> None:
    """Certificates expire, and the broker rejects new connections; both services go on with what is in their files."""
    users = {section: f"{stage.names.prefix}-mutual-{section.split(maxsplit=1)[0].lower()}" for section in USERS}
    issued_s = time.monotonic()
    settings = {}
    for section, user in users.items():
        certificate, key = secured.authority.issue(user, "old horse", LIFE)
        secured.grant(documented_acls(section, stage.names, user))
        secret = stage.folder / f"{user}.password"
        secret.write_text("old horse")
        settings[section] = documented_settings("Mutual TLS") | {
            "KAFKA_BOOTSTRAP_SERVERS": secured.local.address("SSL"),
            "KAFKA_SSL_CAFILE": str(secured.authority.ca),
            "KAFKA_SSL_CERTFILE": str(certificate),
            "KAFKA_SSL_KEYFILE": str(key),
            "KAFKA_SSL_KEY_PASSWORD_FILE": str(secret),
        }
    scorer_settings, worker_settings = (settings[section] for section in USERS)
    worker = Service(
        "drift_worker",
        {"SCORER_MODEL": str(stage.bundle), **stage.names.environment, **worker_settings},
        stage.folder / "drift.log",
    )
    sent = stage.send_customers(100)
    with stage.scorer(**scorer_settings) as scorer, worker:
        stage.reader.wait_for(100)
        worker.wait_ready()
        time.sleep(max(0.0, issued_s + LIFE.total_seconds() + 1 - time.monotonic()))
        secured.local.kill()  # open connections outlive their certificate
        secured.local.start()
        for service in (scorer, worker):
            wait_until(lambda s=service: (s.reasons() or [""])[0] == "not_authorised", "the old one is rejected")
            assert "certificate" in service.get("/health").json()["refusal"].lower()
            assert service.get("/livez").status_code == 200
        for user in users.values():  # in two steps, as a secret is written: the key and its password first
            secured.authority.issue(user, NEW)
            (stage.folder / f"{user}.password").write_text(NEW)
        sent.records.update(stage.send_customers(100, seed=2).records)
        stage.reader.wait_for(200)
        for service in (scorer, worker):
            wait_until(lambda s=service: s.reasons() == [], "it is ready again")
        wait_until(lambda: worker.metric("driftline_drift_read_records_total") >= 400, "all is counted")
        assert (scorer.stop(), worker.stop()) == (0, 0)
    assert_exactly_once(sent, stage.reader.answers)
