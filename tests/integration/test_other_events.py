"""Events of other producers on a real broker: scored, ignored and rejected, counted, verified and previewed."""

from __future__ import annotations

import json

from support import bundles
from support.events import FEATURES, GOOD_FEATURES
from support.oracle import send
from support.stage import Stage
from support.waiting import wait_until

from schemas.bundle.inputs import EventMapping

ROWS = 120
# As a table has them: decimals as strings, flags as numbers, a JSON text, an array.
WAYS = {
    "monthly_charges": {"parse": "number"},
    "tenure": {"from_": "terms.0"},
    "contract": {"from_": "extra|json.contract"},
    "senior": {"true": (1,), "false": (0,)},
}
MAPPED = tuple(feature.model_copy(update=WAYS.get(feature.name, {})) for feature in FEATURES)
SPEC = """
[event]
preset = "debezium"
customer_id = "payload.after.id"
[features]
tenure = {kind = "numeric", min = 0, max = 120, from = "terms.0"}
monthly_charges = {kind = "numeric", parse = "number"}
total_charges = {kind = "numeric", nullable = true}
contract = {kind = "categorical", from = "extra|json.contract"}
payment = {kind = "categorical", nullable = true}
senior = {kind = "boolean", true = [1], false = [0]}
partner = {kind = "boolean", nullable = true}
"""


def _records():
    """Return change records of a table: inserts with and without a schema, deletes, tombstones, one that is no row."""
    for i in range(ROWS):
        after = {
            **{name: GOOD_FEATURES[name] for name in ("total_charges", "payment", "partner")},
            "id": 1000 + i,
            "terms": [i],
            "monthly_charges": f"{20 + i}.50",
            "extra": json.dumps({"contract": "One year"}),
            "senior": i % 2,
        }
        key, more = json.dumps({"id": 1000 + i}).encode(), {"source": {"table": "customers"}}
        change = {"before": None, "after": after, **more, "op": "cur"[i % 3], "ts_ms": 1_795_327_200_123 + i}
        yield key, json.dumps(change if i % 2 else {"schema": {"type": "struct"}, "payload": change}).encode()
        if i % 10 == 0:
            yield key, json.dumps({**change, "op": "d", "before": after, "after": None}).encode()
            yield key, None
    yield b"k", json.dumps({"payload": {"op": "c", "ts_ms": 1, "after": None}}).encode()


def test_changes_of_a_table_are_scored_and_deletes_are_ignored(stage: Stage) -> None:
    """Consumed = predicted + rejected + ignored, in the counters and by the verifier's own reading of the spec."""
    spec, bundle = stage.folder / "spec.toml", stage.folder / "model"
    spec.write_text(SPEC)
    mapping = EventMapping(preset="debezium", customer_id="payload.after.id")
    bundles.write(bundle, bundles.fitted(), event=mapping, features=MAPPED)
    sent = send(stage.bootstrap, stage.names.events, list(_records()))
    ignored = 2 * ROWS // 10
    with stage.scorer(SCORER_MODEL=str(bundle)) as scorer:
        scorer.wait_ready()
        consumed = "driftline_scorer_consumed_records_total"
        wait_until(lambda: scorer.metric(consumed) == len(sent.records), "every record has an outcome")
        for why in ("only", "tombstone"):
            assert scorer.metric("driftline_scorer_ignored_records_total", reason=why) == ROWS // 10
        expected = {"predicted": ROWS, "dead_lettered": 1, "ignored": ignored}
        assert {o: scorer.metric("driftline_scorer_records_total", outcome=o) for o in expected} == expected
        assert scorer.metric("driftline_scorer_unknown_fields_total") == 0
        assert scorer.stop() == 0
    stage.reader.wait_for(ROWS + 1)
    predictions = [json.loads(a.value) for a in stage.reader.answers if a.topic == stage.names.predictions]
    assert sorted(int(p["customer_id"]) for p in predictions) == [1000 + i for i in range(ROWS)]
    assert min(p["event_time"] for p in predictions) == "2026-11-22T06:00:00.123Z"

    verified = stage.driftline("verify", "--topic", stage.names.events, "--model", str(bundle), "--json")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    found = json.loads(verified.stdout)
    counts = {"inputs": len(sent.records), "predicted": ROWS, "dead_lettered": 1, "ignored": ignored}
    assert {name: found[name] for name in counts} == counts
    assert found["scores_checked"] == ROWS

    preview = stage.driftline("validate", "--spec", str(spec), "--topic", stage.names.events, "--json")
    assert preview.returncode == 1, preview.stderr
    summary = json.loads(preview.stdout)["summary"]
    assert [summary[name] for name in ("accepted", "ignored", "refused")] == [ROWS, ignored, 1]
