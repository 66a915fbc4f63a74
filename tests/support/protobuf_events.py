"""Events as Protobuf behind a schema id: the envelope of support.events with a Timestamp, a wrapper and an enum."""

from __future__ import annotations

from typing import Any

from google.protobuf.message_factory import GetMessageClass

from kafka_runtime.schema_registry.client import RegisteredSchema
from schemas.formats.protobuf_schema import messages_of

FIELDS = """
  int32 tenure = 1;
  double monthly_charges = 2;
  google.protobuf.DoubleValue total_charges = 3;
  Contract contract = 4;
  optional string payment = 5;
  bool senior = 6;
  optional bool partner = 7;
"""
SCHEMA = f"""
syntax = "proto3";
package com.example;
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";

enum Contract {{ MONTHLY = 0; YEARLY = 1; }}  // the first is the default
message Event {{
  string event_id = 1;
  int64 customer_id = 2;
  google.protobuf.Timestamp event_time = 3;
  Features features = 4;
}}
message Features {{{FIELDS}}}
"""
_HEAD, _, _REST = SCHEMA.partition("\nenum Contract")
_ENUM, _, _MESSAGES = _REST.partition("\nmessage Event")
_EVENT, _, _FEATURES = _MESSAGES.partition("message Features")
_IMPORTS = 'import "enums.proto"; import "google/protobuf/wrappers.proto";'
#: The same in three files, of which one imports the next.
PARTS = (
    ("enums.proto", f'syntax = "proto3"; package com.example; enum Contract{_ENUM}'),
    ("features.proto", f'syntax = "proto3"; package com.example; {_IMPORTS} message Features{_FEATURES}'),
)
MAIN = f'{_HEAD}import "features.proto";\nmessage Event{_EVENT}'
EVENT: dict[str, Any] = {
    "event_id": "e1",
    "customer_id": 17,
    "event_time": {"seconds": 1_795_327_199, "nanos": 123_000_000},
    "features": {
        "tenure": 12,
        "monthly_charges": 70.35,
        "total_charges": {"value": 844.2},
        "contract": 1,
        "payment": "Überweisung",
        "senior": True,
        "partner": False,
    },
}

#: The same with fields of every kind that no spec reads, in syntax proto2: closed enums, and texts that are unchecked.
WIDE = (
    SCHEMA.replace("proto3", "proto2")
    .replace("  optional ", "  ")
    .replace("\n  ", "\n  optional ")
    .replace(
        "Features features = 4;",
        "Features features = 4; repeated string tags = 5; map<string, Other> by_name = 6; repeated Other others = 7; "
        "optional Contract former = 8; repeated sint64 packed = 9 [packed = true]; repeated fixed32 plain = 1000; "
        "optional bytes raw = 1001; optional sint32 below = 1002; repeated Contract all = 1003;",
    )
    + "message Other { repeated Other more = 1; }"
)
WIDE_EVENT: dict[str, Any] = {
    **EVENT,
    "tags": ["a", "ü"],
    "by_name": {"a": {"more": [{}, {"more": [{}]}]}},
    "others": [{}, {"more": [{}]}],
    "former": 1,
    "packed": [-1, 2**60],
    "plain": [1, 2, 3],
    "raw": b"\xff",
    "below": -(2**31),
    "all": [0, 1],
}


def registered(schema: str = SCHEMA, references: tuple[tuple[str, str], ...] = ()) -> RegisteredSchema:
    """Return a schema as a registry has it."""
    return RegisteredSchema("PROTOBUF", schema, references)


def message_class(schema: str = SCHEMA, name: str = "Event", references: tuple[tuple[str, str], ...] = ()) -> Any:
    """Return the class of a message, as generated code has one."""
    return GetMessageClass(next(m for m in messages_of(registered(schema, references)) if m.name == name))


def body(event: dict[str, Any], index: bytes = b"\0", kind: Any = None) -> bytes:
    """Return an event with a message index in front, as Google's own writer writes it."""
    return index + (kind or message_class())(**event).SerializeToString()
