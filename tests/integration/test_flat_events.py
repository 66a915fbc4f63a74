"""Another schema: five features in French, flat JSON under other names, ids from the key; an [event] table, no code."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime

import httpx
from support.oracle import assert_exactly_once, send
from support.stage import Stage

from driftline.training.spec import parse_spec
from driftline.training.synthetic_customers import generate_customers
from driftline.training.train import train_bundle

SPEC = """
[model]
name = "churn-flat"
version = "1.0.0"
[event]
event_id = "id"
customer_id = ""
event_time = "at"
features = ""
[data]
target = "resiliation"
positive = "oui"
[features.anciennete_mois]
kind = "numeric"
from = "months"
[features.montant_mensuel]
kind = "numeric"
from = "price"
[features.nb_reclamations]
kind = "numeric"
[features.nb_produits]
kind = "numeric"
[features.satisfaction]
kind = "numeric"
nullable = true
"""
NAMES = {"anciennete_mois": "months", "montant_mensuel": "price"}


def test_a_topic_of_flat_json_under_other_names_is_scored_without_code(stage: Stage) -> None:
    """Ids, time and features from the places in the spec; POST /predict takes the same JSON."""
    data = stage.folder / "churn5.csv"
    data.write_text(generate_customers(1500, 7))
    bundle = stage.folder / "model"
    train_bundle(parse_spec(SPEC), data, bundle, datetime(2026, 1, 1, tzinfo=UTC))
    records = []
    for i, row in enumerate(csv.DictReader(io.StringIO(generate_customers(400, 8)))):
        numbers = {NAMES.get(name, name): float(row[name]) if row[name] else None for name in list(row)[1:6]}
        event = {"id": f"e{i}", "at": "2026-11-22T06:00:00+01:00", "source": {"system": "crm"}, **numbers}
        records.append((row["client_id"].encode(), json.dumps(event).encode()))
    records.append((b"client-x", json.dumps({"id": "bad", "at": "2026-11-22T06:00:00Z", "months": 3}).encode()))
    sent = send(stage.bootstrap, stage.names.events, records)
    with stage.scorer(SCORER_MODEL=str(bundle)) as scorer:
        scorer.wait_ready()
        stage.reader.wait_for(401)
        answers = [a for a in stage.reader.answers if a.topic == stage.names.predictions]
        assert len(answers) == 400
        asked = httpx.post(
            f"http://127.0.0.1:{scorer.port}/predict",
            json=[json.loads(sent.records[a.source][1]) for a in answers],
            timeout=60,
        ).json()
        assert scorer.metric("driftline_scorer_unknown_fields_total") == 400
        assert scorer.stop() == 0
    assert_exactly_once(sent, stage.reader.answers)
    (letter,) = (a for a in stage.reader.answers if a.topic == stage.names.dead_letters)
    assert letter.reason == "missing_feature"
    assert b"price: expected a number" in dict(letter.headers)["driftline-detail"]
    for answer, over_http in zip(answers, asked, strict=True):
        prediction = json.loads(answer.value)
        key, value, _ = sent.records[answer.source]
        assert prediction["event_id"] == json.loads(value)["id"] == over_http["event_id"]
        assert prediction["customer_id"] == key.decode()
        assert prediction["event_time"] == "2026-11-22T06:00:00+01:00"
        assert prediction["probability"] == over_http["probability"]
