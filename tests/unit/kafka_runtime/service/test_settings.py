"""Settings: environment variables only, read once, every problem in one message, secrets never shown."""

import json
import os
import re
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError
from support import preloaded
from support.secured import Authority

from drift_worker.settings import DriftSettings
from driftline.model_life.labelled_source import LabelSettings
from kafka_runtime.service.setting_types import duration
from kafka_runtime.service.settings import (
    OTLP_EXPORTER,
    TRACE_SAMPLERS,
    KafkaSettings,
    LogSettings,
    SettingsError,
    unknown_variables,
)
from schemas.setting_names import KNOWN, Topics
from schemas.validation import Rules
from scorer.settings import ScorerSettings

SASL = {
    "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
    "KAFKA_SASL_USERNAME": "driftline",
    "KAFKA_SASL_PASSWORD": "tiger-9f2c",
}


def _read(environment, kind=ScorerSettings):
    return kind.read(environment, KNOWN)


def _problems(environment, kind=ScorerSettings):
    with pytest.raises(SettingsError) as caught:
        _read(environment, kind)
    return str(caught.value).splitlines()


def test_the_defaults_are_the_contracts():
    """As `--print-settings` shows them: durations in their written form, nothing for what is not set."""
    assert _read({}).public() == {
        "KAFKA_BOOTSTRAP_SERVERS": "localhost:9092",
        "KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
        "KAFKA_SASL_MECHANISM": None,
        "KAFKA_SASL_USERNAME": None,
        "KAFKA_SASL_PASSWORD": None,
        "KAFKA_SSL_CAFILE": None,
        "KAFKA_SSL_CERTFILE": None,
        "KAFKA_SSL_KEYFILE": None,
        "KAFKA_SSL_KEY_PASSWORD": None,
        "KAFKA_OAUTH_TOKEN_URL": None,
        "KAFKA_OAUTH_CLIENT_ID": None,
        "KAFKA_OAUTH_CLIENT_SECRET": None,
        "KAFKA_OAUTH_SCOPE": None,
        "KAFKA_OAUTH_AUDIENCE": None,
        "KAFKA_OAUTH_CAFILE": None,
        "KAFKA_OAUTH_EXTENSIONS": None,
        "KAFKA_OAUTH_TOKEN_FILE": None,
        "KAFKA_SESSION_TIMEOUT": "6s",
        "KAFKA_TRANSACTION_TIMEOUT": "15s",
        "SCHEMA_REGISTRY_URL": None,
        "SCHEMA_REGISTRY_USERNAME": None,
        "SCHEMA_REGISTRY_PASSWORD": None,
        "SCHEMA_REGISTRY_TOKEN": None,
        "SCHEMA_REGISTRY_CAFILE": None,
        "LOG_LEVEL": "info",
        "LOG_FORMAT": None,
        "LOG_HASH_KEY": None,
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_EXPORTER_OTLP_ENDPOINT": None,
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": None,
        "OTEL_EXPORTER_OTLP_PROTOCOL": None,
        "OTEL_TRACES_SAMPLER": None,
        "OTEL_TRACES_SAMPLER_ARG": None,
        "OTEL_SERVICE_NAME": None,
        "TOPIC_EVENTS": "customer-events",
        "TOPIC_PREDICTIONS": "predictions",
        "TOPIC_SHADOW": "predictions-shadow",
        "TOPIC_DEAD_LETTERS": "dead-letters",
        "TOPIC_LABELS": "labels",
        "TOPIC_PANES": "drift-panes",
        "TOPIC_MEASUREMENTS": "drift-measurements",
        "TOPIC_LABEL_STATE": "driftline-label-state",
        "TOPIC_ALERTS": "drift-alerts",
        "SCORER_MODEL": "artifacts/model",
        "SCORER_MODEL_POLL": "5s",
        "MODEL_PUBLIC_KEY": None,
        "SCORER_CHALLENGER": None,
        "SCORER_CHALLENGER_MODE": "shadow",
        "SCORER_GROUP": "driftline-scorer",
        "SCORER_DELIVERY": "exactly_once",
        "SCORER_LANE": "auto",
        "SCORER_MAX_BATCH_RECORDS": 5000,
        "SCORER_COMMIT_INTERVAL": "10ms",
        "SCORER_MAX_EVENT_BYTES": 65536,
        "SCORER_MAX_DEAD_LETTER_BYTES": 900000,
        "SCORER_UNKNOWN_FIELDS": "ignore",
        "SCORER_MAX_FUTURE_SKEW": "5m",
        "SCORER_DETAIL_VALUES": False,
        "SCORER_DEAD_LETTER_LIMIT": 0.5,
        "SCORER_FIRST_START": "earliest",
        "SCORER_OFFSET_LOST": "stop",
        "SCORER_HTTP_HOST": "127.0.0.1",
        "SCORER_HTTP_PORT": 8000,
        "SCORER_DRAIN_TIMEOUT": "20s",
    }


