"""A first spec from a registry's schema: it fits the schema that it was made from."""

import json

import pytest
from support import protobuf_events
from support.avro_events import SCHEMA, registered

from driftline.errors import CommandError
from driftline.schema_registry.schema_sample import FORMATS, sample
from driftline.training.infer_event import infer_subject
from driftline.training.spec import read_event_spec
from kafka_runtime.schema_registry.client import RegisteredSchema
from schemas.formats.reader import compiled

JSON_SCHEMA = {
    "type": "object",
    "properties": {
        "event_id": {"type": "string"},
        "customer": {"$ref": "#/$defs/customer"},
        "created_at": {"type": "string", "format": "date-time"},
        "row": {
            "type": "object",
            "properties": {
                "tenure": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
                "plan": {"enum": ["basic", "gold"]},
                "senior": {"type": ["boolean", "null"]},
                "charges": {"type": "number"},
                "tags": {"type": "array", "items": {"type": "string"}},
            },
        },
    },
    "$defs": {"customer": {"type": "object", "properties": {"id": {"type": "integer"}}}},
}


@pytest.mark.parametrize(
    ("schema", "event", "features"),
    [
        (
            registered(),
            {"event_id": "event_id", "customer_id": "customer_id", "event_time": "event_time", "features": "features"},
            {"tenure": False, "monthly_charges": False, "total_charges": True, "contract": False, "payment": True,
             "senior": False, "partner": True},
        ),
        (
            protobuf_events.registered(),
            {"event_id": "event_id", "customer_id": "customer_id", "event_time": "event_time", "features": "features"},
            {"tenure": False, "monthly_charges": False, "total_charges": True, "contract": False, "payment": True,
             "senior": False, "partner": True},
        ),
        (
            RegisteredSchema("JSON", json.dumps(JSON_SCHEMA)),
            {"event_id": "event_id", "customer_id": "customer.id", "event_time": "created_at", "features": "row"},
            {"tenure": True, "plan": False, "senior": True, "charges": False},
        ),
    ],
)  # fmt: skip
def test_the_proposal_fits_its_schema(tmp_path, schema, event, features):
    """Ids, the time and the features are where the schema has them; what may be null is nullable."""
    text = infer_subject("customers-value", 3, FORMATS[schema.kind], sample(schema))
    path = tmp_path / "spec.toml"
    path.write_text(text)
    spec = read_event_spec(path)
    assert spec.event.format == FORMATS[schema.kind]
    assert {name: getattr(spec.event, name) for name in event} == event
    assert {name: table.nullable for name, table in spec.features.items()} == features
    assert compiled(schema, spec.manifest_features({}), spec.event).misfit is None


@pytest.mark.parametrize(
    "schema",
    [
        RegisteredSchema("XML", "<a/>"),
        RegisteredSchema("PROTOBUF", 'syntax = "proto3";'),
        RegisteredSchema("PROTOBUF", 'syntax = "proto3"; message M {}'),
        RegisteredSchema("PROTOBUF", 'syntax = "proto3"; message M { M m = 1; }'),
        RegisteredSchema("AVRO", '"int"'),
        RegisteredSchema("AVRO", "{"),
        RegisteredSchema("JSON", "true"),
        RegisteredSchema("JSON", '{"$ref": "#"}'),
    ],
)
def test_a_schema_without_fields_is_an_error(schema):
    """Another type, a record that is no object, no schema, a circle."""
    with pytest.raises(CommandError):
        sample(schema)


def test_every_kind_of_field_has_two_values():
    """One that repeats, so that a text is proposed as a category, and one that differs."""
    events = sample(registered(SCHEMA))
    assert [event["features"]["contract"] for event in events] == ["MONTHLY", "YEARLY", "MONTHLY"]
    assert [event["features"].get("partner") for event in events] == [True, False, None]
