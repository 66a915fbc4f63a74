"""JSON Schemas against a spec, and JSON behind a schema id through the decoder."""

import copy
import json

import pytest
from support.avro_events import Known, framed
from support.events import FEATURES, GOOD, NOW_MS, Decoders, raw, record, with_features, without_feature

from kafka_runtime.schema_registry.client import RegisteredSchema
from schemas.bundle.inputs import EventMapping, Feature
from schemas.event import EventDecoder
from schemas.formats.json_schema import JsonSchema
from schemas.formats.registered import UnreadableSchemaError
from schemas.validation import Rules

MAPPING = EventMapping(format="json-schema")
KINDS = {"numeric": "number", "categorical": "string", "boolean": "boolean"}
SCHEMA = {
    "type": "object",
    "properties": {
        "event_id": {"type": "string"},
        "customer_id": {"$ref": "#/$defs/id"},
        "event_time": {"type": "string", "format": "date-time"},
        "features": {
            "type": "object",
            "properties": {
                f.name: {"type": [KINDS[f.kind], "null"] if f.nullable else KINDS[f.kind]} for f in FEATURES
            },
            "additionalProperties": False,
        },
    },
    "$defs": {"id": {"anyOf": [{"type": "string"}, {"type": "integer"}]}},
}


def _registered(schema, references=()):
    return RegisteredSchema("JSON", schema if isinstance(schema, str) else json.dumps(schema), references)


def _with(name, kind):
    schema = copy.deepcopy(SCHEMA)
    if kind is None:
        del schema["properties"]["features"]["properties"][name]
    else:
        schema["properties"]["features"]["properties"][name] = kind
    return schema


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("tenure", None, "features.tenure: the schema excludes this field"),
        ("tenure", {"type": "string"}, "features.tenure: expected a number, the schema has string"),
        ("contract", {"enum": [1, 2, None]}, "features.contract: expected a string, the schema has integer"),
        (
            "senior",
            {"oneOf": [{"type": "string"}, {"type": "number"}]},
            "features.senior: expected boolean, the schema has number or string",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_in_a_record_is_named_with_both_types(name, kind, text):
    """One sentence: the field, what the spec needs, what the schema has."""
    assert JsonSchema(_registered(_with(name, kind)), FEATURES, MAPPING).misfit == text


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("tenure", {"type": "integer"}),
        ("tenure", {}),
        ("tenure", True),
        ("contract", {"const": "One year"}),
        ("contract", {"$ref": "#/nowhere"}),
        ("partner", None),
        ("tenure", {"allOf": [{"minimum": 0}, {"type": "number"}]}),
    ],
)
def test_what_can_be_in_a_record_fits(name, kind):
    """Narrower types, no types, references, and a field that may be missing."""
    assert JsonSchema(_registered(_with(name, kind)), FEATURES, MAPPING).misfit is None


def test_what_the_schema_does_not_list_may_be_there():
    """JSON Schema allows other members unless it says otherwise."""
    assert JsonSchema(_registered({"type": "object"}), FEATURES, MAPPING).misfit is None
    wrong = JsonSchema(_registered({"properties": {"features": {"type": "string"}}}), FEATURES, MAPPING).misfit
    assert wrong == "features: expected an object, the schema has string"


def test_schemas_of_other_subjects_arrays_and_times_in_a_unit():
    """A reference by name, a position in an array, a text that is JSON, and a circle."""
    mapping = EventMapping(
        format="json-schema",
        event_id="ids.0",
        customer_id="body|json.id",
        event_time="at",
        time_unit="ms",
        features="row",
    )
    properties = {
        "ids": {"type": "array", "items": {"type": "string"}},
        "body": {"type": "string"},
        "at": {"type": "integer"},
        "row": {"$ref": "row.json#/definitions/Row"},
        "loop": {"$ref": "#/properties/loop"},
    }
    row = {"definitions": {"Row": {"type": "object", "properties": {"tenure": {"type": "string"}}}}}
    registered = _registered({"type": "object", "properties": properties}, (("row.json", json.dumps(row)),))
    tenure = Feature(name="tenure", kind="numeric")
    assert JsonSchema(registered, [tenure], mapping).misfit == "row.tenure: expected a number, the schema has string"
    texts = tenure.model_copy(update={"parse": "number"})
    assert JsonSchema(registered, [texts], mapping).misfit is None
    assert JsonSchema(registered, [texts], mapping.model_copy(update={"event_id": "loop"})).misfit is None
    flat = mapping.model_copy(update={"event_id": "at.x"})
    assert JsonSchema(registered, [texts], flat).misfit == "at.x: expected an object around x, the schema has integer"


@pytest.mark.parametrize("text", ["{", "[]", '"a"', "[" * 100_000])
def test_a_text_that_is_no_schema_is_not_read(text):
    """No JSON, or no object."""
    with pytest.raises(UnreadableSchemaError):
        JsonSchema(_registered(text), FEATURES, MAPPING)


@pytest.mark.parametrize("unknown", ["ignore", "reject"])
def test_framed_json_has_the_verdicts_of_the_json_in_it(unknown):
    """The same records with and without the framing; records without it are not decodable."""
    values = [
        raw(), raw(event_id=""), raw(customer_id=17), with_features(tenure=-1), without_feature("contract"),
        with_features(contract="unseen"), json.dumps({**GOOD, "more": 1}).encode(), b"{", b"[]", b"\xff", b"NaN",
        with_features(tenure="12"), raw(event_time="yesterday"), b"[" * 200,
    ]  # fmt: skip
    reject = unknown == "reject"
    rules = Rules(reject_unknown_fields=reject)
    plain = Decoders(reject_unknown_fields=reject).decode([record(value, offset=i) for i, value in enumerate(values)])
    decoder = EventDecoder(FEATURES, MAPPING, rules, Known({7: _registered(SCHEMA)}))
    batch = decoder.decode([record(framed(value), offset=i) for i, value in enumerate(values)], NOW_MS)
    assert batch.rejections == plain.rejections
    assert list(batch.event_ids) == list(plain.event_ids)
    assert batch.columns.codes.tolist() == plain.columns.codes.tolist()
    assert (batch.unknown_fields, batch.key_mismatches) == (plain.unknown_fields, plain.key_mismatches)


def test_schemas_that_do_not_fit_and_ids_that_are_unknown_touch_no_neighbour():
    """Each reason at its place."""
    schemas = Known(
        {7: _registered(SCHEMA), 8: _registered(_with("tenure", None)), 9: RegisteredSchema("AVRO", '"int"')}
    )
    values = [framed(raw()), raw(), framed(raw(), 8), framed(raw(), 9), framed(raw(), 10), framed(raw()), None]
    batch = EventDecoder(FEATURES, MAPPING, None, schemas).decode([record(value) for value in values], NOW_MS)
    expected = [None, "not_decodable", "schema_incompatible", "schema_incompatible", "not_decodable", None, "empty"]
    assert [r and r.reason.value for r in batch.rejections] == expected
