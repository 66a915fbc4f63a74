"""What the verifier reads events with: its own reading of a bundle's `[event]` table, slow and plain.

It shares no code with the services, so that a fault in their decoder shows as a difference. The one exception is the
reading of a .proto text, which a test holds against Google's own compiler.
"""

from __future__ import annotations

import base64
import importlib
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

#: Returns a registry's JSON at a path like `/schemas/ids/1`; None if it has no such thing.
Registry = Callable[[str], Any]


class NoRegistryError(Exception):
    """Events behind a schema id, and no registry."""


class EventTable:
    """The event mapping and the features of a manifest, as JSON. registry: of events behind a schema id."""

    def __init__(self, manifest: Mapping[str, Any], registry: Registry | None = None) -> None:
        event = manifest.get("event", {})
        self._read: Callable[[bytes], Any] = _json
        if event.get("format") == "json-schema":
            self._read = lambda value: _json(value[5:]) if value[:1] == b"\0" else None
        elif event.get("format", "json") != "json":
            if registry is None:
                raise NoRegistryError(
                    f"SCHEMA_REGISTRY_URL: needed for events whose [event] format is {event['format']!r}"
                )
            self._read = _Avro(registry) if event["format"] == "avro" else _Protobuf(registry)
        self._preset = event.get("preset")
        self._root = event.get("features", "features")
        self._only: Mapping[str, Sequence[Any]] = event.get("only", {})
        self._tombstones = event.get("tombstones") == "ignore"
        self._features: Sequence[Mapping[str, Any]] = manifest["features"]

    @property
    def ignores(self) -> bool:
        """Whether some records are no events."""
        return bool(self._only) or self._tombstones

    def is_ignored(self, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes | None]]) -> bool:
        """Return whether a record is no event. One that cannot be read is none that is ignored."""
        if value is None and self._tombstones:
            return True
        conditions = [(self._place(path, value or b"", headers), listed) for path, listed in self._only.items()]
        event = None
        for stage in (True, False):  # the services look at texts beside the value first, which may be no JSON at all
            for path, listed in conditions:
                if (path.startswith("$header.") or path == "$key") is stage:
                    found = self._found(path, key, event, headers)
                    if not any(_same(found, one) for one in listed):
                        return True
            event = self._read(value or b"")
            if not isinstance(event, dict):
                return False
        return False

    def row(self, value: bytes | None, headers: Sequence[tuple[str, bytes | None]]) -> dict[str, Any]:
        """Return an accepted event's features by name, as the model's frame has them; None is missing."""
        node = _at(self._read(value or b"{}"), _path(self._place(self._root, value or b"", headers)))
        return {
            feature["name"]: _value(
                feature, _at(node, _path(feature["from"]) if feature.get("from") else [feature["name"]])
            )
            for feature in self._features
        }

    def _place(self, path: str, value: bytes, headers: Sequence[tuple[str, bytes | None]]) -> str:
        """Return a path as this record's form has it."""
        if path.startswith("$") or not path:
            return path
        if self._preset == "debezium":
            plain = path.removeprefix("payload.")
            first = value.lstrip()[1:].lstrip() if value.lstrip()[:1] == b"{" else b""
            name, _, after = first[1:].partition(b'"')
            wrapped = first[:1] == b'"' and name in {b"schema", b"payload"} and after.lstrip()[:1] == b":"
            return f"payload.{plain}" if wrapped else plain
        if self._preset == "cloudevents" and "ce_specversion" in {n for n, v in headers if v is not None}:
            first_part, _, inner = path.partition(".")
            return inner if first_part in {"data", "data|json"} else f"$header.ce_{path}"
        return path

    @staticmethod
    def _found(path: str, key: bytes | None, event: Any, headers: Sequence[tuple[str, bytes | None]]) -> Any:
        if path.startswith("$header."):
            raw = dict(headers).get(path[len("$header.") :])
            return None if raw is None else raw.decode(errors="replace")
        if path == "$key":
            return None if key is None else key.decode(errors="replace")
        if path.startswith("$key."):
            return _at(_json(key or b""), _path(path[len("$key.") :]))
        return _at(event, _path(path))


