"""An Avro schema → its parts, and whether the events of a spec can be read from it.

A logical type is what it means: a decimal is a number, a timestamp or a date is a time where the spec has the event's
time, its text in a categorical feature, and its integer elsewhere. A union with null may be missing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from schemas.bundle.inputs import EventMapping, Feature
from schemas.formats.registered import MisfitError, Registered, UnreadableSchemaError
from schemas.mapping.places import JSON_TEXT, Source, place_of, position, steps_of
from schemas.validation import boolean_values

PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})
NUMBERS = frozenset({"int", "long", "float", "double"})
#: Logical types of a time → how many of its ticks are a second; a date counts days.
TIMES = {"timestamp-millis": 1000, "timestamp-micros": 10**6, "timestamp-nanos": 10**9}
LOCAL_TIMES = {f"local-{name}": ticks for name, ticks in TIMES.items()}
# More parts than any event has; a schema of a kilobyte can name a million.
MOST_PARTS = 10_000
# Beyond it, no decimal is a double.
MOST_SCALE = 400


@dataclass(slots=True, eq=False)
class Node:
    """A part of a schema at one place. fields: of a record, in their order. inner: of an array or a map.

    branches: of a union. ticks: per second, of a time as the event's time or as text; `days` has 0. as_text: it is
    needed as text, else as the number that it is. scale: of a decimal, None of everything else.
    """

    kind: str
    logical: str | None = None
    fields: dict[str, Node] = field(default_factory=dict)
    inner: Node | None = None
    branches: tuple[Node, ...] = ()
    symbols: tuple[str, ...] = ()
    size: int = 0
    scale: int | None = None
    ticks: int | None = None
    as_text: bool = False
    is_event_time: bool = False
    #: Of the event's time, where `time_unit` is no text: how many of that unit are a second.
    unit: int | None = None

    @property
    def present(self) -> tuple[Node, ...]:
        """Return what it can be beside null."""
        return tuple(b for b in self.branches if b.kind != "null") if self.kind == "union" else (self,)

    @property
    def title(self) -> str:
        """Return the type's name for a person."""
        if self.kind == "union":
            return " or ".join(branch.title for branch in self.branches)
        return f"{self.kind} ({self.logical})" if self.logical else self.kind


def parse(registered: Registered) -> tuple[Node, Any, dict[str, Any]]:
    """Return a schema's parts, the same for fastavro, and the types that it names; UnreadableSchemaError.

    For fastavro, the logical types are left out: what they mean is decided here.
    """
    from fastavro import parse_schema  # noqa: PLC0415 - an extra

    named: dict[str, Any] = {}
    try:
        texts = [json.loads(text) for _, text in registered.references]
        whole = json.loads(registered.text)
        for text in texts:
            parse_schema(_plain(text), named_schemas=named)
        parsed = parse_schema(_plain(whole), named_schemas=named)
        builder = _Builder()
        for text in texts:
            builder.declare(text, "")
        builder.declare(whole, "")
        return builder.node(whole, "", ()), parsed, named
    except UnreadableSchemaError:
        raise
    except RecursionError:
        raise UnreadableSchemaError("nested too deep") from None
    except Exception as error:  # noqa: BLE001 - fastavro raises many kinds for a text that is no schema
        raise UnreadableSchemaError(f"no Avro schema: {' '.join(str(error).split())[:200]}") from None


def _plain(schema: Any) -> Any:
    """Return a schema without logical types and defaults."""
    if isinstance(schema, list):
        return [_plain(branch) for branch in schema]
    if not isinstance(schema, dict):
        return schema
    out = {name: value for name, value in schema.items() if name not in {"logicalType", "default"}}
    for name in ("type", "items", "values"):
        if name in out:
            out[name] = _plain(out[name])
    if "fields" in out:
        out["fields"] = [_plain(one) for one in out["fields"]]
    return out


