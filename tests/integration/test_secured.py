"""A Kafka with TLS, passwords, certificates and ACLs: exactly those that docs/connect-your-kafka.md lists as enough."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import httpx
import pytest
from confluent_kafka import Consumer, KafkaException
from confluent_kafka.admin import AclOperation, AdminClient
from support import preloaded
from support.oracle import Names, assert_exactly_once, committed, send
from support.secured import PASSWORD, SecuredBroker, documented_acls, documented_blocks, documented_settings
from support.services import Service
from support.stage import Stage
from support.waiting import wait_until

from kafka_runtime import topics
from kafka_runtime.service.settings import TOKEN_MECHANISMS, KafkaSettings
from schemas.setting_names import KNOWN

# Those of the document's examples, which Kafka must have at its start.
PLAIN_USERS = ("on-call", "scorer", "ABCDEFGHIJKLMNOP", "$ConnectionString")
RATE = 200  # events per second of event time
# windows that close within seconds
QUICK = {
    "DRIFT_PANE": "1s",
    "DRIFT_WINDOWS": "5s,15s",
    "DRIFT_ALLOWED_LATENESS": "1s",
    "DRIFT_IDLE_TIMEOUT": "4s",
    "DRIFT_MIN_EVENTS": "200",
}


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredBroker]:
    """One for all tests here: each has separate users, topics and groups."""
    with SecuredBroker(tmp_path_factory.mktemp("secured"), PLAIN_USERS) as running:
        yield running


class Site:
    """One test's topics on the secured broker, its users, and what they may do."""

    def __init__(self, secured: SecuredBroker, stage: Stage) -> None:
        self.secured = secured
        self.stage = stage

    def user(
        self, name: str, section: str | None = None, mechanism: str = "SCRAM-SHA-512", names: Names | None = None
    ) -> str:
        """A user of this test's own with the ACLs that the document gives under this heading."""
        user = name if mechanism == "PLAIN" else f"{self.stage.names.prefix}-{name}"
        if mechanism != "PLAIN":
            self.secured.set_password(user, mechanism)
        if section is not None:
            self.secured.grant(documented_acls(section, names or self.stage.names, user))
        return user

    def environment(self, example: str, **changes: str | Path) -> dict[str, str]:
        """The document's example, with this broker's address and files; nothing that the example does not have."""
        protocol = documented_settings(example)["KAFKA_SECURITY_PROTOCOL"]
        where = {
            "KAFKA_BOOTSTRAP_SERVERS": self.secured.local.address(protocol),
            "KAFKA_SSL_CAFILE": self.secured.authority.ca,
        }
        settings = documented_settings(example)
        changed = {name: str(value) for name, value in {**where, **changes}.items()}
        assert changed.keys() <= settings.keys()
        return settings | changed

    def login(self, user: str, mechanism: str = "SCRAM-SHA-512", password: str = PASSWORD) -> dict[str, str]:
        """The environment of a user with a password."""
        secret = self.stage.folder / f"{user}.password"
        secret.write_text(password)
        example = f"SASL {mechanism}"
        return self.environment(example, KAFKA_SASL_USERNAME=user, KAFKA_SASL_PASSWORD_FILE=secret)

    def client(self, user: str) -> dict[str, object]:
        """The same for librdkafka."""
        return {
            "bootstrap.servers": self.secured.local.address("SASL_SSL"),
            "security.protocol": "SASL_SSL",
            "sasl.mechanisms": "SCRAM-SHA-512",
            "sasl.username": user,
            "sasl.password": PASSWORD,
            "ssl.ca.location": str(self.secured.authority.ca),
        }

    def worker(self, **environment: str) -> Service:
        names = self.stage.names.environment
        settings = {"SCORER_MODEL": str(self.stage.bundle), **names, **QUICK, **environment}
        return Service("drift_worker", settings, self.stage.folder / "drift.log")

    def driftline(self, environment: dict[str, str], *arguments: str, names: Names | None = None) -> tuple[int, str]:
        """The command's exit code and output."""
        own = {n: v for n, v in (names or self.stage.names).environment.items() if n.startswith(("TOPIC_", "SCORER_"))}
        done = preloaded.run(["-m", "driftline", *arguments], {**os.environ, **own, **environment})
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def site(secured: SecuredBroker, topic_prefix: str, telco_bundle: Path, tmp_path: Path) -> Iterator[Site]:
    """Topics of this test's own on the secured broker; its reader has the plain listener."""
    stage = Stage(secured.local, topic_prefix, telco_bundle, tmp_path)
    yield Site(secured, stage)
    stage.reader.close()