def test_the_drift_workers_defaults_are_the_contracts():
    """Those that are its own."""
    shown = _read({}, DriftSettings).public()
    assert {name: shown[name] for name in shown if name.startswith("DRIFT_")} == {
        "DRIFT_REFERENCE": None,
        "DRIFT_PANE": "1m",
        "DRIFT_WINDOWS": "15m,1h,24h",
        "DRIFT_ALLOWED_LATENESS": "30s",
        "DRIFT_IDLE_TIMEOUT": "1m",
        "DRIFT_STRAGGLER": "5m",
        "DRIFT_MIN_EVENTS": 500,
        "DRIFT_POLICY": "calibrated",
        "DRIFT_FALSE_PAGES_PER_MONTH": 1.0,
        "DRIFT_EFFECT_WARNING": 0.1,
        "DRIFT_EFFECT_CRITICAL": 0.2,
        "DRIFT_CONFIRM": "15m:2/3,1h:2/3,24h:1/1",
        "DRIFT_BASELINE": "training",
        "DRIFT_GROUP": "driftline-drift",
        "DRIFT_FIRST_START": "earliest",
        "DRIFT_OFFSET_LOST": "earliest",
        "DRIFT_LABEL_HORIZON": "90d",
        "DRIFT_HTTP_HOST": "127.0.0.1",
        "DRIFT_HTTP_PORT": 8001,
    }
    assert shown["RUNBOOK_URL"] == "docs/runbook.md"


def test_what_both_services_read_has_one_default():
    """One environment file serves both, and an empty one means the same to both."""
    scorer, drift = _read({}).public(), _read({}, DriftSettings).public()
    assert {n: scorer[n] for n in scorer.keys() & drift.keys()} == {n: drift[n] for n in scorer.keys() & drift.keys()}


def test_every_known_name_is_somebodys_and_every_field_is_known():
    """The list of names and the classes agree."""
    fields = {f.upper() for kind in (ScorerSettings, DriftSettings) for f in kind.model_fields}
    assert fields == KNOWN
    assert {f.upper() for kind in (Topics, KafkaSettings, LogSettings) for f in kind.model_fields} < KNOWN


def test_every_problem_is_in_one_message():
    """Misspelt names, wrong values and what does not fit together, one a line, each with its variable."""
    problems = _problems(
        {
            "SCORER_GRUOP": "x",
            "DRIFT_WINDOW": "1h",
            "SCORER_HTTP_PORT": "eighty",
            "SCORER_COMMIT_INTERVAL": "10",
            "SCORER_DELIVERY": "at_most_once",
            "SCORER_LANE": "rust",
            "TOPIC_EVENTS": "no spaces",
            "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
            "KAFKA_SASL_MECHANISM": "GSSAPI",
            "KAFKA_SSL_CAFILE": "/no/such/file",
        }
    )
    assert sorted(line.partition(":")[0] for line in problems) == [
        "DRIFT_WINDOW",
        "KAFKA_SASL_MECHANISM",
        "KAFKA_SASL_PASSWORD",
        "KAFKA_SASL_USERNAME",
        "KAFKA_SSL_CAFILE",
        "SCORER_COMMIT_INTERVAL",
        "SCORER_DELIVERY",
        "SCORER_GRUOP",
        "SCORER_HTTP_PORT",
        "SCORER_LANE",
        "TOPIC_EVENTS",
    ]


@pytest.mark.parametrize(("windows", "known"), [("15m,1h,24h", True), ("15m,60m", True), ("15m,24h", False)])
def test_past_weeks_need_windows_of_an_hour(windows, known):
    """However an hour is written."""
    environment = {"DRIFT_BASELINE": "week", "DRIFT_WINDOWS": windows}
    if known:
        assert _read(environment, DriftSettings).drift_baseline == "week"
        return
    with pytest.raises(SettingsError, match="DRIFT_BASELINE: week needs 1h among DRIFT_WINDOWS"):
        _read(environment, DriftSettings)


def test_a_problem_is_not_told_twice():
    """A password whose file cannot be read is not missing as well."""
    problems = _problems({**SASL, "KAFKA_SASL_PASSWORD_FILE": "/no/such/file"} | {"KAFKA_SASL_PASSWORD": "x"})
    assert problems == ["KAFKA_SASL_PASSWORD: set KAFKA_SASL_PASSWORD or KAFKA_SASL_PASSWORD_FILE, not both"]
    environment = {name: value for name, value in SASL.items() if name != "KAFKA_SASL_PASSWORD"}
    (shown,) = _problems({**environment, "KAFKA_SASL_PASSWORD_FILE": "hunter2, by mistake"})
    assert "hunter2" not in shown
    assert shown.startswith("KAFKA_SASL_PASSWORD_FILE: No such file")
    problems = _problems({**environment, "KAFKA_SASL_PASSWORD_FILE": "/no/such/file"})
    assert len(problems) == 1
    assert problems[0].startswith("KAFKA_SASL_PASSWORD_FILE: ")


