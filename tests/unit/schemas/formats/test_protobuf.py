"""Records of Protobuf: one by one, behind every kind of path, and by every message of a schema."""

import base64

import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf.message_factory import GetMessageClass
from support.avro_events import Known, framed
from support.events import FEATURES, NOW_MS, record
from support.protobuf_events import EVENT, MAIN, PARTS, SCHEMA, body, message_class, registered
from support.registry import SmallRegistry

from schemas.bundle.inputs import EventMapping, Feature
from schemas.event import EventDecoder
from schemas.formats import protobuf
from schemas.formats.protobuf import Protobuf
from schemas.formats.protobuf_schema import at_index, messages_of, type_of
from schemas.formats.registered import UnreadableSchemaError
from schemas.rejection_reasons import RejectedError
from schemas.validation import Rules

MAPPING = EventMapping(format="protobuf")
KIND = message_class()


def _protobuf(schema=SCHEMA, features=FEATURES, references=(), **mapping):
    return Protobuf(registered(schema, references), features, EventMapping(format="protobuf", **mapping))


def _changed(**features):
    return {**EVENT, "features": {**EVENT["features"], **features}}


def test_a_record_is_the_event_that_its_types_mean():
    """The time is RFC 3339, a wrapper its value, an enum its symbol; an id is text, so that no digit is lost."""
    event = _protobuf().event(body({**EVENT, "customer_id": 2**63 - 1}))
    features = {**EVENT["features"], "total_charges": 844.2, "contract": "YEARLY"}
    expected = {**EVENT, "customer_id": str(2**63 - 1), "event_time": "2026-11-22T05:59:59.123Z", "features": features}
    assert event == expected


def test_what_has_no_presence_is_its_default_and_what_has_it_may_be_missing():
    """Zero months are a value; an absent wrapper, an absent `optional` and an absent message are none."""
    event = _protobuf().event(body({"event_id": "e1", "features": {}}))
    features = {"tenure": 0, "monthly_charges": 0.0, "contract": "MONTHLY", "senior": False}
    assert event == {"event_id": "e1", "customer_id": "0", "features": features}
    for present in ({"total_charges": {}}, {"payment": ""}, {"partner": False}):
        (name,) = present
        found = _protobuf().event(body({"features": present}))["features"]
        assert found[name] == {"total_charges": 0.0, "payment": "", "partner": False}[name]


SHAPES = """
syntax = "proto3";
import "google/protobuf/timestamp.proto";
import "confluent/type/decimal.proto";
import "confluent/meta.proto";
message Shapes {
  string id = 1 [(confluent.field_meta).doc = "the id"];
  repeated Item items = 2;
  map<string, double> by_name = 3;
  string text = 4;
  confluent.type.Decimal price = 5;
  google.protobuf.Timestamp since = 6;
  uint64 plan = 7;
  Shapes inner = 8;
  repeated bool flags = 9;
  optional int32 HasField = 12;
  oneof choice { string left = 10; fixed64 right = 11; }
  message Item { float price = 1; }
}
"""


def _feature(path, kind="numeric", **more):
    more |= {"categories": ("a",)} if kind == "categorical" else {}
    return Feature(name="x", kind=kind, **{"from": path}, **more)