def test_the_documents_acls_are_enough_for_everybody(site: Site) -> None:
    """Upstream, scorer, drift worker, downstream and on-call, each with its own list: exactly once, and an alert."""
    stage = site.stage
    upstream = site.client(site.user("upstream", "Upstream producer"))
    start_ms = (time.time_ns() // 1_000_000 - 600_000) // 15_000 * 15_000
    source = stage.source(drifts=["monthly_charges:shift=+25@10s..60s"])
    records = [r for second in range(40) for r in source.take(RATE, float(second), start_ms + second * 1000)]
    sent = send(stage.bootstrap, stage.names.events, [*records, (b"k", b"no event")], **upstream)
    scorer_login = site.login(site.user("scorer", "Scorer"))
    worker_login = site.login(site.user("drift", "Drift worker", mechanism="SCRAM-SHA-256"), "SCRAM-SHA-256")
    with stage.scorer(**scorer_login) as scorer, site.worker(**worker_login) as worker:
        scorer.wait_ready()
        worker.wait_ready()
        stage.reader.wait_for(8001)
        on_call = site.login(site.user("on-call", "driftline alerts tail", mechanism="PLAIN"), "PLAIN")
        tail = ("alerts", "tail", "--from-start", "--count", "1", "--timeout", "60", "--json")
        code, alert = site.driftline(on_call, *tail)
        assert code == 0, alert
        assert '"firing"' in alert
        assert (scorer.reasons(), worker.reasons()) == ([], [])
        assert (scorer.stop(), worker.stop()) == (0, 0)
    assert_exactly_once(sent, stage.reader.answers)

    group = "retention-offers"
    downstream = site.user("downstream", "Downstream consumer")
    options = {"group.id": group, "isolation.level": "read_committed", "auto.offset.reset": "earliest"}
    consumer = Consumer({**site.client(downstream), **options})
    consumer.subscribe([stage.names.predictions])
    seen: list[object] = []
    wait_until(lambda: seen.extend(consumer.consume(1000, 1.0)) or len(seen) >= 8000, "downstream has read all")
    consumer.commit(asynchronous=False)
    consumer.close()
    assert {message.error() for message in seen} == {None}
    assert len(seen) == 8000


def test_a_drift_worker_that_may_not_see_the_label_state_closes_its_windows(site: Site) -> None:
    """Who joins no labels may have ACLs from before there were any: drift is measured all the same."""
    stage = site.stage
    names = stage.names.environment
    user = site.user("drift")
    acls = documented_acls("Drift worker", stage.names, user)
    site.secured.grant([acl for acl in acls if acl.name not in {names["TOPIC_LABELS"], names["TOPIC_LABEL_STATE"]}])
    start_ms = (time.time_ns() // 1_000_000 - 600_000) // 15_000 * 15_000
    source = stage.source()
    records = [r for second in range(40) for r in source.take(RATE, float(second), start_ms + second * 1000)]
    send(stage.bootstrap, stage.names.events, records)
    with site.worker(**site.login(user)) as worker:
        worker.wait_ready()
        wait_until(lambda: worker.metric("driftline_drift_windows_total") > 0, "a window is closed")
        assert worker.stop() == 0


def test_the_documents_acls_are_enough_for_the_commands(site: Site) -> None:
    """Each command as a separate user with only the rights under its heading."""
    stage = site.stage
    sent = stage.send_customers(200, bad=Fraction(1, 20))
    with stage.scorer() as scorer:
        stage.reader.wait_for(200)
        assert scorer.stop() == 0

    def may(section: str, names: Names | None = None) -> dict[str, str]:
        return site.login(site.user(section.replace(" ", "-").replace(",", ""), section, names=names))

    others = Names(f"{stage.names.prefix}x")
    create, check = may("driftline topics create", others), may("driftline topics check", others)
    assert site.driftline(create, "topics", "create", names=others)[0] == 0
    assert site.driftline(check, "topics", "check", names=others) == (0, "all topics are as expected\n")

    nobody = site.login(site.user("nobody"))
    code, said = site.driftline(nobody, "verify")
    assert code == 1
    assert said.endswith(f"driftline: cannot verify: [Error 29] TopicAuthorizationFailedError: {stage.names.events}\n")
    code, said = site.driftline(may("driftline verify"), "verify")
    assert code == 0, said
    assert "190 predictions + 10 dead letters" in said
    letters = may("driftline dead-letters show, count")
    assert site.driftline(letters, "dead-letters", "count")[0] == 0
    code, said = site.driftline(may("driftline dead-letters redrive"), "dead-letters", "redrive")
    assert (code, said[:13]) == (0, "10 sent again")
    last = send(stage.bootstrap, stage.names.events, [(b"k", b"bad", [], 2)])
    ((_, offset),) = last.records
    where = ("--topic", stage.names.events, "--partition", "2", "--to-offset", str(offset + 1), "--why", "a test")
    code, said = site.driftline(may("driftline skip"), "skip", *where)
    assert code == 0, said
    assert committed(stage.bootstrap, stage.names.group, stage.names.events)[2] == offset + 1
    assert len(sent.records) == 200


@pytest.mark.row(24)
def test_what_is_revoked_stops_the_scorer_and_what_is_granted_lets_it_go_on(site: Site) -> None:
    """One ACL after another taken away: alive, `not_authorised`, a bounded log; in the end all are answered once."""
    stage = site.stage
    user = site.user("scorer", "Scorer")
    acls = documented_acls("Scorer", stage.names, user)
    lost = [
        acl
        for acl in acls
        if (acl.name, acl.operation)
        in {
            (stage.names.predictions, AclOperation.WRITE),
            (stage.names.group, AclOperation.READ),
            (stage.names.events, AclOperation.READ),
        }
    ]
    assert len(lost) == 3
    sent = stage.send_customers(100)
    with stage.scorer(**site.login(user)) as scorer:
        stage.reader.wait_for(100)
        for number, acl in enumerate(lost, 1):
            lines = len(scorer.log_lines())
            site.secured.revoke([acl])
            sent.records.update(stage.send_customers(100, seed=number).records)
            wait_until(lambda: scorer.reasons() == ["not_authorised"], f"not_authorised without {acl.name}")
            if acl.name == stage.names.events:
                time.sleep(6.0)  # it looks every 5 s whether its topics are there
                assert scorer.reasons() == ["not_authorised"], "a topic that is hidden from us is not missing"
            assert scorer.get("/livez").status_code == 200
            assert len(stage.reader.answers) == 100 * number
            site.secured.grant([acl])
            stage.reader.wait_for(100 * (number + 1))
            scorer.wait_ready()
            assert len(scorer.log_lines()) - lines < 150
        assert scorer.stop() == 0
    assert_exactly_once(sent, stage.reader.answers)


@pytest.mark.row(24)
def test_a_scorer_without_one_acl_starts_and_waits(site: Site) -> None:
    """The group's ACL is missing from the start: alive and not ready until it comes."""
    stage = site.stage
    user = site.user("scorer")
    acls = documented_acls("Scorer", stage.names, user)
    group = [acl for acl in acls if acl.name == stage.names.group]
    site.secured.grant([acl for acl in acls if acl not in group])
    sent = stage.send_customers(100)
    with stage.scorer(**site.login(user)) as scorer:
        wait_until(lambda: scorer.reasons() == ["not_authorised"], "not_authorised without its group")
        assert scorer.get("/livez").status_code == 200
        site.secured.grant(group)
        stage.reader.wait_for(100)
        assert scorer.stop() == 0
    assert_exactly_once(sent, stage.reader.answers)


def test_a_challenger_that_may_not_write_costs_the_champion_nothing(site: Site, long: bool) -> None:
    """Its predictions are dropped and counted; the scorer is ready and answers everything."""
    if not long:
        pytest.skip("a process more and its producer's patience: --long")
    stage = site.stage
    user = site.user("scorer")
    acls = documented_acls("Scorer", stage.names, user)
    site.secured.grant([acl for acl in acls if acl.name != stage.names.shadow])
    challenger = stage.folder / "challenger"
    shutil.copytree(stage.bundle, challenger)
    manifest = json.loads((challenger / "manifest.json").read_text())
    (challenger / "manifest.json").write_text(json.dumps(manifest | {"version": "2.0.0"}))
    with stage.scorer(**site.login(user), SCORER_CHALLENGER=str(challenger)) as scorer:
        scorer.wait_ready()
        wait_until(lambda: scorer.get("/health").json()["challenger"]["model"], "the challenger is there", 240.0)
        sent = stage.send_customers(100)
        stage.reader.wait_for(100)
        dropped = "driftline_scorer_shadow_dropped_total"
        wait_until(lambda: scorer.metric(dropped, reason="not_written") == 100, "its predictions are refused")
        assert scorer.reasons() == []
        assert scorer.stop() == 0
    assert_exactly_once(sent, stage.reader.answers)


@pytest.mark.row(24)
def test_a_wrong_password_is_refused_and_named(site: Site) -> None:
    """The scorer stays alive, `not_authorised`, and starts once the password is right; without one, it is rejected."""
    stage = site.stage
    nobody = AdminClient({"bootstrap.servers": site.secured.local.address("SASL_SSL")})
    with pytest.raises(KafkaException):
        nobody.list_topics(timeout=1)
    sent = stage.send_customers(100)
    user = site.user("scorer", "Scorer")
    with stage.scorer(**site.login(user, password="battery staple")) as scorer:  # noqa: S106
        wait_until(lambda: scorer.reasons() == ["not_authorised"], "not_authorised with a wrong password")
        assert scorer.get("/livez").status_code == 200
        assert any("SaslAuthenticationFailed" in line for line in scorer.log_lines())
        site.secured.set_password(user, "SCRAM-SHA-512", "battery staple")
        stage.reader.wait_for(100)
        assert scorer.stop() == 0
    assert_exactly_once(sent, stage.reader.answers)


def test_a_certificate_is_enough_where_there_is_mutual_tls(site: Site) -> None:
    """The certificate's name is the principal; its key is encrypted; without a certificate every client is rejected."""
    stage = site.stage
    user = site.user("scorer", "Scorer")
    certificate, key = site.secured.authority.issue(user, PASSWORD)
    secret = stage.folder / "key-password"
    secret.write_text(PASSWORD)
    mutual = site.environment(
        "Mutual TLS",
        KAFKA_SSL_CERTFILE=certificate,
        KAFKA_SSL_KEYFILE=key,
        KAFKA_SSL_KEY_PASSWORD_FILE=secret,
    )
    sent = stage.send_customers(100)
    with stage.scorer(**mutual) as scorer:
        stage.reader.wait_for(100)
        assert scorer.stop() == 0
    assert_exactly_once(sent, stage.reader.answers)
    code, said = site.driftline(site.environment("TLS alone"), "verify")
    assert code == 1
    assert "cannot verify: CertificateRefusedError: " in said


def test_every_example_of_the_document_logs_in(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is, but for addresses and files: those of services and operators, too. Tokens: test_oauth.py."""
    secured, secret = site.secured, site.stage.folder / "secret"
    secret.write_text(PASSWORD)
    certificate, key = secured.authority.issue("example", PASSWORD)
    files = {
        "KAFKA_SASL_PASSWORD_FILE": secret,
        "KAFKA_SSL_CAFILE": secured.authority.ca,
        "KAFKA_SSL_CERTFILE": certificate,
        "KAFKA_SSL_KEYFILE": key,
        "KAFKA_SSL_KEY_PASSWORD_FILE": secret,
    }
    monkeypatch.setenv("SSL_CERT_FILE", str(secured.authority.ca))  # in place of the system's authorities
    examples = [e for e in documented_blocks() if e.get("KAFKA_SASL_MECHANISM") not in TOKEN_MECHANISMS]
    done = 0
    for example in examples:
        mechanism = example.get("KAFKA_SASL_MECHANISM", "")
        if mechanism.startswith("SCRAM"):
            secured.set_password(example["KAFKA_SASL_USERNAME"], mechanism)
        elif not mechanism and "KAFKA_SSL_CERTFILE" not in example:
            continue  # TLS alone: this broker wants a certificate
        where = {"KAFKA_BOOTSTRAP_SERVERS": secured.local.address(example["KAFKA_SECURITY_PROTOCOL"])}
        mine = {name: str(files[name]) for name in example if name in files}
        settings = KafkaSettings.read(example | where | mine, KNOWN)
        assert asyncio.run(topics.describe(settings, [site.stage.names.events])) == {}, "it has no rights"
        done += 1
    assert done == len(examples) - 1 == 9


@pytest.mark.timeout(900)
def test_no_secret_and_no_customer_is_in_a_log_a_metric_or_an_answer(site: Site) -> None:
    """Planted, and searched in all output of both services, at LOG_LEVEL=debug, through rejections and poison."""
    stage = site.stage
    password, wrong, hash_key, key_password = (f"planted-{name}-7f3a" for name in ("login", "wrong", "hash", "key"))
    customer = "planted-customer-7f3a"
    user = f"{stage.names.prefix}-scorer"
    site.secured.set_password(user, "SCRAM-SHA-512", password)
    for section in ("Scorer", "Drift worker"):
        site.secured.grant(documented_acls(section, stage.names, user))
    certificate, key = site.secured.authority.issue(user, key_password)
    environment = {
        **site.login(user, password=password),
        "KAFKA_SSL_CERTFILE": str(certificate),
        "KAFKA_SSL_KEYFILE": str(key),
        "KAFKA_SSL_KEY_PASSWORD": key_password,
        "LOG_HASH_KEY": hash_key,
        "LOG_LEVEL": "debug",
    }
    good = [json.loads(value) for _, value in stage.source().take(60, 0.0, time.time_ns() // 1_000_000)]
    for event in good:
        event["customer_id"] = customer
    bad = [
        *(b"{" + customer.encode(), json.dumps(customer).encode(), json.dumps({**good[0], "event_id": [7]}).encode()),
        *(
            json.dumps({**good[0], "features": {**good[0]["features"], name: customer}}).encode()
            for name in ("tenure",)
        ),
        json.dumps({**good[0], customer: 1, "event_time": customer}).encode(),
        json.dumps(good[0]).encode() + b" " * 70_000,
    ]
    records = [(customer.encode(), value, [(customer, customer.encode())], 0) for value in bad]
    records += [(customer.encode(), json.dumps(event).encode(), [], i % 4) for i, event in enumerate(good)]
    send(stage.bootstrap, stage.names.events, records)

    refused = {**environment, "KAFKA_SASL_PASSWORD_FILE": str(stage.folder / "wrong")}
    (stage.folder / "wrong").write_text(wrong)
    said = []
    with stage.scorer(**refused) as scorer:
        wait_until(lambda: scorer.reasons() == ["not_authorised"], "the wrong password is named")
        said += [scorer.get(path).text for path in ("/health", "/readyz", "/metrics")]
    with stage.scorer(**{**environment, "KAFKA_SSL_KEY_PASSWORD": wrong}) as scorer:
        assert scorer.process.wait(60) == 2
    with stage.scorer(**environment) as scorer, site.worker(**environment) as worker:
        stage.reader.wait_for(len(records))
        wait_until(lambda: worker.metric("driftline_drift_read_records_total") >= len(records), "it has read them")
        address = f"http://127.0.0.1:{scorer.port}/predict"
        for value in (*bad[:-1], b"\xff" + customer.encode()):  # what is too large for the stream alone is answered
            answer = httpx.post(address, content=value, timeout=240)
            assert answer.status_code == 422
            said.append(answer.text)
        for path in ("/livez", "/readyz", "/health", "/metrics", "/openapi.json"):
            said += [service.get(path).text for service in (scorer, worker)]
        said += [worker.get(path).text for path in ("/drift", "/drift.html")]
        assert (scorer.stop(), worker.stop()) == (0, 0)
    said += [path.read_text(errors="replace") for path in stage.folder.glob("*.log")]
    letters = [answer for answer in stage.reader.answers if answer.topic == stage.names.dead_letters]
    assert len(letters) == len(bad)
    said += [dict(letter.headers)["driftline-detail"].decode() for letter in letters]
    assert any("partitions_assigned" in text for text in said), "the logs are not those of a run"
    for planted in (password, wrong, hash_key, key_password, customer):
        assert [text for text in said if planted in text] == [], planted
