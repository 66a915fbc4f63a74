"""A Protobuf schema of a registry → its messages, and whether a spec can be read from one of them.

A registry has the text of a .proto file, or a serialized FileDescriptorProto in Base64. Google's own descriptor pool
checks both. A Timestamp is a time, a wrapper like DoubleValue is its value or null, a confluent.type.Decimal is a
number, an enum is its symbol.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from schemas.bundle.inputs import EventMapping, Feature
from schemas.formats import proto_text
from schemas.formats.registered import MisfitError, Registered, UnreadableSchemaError
from schemas.mapping.places import JSON_TEXT, Source, place_of, position, steps_of
from schemas.validation import boolean_values

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

# Files that every serializer of Confluent takes for known, so that registries have no reference for them.
_OURS = {
    "confluent/type/decimal.proto": 'syntax = "proto3"; package confluent.type; '
    "message Decimal { bytes value = 1; uint32 precision = 2; int32 scale = 3; }",
}
_GOOGLE = ("any", "api", "duration", "empty", "field_mask", "source_context", "struct", "timestamp", "type", "wrappers")
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]+={0,2}\s*")
_MAIN = "the schema"
TIMESTAMP = "google.protobuf.Timestamp"
DECIMAL = "confluent.type.Decimal"
_WRAPPERS = frozenset(
    f"google.protobuf.{name}Value"
    for name in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)
_NUMBERS = frozenset({"integer", "real", "decimal"})


@dataclass(frozen=True, slots=True)
class Type:
    """What a part of a message is.

    kind: `message`, `time`, `decimal`, `map`, `array`, `string`, `bytes`, `boolean`, `integer`, `real` or `enum`.
    title: its name for a person. message: of a message, a time, a decimal and a wrapper. inner: of a map's and an
    array's values. wrapper: the value is in a message of its own.
    """

    kind: str
    title: str
    message: Descriptor | None = None
    enum: EnumDescriptor | None = None
    inner: Type | None = None
    wrapper: bool = False


def messages_of(registered: Registered) -> list[Descriptor]:
    """Return the messages of a schema's file, in its order; UnreadableSchemaError if it is none."""
    from google.protobuf.descriptor_pool import DescriptorPool  # noqa: PLC0415 - an extra

    pool = DescriptorPool()
    known: set[str] = set()
    for name, text in (*registered.references, (_MAIN, registered.text)):
        _add(pool, name, _file(text), known)
    found = list(pool.FindFileByName(_MAIN).message_types_by_name.values())
    if not found:
        raise UnreadableSchemaError("no message is in it")
    return found


def _file(text: str) -> Any:
    """Return the FileDescriptorProto of a schema as a registry has it; UnreadableSchemaError."""
    from google.protobuf.descriptor_pb2 import FileDescriptorProto  # noqa: PLC0415 - an extra
    from google.protobuf.message import DecodeError  # noqa: PLC0415

    if not _BASE64.fullmatch(text):
        return proto_text.parse(text)
    try:
        found = FileDescriptorProto.FromString(base64.b64decode("".join(text.split()), validate=True))
    except (binascii.Error, DecodeError):
        raise UnreadableSchemaError("neither a .proto text nor a FileDescriptorProto in Base64") from None
    if any(isinstance(name, bytes) for name in found.dependency):
        raise UnreadableSchemaError("an import whose name is not UTF-8")
    if _without_extensions(found.message_type) > proto_text.MOST_PARTS:
        raise UnreadableSchemaError(f"more than {proto_text.MOST_PARTS:,} parts")
    return found


def _without_extensions(messages: Any) -> int:
    """Take out the extensions that messages declare; return the number of messages and fields."""
    for one in messages:
        one.ClearField("extension")
    return sum(1 + len(one.field) + _without_extensions(one.nested_type) for one in messages)


def _add(pool: Any, name: str, file: Any, known: set[str]) -> None:
    """Put a file into the pool, after those of Google's and Confluent's that it imports; UnreadableSchemaError."""
    if name in known:
        return
    known.add(name)
    missing = []
    public = {file.dependency[at] for at in file.public_dependency if 0 <= at < len(file.dependency)}
    for one in file.dependency:
        if one not in known:
            if (text := _well_known(one)) is None:
                missing.append(one)  # its options may be all that is used of it
            else:
                _add(pool, one, text, known)
    imported = [one for one in dict.fromkeys(file.dependency) if one not in missing and one != name]
    for member in ("dependency", "public_dependency", "weak_dependency", "service", "extension", "source_code_info"):
        file.ClearField(member)
    file.dependency.extend(imported)
    file.public_dependency.extend(at for at, one in enumerate(imported) if one in public)
    try:
        file.name = name
        pool.Add(file)
    except Exception as error:  # noqa: BLE001 - the pool raises several kinds for what is no schema
        why = " ".join(str(error).split()).removeprefix("Couldn't build proto file into descriptor pool: ")
        lacking = f"; no reference for the import {', '.join(missing)}" if missing else ""
        raise UnreadableSchemaError(f"no Protobuf schema: {why[:200]}{lacking[:200]}") from None


def _well_known(name: str) -> Any:
    """Return a file of Google's or Confluent's own, None if it is not one of those known here."""
    import importlib  # noqa: PLC0415

    from google.protobuf.descriptor_pb2 import FileDescriptorProto  # noqa: PLC0415 - an extra

    if name in _OURS:
        return proto_text.parse(_OURS[name])
    short = name.removeprefix("google/protobuf/").removesuffix(".proto")
    if name != f"google/protobuf/{short}.proto" or short not in _GOOGLE:
        return None
    module = importlib.import_module(f"google.protobuf.{short}_pb2")
    return FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)


