"""A mapping proposed from a handful of records: what it writes accepts them."""

import json
from pathlib import Path

import pytest
from support.events import NOW_MS

from driftline.commands.model.bundle import infer
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


def _order(i, first_id):
    """A shop's webhook: ids in several objects, decimals as strings."""
    customer = {"id": first_id + 10 * i, "orders_count": 30 - i, "total_spent": f"{i}.50"}
    total = {"total_price": f"{20 + i}.00", "weight": 900 - i, "gift": i > 2}
    return {
        "id": first_id + i, "created_at": f"2026-11-22T06:0{i}:00+01:00", **total,
        "customer": customer, "shipping": {"house_no": 7 + i, "country": "FD"[i % 2] * 2},
    }  # fmt: skip


def test_ids_are_no_features(tmp_path):
    """The customer's is found in its object; another integer for each record, with the name of an id, is left out."""
    text, spec, found = _proposed(tmp_path, [_order(i, 5_000_000_000_000) for i in range(6)])
    assert found.count("accepted") == 6
    assert (spec.event.event_id, spec.event.customer_id) == ("id", "customer.id")
    assert list(spec.features) == ["total_price", "weight", "gift", "orders_count", "total_spent", "country"]
    assert '#? "shipping.house_no" is left out: an id\n' in text


def test_integers_that_are_too_large_for_an_id_are_not_proposed_as_one(tmp_path):
    """The mapping would reject every record."""
    text, spec, found = _proposed(tmp_path, [_order(i, 820_982_911_946_154_500) for i in range(6)])
    assert (spec.event.event_id, spec.event.customer_id) == ("", "")
    assert list(spec.features) == ["total_price", "weight", "gift", "orders_count", "total_spent", "country"]
    assert '"customer.id" is left out: integers of 2^53 and more' in text
    assert found.count("refused") == 6  # a file's events have no key


def test_what_is_outside_of_the_features_is_named(tmp_path):
    """Fields of another object could be features, too; those that are the same in all records could not."""
    lines = [
        {"id": f"e{i}", "customer": f"c{i}", "at": "2026-11-22T06:00:00Z", "level": i, "version": 1,
         "data": {"a": i, "b": i, "c": i, "d": i}, "site": {"name": f"n{i}", "kind": "xy"[i % 2]}}
        for i in range(6)
    ]  # fmt: skip
    text, spec, _ = _proposed(tmp_path, lines)
    assert spec.event.features == "data"
    assert '#? not among the features: "level", "site.kind"; features = ""' in text


@pytest.mark.parametrize("whole", [True, False])
def test_the_next_command_is_named(whole, tmp_path, capsys):
    """As it can be copied: with the sample, and the option that reads it."""
    sample, out = tmp_path / "sample.jsonl", tmp_path / "spec.toml"
    event = json.dumps({"id": "e", "customer": "c", "at": "2026-11-22T06:00:00Z", "age": 5})
    sample.write_text(json.dumps({"key": "c", "value": event}) if whole else event, "utf-8")
    infer(data=None, target=None, event=sample, subject=None, out=out)
    shown = "".join(capsys.readouterr().err.split())
    assert shown.endswith(f"driftlinevalidate--spec{out}--{'records' if whole else 'events'}{sample}")


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