def test_pem_files_are_looked_into_before_any_broker_is_asked(tmp_path):
    """Each mistake is one line with its variable; OpenSSL never prompts at the terminal."""
    authority = Authority(tmp_path)
    certificate, key = authority.issue("scorer")
    locked, locked_key = authority.issue("locked", "hush")
    (tmp_path / "both.pem").write_bytes(certificate.read_bytes() + key.read_bytes())
    (tmp_path / "nonsense.pem").write_text("no PEM")

    def named(password=None, **files):
        environment = {f"KAFKA_SSL_{name.upper()}": str(value) for name, value in files.items()}
        environment |= {} if password is None else {"KAFKA_SSL_KEY_PASSWORD": password}
        try:
            ScorerSettings.read({"KAFKA_SECURITY_PROTOCOL": "SSL", **environment}, KNOWN)
        except SettingsError as error:
            return [line.partition(":")[0] for line in str(error).splitlines()]
        return []

    assert named(cafile=authority.ca, certfile=certificate, keyfile=key) == []
    assert named(certfile=tmp_path / "both.pem") == []
    assert named("hush", certfile=locked, keyfile=locked_key) == []
    assert named("else", certfile=locked, keyfile=locked_key) == ["KAFKA_SSL_CERTFILE"]
    assert named(certfile=locked, keyfile=locked_key) == ["KAFKA_SSL_CERTFILE"]
    assert named("hush", certfile=certificate, keyfile=locked_key) == ["KAFKA_SSL_CERTFILE"]
    assert named(certfile=certificate) == ["KAFKA_SSL_CERTFILE"]
    assert named(keyfile=key) == ["KAFKA_SSL_CERTFILE"]
    assert named(cafile=tmp_path / "nonsense.pem") == ["KAFKA_SSL_CAFILE"]
    assert named(cafile=tmp_path / "none", keyfile=key) == ["KAFKA_SSL_CAFILE", "KAFKA_SSL_CERTFILE"]


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("SCORER_GRUOP", "SCORER_GROUP"),
        ("SCORER_DEADLETTER_LIMIT", "SCORER_DEAD_LETTER_LIMIT"),
        ("TOPIC_EVENT", "TOPIC_EVENTS"),
        ("DRIFT_WINDOW", "DRIFT_WINDOWS"),
        ("SCORER_MODEL_FILE", "SCORER_MODEL"),
        ("TOPIC_EVENTS_FILE", "TOPIC_EVENTS"),
        ("SCORER_HTTP_PORT_", "SCORER_HTTP_PORT"),
    ],
)
def test_an_unknown_variable_is_answered_with_the_nearest_name(name, nearest):
    """_FILE is for secrets only, and none of these is one."""
    assert _problems({name: "x"}) == [f"{name}: no such setting; the nearest is {nearest}"]


@pytest.mark.parametrize(
    "environment",
    [
        {"DRIFT_WINDOWS": "1h", "DRIFT_HTTP_PORT": "nonsense"},
        {"KAFKA_HEAP_OPTS": "-Xmx1g", "KAFKA_SASL_PASWORD": "x"},
        {"LOG_DIR": "/var/log"},
        {"MODEL_URL": "x", "RUNBOOK_DIR": "x"},
        {"PATH": "/bin", "SCORER": "x", "TOPICS": "x", "scorer_group": "x"},
    ],
)
def test_what_is_not_ours_to_judge_is_left_alone(environment):
    """The drift worker's settings, unknown KAFKA_* and LOG_*, and everybody else's."""
    assert _read(environment) == ScorerSettings()


@pytest.mark.parametrize(
    "environment",
    [
        {"SCORER_SERVICE_HOST": "10.0.0.1"},
        {"SCORER_SERVICE_PORT": "8000"},
        {"SCORER_SERVICE_PORT_HTTP": "8000"},
        {"SCORER_PORT": "tcp://10.0.0.1:8000"},
        {"SCORER_PORT": "udp://10.0.0.1:8000"},
        {"SCORER_PORT": "sctp://10.0.0.1:8000"},
        {"SCORER_PORT_8000_TCP": "tcp://10.0.0.1:8000"},
        {"SCORER_PORT_8000_UDP_PROTO": "udp"},
        {"SCORER_PORT_8000_SCTP_PORT": "8000"},
        {"DRIFT_WORKER_PORT_8001_TCP_ADDR": "10.0.0.1"},
        {"TOPIC_BROWSER_SERVICE_PORT_WEB": "1"},
    ],
)
def test_what_kubernetes_injects_is_ignored(environment):
    """For a service called scorer, drift-worker or topic-browser in the same namespace."""
    assert unknown_variables(environment, KNOWN) == []