@pytest.mark.parametrize(
    ("feature", "value", "expected"),
    [
        (_feature("items.1.price"), {"items": [{"price": 1.0}, {"price": 2.5}, {}]}, [None, {"price": 2.5}, None]),
        (_feature("by_name.a"), {"by_name": {"a": 2.5, "b": 1.0}}, {"a": 2.5, "b": None}),
        (_feature("text|json.a"), {"text": '{"a": 2.5}'}, '{"a": 2.5}'),
        (_feature("price"), {"price": {"value": b"\x1b\x7b", "scale": 2}}, 70.35),
        (_feature("price"), {"price": {"value": b"\xff", "scale": -2}}, -100.0),
        (_feature("price"), {"price": {"value": b"\x7f" * 300, "scale": 0}}, float("inf")),
        (_feature("price"), {"price": {"value": b"\x01", "scale": 2**31 - 1}}, {"scale": 2**31 - 1}),
        (_feature("since", "categorical"), {"since": {"seconds": 0, "nanos": 1}}, "1970-01-01T00:00:00.000000001Z"),
        (_feature("since", "categorical"), {"since": {"seconds": 5, "nanos": -1}}, 5),
        (_feature("since.seconds"), {"since": {"seconds": 9}}, {"seconds": 9, "nanos": None}),
        (_feature("plan", "categorical", integers=True), {"plan": 2**64 - 1}, "18446744073709551615"),
        (_feature("plan"), {"plan": 2**64 - 1}, 2**64 - 1),
        (_feature("inner.inner.plan"), {"inner": {"inner": {"plan": 3}}}, {"inner": {"plan": 3}}),
        (_feature("right", "boolean", true=(1,), false=(0,)), {"right": 1}, 1),
        (_feature("HasField"), {"HasField": 0}, 0),
        (_feature("flags.0", "boolean"), {"flags": [True]}, [True]),
    ],
    ids=lambda part: part.source if isinstance(part, Feature) else None,
)
def test_paths_lead_through_messages_arrays_maps_and_texts(feature, value, expected):
    """A batch reads what the definition reads. Custom options need no file of theirs."""
    mapping = EventMapping(format="protobuf", event_id="id", customer_id="", event_time="", features="")
    raw = body({"id": "e1", **value}, kind=message_class(SHAPES, "Shapes"))
    found = Protobuf(registered(SHAPES), (feature,), mapping).event(raw)
    name = feature.path[0]
    if name == "inner":
        assert found["inner"]["inner"]["plan"] == 3
    else:
        assert found[name] == expected
    decoder = EventDecoder((feature,), mapping, None, Known({7: registered(SHAPES)}))
    alone = decoder.decode([record(framed(raw))], NOW_MS)
    batch = decoder.decode([record(framed(raw), offset=i) for i in range(9)], NOW_MS)
    assert batch.rejections == alone.rejections * 9
    assert repr(batch.columns.numeric.tolist()) == repr(alone.columns.numeric.tolist() * 9)
    assert [list(column) for column in batch.columns.values] == [list(column) * 9 for column in alone.columns.values]


@pytest.mark.parametrize(
    ("raw", "detail"),
    [
        (b"", "expected a message index behind the schema id, got 0 bytes"),
        (b"\x02", "expected a message index"),
        (b"\x01\x00", "expected a message index"),
        (b"\xff\xff\xff\xff\x00", "got 5 bytes that begin with ff ff ff ff"),
        (b"\x02\x06", "no message with the index [3]"),
        (b"\x04\x00\x00", "no message with the index [0, 0]"),
        (b"\x00\xff", "no record of its schema"),
        (b"\x00\x0a\x02\xff\xff", "no record of its schema"),
        (b"\x00\x08\x01", "field 1 is not of the type that it has in its schema"),
        (b'\x00{"a":1}', "no record of its schema"),
    ],
)
def test_bytes_that_are_no_record_are_rejected(raw, detail):
    """A number where the schema has a text would else be an empty text."""
    with pytest.raises(RejectedError) as raised:
        _protobuf().event(raw)
    rejection = raised.value.rejection
    assert (rejection.reason.value, detail in rejection.detail) == ("not_decodable", True), rejection
    rows, _ = _protobuf().rows([body(EVENT), raw, body(EVENT)])
    assert [row is None for row in rows] == [False, True, False]


def test_a_text_of_proto2_that_is_not_utf_8_is_rejected_alone():
    """Its bytes are only looked at when it is read."""
    schema = 'syntax = "proto2"; message M { optional string id = 1; optional int32 x = 2 [default = 5]; }'
    mapping = EventMapping(format="protobuf", event_id="id", customer_id="", event_time="", features="")
    decoder = EventDecoder((_feature("x", nullable=True),), mapping, None, Known({7: registered(schema)}))
    values = [framed(b"\0\x0a\x01a"), framed(b"\0\x0a\x01\xff"), framed(b"\0\x0a\x01b\x10\x07")] * 3
    batch = decoder.decode([record(value, offset=i) for i, value in enumerate(values)], NOW_MS)
    assert [r and r.reason.value for r in batch.rejections] == [None, "not_decodable", None] * 3
    assert repr(batch.columns.numeric.tolist()) == "[[nan], [7.0]]".replace("]]", "], [nan], [7.0], [nan], [7.0]]")


