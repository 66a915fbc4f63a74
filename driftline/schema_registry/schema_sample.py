"""A schema of a registry → a few invented events of it, from which `spec infer` proposes a spec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from driftline.errors import CommandError
from schemas.bundle.inputs import EventMapping
from schemas.formats import avro_schema, protobuf_schema
from schemas.formats.json_schema import JsonSchema
from schemas.formats.registered import Registered, UnreadableSchemaError

# Enough for a value that repeats and one that differs.
EVENTS = 3
# The format of `[event]` by a registry's name for the type.
FORMATS = {"AVRO": "avro", "JSON": "json-schema", "PROTOBUF": "protobuf"}
_DEEPEST = 20
_TIME = "2026-01-0{}T00:00:00Z"


def sample(registered: Registered) -> list[dict[str, Any]]:
    """Return invented events; CommandError for a schema that is none, or whose events are no objects."""
    try:
        if registered.kind == "AVRO":
            root, _, _ = avro_schema.parse(registered)
            events = [_of_avro(root, i) for i in range(EVENTS)]
        elif registered.kind == "JSON":
            schema = JsonSchema(registered, (), EventMapping(format="json-schema"))
            events = [_of_json(schema, schema.root, schema.root, i, _DEEPEST) for i in range(EVENTS)]
        elif registered.kind == "PROTOBUF":
            message = _outermost(protobuf_schema.messages_of(registered))
            events = [_of_protobuf(message, i, ()) for i in range(EVENTS)]
        else:
            raise CommandError(f"a schema of the type {registered.kind}: expected {' or '.join(FORMATS)}")
    except UnreadableSchemaError as error:
        raise CommandError(str(error)) from None
    if not all(isinstance(event, dict) and event for event in events):
        raise CommandError("the schema's records have no fields")
    return events


def _value(kind: str, i: int) -> Any:
    """Return the value of a field in the i-th event: of texts and numbers, two are alike."""
    values: dict[str, tuple[Any, ...]] = {
        "number": (2.5, 3.5, 2.5),
        "integer": (2, 3, 2),
        "boolean": (True, False, True),
        "string": ("a", "b", "a"),
        "time": tuple(_TIME.format(day) for day in range(1, EVENTS + 1)),
    }
    return values[kind][i] if kind in values else None


def _of_avro(node: avro_schema.Node, i: int) -> Any:
    present = node.present
    if len(present) != 1 or (node.kind == "union" and len(node.branches) > 1 and i == EVENTS - 1):
        return None  # in the last event, what may be null is null
    one = present[0]
    if one.kind == "record":
        return {name: value for name, inner in one.fields.items() if (value := _of_avro(inner, i)) is not None}
    if one.kind == "enum":
        return one.symbols[i % 2 % len(one.symbols)] if one.symbols else None
    if one.scale is not None:
        return _value("number", i)
    if one.logical is not None:
        return _value("time", i)
    kinds = {"int": "integer", "long": "integer", "float": "number", "double": "number"}
    return _value(kinds.get(one.kind, one.kind), i)


def _outermost(messages: Sequence[Any]) -> Any:
    """Return the first message of a file that no other one has as a part; of a circle, the first message."""
    inside = {
        field.message_type.full_name
        for message in messages
        for field in message.fields
        if field.message_type is not None and field.message_type is not message
    }
    return next((message for message in messages if message.full_name not in inside), messages[0])


def _of_protobuf(message: Any, i: int, within: tuple[str, ...]) -> dict[str, Any]:
    """Return an event of a message. In the last event, a single value that may be absent is.

    within: the messages around it, which are not entered again.
    """
    within = (*within, message.full_name)
    found: dict[str, Any] = {}
    for field in message.fields:
        kind = protobuf_schema.type_of(field)
        value: Any = None
        if kind.kind == "message" and kind.message is not None:
            entered = kind.message.full_name in within or len(within) == _DEEPEST
            value = None if entered else _of_protobuf(kind.message, i, within)
        elif kind.kind == "time":
            value = _value("time", i)
        elif field.has_presence and i == EVENTS - 1:
            continue
        elif kind.enum is not None:
            value = kind.enum.values[i % 2 % len(kind.enum.values)].name
        else:
            value = _value({"real": "number", "decimal": "number"}.get(kind.kind, kind.kind), i)
        if value not in (None, {}):
            found[field.name] = value
    return found


def _of_json(schema: JsonSchema, node: Any, document: Any, i: int, left: int) -> Any:
    if not isinstance(node, Mapping) or left == 0:
        return None
    if isinstance(node.get("$ref"), str):
        return _of_json(schema, *schema.referred(node["$ref"], document), i, left - 1)
    for word in ("anyOf", "oneOf"):
        branches = [b for b in node.get(word, ()) if isinstance(b, dict) and b.get("type") != "null"]
        if branches:
            nullable = len(branches) < len(node[word])
            return None if nullable and i == EVENTS - 1 else _of_json(schema, branches[0], document, i, left - 1)
    kinds = node.get("type")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if "null" in kinds and i == EVENTS - 1:
        return None
    if isinstance(node.get("properties"), dict):
        made = {name: _of_json(schema, inner, document, i, left - 1) for name, inner in node["properties"].items()}
        return {name: value for name, value in made.items() if value is not None}
    values = [value for value in node.get("enum", ()) if value is not None]
    if values:
        return values[i % 2 % len(values)]
    kind = next((kind for kind in kinds if kind != "null"), None)
    return _value("time" if kind == "string" and node.get("format") == "date-time" else str(kind), i)