@pytest.mark.parametrize(
    "environment",
    [
        {"SCORER_PORT": "8000"},
        {"SCORER_PORT": "http://10.0.0.1"},
        {"SCORER_PORT_8000_HTTP": "x"},
        {"SCORER_PORT_X_TCP": "x"},
        {"SCORER_PORT_8000_TCP_NAME": "x"},
        {"SCORER_HOST": "x"},
    ],
)
def test_what_only_looks_like_it_is_a_problem(environment):
    """A misspelt port is not excused by its name."""
    assert len(unknown_variables(environment, KNOWN)) == 1


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("1ms", timedelta(milliseconds=1)),
        ("250ms", timedelta(milliseconds=250)),
        ("30s", timedelta(seconds=30)),
        ("15m", timedelta(minutes=15)),
        ("1h", timedelta(hours=1)),
        ("7d", timedelta(days=7)),
    ],
)
def test_durations_are_a_whole_number_and_a_unit(text, length):
    """Shown again as they may be written."""
    assert duration(text) == length
    assert _read({"SCORER_DRAIN_TIMEOUT": text}).public()["SCORER_DRAIN_TIMEOUT"] == text


@pytest.mark.parametrize(
    "text", ["", "0s", "05s", "-1s", "1.5s", "1 s", "s", "10", "1S", "1M", "1w", "1h30m", " 1s", "1s\n", "١s"]
)
def test_other_durations_are_problems(text):
    """Including 0, which no wait of ours means."""
    assert _problems({"SCORER_DRAIN_TIMEOUT": text}) == [
        "SCORER_DRAIN_TIMEOUT: expected a duration like 250ms, 30s, 15m, 1h or 7d"
    ]


@pytest.mark.parametrize("kind", [ScorerSettings, DriftSettings, LabelSettings])
@pytest.mark.parametrize(("limit", "problems"), [("900000", 0), ("900001", 1)])
def test_both_services_and_the_commands_have_the_same_bound_of_an_event(kind, limit, problems):
    """A drift worker that took larger events than the scorer would count what has no prediction."""
    environment = {"SCORER_MAX_EVENT_BYTES": limit, "SCORER_UNKNOWN_FIELDS": "reject", "SCORER_MAX_FUTURE_SKEW": "1s"}
    if problems:
        assert len(_problems(environment, kind)) == problems
    else:
        assert Rules.of(_read(environment, kind)) == Rules(900_000, 1000, reject_unknown_fields=True)


