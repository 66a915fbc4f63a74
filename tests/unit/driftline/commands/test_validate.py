"""`driftline validate`: what a scorer would make of records, from a file, without a broker."""

import base64
import json
import re
import time
from pathlib import Path

import pytest
import typer
from support.avro_events import EVENT, SCHEMA, body, framed
from support.events import FEATURES
from support.registry import SmallRegistry

from driftline.commands.validate import command
from driftline.errors import CommandError
from driftline.training.spec import read_event_spec
from schemas import timestamps

ROOT = Path(__file__).parents[4]
SHAPES = [json.loads(line) for line in (ROOT / "tests/unit/schemas/shapes.jsonl").read_text("utf-8").splitlines()]
SPEC = """
[event]
time_unit = "ms"
[features.tenure]
kind = "numeric"
"""


def _toml(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)} = {_toml(inner)}" for name, inner in value.items()) + "}"
    return json.dumps(value)


def _run(capsys, code, **options):
    """The command's JSON, after it ended with this exit code."""
    given = {"events": None, "records": None, "topic": None, "last": 1000, "as_json": True, **options}
    if code:
        with pytest.raises(typer.Exit) as ended:
            command(**given)
        assert ended.value.exit_code == code
    else:
        command(**given)
    out = capsys.readouterr().out
    return json.loads(out) if given["as_json"] else out


@pytest.mark.parametrize("shape", SHAPES, ids=[shape["name"] for shape in SHAPES])
def test_a_shape_has_its_verdict(shape, tmp_path, capsys):
    """As the producers' records are, with keys, headers and timestamps."""
    spec, records, want = tmp_path / "spec.toml", tmp_path / "records.jsonl", shape.get("want", {})
    spec.write_text(
        f"event = {_toml(shape['spec']['event'])}\nfeatures = {_toml(shape['spec']['features'])}\n", "utf-8"
    )
    line = {name: shape[name] for name in ("key", "headers", "value")}
    if "kafka_timestamp" in want:
        line["timestamp"] = want["kafka_timestamp"]
    records.write_text(json.dumps(line) + "\n", "utf-8")
    refused = shape["verdict"] not in {"accepted", "ignored"}
    found = _run(capsys, int(refused), spec=spec, records=records)
    (one,) = found["records"]
    assert one["verdict"] == ("refused" if refused else shape["verdict"])
    assert not refused or one["reason"] == shape["verdict"]
    assert {name: one[name] for name in want if name in one} == {n: v for n, v in want.items() if n in one}


def _file(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text, "utf-8")
    return path


def test_events_of_a_file_and_what_is_wrong_with_them(tmp_path, capsys):
    """The first example of each reason, with its line."""
    now_ms = time.time_ns() // 1_000_000
    good = {"event_id": "e", "customer_id": 7, "event_time": now_ms, "features": {"tenure": 1, "more": 2}}
    wrong = {**good, "features": {"tenure": "one"}}
    lines = "\n".join(["", *map(json.dumps, [good, wrong, wrong]), "{", ""])
    options = {"spec": _file(tmp_path, "spec.toml", SPEC), "events": _file(tmp_path, "events.jsonl", lines)}
    found = _run(capsys, 1, **options)
    shown = timestamps.render(now_ms)
    assert found["records"][0] == {
        **dict.fromkeys(["reason", "detail"]),
        "verdict": "accepted",
        "event_id": "e",
        "customer_id": "7",
        "event_time": shown,
    }
    summary = found["summary"]
    assert {name: summary[name] for name in ("records", "accepted", "ignored", "refused", "unknown_fields")} == {
        "records": 4, "accepted": 1, "ignored": 0, "refused": 3, "unknown_fields": 1,
    }  # fmt: skip
    assert [(reason, one["count"], one["record"]) for reason, one in summary["reasons"].items()] == [
        ("wrong_type", 2, "line 3"),
        ("not_json", 1, "line 5"),
    ]
    text = _run(capsys, 1, as_json=False, **options)
    assert text.startswith("4 records: 1 accepted, 0 ignored, 3 refused\n")
    assert "features.tenure: expected a number" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "expected one of --events, --records and --topic"),
        ({"events": "a", "topic": "t"}, "expected one of"),
        ({"events": "missing.jsonl"}, "missing.jsonl: No such file"),
        ({"events": "empty.jsonl"}, "no records"),
        ({"records": "wrong.jsonl"}, "wrong.jsonl: line 2: "),
        ({"records": "both.jsonl"}, "both.jsonl: line 1: expected one of value and value_base64"),
        ({"records": "none.jsonl"}, "none.jsonl: line 1: expected one of value and value_base64"),
        ({"records": "keys.jsonl"}, "keys.jsonl: line 1: expected key or key_base64"),
        ({"records": "base64.jsonl"}, "base64.jsonl: line 1: Invalid base64"),
    ],
)
def test_what_cannot_be_validated_is_one_line(options, message, tmp_path):
    """Exit code 2."""
    spec = _file(tmp_path, "spec.toml", SPEC)
    _file(tmp_path, "empty.jsonl", "\n\n")
    _file(tmp_path, "wrong.jsonl", '{"value": "{}"}\n{"value": {}}\n')
    _file(tmp_path, "both.jsonl", '{"value": "{}", "value_base64": "e30="}')
    _file(tmp_path, "none.jsonl", '{"key": "c"}')
    _file(tmp_path, "keys.jsonl", '{"value": null, "key": "c", "key_base64": "Yw=="}')
    _file(tmp_path, "base64.jsonl", '{"value_base64": "e30"}')
    files = {name: tmp_path / text if name != "topic" else text for name, text in options.items()}
    with pytest.raises(CommandError, match=message) as error:
        command(spec=spec, **{"events": None, "records": None, "topic": None, "last": 1, "as_json": False, **files})
    assert error.value.exit_code == 2


