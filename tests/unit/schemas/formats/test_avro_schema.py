"""Avro schemas against a spec: what fits, and the sentence that names what does not."""

import copy
import json

import pytest
from support.avro_events import FIELDS, SCHEMA, registered
from support.events import FEATURES

from schemas.bundle.inputs import EventMapping, Feature
from schemas.formats.avro_schema import parse, prepare
from schemas.formats.registered import MisfitError, UnreadableSchemaError

MAPPING = EventMapping(format="avro")


def _with(name, kind):
    """Return the schema with another type of one feature, without it for None."""
    schema = copy.deepcopy(SCHEMA)
    fields = [{"name": name, "type": kind} if one["name"] == name else one for one in FIELDS]
    schema["fields"][3]["type"]["fields"] = [one for one in fields if one["type"] is not None]
    return schema


def _misfit(schema, mapping=MAPPING, features=FEATURES):
    root, _, _ = parse(registered(schema))
    try:
        prepare(root, features, mapping)
    except MisfitError as error:
        return str(error)
    return None


def test_decimals_enums_and_unions_with_null_fit():
    """The schema of the tests' own events."""
    assert _misfit(SCHEMA) is None


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("tenure", None, "features.tenure: the schema has no such field"),
        ("tenure", "string", "features.tenure: expected a number, the schema has string"),
        ("tenure", ["null", "string"], "features.tenure: expected a number, the schema has null or string"),
        ("contract", "int", "features.contract: expected a string or an enum, the schema has int"),
        ("contract", {"type": "array", "items": "string"}, "features.contract: expected a string or an enum"),
        ("senior", "int", "features.senior: expected boolean, the schema has int"),
        ("monthly_charges", "bytes", "features.monthly_charges: expected a number, the schema has bytes"),
    ],
)
def test_a_field_that_does_not_fit_is_named_with_both_types(name, kind, text):
    """One sentence: the field, what the spec needs, what the schema has."""
    assert (_misfit(_with(name, kind)) or "").startswith(text)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("tenure", ["null", "long"]),
        ("tenure", ["string", "double"]),
        ("contract", ["null", "string"]),
        ("contract", {"type": "int", "logicalType": "date"}),
        ("total_charges", None),
        ("partner", None),
    ],
)
def test_what_can_be_read_fits(name, kind):
    """Nullable fields, one branch of several, a date as a category, and a field that may be missing."""
    assert _misfit(_with(name, kind)) is None


def test_what_a_feature_lists_decides_which_types_fit():
    """Numbers as strings, booleans as numbers, integers as categories."""
    features = (
        Feature(name="tenure", kind="numeric", parse="number"),
        Feature(name="contract", kind="categorical", categories=(1, 2)),
        Feature(name="senior", kind="boolean", true=(1,), false=(0,)),
    )
    for name, kind in (("tenure", "string"), ("contract", "int"), ("senior", "int")):
        one = [feature for feature in features if feature.name == name]
        assert _misfit(_with(name, kind), features=one) is None
    assert "expected number, " not in (_misfit(_with("senior", "boolean"), features=features[2:]) or "")
    assert _misfit(_with("senior", "boolean"), features=features[2:]) is not None


def _time(kind):
    schema = copy.deepcopy(SCHEMA)
    schema["fields"][2]["type"] = kind
    return schema


@pytest.mark.parametrize(
    ("kind", "unit", "zone", "fits"),
    [
        ("string", "rfc3339", None, True),
        ("long", "rfc3339", None, False),
        ("long", "ms", None, True),
        ({"type": "long", "logicalType": "timestamp-micros"}, "rfc3339", None, True),
        ({"type": "long", "logicalType": "timestamp-micros"}, "ms", None, True),
        ({"type": "int", "logicalType": "date"}, "rfc3339", None, True),
        ({"type": "long", "logicalType": "local-timestamp-millis"}, "rfc3339", None, False),
        ({"type": "long", "logicalType": "local-timestamp-millis"}, "rfc3339", "Europe/Paris", True),
        ("boolean", "ms", None, False),
    ],
)
def test_the_time_is_a_logical_type_or_what_the_spec_says(kind, unit, zone, fits):
    """A local time needs a zone."""
    mapping = EventMapping(format="avro", time_unit=unit, time_zone=zone)
    assert (_misfit(_time(kind), mapping) is None) is fits


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ("{", "no Avro schema"),
        ({"type": "record", "name": "R", "fields": [{"name": "r", "type": ["null", "R"]}]}, "R contains itself"),
        ({"type": "array", "items": "null"}, "no bytes"),
        ({"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": -1}, "scale"),
        ({"type": "record", "name": "R", "fields": [{"name": "r", "type": "Nowhere"}]}, "no Avro schema"),
    ],
)
def test_a_schema_that_a_small_record_could_abuse_is_not_read(schema, text):
    """No schema at all; types without an end; values without bytes, of which a record could have any number."""
    with pytest.raises(UnreadableSchemaError, match=text):
        parse(registered() if schema is None else _text(schema))


def _text(schema):
    from kafka_runtime.schema_registry.client import RegisteredSchema

    return RegisteredSchema("AVRO", schema if schema == "{" else json.dumps(schema))


def test_a_schema_that_would_have_a_million_parts_is_not_read():
    """Twenty types that each have the one before twice."""
    kind = "int"
    for depth in range(20):
        kind = {
            "type": "record",
            "name": f"R{depth}",
            "fields": [{"name": "a", "type": kind}, {"name": "b", "type": "int" if depth == 0 else f"R{depth - 1}"}],
        }
    with pytest.raises(UnreadableSchemaError, match="parts"):
        parse(registered(kind))


def test_types_of_other_subjects_are_found_by_their_names():
    """A reference has the features' record, in its namespace."""
    schema = copy.deepcopy(SCHEMA)
    features = {**schema["fields"][3]["type"], "namespace": "com.other"}
    schema["fields"][3]["type"] = "com.other.Features"
    root, _, _ = parse(registered(schema, references=(("com.other.Features", json.dumps(features)),)))
    prepare(root, FEATURES, MAPPING)