@pytest.mark.parametrize("digits", [12, 400, 5000])
def test_a_duration_without_end_is_a_problem_and_no_traceback(digits):
    """Longer than Python can hold."""
    (line,) = _problems({"SCORER_DRAIN_TIMEOUT": "9" * digits + "d"})
    assert line.startswith("SCORER_DRAIN_TIMEOUT: ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SCORER_MAX_BATCH_RECORDS", "0"),
        ("SCORER_MAX_EVENT_BYTES", "100"),
        ("SCORER_MAX_EVENT_BYTES", "900001"),
        ("SCORER_MAX_DEAD_LETTER_BYTES", "1000001"),
        ("SCORER_DEAD_LETTER_LIMIT", "0"),
        ("SCORER_DEAD_LETTER_LIMIT", "1.01"),
        ("SCORER_DEAD_LETTER_LIMIT", "nan"),
        ("SCORER_UNKNOWN_FIELDS", "refuse"),
        ("SCORER_FIRST_START", "stop"),
        ("SCORER_OFFSET_LOST", "none"),
        ("SCORER_DETAIL_VALUES", "maybe"),
        ("SCORER_HTTP_PORT", "0"),
        ("SCORER_HTTP_PORT", "65536"),
        ("SCORER_GROUP", ""),
        ("KAFKA_BOOTSTRAP_SERVERS", ""),
        ("KAFKA_SECURITY_PROTOCOL", "TLS"),
        ("LOG_LEVEL", "INFO"),
        ("LOG_FORMAT", "text"),
        ("TOPIC_EVENTS", ""),
        ("TOPIC_EVENTS", "x" * 250),
        ("TOPIC_EVENTS", "a/b"),
        ("TOPIC_EVENTS", "."),
        ("TOPIC_EVENTS", ".."),
        ("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:abc"),
        ("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:99999"),
        ("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:0"),
        ("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:"),
        ("KAFKA_BOOTSTRAP_SERVERS", ":9092"),
        ("KAFKA_BOOTSTRAP_SERVERS", "a:9092,,b:9092"),
        ("KAFKA_BOOTSTRAP_SERVERS", "a:9092 b:9092"),
        ("KAFKA_BOOTSTRAP_SERVERS", "a:9092,b:-1"),
        ("KAFKA_BOOTSTRAP_SERVERS", "SASL_SSL://a:9092"),
        ("KAFKA_BOOTSTRAP_SERVERS", "[::1:9092"),
        ("KAFKA_BOOTSTRAP_SERVERS", "[::1]9092"),
        ("KAFKA_BOOTSTRAP_SERVERS", "1.2.3.999:9092"),
        ("KAFKA_BOOTSTRAP_SERVERS", "a:٩٠٩٢"),
        ("KAFKA_SASL_USERNAME", ""),
        ("KAFKA_SASL_USERNAME", "driftline\n"),
        ("KAFKA_SASL_PASSWORD", "tiger\udcff"),
        ("LOG_HASH_KEY", "tiger\udcff"),
        ("KAFKA_SESSION_TIMEOUT", "10ms"),
        ("KAFKA_SESSION_TIMEOUT", "31m"),
        ("KAFKA_TRANSACTION_TIMEOUT", "16m"),
        ("KAFKA_TRANSACTION_TIMEOUT", "1ms"),
        ("SCORER_MODEL", ""),
        ("SCORER_MODEL", "mlflow:models:churn"),
        ("SCORER_MODEL", "mlflow:models:/churn@"),
        ("SCORER_MODEL", "a\nb"),
        ("SCORER_CHALLENGER", ""),
        ("SCORER_CHALLENGER", "mlflow:models:/churn@challenger"),
        ("MODEL_PUBLIC_KEY", "/no/such/key.pem"),
        ("MODEL_PUBLIC_KEY", "/"),
        ("SCORER_GROUP", "a\tb"),
        ("SCORER_GROUP", " a"),
        ("SCORER_GROUP", "a\udcff"),
        ("SCORER_GROUP", "x" * 201),
        ("SCORER_HTTP_HOST", ""),
        ("SCORER_HTTP_HOST", "localhost:8000"),
        ("SCORER_HTTP_HOST", "0.0.0"),
        ("SCORER_HTTP_HOST", "no host"),
        ("SCORER_HTTP_PORT", "80.5"),
        ("SCORER_COMMIT_INTERVAL", "2m"),
        ("SCORER_MODEL_POLL", "4000d"),
        ("SCORER_DRAIN_TIMEOUT", "4000d"),
        ("SCORER_CHALLENGER_MODE", "split:0"),
        ("SCORER_CHALLENGER_MODE", "split:100"),
    ],
)
def test_values_out_of_range_are_problems_of_their_variable(name, value):
    """One line that begins with the name."""
    (line,) = _problems({name: value})
    assert line.startswith(f"{name}: ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DRIFT_REFERENCE", ""),
        ("DRIFT_REFERENCE", "mlflow:churn"),
        ("DRIFT_PANE", "100ms"),
        ("DRIFT_WINDOWS", "1h,,24h"),
        ("DRIFT_WINDOWS", "32d"),
        ("DRIFT_WINDOWS", "1h,60m"),
        ("DRIFT_CONFIRM", "15m:3/2"),
        ("DRIFT_EFFECT_WARNING", "nan"),
        ("DRIFT_EFFECT_CRITICAL", "inf"),
        ("DRIFT_FALSE_PAGES_PER_MONTH", "inf"),
        ("DRIFT_MIN_EVENTS", "9"),
        ("DRIFT_MIN_EVENTS", "1e3"),
        ("DRIFT_GROUP", "a\nb"),
        ("DRIFT_HTTP_HOST", "::1]"),
        ("DRIFT_HTTP_PORT", "-1"),
        ("DRIFT_LABEL_HORIZON", "99999d"),
        ("RUNBOOK_URL", ""),
        ("RUNBOOK_URL", "javascript://x"),
        ("RUNBOOK_URL", "https://"),
        ("RUNBOOK_URL", "https://wiki.example/run book"),
        ("RUNBOOK_URL", "docs/runbook.md#drift"),
    ],
)
def test_the_drift_workers_values_out_of_range_are_problems_of_their_variable(name, value):
    """One line that begins with the name."""
    (line,) = _problems({name: value}, DriftSettings)
    assert line.startswith(f"{name}: ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KAFKA_BOOTSTRAP_SERVERS", "kafka"),
        ("KAFKA_BOOTSTRAP_SERVERS", "kafka-1.example.org:9092, kafka_2:9093"),
        ("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1,[::1]:65535,::1"),
        ("SCORER_HTTP_HOST", "::"),
        ("SCORER_HTTP_HOST", "localhost"),
        ("SCORER_MODEL", "mlflow:models:/churn-telco@champion"),
        ("SCORER_MODEL", "models/no-such-folder-yet"),
        ("TOPIC_EVENTS", "...a"),
        ("SCORER_GROUP", "équipe scoring"),
    ],
)
def test_other_ways_to_write_a_value_are_taken(name, value):
    """IPv6 in brackets, a host without a port (Kafka's 9092), names of one's own."""
    assert _read({name: value}).public()[name] == value


