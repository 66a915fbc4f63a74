"""A mapping proposed from a handful of records: what it writes accepts them."""

import json
from pathlib import Path

import pytest
from support.events import NOW_MS

from driftline.errors import CommandError
from driftline.training.event_sample import outcomes, read_events, read_records
from driftline.training.infer_event import infer_event
from driftline.training.spec import read_event_spec
from schemas.validation import Rules

PRODUCERS = Path(__file__).parents[2] / "schemas/producers"


def _proposed(tmp_path, lines, whole=False):
    """The proposal's text, its spec, and what it makes of the records that it was made from."""
    sample, spec = tmp_path / "sample.jsonl", tmp_path / "spec.toml"
    sample.write_text("".join(f"{json.dumps(line)}\n" for line in lines), "utf-8")
    text = infer_event(sample)
    spec.write_text(text, "utf-8")
    found = read_event_spec(spec)
    records = read_records(sample) if whole else read_events(sample)
    return text, found, outcomes(records, found.manifest_features({}), found.event, Rules(), NOW_MS + 10**7)


def test_an_envelope_that_nothing_was_made_for(tmp_path):
    """Times in seconds, a JSON text, integer ids, strings that are numbers, flags, and what is left out."""
    lines = [
        {
            "meta": {"messageId": f"m{i}", "sent_ts": 1_795_327_200 + i},
            "account": {"accountId": 100 + i},
            "body": json.dumps({"tenure": i, "fee": f"{i}.50", "vip": "YN"[i % 2], "plan": "ab"[i % 2], "note": f"n{i}",
                                "b2b": i % 3 == 0, "opt": [None, 1][i % 2], "left": None,
                                "opened": "2020-01-01T00:00:00Z"}),
        }
        for i in range(10)
    ]  # fmt: skip
    text, spec, found = _proposed(tmp_path, lines)
    assert found.count("accepted") == 10
    assert (spec.event.event_id, spec.event.customer_id) == ("meta.messageId", "account.accountId")
    assert (spec.event.event_time, spec.event.time_unit) == ("meta.sent_ts", "s")
    assert spec.event.features == "body|json"
    assert {name: table.kind for name, table in spec.features.items()} == {
        "tenure": "numeric", "fee": "numeric", "vip": "boolean", "plan": "categorical", "b2b": "boolean",
        "opt": "numeric",
    }  # fmt: skip
    assert spec.features["fee"].parse == "number"
    assert spec.features["opt"].nullable
    for name in ("note", "opened", "left"):
        assert f'#? "{name}" is left out' in text


def test_flat_events_with_local_times_and_nested_features(tmp_path):
    """The zone is a question; a nested member has a path."""
    lines = [
        {"id": f"e{i}", "customer_no": f"c{i}", "at": f"2026-11-22 05:0{i}:00", "age": 30 + i, "score": i / 2,
         "contract": {"kind": "ab"[i % 2]}, "active": i % 2}
        for i in range(6)
    ]  # fmt: skip
    text, spec, found = _proposed(tmp_path, lines)
    assert found.count("accepted") == 6
    assert (spec.event.event_id, spec.event.customer_id, spec.event.event_time) == ("id", "customer_no", "at")
    assert 'time_zone = "UTC"  #?' in text
    assert spec.event.features == ""
    assert spec.features["kind"].from_ == "contract.kind"
    assert spec.features["active"].true == (1,)


def test_the_default_envelope_is_found(tmp_path):
    """As Driftline's own producers write it."""
    features = [{"tenure": i, "charges": i / 2, "plan": "a"} for i in range(3)]
    lines = [
        {"schema_version": 1, "event_id": f"e{i}", "customer_id": "c", "event_time": "2026-11-22T05:00:00Z",
         "features": one} for i, one in enumerate(features)
    ]  # fmt: skip
    _, spec, found = _proposed(tmp_path, lines)
    assert found.count("accepted") == 3
    assert spec.event.is_envelope


@pytest.mark.parametrize(("name", "accepted", "ignored"), [("debezium.jsonl", 6, 4), ("cloudevents.jsonl", 6, 0)])
def test_records_of_known_producers_are_recognised(name, accepted, ignored, tmp_path):
    """By their preset."""
    lines = [
        {part: line[part] for part in ("key", "headers", "value") if part in line}
        for line in map(json.loads, (PRODUCERS / name).read_text("utf-8").splitlines())
    ]
    _, spec, found = _proposed(tmp_path, lines, whole=True)
    assert spec.event.preset == name.removesuffix(".jsonl")
    assert (found.count("accepted"), found.count("ignored"), found.count("refused")) == (accepted, ignored, 0)
    assert spec.features["monthly_charges"].parse == "number"


@pytest.mark.parametrize("lines", ["[]", "5\n[1]", '{"a": {}}', "no JSON"])
def test_what_has_no_fields_is_one_line(lines, tmp_path):
    """Exit code 2."""
    sample = tmp_path / "sample.jsonl"
    sample.write_text(lines, "utf-8")
    with pytest.raises(CommandError) as error:
        infer_event(sample)
    assert error.value.exit_code == 2