def test_a_text_of_proto2_is_checked_where_it_is_a_category():
    """Bytes would be one that training did not see. What a record lacks is missing, among others that have it."""
    schema = 'syntax = "proto2"; message M { optional string kind = 1; optional int32 x = 2; }'
    mapping = EventMapping(format="protobuf", event_id="", customer_id="", event_time="", features="")
    features = (Feature(name="kind", kind="categorical", categories=("a",)), Feature(name="x", kind="numeric"))
    decoder = EventDecoder(features, mapping, None, Known({7: registered(schema)}))
    values = [framed(b"\0\x0a\x01a\x10\x07"), framed(b"\0\x0a\x01\xff\x10\x07"), framed(b"\0\x0a\x01a")] * 3
    batch = decoder.decode([record(value, offset=i) for i, value in enumerate(values)], NOW_MS)
    assert [r and r.reason.value for r in batch.rejections] == [None, "not_decodable", "missing_feature"] * 3


def test_unknown_fields_are_counted_and_can_be_rejected():
    """Those of the schema, and numbers that the schema does not have."""
    features = tuple(f for f in FEATURES if f.name not in {"payment", "senior"})
    schemas = Known({7: registered()})
    good, more = framed(body(EVENT)), framed(body(EVENT) + b"\xa0\x06\x01")
    decoder = EventDecoder(features, MAPPING, None, schemas)
    assert decoder.decode([record(good)] * 9, NOW_MS).unknown_fields == 18
    assert decoder.decode([record(good), record(more)] * 9, NOW_MS).unknown_fields == 18 + 27
    strict = EventDecoder(FEATURES, MAPPING, Rules(reject_unknown_fields=True), schemas)
    batch = strict.decode([record(good), record(more)] * 9, NOW_MS)
    assert [r and r.reason.value for r in batch.rejections] == [None, "unknown_field"] * 9
    assert "'field 100'" in batch.rejections[1].detail


SEVERAL = SCHEMA.replace("message Event {", "message Address { map<string, int32> a = 1; }\nmessage Event {") + (
    "message Around { map<string, int32> b = 1; message Other { string event_id = 1; } message Event {\n"
    "string event_id = 1; int64 customer_id = 2; google.protobuf.Timestamp event_time = 3; Features features = 4; } }"
)


def test_the_message_index_says_which_message_a_record_is():
    """Of the file, and of those in a message, where one that a map makes is the first."""
    raw = KIND(**EVENT).SerializeToString()
    schemas = Known({7: registered(SEVERAL)})
    indices = (b"\x02\x02", b"\0", b"\x02\x00", b"\x04\x06\x04", b"\x04\x06\x02")
    values = [framed(index + raw) for index in indices] * 5
    batch = EventDecoder(FEATURES, MAPPING, None, schemas).decode([record(v) for v in values], NOW_MS)
    found = [rejection and rejection.reason.value for rejection in batch.rejections]
    # an event's bytes are no Address, and Other has but the first field
    expected = [None, "not_decodable", "not_decodable", None, "schema_incompatible"]
    assert found == expected * 5
    assert "customer_id: the schema has no such field" in batch.rejections[4].detail
    assert _protobuf(SEVERAL).misfit is None


#: A map before messages, between them and behind them, as text and as Java's serializer writes a descriptor out.
_MAPS = """syntax = "proto3"; package com.example;
message Around {{
  {first}
  message Other {{ string event_id = 1; }}
  message Inner {{ {second} message Event {{ string event_id = 1; }} }}
  {third}
  message Last {{ string event_id = 1; }}
}}"""
_AS_TEXT = _MAPS.format(
    first="map<string, int32> a = 1;", second="map<int32, Last> by_id = 1;", third="map<string, Other> c_d = 3;"
)
_WRITTEN_OUT = _MAPS.format(
    first="repeated AEntry a = 1; message AEntry { option map_entry = true; string key = 1; int32 value = 2; }",
    second="repeated ByIdEntry by_id = 1; "
    "message ByIdEntry { option map_entry = true; int32 key = 1; Last value = 2; }",
    third="repeated CDEntry c_d = 3; message CDEntry { option map_entry = true; string key = 1; Other value = 2; }",
)