@pytest.mark.parametrize("servers", ["127.0.0.1:abc", "127.0.0.1:99999"])
@pytest.mark.parametrize(
    "command",
    [
        ["scorer", "--print-settings"],
        ["scorer"],
        ["drift_worker", "--print-settings"],
        ["driftline", "topics", "check"],
        ["driftline", "produce", "--data", "examples/telco_churn.csv", "--rate", "0"],
    ],
)
def test_an_address_that_is_none_is_one_line_and_code_2(command, servers):
    """In both services, also when they only print their settings, and in the commands."""
    ended = preloaded.run(["-m", *command], {"PATH": os.environ["PATH"], "KAFKA_BOOTSTRAP_SERVERS": servers})
    assert ended.returncode == 2, ended.stderr
    (line,) = ended.stderr.splitlines()
    assert line.removeprefix("driftline: ").startswith("KAFKA_BOOTSTRAP_SERVERS: expected ")


def test_a_secret_file_without_end_is_a_problem(tmp_path):
    """Read no more than a secret can have."""
    (tmp_path / "secret").write_bytes(b"x" * 1_000_000)
    assert _problems({"LOG_HASH_KEY_FILE": str(tmp_path / "secret")}) == [
        f"LOG_HASH_KEY_FILE: {tmp_path / 'secret'}: expected at most 65536 bytes"
    ]


def test_no_two_topics_are_one():
    """A scorer that reads what it writes would answer its own answers for ever."""
    assert _problems({"TOPIC_PREDICTIONS": "customer-events"}) == ["TOPIC_PREDICTIONS: the same topic as TOPIC_EVENTS"]
    assert _problems({"TOPIC_DEAD_LETTERS": "x", "TOPIC_PREDICTIONS": "x"}) == [
        "TOPIC_DEAD_LETTERS: the same topic as TOPIC_PREDICTIONS"
    ]


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_the_mechanisms_of_the_contract_are_accepted(mechanism):
    """With user and password."""
    assert _read({**SASL, "KAFKA_SASL_MECHANISM": mechanism}).kafka_sasl_mechanism == mechanism


def test_other_mechanisms_are_refused_by_name():
    """So that no user searches for a mistake elsewhere."""
    assert _problems({**SASL, "KAFKA_SASL_MECHANISM": "GSSAPI"}) == [
        "KAFKA_SASL_MECHANISM: GSSAPI is not supported yet"
    ]
    assert _problems({**SASL, "KAFKA_SASL_MECHANISM": "OAUTH"}) == [
        "KAFKA_SASL_MECHANISM: expected PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER or AWS_MSK_IAM"
    ]


OAUTH = {
    "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "KAFKA_SASL_MECHANISM": "OAUTHBEARER",
    "KAFKA_OAUTH_TOKEN_URL": "https://issuer.example.org/token",
    "KAFKA_OAUTH_CLIENT_ID": "driftline",
    "KAFKA_OAUTH_CLIENT_SECRET": "tiger-9f2c",
}