class _Builder:
    """Makes nodes; a type that is named is made again at each place, because what it is read for depends on it."""

    def __init__(self) -> None:
        self._named: dict[str, tuple[Any, str]] = {}
        self._parts = 0

    def declare(self, schema: Any, space: str) -> None:
        """Note all types that a schema names."""
        if isinstance(schema, list):
            for branch in schema:
                self.declare(branch, space)
        elif isinstance(schema, dict):
            inner = space
            if isinstance(schema.get("type"), str) and schema["type"] in _NAMED:
                name, inner = _full(schema["name"], schema.get("namespace", space))
                self._named[name] = (schema, inner)
            for part in ("type", "items", "values"):
                self.declare(schema.get(part), inner)
            for one in schema.get("fields", ()):
                self.declare(one["type"], inner)

    def node(self, schema: Any, space: str, within: tuple[str, ...]) -> Node:
        """Return the node of a schema. within: the records around it, outermost first."""
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise UnreadableSchemaError(f"more than {MOST_PARTS:,} parts")
        if isinstance(schema, list):
            return Node("union", branches=tuple(self.node(branch, space, within) for branch in schema))
        if isinstance(schema, str):
            if schema in PRIMITIVES:
                return Node(schema)
            name = _full(schema, space)[0]
            if name not in self._named:
                name = schema
            if name not in self._named:
                raise UnreadableSchemaError(f"no type is named {schema}")
            return self.node(self._named[name][0], self._named[name][1], within)
        kind = schema["type"]
        if not isinstance(kind, str) or (kind not in PRIMITIVES and kind not in _COMPLEX):
            return self.node(kind, space, within)
        return self._of(kind, schema, space, within)

    def _of(self, kind: str, schema: Mapping[str, Any], space: str, within: tuple[str, ...]) -> Node:
        if kind in {"record", "error"}:
            name, inner = _full(schema["name"], schema.get("namespace", space))
            if name in within:
                raise UnreadableSchemaError(f"{name} contains itself")
            around = (*within, name)
            return Node("record", fields={f["name"]: self.node(f["type"], inner, around) for f in schema["fields"]})
        if kind in {"array", "map"}:
            inside = self.node(schema["items" if kind == "array" else "values"], space, within)
            if kind == "array" and least_bytes(inside) == 0:
                # a record of a few bytes could have any number of them
                raise UnreadableSchemaError("an array of values that have no bytes")
            return Node(kind, inner=inside)
        logical = schema.get("logicalType") if isinstance(schema.get("logicalType"), str) else None
        node = Node(kind, symbols=tuple(schema.get("symbols", ())), size=int(schema.get("size", 0)))
        if logical == "decimal" and kind in {"bytes", "fixed"}:
            node.logical, node.scale = logical, int(schema.get("scale", 0))
            if not 0 <= node.scale <= MOST_SCALE:
                raise UnreadableSchemaError(f"a decimal with the scale {node.scale}")
        elif (logical == "date" and kind == "int") or (logical in {*TIMES, *LOCAL_TIMES} and kind == "long"):
            node.logical = logical
        return node


_NAMED = frozenset({"record", "error", "enum", "fixed"})
_COMPLEX = _NAMED | {"array", "map"}


def _full(name: str, space: str) -> tuple[str, str]:
    """Return a type's full name, and the namespace of what is in it."""
    if "." in name:
        return name, name.rpartition(".")[0]
    return (f"{space}.{name}" if space else name), space


def least_bytes(node: Node) -> int:
    """Return the fewest bytes that a value of this type has."""
    if node.kind == "null":
        return 0
    if node.kind == "record":
        return sum(map(least_bytes, node.fields.values()))
    return node.size if node.kind == "fixed" else 1


class Anything:
    """What the schema does not decide: a part of a text that is JSON, or one of several types."""


ANYTHING = Anything()


def find(node: Node, steps: Sequence[str], name: str) -> Node | Anything | None:
    """Return what is at the end of a path, None if the schema has nothing there; MisfitError."""
    for step in steps:
        present = node.present
        if len(present) != 1:
            return ANYTHING if present else None
        outer = present[0]
        if step == JSON_TEXT:
            if outer.kind != "string":
                raise MisfitError(f"{name}: expected a string that is JSON, the schema has {outer.title}")
            return ANYTHING
        if outer.kind == "record":
            if step not in outer.fields:
                return None
            node = outer.fields[step]
        elif outer.inner is not None and (outer.kind == "map" or position(step) is not None):
            node = outer.inner
        else:
            raise MisfitError(f"{name}: expected a record around {step}, the schema has {outer.title}")
    return node


