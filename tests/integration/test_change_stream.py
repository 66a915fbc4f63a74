"""A table's change stream as Debezium writes it: every change has one outcome, and the last one is the row's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import bundles, change_stream
from support.brokers import Broker
from support.change_stream import Connect, Postgres
from support.events import FEATURES
from support.oracle import Sent, assert_exactly_once
from support.registry import Apicurio
from support.services import Service
from support.stage import Stage
from support.waiting import wait_until

from schemas.bundle.inputs import EventMapping, Feature

TABLE = """
CREATE TABLE customers (
  id bigint PRIMARY KEY, tenure int, monthly_charges numeric(8, 2) NOT NULL, total_charges numeric(10, 2),
  contract text NOT NULL, payment text, senior boolean NOT NULL, partner boolean, changed_at timestamptz DEFAULT now()
);
"""
ROWS = """
INSERT INTO customers SELECT i, i % 121, 20 + i / 100.0, CASE WHEN i % 7 > 0 THEN 100.0 * i END,
  CASE i % 2 WHEN 0 THEN 'Month-to-month' ELSE 'One year' END, CASE WHEN i % 5 > 0 THEN 'Mail' END, i % 3 = 0,
  CASE WHEN i % 11 > 0 THEN i % 4 = 0 END FROM generate_series({}, {}) i;
"""
CHANGES = """
UPDATE customers SET tenure = tenure + 1, monthly_charges = monthly_charges + 0.05 WHERE id <= 40;
UPDATE customers SET id = 1000 + id WHERE id = 160;
UPDATE customers SET tenure = NULL WHERE id = 41;
DELETE FROM customers WHERE id BETWEEN 81 AND 100;
SELECT pg_logical_emit_message(true, 'note', 'not a row');
BEGIN;
  DELETE FROM customers WHERE id = 1;
  INSERT INTO customers SELECT 1, 5, 30, NULL, 'One year', NULL, true, NULL;
COMMIT;
BEGIN; UPDATE customers SET tenure = 0; ROLLBACK;
"""
JSON_ROWS = "SELECT row_to_json(c) FROM customers c ORDER BY id;"
# 100 rows of the snapshot, 60 inserts, 40 updates, the row under its new key, the row that came again
PREDICTED = 100 + 60 + 40 + 1 + 1
# without a tenure
REFUSED = 1
# 20 customers, the row under its old key, the row that came again
DELETED = 20 + 1 + 1
MESSAGES = 1
NUMBERS = ("monthly_charges", "total_charges")
PARSED = tuple(f.model_copy(update={"parse": "number"}) if f.name in NUMBERS else f for f in FEATURES)
AVRO = "io.apicurio.registry.utils.converter.AvroConverter"
JSON = "org.apache.kafka.connect.json.JsonConverter"


@pytest.fixture(scope="module")
def database(request: pytest.FixtureRequest) -> Iterator[Postgres]:
    """A database with a table of customers."""
    if not request.config.getoption("--long"):
        pytest.skip("starts PostgreSQL and Kafka Connect, and downloads Debezium; --long does")
    if (why := change_stream.missing()) is not None:
        pytest.skip(why)
    with Postgres() as running:
        yield running


@pytest.fixture(scope="module")
def plugins(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Debezium and Apicurio's converter."""
    request.getfixturevalue("database")  # which skips before anything is downloaded
    try:
        return change_stream.fetch(tmp_path_factory.mktemp("plugins"))
    except RuntimeError as error:
        pytest.skip(str(error))


@pytest.fixture
def connect(broker: Broker, plugins: Path, tmp_path: Path) -> Iterator[Connect]:
    """A Kafka Connect of this test's own."""
    with Connect(broker.bootstrap_servers, plugins, tmp_path) as running:
        yield running


def _connector(stage: Stage, database: Postgres, **converter: str) -> dict[str, str]:
    """Return the settings of a connector that writes the table's changes to the topic of events."""
    name = stage.names.prefix
    return {
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "database.hostname": "127.0.0.1",
        "database.port": str(database.port),
        "database.user": "driftline",
        "database.password": "none",
        "database.dbname": "postgres",
        "topic.prefix": name,
        "plugin.name": "pgoutput",
        "slot.name": name.replace("-", "_"),
        "slot.drop.on.stop": "true",
        "publication.name": name.replace("-", "_"),
        "table.include.list": "public.customers",
        "transforms": "route",
        "transforms.route.type": "org.apache.kafka.connect.transforms.RegexRouter",
        "transforms.route.regex": ".*",
        "transforms.route.replacement": stage.names.events,
        **converter,
    }


@pytest.mark.parametrize("schemas", ["true", "false"])
def test_changes_of_a_table_in_json(stage: Stage, database: Postgres, connect: Connect, schemas: str) -> None:
    """Kafka's own converter, with and without schemas; decimals are strings."""
    mapping = EventMapping(preset="debezium", customer_id="payload.after.id")
    converter = {"decimal.handling.mode": "string"}
    for part in ("key", "value"):
        converter |= {f"{part}.converter": JSON, f"{part}.converter.schemas.enable": schemas}
    _assert_every_change_has_one_outcome(stage, database, connect, converter, mapping, PARSED, {})