def test_a_token_needs_an_issuer_or_a_file(tmp_path):
    """And neither user nor password."""
    assert _read(OAUTH).kafka_oauth_client_id == "driftline"
    (tmp_path / "token").write_text("t")
    from_file = {**{n: v for n, v in OAUTH.items() if "SASL" in n}, "KAFKA_OAUTH_TOKEN_FILE": str(tmp_path / "token")}
    assert _read({**from_file, "KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}).kafka_oauth_token_file == tmp_path / "token"
    assert _read({"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_SASL_MECHANISM": "AWS_MSK_IAM"}).kafka_sasl_mechanism


@pytest.mark.parametrize(
    ("changes", "problems"),
    [
        (
            {"KAFKA_OAUTH_TOKEN_URL": None},
            ["KAFKA_OAUTH_TOKEN_URL: it or KAFKA_OAUTH_TOKEN_FILE is needed for OAUTHBEARER"],
        ),
        (
            {"KAFKA_OAUTH_CLIENT_ID": None, "KAFKA_OAUTH_CLIENT_SECRET": None},
            ["KAFKA_OAUTH_CLIENT_ID: needed for OAUTHBEARER", "KAFKA_OAUTH_CLIENT_SECRET: needed for OAUTHBEARER"],
        ),
        (
            {"KAFKA_OAUTH_TOKEN_FILE": __file__},
            ["KAFKA_OAUTH_TOKEN_FILE: set it or KAFKA_OAUTH_TOKEN_URL, not both"],
        ),
        ({"KAFKA_OAUTH_TOKEN_FILE": "/no/such"}, ["KAFKA_OAUTH_TOKEN_FILE: no such file: /no/such"]),
        (
            {"KAFKA_OAUTH_TOKEN_URL": "issuer.example.org/token"},
            ["KAFKA_OAUTH_TOKEN_URL: expected an address that begins with http:// or https://"],
        ),
        ({"KAFKA_OAUTH_CAFILE": "/no/such"}, ["KAFKA_OAUTH_CAFILE: no such file: /no/such"]),
        (
            {"KAFKA_OAUTH_EXTENSIONS": "logicalCluster=lkc-1,auth=x"},
            ["KAFKA_OAUTH_EXTENSIONS: expected NAME=VALUE, or several with commas between them, got 'auth=x'"],
        ),
    ],
)
def test_what_is_wrong_with_oauth_is_named(changes, problems):
    """One line each."""
    environment = {name: value for name, value in {**OAUTH, **changes}.items() if value is not None}
    assert _problems(environment) == problems


def test_an_authority_of_the_issuer_must_hold_certificates(tmp_path):
    """Found before any connection."""
    (tmp_path / "ca.pem").write_text("none")
    (line,) = _problems({**OAUTH, "KAFKA_OAUTH_CAFILE": str(tmp_path / "ca.pem")})
    assert line.startswith("KAFKA_OAUTH_CAFILE: no certificates in PEM format: ")


def _blocks():
    """Return each example of the connect page that sets variables."""
    text = (Path(__file__).parents[4] / "docs" / "connect-your-kafka.md").read_text(encoding="utf-8")
    return [block for block in re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL) if "KAFKA_" in block]


@pytest.mark.parametrize("block", _blocks())
def test_a_block_of_the_connect_page_works_when_it_is_copied(block, tmp_path):
    """Its files are there, with a secret or a certificate in them."""
    certificate, key = Authority(tmp_path).issue("scorer", "secret")
    files = {
        "KAFKA_SSL_CAFILE": tmp_path / "ca.pem",
        "KAFKA_OAUTH_CAFILE": tmp_path / "ca.pem",
        "KAFKA_SSL_CERTFILE": certificate,
        "KAFKA_SSL_KEYFILE": key,
    }
    (tmp_path / "secret").write_text("secret")
    environment = dict(line.split("=", 1) for line in block.splitlines())
    assert environment.keys() <= KNOWN | {f"{name}_FILE" for name in SECRETS}
    for name, value in environment.items():
        if value.startswith(("/run/", "/var/run/")):
            environment[name] = str(files.get(name, tmp_path / "secret"))
    _read(environment)


def test_what_is_wrong_with_traces_is_named():
    """The SDK would replace each by a default of its own."""
    wrong = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio ",
        "OTEL_TRACES_SAMPLER_ARG": "1%",
    }
    problems = _problems({"OTEL_TRACES_EXPORTER": "otlp", **wrong})
    assert [line.partition(":")[0] for line in problems] == list(wrong)
    assert problems[2:] == [
        "OTEL_EXPORTER_OTLP_PROTOCOL: expected http/protobuf",
        f"OTEL_TRACES_SAMPLER: expected {', '.join(TRACE_SAMPLERS[:-1])} or parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG: expected a number from 0 to 1",
    ]
    assert _read(wrong).otel_traces_exporter == "none"  # a platform may set them for other programs
    (line,) = _problems({"OTEL_TRACES_EXPORTER": "console"})
    assert line.startswith("OTEL_TRACES_EXPORTER: ")


