"""The exported JSON Schemas and the AsyncAPI document: up to date, and true of the records that are really written."""

import json
import re
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator
from support import bundles
from support.events import FEATURES, GOOD, GOOD_FEATURES, NOW_MS, Decoders, record

from schemas.alert import Alert, AlertName, fingerprint
from schemas.bundle.manifest import manifest_bytes
from schemas.documents import export
from schemas.documents.json_schema import event_schema
from schemas.measurement import Bins, FeatureMeasurement, Level, Measurement, Sample, Window
from schemas.setting_names import Topics
from schemas.validation import Rules
from scorer.model import load
from scorer.pipeline import Pipeline

ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def answer(tmp_path_factory):
    """Predictions and dead letters of a batch with good and bad records."""
    directory = tmp_path_factory.mktemp("export") / "model"
    bundles.write(directory)
    good = json.dumps(GOOD).encode()
    trace = ("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    values = [good, b"{", json.dumps({**GOOD, "features": {**GOOD_FEATURES, "tenure": "x" * 20_000}}).encode()]
    records = [record(value, offset=i, headers=[trace]) for i, value in enumerate(values)]
    return Pipeline(load(directory, None), Rules(), "group", 9000).answer(records, "t", 0, lambda: NOW_MS, lambda: 0.0)


def _valid(name, value):
    schema = json.loads((ROOT / "schemas" / "json" / name).read_text())
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(value)
    # and the schema is no mere `true`: another JSON value is none of these records
    assert not Draft202012Validator(schema).is_valid({"some": "thing"})


def _text(headers):
    return {name: value.decode() for name, value in headers}


@pytest.mark.parametrize("name", export.files())
def test_a_generated_file_is_what_would_be_generated_now(name):
    """If this fails: make docs."""
    assert (ROOT / name).read_text(encoding="utf-8") == export.files()[name]


def test_no_other_file_pretends_to_be_generated():
    """A record that is gone takes its schema with it."""
    there = {str(p.relative_to(ROOT)) for p in (ROOT / "schemas" / "json").iterdir()}
    assert there == {name for name in export.files() if name.startswith("schemas/json/")}


def test_predictions_and_their_headers_are_valid(answer):
    """As the pipeline writes them, trace context included."""
    (_, value, headers) = answer.predictions[0]
    _valid("prediction.json", json.loads(value))
    _valid("prediction-headers.json", _text(headers))
    known = json.loads((ROOT / "schemas/json/prediction-headers.json").read_text())["properties"]
    assert set(_text(headers)) == set(known)


def test_dead_letters_and_stubs_have_the_documented_headers(answer):
    """Ours and no others behind the original ones."""
    known = json.loads((ROOT / "schemas/json/dead-letter-headers.json").read_text())
    whole, stub = answer.dead_letters
    for letter in (whole, stub):
        _valid("dead-letter-headers.json", _text(letter[2]))
    ours = {name for name, _ in stub[2]} - {"traceparent"}
    assert ours == set(known["properties"])
    assert {name for name, _ in whole[2]} - {"traceparent"} == set(known["required"])


def test_alerts_measurements_and_manifests_are_valid():
    """One of each, with every optional part."""
    labels = {"alertname": AlertName.FEATURE_DRIFT.value, "severity": "critical", "model": "churn", "feature": "tenure"}
    alert = Alert(
        fingerprint=fingerprint(labels),
        status="firing",
        labels=labels,
        annotations={"summary": "tenure moved"},
        starts_at="2026-11-22T05:00:00.000Z",
        sequence=1,
        evidence={"statistic": {"psi": 0.3}},
    )
    _valid("alert.json", json.loads(alert.encode()))
    feature = FeatureMeasurement(kind="numeric", events=5, psi=0.1, bins=Bins([1.0], [0.5, 0.5], [0.4, 0.6]))
    measurement = Measurement(
        model="churn",
        model_version="1.0.0",
        reference_sha256="ab" * 32,
        window=Window("15m", "2026-11-22T05:00:00.000Z", "2026-11-22T05:15:00.000Z"),
        complete=True,
        sample=Sample(5, 0, 0),
        level=Level(0.01, 20),
        features={"tenure": feature},
        score=feature,
        offsets={"customer-events": {"0": (1, 2)}},
    )
    _valid("measurement.json", json.loads(measurement.encode()))
    _valid("manifest.json", json.loads(manifest_bytes(bundles.manifest(bundles.fitted()))))


def _changed(**changes):
    return {**GOOD, **changes}


def _with(**changes):
    return _changed(features={**GOOD_FEATURES, **changes})


@pytest.mark.parametrize(
    "event",
    [
        GOOD,
        _changed(extra=1),
        _with(total_charges=None),
        _with(contract="Never seen"),
        _with(tenure=0),
        _with(tenure=120),
        _with(tenure=120.5),
        _with(tenure=-1),
        _with(tenure="12"),
        _with(tenure=True),
        _with(tenure=None),
        _with(monthly_charges=2**53 - 1),
        _with(monthly_charges=2**53),
        _with(monthly_charges=-(2**53)),
        _with(senior="true"),
        _with(senior=None),
        _with(partner=None),
        _with(payment=3),
        _changed(features=[]),
        _changed(event_id=""),
        _changed(event_id="x" * 129),
        _changed(customer_id="a\u0007b"),
        _changed(customer_id=7),
        _changed(event_time="2026-11-22 05:59:59Z"),
        _changed(event_time="2026-11-22T05:59:59"),
        _changed(event_time="2026-11-22T05:59:59.1234567891Z"),
        _changed(event_time="2026-11-22T06:59:59+01:00"),
        _changed(schema_version=1.0),
        _changed(schema_version=2),
        {name: value for name, value in GOOD.items() if name != "features"},
        {name: value for name, value in GOOD.items() if name != "schema_version"},
        [],
        None,
    ],
)
def test_a_bundles_event_schema_and_its_decoder_agree(event):
    """What the schema accepts is scored, what it refuses becomes a dead letter."""
    accepted = Decoders().rejection(json.dumps(event).encode()) is None
    assert Draft202012Validator(event_schema(FEATURES)).is_valid(event) == accepted
    if accepted:
        _valid("event.json", event)


def test_the_asyncapi_document_is_yaml_and_whole():
    """Read back by PyYAML; every reference leads somewhere, every address is a setting's default."""
    text = (ROOT / "docs" / "asyncapi.yaml").read_text()
    document = yaml.safe_load(text)
    assert document == export.asyncapi()
    assert document["asyncapi"] == "3.0.0"
    for reference in re.findall(r'"\$ref": "([^"]+)"', text):
        if reference.startswith("#/"):
            node = document
            for part in reference[2:].split("/"):
                node = node[part]
        else:
            assert (ROOT / "docs" / reference).is_file(), reference
    addresses = {channel["address"] for channel in document["channels"].values()}
    assert addresses <= {field.default for field in Topics.model_fields.values()}
    used = {operation["channel"]["$ref"].rpartition("/")[2] for operation in document["operations"].values()}
    assert used == set(document["channels"])


def test_stale_files_are_found_and_written(tmp_path, monkeypatch, capsys):
    """--check names them and exits 1; without it they are written, and then there are none."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["export", "--check"])
    assert export.main() == 1
    assert "docs/asyncapi.yaml: stale" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["export"])
    assert export.main() == 0
    (tmp_path / "schemas/json/alert.json").write_text("{}")
    monkeypatch.setattr("sys.argv", ["export", "--check"])
    capsys.readouterr()
    assert export.main() == 1
    assert capsys.readouterr().out == "schemas/json/alert.json: stale\n"