def prepare(root: Node, features: Sequence[Feature], mapping: EventMapping) -> None:
    """Decide how each part is read for this spec; MisfitError if its events cannot be read from the schema.

    All parts are decided, also behind the first that does not fit: a record of another kind may be ignored.
    """
    errors = [error for error in _decided(root, features, mapping) if error is not None]
    if errors:
        raise MisfitError(errors[0])


def _decided(root: Node, features: Sequence[Feature], mapping: EventMapping) -> Iterator[str | None]:
    for path in (mapping.event_id, mapping.customer_id):
        if path and not path.startswith("$"):
            yield _try(_identifier, root, steps_of(path), path)
    place = place_of(mapping.event_time)
    if mapping.event_time and place.source is Source.VALUE:
        yield _try(lambda node, name: _time(node, name, mapping), root, place.steps, mapping.event_time)
    above = steps_of(mapping.features)
    yield _try(_features, root, above, mapping.features or "the event")
    for feature in features:
        steps = (*above, *feature.path)
        name = ".".join(steps).replace(f".{JSON_TEXT}", JSON_TEXT)
        yield _try(lambda node, name, feature=feature: _feature(node, name, feature), root, steps, name,
                   optional=feature.nullable)  # fmt: skip


def _try(check: Any, root: Node, steps: Sequence[str], name: str, *, optional: bool = False) -> str | None:
    """Return why a part does not fit, None if it does."""
    try:
        node = find(root, steps, name)
        if node is None:
            return None if optional else f"{name}: the schema has no such field"
        if isinstance(node, Node):
            check(node, name)
    except MisfitError as error:
        return str(error)
    return None


def _identifier(node: Node, name: str) -> None:
    _expect(node, name, "a string or an integer", lambda n: n.kind in {"string", "enum", "int", "long"})


def _features(node: Node, name: str) -> None:
    _expect(node, name, "a record", lambda n: n.kind in {"record", "map", "array"})


def _time(node: Node, name: str, mapping: EventMapping) -> None:
    for part in node.present:
        if part.logical in LOCAL_TIMES and mapping.time_zone is None:
            raise MisfitError(f"{name}: {part.title} has no offset: [event] time_zone is needed")
        _read_as_time(part)
        part.as_text, part.is_event_time = mapping.time_unit == "rfc3339", True
        part.unit = {"s": 1, "ms": 1000, "us": 10**6, "ns": 10**9}.get(mapping.time_unit)
    text = mapping.time_unit == "rfc3339"
    kinds = {"string"} if text else {"int", "long", "float", "double", "string"}
    expected = f"a timestamp or {'a string' if text else f'a number of {mapping.time_unit}'}"
    _expect(node, name, expected, lambda n: n.ticks is not None or n.kind in kinds)


def _read_as_time(part: Node) -> None:
    if part.logical == "date":
        part.ticks = 0
    elif part.logical is not None and part.scale is None:
        part.ticks = {**TIMES, **LOCAL_TIMES}[part.logical]


def _feature(node: Node, name: str, feature: Feature) -> None:
    if feature.kind == "numeric":
        kinds = {*NUMBERS, "string"} if feature.parse else set(NUMBERS)
        _expect(node, name, "a number", lambda n: n.kind in kinds or n.scale is not None)
    elif feature.kind == "categorical":
        for part in node.present:
            _read_as_time(part)
            part.as_text = part.ticks is not None
        kinds = {"string", "enum"} | ({"int", "long"} if feature.integers else set())
        _expect(node, name, "a string or an enum", lambda n: n.kind in kinds or n.as_text)
    else:
        of = {"boolean": {"boolean"}, "number": NUMBERS, "string": {"string", "enum"}}
        kinds = set().union(*(of[one[0]] for one in boolean_values(feature) if one is not None))
        _expect(node, name, " or ".join(sorted(kinds)), lambda n: n.kind in kinds)


def _expect(node: Node, name: str, expected: str, fits: Any) -> None:
    """Raise MisfitError unless the node can be what is expected."""
    if not any(fits(part) for part in node.present):
        raise MisfitError(f"{name}: expected {expected}, the schema has {node.title}")