@pytest.mark.parametrize("ratio", ["0", "0.01", ".5", "1", "1.0", "0."])
def test_a_ratio_of_traces_is_a_number_from_0_to_1(ratio):
    """As float() reads it."""
    assert _read({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_TRACES_SAMPLER_ARG": ratio}).otel_traces_sampler_arg == ratio


def test_traces_without_their_extra_are_refused(monkeypatch):
    """The line names what is to be installed."""
    monkeypatch.setitem(sys.modules, OTLP_EXPORTER, None)
    (line,) = _problems({"OTEL_TRACES_EXPORTER": "otlp"})
    assert line == "OTEL_TRACES_EXPORTER: otlp needs the extra otel: pip install 'driftline[otel]'"


def test_settings_are_frozen():
    """Read once: nothing changes them later."""
    with pytest.raises(ValidationError):
        _read({}).scorer_group = "other"


# --- secrets --------------------------------------------------------------------------------------------------------

SECRETS = (
    "KAFKA_SASL_PASSWORD",
    "KAFKA_SSL_KEY_PASSWORD",
    "KAFKA_OAUTH_CLIENT_SECRET",
    "SCHEMA_REGISTRY_PASSWORD",
    "SCHEMA_REGISTRY_TOKEN",
    "LOG_HASH_KEY",
)


def test_these_settings_are_secrets():
    """Every secret can be given as a file; the list is complete for both services."""
    found = {
        name.upper()
        for kind in (ScorerSettings, DriftSettings)
        for name, info in kind.model_fields.items()
        if "SecretStr" in str(info.annotation)
    }
    assert found == set(SECRETS)


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("kind", [ScorerSettings, DriftSettings])
def test_every_secret_can_be_a_file(tmp_path, name, kind):
    """One newline at the end is the editor's; everything else is the secret's."""
    (tmp_path / "secret").write_text(" tiger-9f2c \n")
    settings = _read({f"{name}_FILE": str(tmp_path / "secret")}, kind)
    assert getattr(settings, name.lower()) == SecretStr(" tiger-9f2c ")
    assert settings.public()[name] == "********"


def test_a_secret_file_that_is_not_text_is_a_problem_without_its_content(tmp_path):
    """No part of a secret is ever printed."""
    (tmp_path / "secret").write_bytes(b"tiger\xff9f2c")
    (line,) = _problems({"LOG_HASH_KEY_FILE": str(tmp_path / "secret")})
    assert line.startswith("LOG_HASH_KEY_FILE: ")
    assert "tiger" not in line


def test_secrets_are_masked_wherever_settings_are_shown():
    """In --print-settings, in a representation and in an error."""
    settings = _read(SASL)
    shown = f"{settings!r} {settings} {settings.public()} {settings.model_dump_json()}"
    assert "tiger" not in shown
    assert "driftline" in shown
    assert "tiger" not in "\n".join(_problems({**SASL, "SCORER_HTTP_PORT": "x", "KAFKA_SASL_MECHANISM": "GSSAPI"}))


def _scorer(*arguments, **environment):
    return preloaded.run(["-m", "scorer", *arguments], {"PATH": os.environ["PATH"], **environment})


def test_print_settings_prints_json_with_secrets_masked():
    """On standard output, exit 0."""
    done = _scorer("--print-settings", **SASL)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == _read(SASL).public()
    assert "tiger" not in done.stdout


def test_wrong_settings_end_the_process_with_2_and_no_traceback():
    """Every problem on standard error, one a line."""
    done = _scorer(SCORER_GRUOP="x", SCORER_HTTP_PORT="x")
    assert (done.returncode, done.stdout) == (2, "")
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == ["SCORER_GRUOP", "SCORER_HTTP_PORT"]


def test_a_model_that_is_not_there_ends_the_process_with_2_and_one_line(tmp_path):
    """Which file, and why."""
    done = _scorer(SCORER_MODEL=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr == f"model refused: {tmp_path}/manifest.json: No such file or directory\n"


def test_python_without_assertions_is_refused():
    """The Kafka library's transactions are guarded by assert statements: -O would corrupt silently."""
    done = _scorer("--print-settings", PYTHONOPTIMIZE="1")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


FILES = {
    "KAFKA_SSL_CAFILE": {"KAFKA_SECURITY_PROTOCOL": "SSL"},
    "KAFKA_SSL_CERTFILE": {"KAFKA_SECURITY_PROTOCOL": "SSL"},
    "KAFKA_SSL_KEYFILE": {"KAFKA_SECURITY_PROTOCOL": "SSL"},
    "KAFKA_OAUTH_CAFILE": {},
    "KAFKA_OAUTH_TOKEN_FILE": {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_SASL_MECHANISM": "OAUTHBEARER"},
    "SCHEMA_REGISTRY_CAFILE": {},
    "MODEL_PUBLIC_KEY": {},
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("length", [1, 40])
def test_the_content_of_a_file_is_no_path_and_is_not_shown(name, length):
    """People put a certificate or a private key into the variable that wants its path."""
    content = "-----BEGIN PRIVATE KEY-----\n" + "tiger9f2cAB/" * 5 * length + "\n-----END PRIVATE KEY-----\n"
    found = _problems({**FILES[name], name: content})
    assert f"{name}: expected the path of a file, got the content of one" in found
    assert "tiger" not in "\n".join(found)
    too_long = _problems({**FILES[name], name: "a" * 5000})
    assert f"{name}: no such file: File name too long" in too_long