class _Avro:
    """Reads records of Avro behind a schema id, with fastavro's decimals and dates; other times are their integers."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._schemas: dict[int, Any] = {}

    def __call__(self, value: bytes) -> Any:
        import fastavro

        if len(value) < 5 or value[0]:
            return None
        number = int.from_bytes(value[1:5], "big")
        if number not in self._schemas:
            found = self._registry(f"/schemas/ids/{number}")
            named: dict[str, Any] = {}
            try:
                self._schemas[number] = None if found is None else self._parsed(found, named)
            except (fastavro.schema.SchemaParseException, ValueError, KeyError, TypeError):
                self._schemas[number] = None
        if self._schemas[number] is None:
            return None
        try:
            return _plain(fastavro.schemaless_reader(io.BytesIO(value[5:]), self._schemas[number], None))
        except Exception:  # noqa: BLE001 - fastavro raises many kinds; such a record is no event
            return None

    def _parsed(self, found: Mapping[str, Any], named: dict[str, Any]) -> Any:
        import fastavro

        for one in found.get("references") or ():
            self._parsed(self._registry(f"/subjects/{one['subject']}/versions/{one['version']}"), named)
        return fastavro.parse_schema(json.loads(found["schema"], object_hook=_as_integer), named_schemas=named)


class _Protobuf:
    """Reads records of Protobuf behind a schema id and a message index, with Google's reader, field by field."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._files: dict[int, Any] = {}

    def __call__(self, value: bytes) -> Any:
        from google.protobuf.message import DecodeError
        from google.protobuf.message_factory import GetMessageClass

        if len(value) < 6 or value[0]:
            return None
        number = int.from_bytes(value[1:5], "big")
        if number not in self._files:
            self._files[number] = self._file(f"/schemas/ids/{number}")
        index: list[int] = []
        start = 5
        while not index or len(index) <= min(index[0], 32):
            one = 0
            for shift in range(0, 35, 7):
                one |= (value[start : start + 1] or b"\0")[0] % 128 << shift
                start += 1
                if value[start - 1 : start] < b"\x80":
                    break
            index.append(one // 2)  # zigzag, and none is negative
        inside = self._files[number]
        try:
            for at in index[1:] or [0]:
                if at >= len(inside) or inside[at].GetOptions().map_entry:  # the writer has not counted those of maps
                    inside = [one for one in inside if not one.GetOptions().map_entry]
                message = inside[at]
                inside = message.nested_types
            return _of_message(GetMessageClass(message).FromString(value[start:]))
        except (IndexError, TypeError, ValueError, DecodeError):  # such a record is no event
            return None

    def _file(self, path: str) -> Any:
        """Return the messages of a schema, None if the registry has none there or it cannot be read."""
        from google.protobuf.descriptor_pool import DescriptorPool
        from google.protobuf.message import DecodeError

        found = self._registry(path)
        pool = DescriptorPool()
        try:
            self._add(pool, set(), "verified", found)
            return list(pool.FindFileByName("verified").message_types_by_name.values())
        except (DecodeError, TypeError, KeyError, ValueError):
            return None

    def _add(self, pool: Any, known: set[str], name: str, found: Mapping[str, Any]) -> None:
        """Put a schema into the pool, after those that it refers to and the files that need no reference."""
        from google.protobuf.descriptor_pb2 import FileDescriptorProto

        from schemas.formats.proto_text import parse

        for one in found.get("references") or ():
            if one["name"] not in known:
                known.add(one["name"])
                inner = self._registry(f"/subjects/{one['subject']}/versions/{one['version']}")
                self._add(pool, known, one["name"], inner)
        text = found["schema"]
        file = parse(text) if ";" in text else FileDescriptorProto.FromString(base64.b64decode(text))
        for one in set(file.dependency) - known:
            if one.startswith("google/protobuf/"):
                module = importlib.import_module(one.replace("/", ".").removesuffix(".proto") + "_pb2")
                pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
            elif one == _DECIMAL:
                decimal = parse(_DECIMAL_TEXT)
                decimal.name = one
                pool.Add(decimal)
            else:
                continue
            known.add(one)
        imported = [one for one in file.dependency if one in known]
        for part in ("dependency", "public_dependency", "extension"):
            file.ClearField(part)
        file.dependency.extend(imported)
        file.name = name
        pool.Add(file)


_DECIMAL = "confluent/type/decimal.proto"
_DECIMAL_TEXT = """
syntax = "proto3";
package confluent.type;
message Decimal { bytes value = 1; uint32 precision = 2; int32 scale = 3; }
"""


def _of_message(message: Any) -> Any:
    """Return a message of Protobuf as JSON has it: a time as text, a wrapper as its value, an enum as its symbol."""
    kind = message.DESCRIPTOR
    if kind.full_name == "google.protobuf.Timestamp":
        try:
            moment = datetime.fromtimestamp(message.seconds, UTC)
        except (ValueError, OverflowError, OSError):
            return message.seconds
        digits = f"{message.nanos:09d}"
        while digits.endswith("000") and len(digits) > 3:
            digits = digits[:-3]
        return f"{moment.isoformat()[:19]}.{digits}Z"
    if kind.full_name == "confluent.type.Decimal":
        return float(f"{int.from_bytes(message.value, 'big', signed=True)}e{-message.scale}")
    if kind.file.name == "google/protobuf/wrappers.proto":
        return message.value
    found: dict[str, Any] = {}
    for field in kind.fields:
        if not field.has_presence or message.HasField(field.name):
            found[field.name] = _of_field(field, getattr(message, field.name))
    return found


def _of_field(field: Any, value: Any) -> Any:
    if field.is_repeated:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            inner = field.message_type.fields_by_name["value"]
            return {str(key): _of_value(inner, value[key]) for key in value}
        return [_of_value(field, one) for one in value]
    return _of_value(field, value)


def _of_value(field: Any, value: Any) -> Any:
    if field.enum_type is not None:
        symbol = field.enum_type.values_by_number.get(value)
        return value if symbol is None else symbol.name
    return value if field.message_type is None else _of_message(value)


def _plain(value: Any) -> Any:
    """Return a value of fastavro as JSON has it."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return float(value) if isinstance(value, Decimal) else value


def _as_integer(schema: dict[str, Any]) -> dict[str, Any]:
    if schema.get("logicalType") not in {"decimal", "date"}:
        schema.pop("logicalType", None)
    return schema


def _json(raw: bytes | str) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def _path(text: str) -> list[str]:
    steps = []
    for part in text.split(".") if text else []:
        steps.append(part.removesuffix("|json"))
        if part.endswith("|json"):
            steps.append("|json")
    return steps


def _at(node: Any, steps: Sequence[str]) -> Any:
    for step in steps:
        if step == "|json" and isinstance(node, str):
            node = _json(node)
        elif isinstance(node, dict):
            node = node.get(step)
        elif isinstance(node, list) and step.isdecimal() and str(int(step)) == step:
            node = node[int(step)] if int(step) < len(node) else None
        else:
            return None
    return node


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    return bool(a == b) and isinstance(a, str) == isinstance(b, str)


def _value(feature: Mapping[str, Any], found: Any) -> Any:
    if found is None:
        return None
    if isinstance(found, date):
        return float((found - date(1970, 1, 1)).days) if feature["kind"] == "numeric" else found.isoformat()
    if feature["kind"] == "numeric":
        return float(found) if not isinstance(found, str) or feature.get("parse") else math.nan
    if feature["kind"] == "boolean" and "true" in feature:
        return any(_same(found, one) for one in feature["true"])
    return str(found) if feature.get("integers") else found
