"""Records of a registry's format through the decoder: the reasons, their order, and schemas of several ids."""

import copy
from decimal import Decimal

import pytest
from support.avro_events import SCHEMA, Known, body, framed, registered
from support.events import FEATURES, NOW_MS, record

from kafka_runtime.schema_registry.client import RegisteredSchema
from schemas.bundle.inputs import EventMapping
from schemas.event import EventDecoder
from schemas.validation import Rules

VALUE = {
    "event_id": "e1",
    "customer_id": 17,
    "event_time": NOW_MS - 1,
    "features": {
        "tenure": 12,
        "monthly_charges": Decimal("70.35"),
        "total_charges": 1.0,
        "contract": "YEARLY",
        "payment": "Mail",
        "senior": True,
        "partner": False,
    },
}
OTHER = copy.deepcopy(SCHEMA)
OTHER["fields"][3]["type"]["fields"] = OTHER["fields"][3]["type"]["fields"][1:]
SCHEMAS = Known(
    {7: registered(), 8: registered(OTHER), 9: RegisteredSchema("JSON", "{}"), 10: RegisteredSchema("AVRO", "{")}
)


def _decode(values, mapping=None, rules=None, **of):
    decoder = EventDecoder(FEATURES, mapping or EventMapping(format="avro"), rules, SCHEMAS)
    return decoder.decode([record(value, offset=i, **of) for i, value in enumerate(values)], NOW_MS)


GOOD = framed(body(SCHEMA, VALUE))


@pytest.mark.parametrize(
    ("value", "reason", "detail"),
    [
        (None, "empty", "no bytes"),
        (b"", "empty", "no bytes"),
        (b"{}", "not_decodable", "a zero byte and a schema id"),
        (framed(b"", 99), "not_decodable", "schema id 99: the registry has no such schema"),
        (framed(b"x" * 70_000), "too_large", "at most 65536"),
        (GOOD + b"\0", "not_decodable", "1 bytes behind the record"),
        (
            framed(body(OTHER, {**VALUE, "features": VALUE["features"]}), 8),
            "schema_incompatible",
            "schema id 8: features.tenure: the schema has no such field",
        ),
        (framed(b"{}", 9), "schema_incompatible", "schema id 9: it is of the type JSON"),
        (framed(b"{}", 10), "schema_incompatible", "schema id 10: no Avro schema"),
    ],
)
@pytest.mark.parametrize("count", [1, 5])
def test_every_reason_of_a_record_that_cannot_be_read(value, reason, detail, count):
    """Alone, and among good neighbours: theirs is not touched."""
    batch = _decode([GOOD] * count + [value] + [GOOD] * count)
    assert batch.accepted.tolist() == [i for i in range(2 * count + 1) if i != count]
    rejection = batch.rejections[count]
    assert (rejection.reason.value, detail in rejection.detail) == (reason, True), rejection


def test_conditions_come_before_a_schema_that_does_not_fit():
    """Several kinds of records in one topic: those that are no events may have any schema."""
    mapping = EventMapping(format="avro", only={"event_id": ("e1",)})
    other = framed(body(OTHER, {**VALUE, "event_id": "e2"}), 8)
    batch = _decode([GOOD, other, framed(body(OTHER, VALUE), 8)] * 5, mapping)
    assert set(batch.ignored) == set(range(1, 15, 3))
    assert [batch.rejections[i] and batch.rejections[i].reason.value for i in range(3)] == [
        None,
        None,
        "schema_incompatible",
    ]


def test_unknown_fields_can_be_rejected():
    """As in JSON, and by name."""
    more = copy.deepcopy(SCHEMA)
    more["fields"].append({"name": "surplus", "type": "int"})
    decoder = EventDecoder(
        FEATURES, EventMapping(format="avro"), Rules(reject_unknown_fields=True), Known({7: registered(more)})
    )
    batch = decoder.decode([record(framed(body(more, {**VALUE, "surplus": 1})))] * 6, NOW_MS)
    assert {r.reason.value for r in batch.rejections} == {"unknown_field"}
    assert "surplus" in batch.rejections[0].detail


def test_a_schema_is_asked_for_once():
    """A million records of one schema are one look-up and one compilation."""
    asked = []

    class Counting:
        def schema(self, schema_id):
            asked.append(schema_id)
            return registered()

    decoder = EventDecoder(FEATURES, EventMapping(format="avro"), None, Counting())
    for _ in range(3):
        decoder.decode([record(GOOD)] * 10, NOW_MS)
    assert asked == [7]