BEHIND = "\n".join(
    ['[event]\nformat = "avro"\ncustomer_id = "$key"', "[features]"]
    + [f'{f.name} = {{kind = "{f.kind}", nullable = {str(f.nullable).lower()}}}' for f in FEATURES]
)


def test_records_behind_a_registry_are_base64_in_files(tmp_path, capsys, monkeypatch):
    """As they are on the topic, with their framing; keys may be no text, too."""
    spec = _file(tmp_path, "spec.toml", BEHIND)
    with SmallRegistry() as registry:
        monkeypatch.setenv("SCHEMA_REGISTRY_URL", registry.url)
        number = registry.register("events-value", {"schema": json.dumps(SCHEMA)})["id"]
        good = framed(body(SCHEMA, {**EVENT, "event_time": time.time_ns() // 1_000_000}), number)
        written = [base64.b64encode(value).decode() for value in (good, good[:-1], b"{}")]
        keys = [{"key": "c1"}, {"key_base64": "/w=="}, {}]
        lines = [json.dumps({"value_base64": value, **key}) for value, key in zip(written, keys, strict=True)]
        lines.append('{"value": null, "key": "c1"}')
        found = _run(capsys, 1, spec=spec, records=_file(tmp_path, "records.jsonl", "\n".join(lines)))
        assert [(one["verdict"], one["reason"], one["customer_id"]) for one in found["records"]] == [
            ("accepted", None, "c1"),
            ("refused", "not_decodable", None),
            ("refused", "not_decodable", None),
            ("refused", "empty", None),
        ]
        events = _file(tmp_path, "events.jsonl", "\n".join(written))
        alone = _run(capsys, 1, spec=_file(tmp_path, "own.toml", BEHIND.replace("$key", "customer_id")), events=events)
        assert [one["customer_id"] for one in alone["records"]] == ["17", None, None]
        with pytest.raises(CommandError, match=r"plain.jsonl: line 1: expected Base64"):
            _run(capsys, 2, spec=spec, events=_file(tmp_path, "plain.jsonl", '{"event_id": "e"}'))
    monkeypatch.delenv("SCHEMA_REGISTRY_URL")
    with pytest.raises(CommandError, match="SCHEMA_REGISTRY_URL"):
        _run(capsys, 2, spec=spec, events=events)


def test_every_spec_of_the_page_about_events_is_one(tmp_path):
    """As a reader copies it; a page that shows only the mapping is given a feature."""
    blocks = re.findall(r"```toml\n(.*?)```", (ROOT / "docs/events.md").read_text("utf-8"), re.DOTALL)
    assert len(blocks) >= 5
    for block in blocks:
        text = block if "[features" in block else f'{block}\n[features.tenure]\nkind = "numeric"\n'
        assert read_event_spec(_file(tmp_path, "spec.toml", text)).features