def test_changes_of_a_table_in_avro(stage: Stage, database: Postgres, connect: Connect, tmp_path: Path) -> None:
    """Apicurio's converter and registry, in Confluent's framing; decimals are Avro's."""
    if (why := Apicurio.missing()) is not None:
        pytest.skip(why)
    mapping = EventMapping(preset="debezium", customer_id="payload.after.id", format="avro")
    with Apicurio(tmp_path) as registry:
        converter = {}
        for part in ("key", "value"):
            converter |= {
                f"{part}.converter": AVRO,
                f"{part}.converter.apicurio.registry.url": registry.native_url,
                f"{part}.converter.apicurio.registry.auto-register": "true",
                f"{part}.converter.apicurio.registry.find-latest": "true",
                f"{part}.converter.apicurio.registry.headers.enabled": "false",
                f"{part}.converter.apicurio.registry.use-id": "contentId",
                f"{part}.converter.apicurio.registry.id-handler": "io.apicurio.registry.serde.Legacy4ByteIdHandler",
            }
        where = {"SCHEMA_REGISTRY_URL": registry.url}
        _assert_every_change_has_one_outcome(stage, database, connect, converter, mapping, FEATURES, where)


def _assert_every_change_has_one_outcome(
    stage: Stage,
    database: Postgres,
    connect: Connect,
    converter: dict[str, str],
    mapping: EventMapping,
    features: tuple[Feature, ...],
    where: dict[str, str],
) -> None:
    """Run the table's life under a connector, with a scorer behind it, and count."""
    bundle, estimator = stage.folder / "model", bundles.fitted()
    bundles.write(bundle, estimator, event=mapping, features=features)
    database.run(f"DROP TABLE IF EXISTS customers; {TABLE} {ROWS.format(1, 100)}")
    records = PREDICTED + REFUSED + 2 * DELETED + MESSAGES
    with stage.scorer(SCORER_MODEL=str(bundle), **where) as scorer:
        connect.add(stage.names.prefix, _connector(stage, database, **converter))
        stage.reader.wait_for(100)  # the snapshot
        database.run(ROWS.format(101, 160) + CHANGES)
        consumed = "driftline_scorer_consumed_records_total"
        wait_until(lambda: scorer.metric(consumed) >= records, "every change has an outcome")
        _assert_counted(scorer)
        assert scorer.stop() == 0
    stage.reader.wait_for(PREDICTED + REFUSED)
    sources = {answer.source: (None, None, []) for answer in stage.reader.answers}
    assert_exactly_once(Sent(sources), stage.reader.answers)
    assert len(sources) == PREDICTED + REFUSED
    letters = [a for a in stage.reader.answers if a.topic == stage.names.dead_letters]
    assert [letter.reason for letter in letters] == ["missing_feature"]
    verified = stage.driftline("verify", "--topic", stage.names.events, "--model", str(bundle), "--json", **where)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    found = json.loads(verified.stdout)
    counts = {"inputs": records, "predicted": PREDICTED, "dead_lettered": REFUSED, "ignored": 2 * DELETED + MESSAGES}
    counts |= {"duplicates": 0, "scores_checked": PREDICTED}
    assert {name: found[name] for name in counts} == counts
    _assert_the_last_prediction_is_the_rows(stage, database, estimator)


def _assert_counted(scorer: Service) -> None:
    """Assert the scorer's counters."""
    expected = {"predicted": PREDICTED, "dead_lettered": REFUSED, "ignored": 2 * DELETED + MESSAGES}
    assert {o: scorer.metric("driftline_scorer_records_total", outcome=o) for o in expected} == expected
    ignored = {"only": DELETED + MESSAGES, "tombstone": DELETED}
    counted = {why: scorer.metric("driftline_scorer_ignored_records_total", reason=why) for why in ignored}
    assert counted == ignored
    # `changed_at` is not in the spec; `id` is the customer
    assert scorer.metric("driftline_scorer_unknown_fields_total") == PREDICTED


def _assert_the_last_prediction_is_the_rows(stage: Stage, database: Postgres, estimator: Any) -> None:
    """Compare each customer's last prediction with what the model gives for the row in the table."""
    last = {}
    for answer in sorted(stage.reader.answers, key=lambda a: a.offset):
        if answer.topic == stage.names.predictions:
            prediction = json.loads(answer.value or b"")
            last[int(prediction["customer_id"])] = prediction["probability"]
    rows = [row for row in map(json.loads, database.run(JSON_ROWS)) if row["tenure"] is not None]
    assert len(rows) == 160 - 20 - 1
    columns = bundles.LAYOUT.columns([[row[feature.name] for row in rows] for feature in FEATURES])
    expected = estimator.predict_proba(columns.frame())[:, 1]
    np.testing.assert_allclose([last[row["id"]] for row in rows], expected, rtol=0, atol=1e-12)