@pytest.mark.parametrize("schema", [_AS_TEXT, _WRITTEN_OUT], ids=["text", "written out"])
@pytest.mark.parametrize("name", ["Around", "Around.Other", "Around.Inner", "Around.Inner.Event", "Around.Last"])
def test_the_message_index_is_that_of_confluents_serializer(schema, name):
    """It counts the messages that maps make, in the order in which Google's compiler has them."""
    descriptor = messages_of(registered(_AS_TEXT))[0].file.pool.FindMessageTypeByName(f"com.example.{name}")
    with SmallRegistry() as registry, SchemaRegistryClient({"url": registry.url}) as client:
        serializer = ProtobufSerializer(GetMessageClass(descriptor), client)
        record_ = GetMessageClass(descriptor)()
        value = serializer(record_, SerializationContext("t", MessageField.VALUE))
    index, _ = protobuf._index(value[5:])
    for text in (schema, _in_base64(_AS_TEXT, name="Around")):
        found = at_index(messages_of(registered(text)), index)
        assert found is not None
        assert found.full_name == f"com.example.{name}"


def test_a_map_that_is_written_out_is_a_map():
    """Else it would be an array, in which no key is found."""
    for schema in (_AS_TEXT, _WRITTEN_OUT):
        kinds = [type_of(field).kind for field in messages_of(registered(schema))[0].fields]
        assert kinds == ["map", "map"]


def test_an_index_without_the_messages_of_maps_is_read_where_only_they_are_meant():
    """Java's serializer writes it of a normalised schema: [0, 0] would be the entry of a map, which is no record."""
    messages = messages_of(registered(_AS_TEXT))
    names = {index: at_index(messages, index) for index in [(0, 0), (0, 1), (0, 3), (0, 2, 0), (0, 5), (1,), (-1,)]}
    assert {index: found and found.name for index, found in names.items()} == {
        (0, 0): "Other", (0, 1): "Other", (0, 3): None, (0, 2, 0): "Event", (0, 5): None, (1,): None, (-1,): None,
    }  # fmt: skip


#: `edition.proto` as Google's compiler 35.1 has compiled it.
EDITION = """
edition = "2023";
package com.example;
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
option features.field_presence = IMPLICIT;
enum Contract { option features.enum_type = CLOSED; MONTHLY = 0; YEARLY = 1; }
message Event {
  string event_id = 1;
  int64 customer_id = 2;
  google.protobuf.Timestamp event_time = 3;
  Features features = 4 [features.message_encoding = DELIMITED];
}
message Features {
  int32 tenure = 1;
  double monthly_charges = 2 [features = { field_presence: LEGACY_REQUIRED }];
  google.protobuf.DoubleValue total_charges = 3;
  Contract contract = 4 [features.field_presence = EXPLICIT];
  string payment = 5 [features.field_presence = EXPLICIT];
  bool senior = 6;
  bool partner = 7 [features.field_presence = EXPLICIT];
  repeated int32 many = 8;
  repeated int32 expanded = 9 [features.repeated_field_encoding = EXPANDED];
  reserved old_name;
}
"""
COMPILED = (
    "Cg1lZGl0aW9uLnByb3RvEgtjb20uZXhhbXBsZRofZ29vZ2xlL3Byb3RvYnVmL3RpbWVzdGFtcC5wcm90bxoeZ29vZ2xlL3Byb3RvYnVmL3dy"
    "YXBwZXJzLnByb3RvIo4BCgVFdmVudBIQCghldmVudF9pZBgBIAEoCRITCgtjdXN0b21lcl9pZBgCIAEoAxIuCgpldmVudF90aW1lGAMgASgL"
    "MhouZ29vZ2xlLnByb3RvYnVmLlRpbWVzdGFtcBIuCghmZWF0dXJlcxgEIAEoCzIVLmNvbS5leGFtcGxlLkZlYXR1cmVzQgWqAQIoAiKQAgoI"
    "RmVhdHVyZXMSDgoGdGVudXJlGAEgASgFEh4KD21vbnRobHlfY2hhcmdlcxgCIAEoAUIFqgECCAMSMwoNdG90YWxfY2hhcmdlcxgDIAEoCzIc"
    "Lmdvb2dsZS5wcm90b2J1Zi5Eb3VibGVWYWx1ZRIuCghjb250cmFjdBgEIAEoDjIVLmNvbS5leGFtcGxlLkNvbnRyYWN0QgWqAQIIARIWCgdw"
    "YXltZW50GAUgASgJQgWqAQIIARIOCgZzZW5pb3IYBiABKAgSFgoHcGFydG5lchgHIAEoCEIFqgECCAESDAoEbWFueRgIIAMoBRIXCghleHBh"
    "bmRlZBgJIAMoBUIFqgECGAJSCG9sZF9uYW1lKikKCENvbnRyYWN0EgsKB01PTlRITFkQABIKCgZZRUFSTFkQARoEOgIQAkIFkgMCCAJiCGVk"
    "aXRpb25zcOgH"
)