def nested_in(messages: Sequence[Descriptor]) -> list[Descriptor]:
    """Return messages without those that a map makes."""
    return [one for one in messages if not one.GetOptions().map_entry]


def at_index(messages: Sequence[Descriptor], index: Sequence[int]) -> Descriptor | None:
    """Return the message that an index names; None if there is none.

    Serializers count the messages that a map makes, as descriptors have them. Of an index of such a message, which no
    record is, the writer has left them out: Java's does, of a schema that is normalised.
    """
    message: Descriptor | None = None
    for at in index:
        message = messages[at] if 0 <= at < len(messages) else None
        if message is None or message.GetOptions().map_entry:
            plain = nested_in(messages)
            message = plain[at] if 0 <= at < len(plain) else None
        if message is None:
            return None
        messages = message.nested_types
    return message


def type_of(field: FieldDescriptor) -> Type:
    """Return what a field is."""
    one = _single(field)
    if not field.is_repeated:
        return one
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        value = _single(field.message_type.fields_by_name["value"])
        return Type("map", f"a map of {value.title}", inner=value)
    return Type("array", f"repeated {one.title}", inner=one)


def _single(field: FieldDescriptor) -> Type:
    """Return what one value of a field is."""
    message = field.message_type
    if message is not None:
        name = message.full_name
        if name in _WRAPPERS:
            return Type(_KINDS[message.fields_by_name["value"].type], name, message, wrapper=True)
        return Type({TIMESTAMP: "time", DECIMAL: "decimal"}.get(name, "message"), name, message)
    if field.enum_type is not None:
        return Type("enum", field.enum_type.full_name, enum=field.enum_type)
    return Type(_KINDS[field.type], _TITLES[field.type])


# by FieldDescriptor.TYPE_...
_TITLES = {
    1: "double", 2: "float", 3: "int64", 4: "uint64", 5: "int32", 6: "fixed64", 7: "fixed32", 8: "bool", 9: "string",
    12: "bytes", 13: "uint32", 15: "sfixed32", 16: "sfixed64", 17: "sint32", 18: "sint64",
}  # fmt: skip
_KINDS = {
    number: {"double": "real", "float": "real", "bool": "boolean", "string": "string", "bytes": "bytes"}.get(
        title, "integer"
    )
    for number, title in _TITLES.items()
}


class Anything:
    """What the schema does not decide: a part of a text that is JSON."""


ANYTHING = Anything()


def find(message: Descriptor, steps: Sequence[str], name: str) -> Type | Anything | None:
    """Return what is at the end of a path, None if the schema has nothing there; MisfitError."""
    at = Type("message", message.full_name, message)
    for step in steps:
        if step == JSON_TEXT:
            if at.kind != "string":
                raise MisfitError(f"{name}: expected a string that is JSON, the schema has {at.title}")
            return ANYTHING
        if at.message is not None:
            field = at.message.fields_by_name.get(step)
            if field is None:
                return None
            at = type_of(field)
        elif at.inner is not None and (at.kind == "map" or position(step) is not None):
            at = at.inner
        else:
            raise MisfitError(f"{name}: expected a message around {step}, the schema has {at.title}")
    return at


def misfits(message: Descriptor, features: Sequence[Feature], mapping: EventMapping) -> list[str]:
    """Return why a spec's events cannot be read from a message; nothing if they can."""
    return [error for error in _checked(message, features, mapping) if error is not None]


def _checked(message: Descriptor, features: Sequence[Feature], mapping: EventMapping) -> Iterator[str | None]:
    for path in (mapping.event_id, mapping.customer_id):
        if path and not path.startswith("$"):
            yield _misfit(message, steps_of(path), path, {"string", "integer", "enum"}, "a string or an integer")
    place = place_of(mapping.event_time)
    if mapping.event_time and place.source is Source.VALUE:
        text = mapping.time_unit == "rfc3339"
        kinds = {"time", "string"} | (set() if text else _NUMBERS)
        expected = f"a Timestamp or {'a string' if text else f'a number of {mapping.time_unit}'}"
        yield _misfit(message, place.steps, mapping.event_time, kinds, expected)
    above = steps_of(mapping.features)
    yield _misfit(message, above, mapping.features or "the event", {"message", "map", "array"}, "a message")
    for feature in features:
        steps = (*above, *feature.path)
        name = ".".join(steps).replace(f".{JSON_TEXT}", JSON_TEXT)
        yield _misfit(message, steps, name, *_expected(feature), optional=feature.nullable)


def _misfit(
    message: Descriptor, steps: Sequence[str], name: str, kinds: set[str], expected: str, *, optional: bool = False
) -> str | None:
    """Return why a part does not fit, None if it does."""
    try:
        found = find(message, steps, name)
    except MisfitError as error:
        return str(error)
    if found is None:
        return None if optional else f"{name}: the schema has no such field"
    if isinstance(found, Type) and found.kind not in kinds:
        return f"{name}: expected {expected}, the schema has {found.title}"
    return None


def _expected(feature: Feature) -> tuple[set[str], str]:
    """Return the kinds that a feature's values may have, and how they are named."""
    if feature.kind == "numeric":
        return {*_NUMBERS, "string"} if feature.parse else set(_NUMBERS), "a number"
    if feature.kind == "categorical":
        return {"string", "enum", "time"} | ({"integer"} if feature.integers else set()), "a string or an enum"
    of = {"boolean": {"boolean"}, "number": set(_NUMBERS), "string": {"string", "enum"}}
    kinds: set[str] = set().union(*(of[one[0]] for one in boolean_values(feature) if one is not None))
    return kinds, " or ".join(sorted(kinds))
