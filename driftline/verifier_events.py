"""What the verifier reads events with: its own reading of a bundle's `[event]` table, slow and plain.

It shares no code with the services, so that a fault in their decoder shows as a difference.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date
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
            self._read = _Avro(registry)
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
