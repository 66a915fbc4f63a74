"""Commands whose broker does not answer: what a person reads, and with which code they end."""

from __future__ import annotations

import os

import pytest
from support import preloaded
from support.services import free_port

CUSTOMERS = ("--data", "examples/telco_churn.csv")
SKIPPED = ("--topic", "customer-events", "--partition", "2", "--to-offset", "5", "--why", "a test")


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("verify", ()),
        ("topics create", ()),
        ("topics check", ()),
        ("dead-letters count", ()),
        ("dead-letters show", ()),
        ("dead-letters redrive", ()),
        ("skip", SKIPPED),
        ("alerts list", ()),
        ("alerts tail", ()),
        ("alerts forward", ("--to", "http://127.0.0.1:9")),
        ("backtest", ()),
        ("report", ("--since", "7d")),
        ("compare", ()),
        ("validate", ("--spec", "examples/telco.toml", "--topic", "customer-events")),
        ("export", ("--out", "FOLDER/export.jsonl")),
        ("evaluate", ("--model", "BUNDLE", "--from-topics")),
        ("retrain", ("--model", "BUNDLE", "--from-topics", "--spec", "examples/telco.toml", "--out", "FOLDER/new")),
        ("produce", ("--model", "BUNDLE", *CUSTOMERS, "--rate", "5", "--count", "5")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_no_broker_is_one_line_and_every_client_is_closed(telco_bundle, tmp_path, command, options) -> None:
    """The Kafka client writes `Unclosed AIOKafkaConsumer` for each client that is left behind."""
    port = free_port()
    given = [text.replace("BUNDLE", str(telco_bundle)).replace("FOLDER", str(tmp_path)) for text in options]
    environment = {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{port}"}
    done = preloaded.run(["-m", "driftline", *command.split(), *given], environment)
    lines = done.stderr.splitlines()
    assert (done.returncode, len(lines)) == (1, 1), done.stderr
    assert lines[0].startswith("driftline: ")
    assert str(port) in lines[0]
