"""Protobuf schemas against a spec: what fits, and the sentence that names what does not."""

import pytest
from support.events import FEATURES
from support.protobuf_events import SCHEMA, registered

from schemas.bundle.inputs import EventMapping, Feature
from schemas.formats.proto_text import MOST_PARTS
from schemas.formats.protobuf import Protobuf
from schemas.formats.protobuf_schema import messages_of, misfits
from schemas.formats.registered import UnreadableSchemaError

MAPPING = EventMapping(format="protobuf")


def _misfit(schema, mapping=MAPPING, features=FEATURES):
    return next(iter(misfits(messages_of(registered(schema))[0], features, mapping)), None)


def _with(old, new):
    assert old in SCHEMA
    return SCHEMA.replace(old, new)


def test_wrappers_enums_and_timestamps_fit():
    """The schema of the tests' own events."""
    assert _misfit(SCHEMA) is None


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("int32 tenure = 1;", "", "features.tenure: the schema has no such field"),
        ("int32 tenure", "string tenure", "features.tenure: expected a number, the schema has string"),
        ("int32 tenure", "bytes tenure", "features.tenure: expected a number, the schema has bytes"),
        ("int32 tenure", "repeated int32 tenure", "features.tenure: expected a number, the schema has repeated int32"),
        ("int32 tenure", "Features tenure", "the schema has com.example.Features"),
        ("int32 tenure", "map<string, sint64> tenure", "the schema has a map of sint64"),
        ("Contract contract", "uint32 contract", "contract: expected a string or an enum, the schema has uint32"),
        ("bool senior", "fixed32 senior", "features.senior: expected boolean, the schema has fixed32"),
        ("google.protobuf.DoubleValue total", "google.protobuf.StringValue total",
         "features.total_charges: expected a number, the schema has google.protobuf.StringValue"),
        ("int64 customer_id", "double customer_id", "customer_id: expected a string or an integer, the"),
        ("google.protobuf.Timestamp event_time", "int64 event_time", "event_time: expected a Timestamp or a string"),
        ("Features features", "bytes features", "features: expected a message, the schema has bytes"),
    ],
)  # fmt: skip
def test_a_field_that_does_not_fit_is_named_with_both_types(old, new, text):
    """One sentence: the field, what the spec needs, what the schema has."""
    assert text in (_misfit(_with(old, new)) or "")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("int32 tenure", "google.protobuf.UInt64Value tenure"),
        ("int32 tenure", "optional sfixed64 tenure"),
        ("Contract contract", "google.protobuf.Timestamp contract"),
        ("optional bool partner = 7;", ""),
        ("int64 customer_id", "Contract customer_id"),
        ("google.protobuf.Timestamp event_time", "google.protobuf.StringValue event_time"),
    ],
)
def test_what_can_be_read_fits(old, new):
    """Wrappers, a time as a category, and a field that may be missing."""
    assert _misfit(_with(old, new)) is None


def test_what_a_feature_lists_decides_which_types_fit():
    """Numbers as strings, booleans as numbers, integers as categories."""
    for feature, old, new in (
        (Feature(name="tenure", kind="numeric", parse="number"), "int32 tenure", "string tenure"),
        (Feature(name="contract", kind="categorical", categories=(1, 2)), "Contract contract", "int32 contract"),
        (Feature(name="senior", kind="boolean", true=(1,), false=(0,)), "bool senior", "int32 senior"),
    ):
        assert _misfit(_with(old, new), features=[feature]) is None
    number = EventMapping(format="protobuf", time_unit="ms")
    assert _misfit(_with("google.protobuf.Timestamp event_time", "int64 event_time"), number) is None
    assert _misfit(SCHEMA, number) is None


def test_of_several_messages_one_that_fits_is_enough():
    """A registry's subject has a file, and its records name the message; else the best one's field is named."""
    head, other = SCHEMA.partition("message Event")[0], "message Other { string event_id = 1; }"
    several = SCHEMA.replace(head, head + other)
    assert Protobuf(registered(several), FEATURES, MAPPING).misfit is None
    lacking = Protobuf(registered(several.replace("bool senior = 6;", "")), FEATURES, MAPPING)
    assert lacking.misfit == "features.senior: the schema has no such field"


def test_a_schema_of_too_many_parts_is_not_read():
    """As a text and as a descriptor."""
    import base64

    from google.protobuf.descriptor_pb2 import FileDescriptorProto

    many = FileDescriptorProto()
    message = many.message_type.add(name="M")
    for i in range(MOST_PARTS + 1):
        message.field.add(name=f"a{i}", number=i + 1)
    with pytest.raises(UnreadableSchemaError, match="more than 10,000 parts"):
        messages_of(registered(base64.b64encode(many.SerializeToString()).decode()))


def test_a_message_may_contain_itself():
    """Only what the spec reads is looked at."""
    schema = _with("Features features = 4;", "Features features = 4; Event before = 5; repeated Event all = 6;")
    assert _misfit(schema) is None
    inner = EventMapping(format="protobuf", event_id="before.before.event_id", customer_id="all.3.customer_id")
    assert _misfit(schema, inner) is None
    wrong = EventMapping(format="protobuf", event_id="all.x.event_id")
    assert "event_id" in (_misfit(schema, wrong) or "")
