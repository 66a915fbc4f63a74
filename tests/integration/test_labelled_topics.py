"""Labelled events read back from the topics, and open alerts that decide about training: on a real broker."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from support import bundles
from support.events import GOOD, GOOD_FEATURES
from support.oracle import Names, create_topics, send
from typer.testing import CliRunner

from driftline.cli import app
from schemas.alert import Alert

SPEC = """
[model]
name = "churn-small"
version = "1.4.0"
[data]
target = "left"
positive = "Yes"
[features.tenure]
kind = "numeric"
[features.monthly_charges]
kind = "numeric"
[features.total_charges]
kind = "numeric"
nullable = true
[features.contract]
kind = "categorical"
[features.payment]
kind = "categorical"
nullable = true
[features.senior]
kind = "boolean"
[features.partner]
kind = "boolean"
nullable = true
"""


@pytest.fixture
def topics(broker, topic_prefix, tmp_path, monkeypatch):
    """Sixty events of sixty customers, labels of forty; a bundle and a spec of the same features."""
    names = Names(topic_prefix)
    create_topics(broker.bootstrap_servers, names)
    for name, value in {**names.environment, "KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DRIFT_LABEL_HORIZON", "1h")
    now = datetime.now(UTC)
    events, labels = [], []
    for i in range(60):
        customer = f"c{i}"
        features = {**GOOD_FEATURES, "tenure": i, "monthly_charges": 20.0 + i, "total_charges": 100.0 * i}
        features["contract"] = ("One year", "Month-to-month", "Ten years")[i % 3]
        event = {**GOOD, "event_id": f"e{i}", "customer_id": customer, "features": features}
        event["event_time"] = (now - timedelta(hours=2)).isoformat()
        events.append((customer.encode(), json.dumps(event).encode()))
        if i < 40:
            label = {"customer_id": customer, "label": i % 4 == 0, "label_time": (now - timedelta(hours=1)).isoformat()}
            labels.append((customer.encode(), json.dumps(label).encode()))
    send(broker.bootstrap_servers, names.events, [*events, (b"x", b"{")])
    send(broker.bootstrap_servers, names.environment["TOPIC_LABELS"], labels)
    bundles.write(tmp_path / "model")
    (tmp_path / "spec.toml").write_text(SPEC, encoding="utf-8")
    return names


def _run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def _alert(name, status):
    return Alert(
        fingerprint="ab" * 8,
        status=status,
        labels={"alertname": name, "severity": "critical", "model": "churn-small", "feature": "tenure"},
        annotations={},
        starts_at="2026-11-22T05:00:00.000Z",
        sequence=1,
        evidence={},
    )


def test_labels_find_their_events_and_open_alerts_decide(topics, broker, tmp_path):
    """Forty rows are measured, the rest is named. Drift makes a plan, broken data blocks, and resolved is over."""
    found = json.loads(_run("evaluate", "--model", tmp_path / "model", "--from-topics", "--json").stdout)
    assert (found["data"]["rows"], found["data"]["customers"], found["data"]["positive"]) == (40, 40, 10)
    assert found["data"]["left_out"] == {"event not_json": 1, "event without a label": 20}

    retrain = ("retrain", "--spec", tmp_path / "spec.toml", "--model", tmp_path / "model", "--out", tmp_path / "new")
    for name, status, code, says in (
        ("FeatureDrift", "firing", 0, "minor_drift: watch (drifts, and hardly moves the score: tenure)"),
        ("DataQuality", "firing", 1, "schedule: block (DataQuality of tenure is open; no alert"),
        ("DataQuality", "resolved", 3, "schedule: compare (no alert is open)"),
    ):
        alert = _alert(name, status)
        send(broker.bootstrap_servers, topics.environment["TOPIC_ALERTS"], [(alert.key(), alert.encode())])
        done = _run(*retrain, "--from-topics", "--accept", "contract")
        assert done.exit_code == code, (done.output, done.exception)
        assert says in done.output
    assert not (tmp_path / "new").exists()


@pytest.mark.usefixtures("topics")
def test_labels_that_came_before_their_time_do_not_count(tmp_path, monkeypatch):
    """Two hours after the events, a horizon of two days is not over: exit code 3, with the reason."""
    monkeypatch.setenv("DRIFT_LABEL_HORIZON", "2d")
    for command in (
        ("evaluate", "--model"),
        ("retrain", "--spec", tmp_path / "spec.toml", "--out", tmp_path / "new", "--model"),
    ):
        done = _run(*command, tmp_path / "model", "--from-topics")
        assert "40 event younger than the label horizon" in str(done.exception)
        assert done.exception.exit_code == 3


def test_without_a_label_nothing_is_said(topics, tmp_path, monkeypatch):
    """Exit code 3: not enough data, which is no failure and no answer."""
    monkeypatch.setenv("TOPIC_LABELS", topics.environment["TOPIC_LABEL_STATE"])
    monkeypatch.setenv("TOPIC_LABEL_STATE", topics.environment["TOPIC_LABELS"])
    done = _run("evaluate", "--model", tmp_path / "model", "--from-topics")
    assert "no event has a label yet" in str(done.exception)
    assert done.exception.exit_code == 3