def _described(message):
    """Return all that a record's bytes depend on."""
    found = {}
    for field in message.fields:
        closed = field.enum_type is not None and field.enum_type.is_closed
        found[field.name] = (field.type, field.has_presence, field.is_required, field.is_packed, closed)
        if field.message_type is not None:
            found[field.name] += (_described(field.message_type),)
    return found


def test_a_schema_of_an_edition_is_read_as_googles_compiler_reads_it():
    """Presence, closed enums, packed numbers and messages between tags, from its text and from its descriptor."""
    event = {**EVENT, "features": {**EVENT["features"], "tenure": 0, "many": [1], "expanded": [1, 2]}}
    del event["features"]["payment"]
    compiled = messages_of(registered(COMPILED))[0]
    assert _described(compiled) == _described(messages_of(registered(EDITION))[0])
    raw = b"\0" + GetMessageClass(compiled)(**event).SerializeToString()
    expected = {**_protobuf().event(body(event | {"features": {**_changed(tenure=0)["features"]}}))}
    del expected["features"]["payment"]
    for schema in (COMPILED, EDITION):
        found = _protobuf(schema).event(raw)
        assert found == {**expected, "features": {**expected["features"], "many": None, "expanded": None}}


def _in_base64(schema, references=(), name="Event"):
    file = message_class(schema, name, references).DESCRIPTOR.file
    return base64.b64encode(file.serialized_pb).decode()


@pytest.mark.parametrize("schema", [MAIN, _in_base64(MAIN, PARTS)], ids=["text", "base64"])
def test_imports_are_what_the_registry_has_references_for(schema):
    """A text, and a descriptor as Python's serializer registers it; imports of imports."""
    assert _protobuf(schema, references=PARTS).event(body(EVENT)) == _protobuf().event(body(EVENT))
    with pytest.raises(UnreadableSchemaError, match=r"no reference for the import features\.proto"):
        _protobuf(schema)


# A chain of messages, each with the next as a part.
_CHAIN = 'syntax = "proto3"; ' + "".join(f"message M{i} {{ M{i + 1} a = 1; }} " for i in range(900)) + "message M900 {}"


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        (_CHAIN, "message [0] of its schema: its messages are parts of each other too deep"),
        ("", "no message is in it"),
        ("AAAA", "neither a .proto text nor"),
        ('syntax = "proto3";', "no message is in it"),
        ('syntax = "proto3"; message M { Gone a = 1; }', "Gone"),
        ('syntax = "proto3"; message M { int32 a = 1; int32 b = 1; }', "no Protobuf schema"),
        ('syntax = "proto3"; import "google/type/money.proto"; message M { google.type.Money a = 1; }',
         "no reference for the import google/type/money.proto"),
    ],
)  # fmt: skip
def test_what_is_no_schema_is_one_line(schema, why):
    """Its records are then schema_incompatible, with this line."""
    decoder = EventDecoder(FEATURES, MAPPING, None, Known({7: registered(schema)}))
    (rejection,) = {*decoder.decode([record(framed(b"\0"))] * 5, NOW_MS).rejections}
    assert rejection.reason.value == "schema_incompatible"
    assert why in rejection.detail
    assert "\n" not in rejection.detail
