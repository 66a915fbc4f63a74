"""Records of Protobuf → events as JSON has them, one by one and in batches.

Google's own reader parses a record: that is the definition. `protobuf_columns` reads the same in batches.

A field without presence is always there, with its default value; one with presence is there if the record has it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import cached_property
from typing import TYPE_CHECKING, Any

from schemas.bundle.inputs import EventMapping, Feature
from schemas.formats.avro import decimal
from schemas.formats.avro_schema import MOST_SCALE
from schemas.formats.protobuf_columns import Columns, NotInArraysError, Reads, symbols_of, time
from schemas.formats.protobuf_schema import Type, at_index, messages_of, misfits, nested_in, type_of
from schemas.formats.registered import Registered, UnreadableSchemaError
from schemas.mapping.places import JSON_TEXT, position
from schemas.rejection_reasons import Reason, RejectedError
from schemas.validation import Shape, leaves_of, shape_of

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor

# Of a message index: more than messages are nested, and than a file has messages.
_MOST_DEPTH, _MOST_BYTES = 32, 4
# The index of the first message of a file.
_FIRST = b"\0"
_PER_SECOND = {"s": 1, "ms": 1000, "us": 10**6, "ns": 10**9}
_Read = Callable[[Any], Any]


class Protobuf:
    """Reads the records of one schema for one spec. Which of its messages a record is stands in front of it."""

    def __init__(self, registered: Registered, features: Sequence[Feature], mapping: EventMapping) -> None:
        """Compile; UnreadableSchemaError."""
        self._spec = (tuple(features), mapping)
        self._messages = messages_of(registered)
        self._compiled: dict[tuple[int, ...], _Message | UnreadableSchemaError] = {}

    @cached_property
    def misfit(self) -> str | None:
        """Why no message can be an event of the spec; of several messages, what the one that fits best lacks."""
        found: list[list[str]] = []
        left = list(self._messages)
        while left:
            message = left.pop(0)
            found.append(misfits(message, *self._spec))
            left += nested_in(message.nested_types)
        best = min(found, key=len)
        return best[0] if best else None

    def misfit_of(self, body: bytes) -> str | None:
        """Return why a record's message is no event of the spec; RejectedError."""
        return self._message(*_index(body)[:1]).misfit

    def event(self, body: bytes) -> object:
        """Return a record as the JSON value that it is; RejectedError."""
        index, start = _index(body)
        return self._message(index).event(body[start:])

    def rows(self, bodies: Sequence[bytes]) -> tuple[list[tuple[Any, ...] | None], list[int]] | None:
        """Return the values at the paths of each record, and the number of its unknown fields.

        None for a record that only `event` can read, and for all if the schema has parts that only it can.
        """
        if {body[:1] for body in bodies} == {_FIRST}:  # as a rule
            return self._rows(_FIRST, bodies)
        members: dict[bytes, list[int]] = {}
        for i, body in enumerate(bodies):
            members.setdefault(_prefix(body), []).append(i)
        rows: list[tuple[Any, ...] | None] = [None] * len(bodies)
        unknown = [0] * len(bodies)
        for prefix, own in members.items():
            if (read := self._rows(prefix, [bodies[i] for i in own])) is not None:
                for i, row, surplus in zip(own, *read, strict=True):
                    rows[i], unknown[i] = row, surplus
        return rows, unknown

    def _rows(self, prefix: bytes, bodies: Sequence[bytes]) -> tuple[list[tuple[Any, ...] | None], list[int]] | None:
        """Return the same of records that all have these bytes of a message index in front."""
        try:
            message = self._message(_index(prefix)[0])
        except RejectedError:
            return None  # as `event` says of each
        return message.rows([body[len(prefix) :] for body in bodies])

    def _message(self, index: tuple[int, ...]) -> _Message:
        found = self._compiled.get(index)
        if found is None:
            message = at_index(self._messages, index)
            if message is None:
                text = f"value: its schema has no message with the index {list(index)}"
                raise RejectedError(Reason.NOT_DECODABLE, text)
            try:
                found = _Message(message, *self._spec)
            except UnreadableSchemaError as error:
                found = error
            self._compiled[index] = found
        if isinstance(found, UnreadableSchemaError):
            raise RejectedError(Reason.SCHEMA_INCOMPATIBLE, f"message {list(index)} of its schema: {found}")
        return found


def _index(body: bytes) -> tuple[tuple[int, ...], int]:
    """Return the message index in front of a record, and where the record begins; RejectedError.

    >>> _index(bytes([0, 9])), _index(bytes([4, 2, 0, 9]))
    (((0,), 1), ((1, 0), 3))
    """
    count, at = _number(body, 0)
    if count == 0:
        return (0,), at
    if not 0 < count <= _MOST_DEPTH:
        raise _no_index(body)
    index = []
    for _ in range(count):
        one, at = _number(body, at)
        index.append(one)
    return tuple(index), at


def _number(body: bytes, at: int) -> tuple[int, int]:
    """Return a zigzag number, and where the next byte is; RejectedError."""
    value = 0
    for shift, byte in enumerate(body[at : at + _MOST_BYTES]):
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at + shift + 1
    raise _no_index(body)


def _no_index(body: bytes) -> RejectedError:
    detail = f"value: expected a message index behind the schema id, got {len(body)} bytes that begin with "
    return RejectedError(Reason.NOT_DECODABLE, f"{detail}{body[:4].hex(' ')}")


def _prefix(body: bytes) -> bytes:
    """Return the bytes of the message index; of none, all bytes."""
    try:
        return body[: _index(body)[1]]
    except RejectedError:
        return body


class _Message:
    """One message of a schema, compiled for one spec."""

    def __init__(self, message: Descriptor, features: tuple[Feature, ...], mapping: EventMapping) -> None:
        from google.protobuf.message_factory import GetMessageClass  # noqa: PLC0415 - an extra

        self.misfit = next(iter(misfits(message, features, mapping)), None)
        leaves, shape = leaves_of(features, mapping), shape_of(features, mapping)
        above = f"{mapping.features}." if mapping.features else ""
        required = {above + feature.source for feature in features if not feature.nullable}
        integers = {above + feature.source for feature in features if feature.integers}
        as_text = (integers | {mapping.event_id, mapping.customer_id}) - mapping.only.keys()
        self._wanted = {tuple(steps): path for path, steps in leaves.items()}
        unit = _PER_SECOND.get(mapping.time_unit)
        self._reads = Reads(self._wanted, required, as_text, mapping.event_time, unit)
        try:
            self._parse = GetMessageClass(message).FromString
        except RecursionError:
            raise UnreadableSchemaError("its messages are parts of each other too deep") from None
        self._whole = self._object(message, shape, ())
        try:
            self._columns = None if self.misfit is not None else Columns(message, shape, self._reads)
        except NotInArraysError:
            self._columns = None

    def event(self, raw: bytes) -> object:
        """Return a record as the JSON value that it is; RejectedError."""
        from google.protobuf.message import DecodeError  # noqa: PLC0415 - an extra

        try:
            message = self._parse(raw)
        except DecodeError:
            raise RejectedError(Reason.NOT_DECODABLE, "value: no record of its schema") from None
        return self._whole(message)

    def _object(self, message: Descriptor, shape: Shape, at: tuple[str, ...]) -> _Read:
        """Return what makes JSON of a message, as far as a spec leads into it; other fields are there without value."""
        parts = []
        for field in message.fields:
            name = field.name
            if name in shape.objects:
                read = self._inner(type_of(field), shape.objects[name], (*at, name))
            elif name in shape.leaves:
                read = self._leaf(type_of(field), (*at, name))
            else:
                read = _nothing
            parts.append((name, field.has_presence, read))
        return _Object(parts, frozenset(message.fields_by_number)).read

    def _inner(self, kind: Type, shape: Shape, at: tuple[str, ...]) -> _Read:
        """Return what makes JSON of a value that a spec leads into."""
        if kind.kind == "array" and kind.inner is not None:
            return self._array(kind.inner, shape, at)
        if kind.kind == "map" and kind.inner is not None:
            return self._map(kind.inner, shape, at)
        if kind.message is not None and JSON_TEXT not in shape.objects:
            return self._object(kind.message, shape, at)
        return self._leaf(kind, at)  # a text that is JSON, or what the spec cannot lead into

    def _array(self, inner: Type, shape: Shape, at: tuple[str, ...]) -> _Read:
        reads: dict[int | None, _Read] = {}
        reads |= {position(name): self._inner(inner, inside, (*at, name)) for name, inside in shape.objects.items()}
        reads |= {position(name): self._leaf(inner, (*at, name)) for name in shape.leaves}

        def read(values: Any) -> list[Any]:
            return [reads[i](value) if i in reads else None for i, value in enumerate(values)]

        return read

    def _map(self, inner: Type, shape: Shape, at: tuple[str, ...]) -> _Read:
        reads = {name: self._inner(inner, inside, (*at, name)) for name, inside in shape.objects.items()}
        reads |= {name: self._leaf(inner, (*at, name)) for name in shape.leaves}

        def read(values: Any) -> dict[str, Any]:
            found = {}
            for key in values:
                name = str(key).lower() if isinstance(key, bool) else str(key)
                found[name] = reads[name](values[key]) if name in reads else None
            return found

        return read

    def _leaf(self, kind: Type, at: tuple[str, ...]) -> _Read:
        """Return what makes JSON of a value that a path ends at."""
        form = _form(kind, self._wanted.get(at, ""), self._reads)
        if not kind.wrapper:
            return form
        return lambda message: form(message.value)

    def rows(self, raws: Sequence[bytes]) -> tuple[list[tuple[Any, ...] | None], list[int]] | None:
        """Return as `Protobuf.rows`."""
        return None if self._columns is None else self._columns.rows(raws, self._is_message)

    def _is_message(self, raw: bytes) -> bool:
        """Return whether Google's reader takes a record."""
        from google.protobuf.message import DecodeError  # noqa: PLC0415 - an extra

        try:
            self._parse(raw)
        except DecodeError:
            return False
        return True


def _nothing(_: Any) -> None:
    """Return null: the value of a field that no spec reads, and of which only the name counts."""


class _Object:
    """Makes JSON of a message. parts: each field's name, whether it may be absent, and what makes JSON of its value."""

    def __init__(self, parts: Sequence[tuple[str, bool, _Read]], numbers: AbstractSet[int]) -> None:
        self._parts = parts
        self._numbers = numbers

    def read(self, message: Any) -> dict[str, Any]:
        """Return the object that a message is; RejectedError."""
        from google.protobuf.unknown_fields import UnknownFieldSet  # noqa: PLC0415 - an extra

        has = type(message).HasField  # of a message itself, it may be a field
        found = {name: read(getattr(message, name)) for name, may, read in self._parts if not may or has(message, name)}
        for unknown in UnknownFieldSet(message):
            number = unknown.field_number
            if number in self._numbers:
                detail = f"value: field {number} is not of the type that it has in its schema"
                raise RejectedError(Reason.NOT_DECODABLE, detail)
            found[f"field {number}"] = None
        return found


def _form(kind: Type, path: str, reads: Reads) -> _Read:
    """Return what makes JSON of a value that has no wrapper."""
    if kind.kind == "time":
        unit = reads.unit_at(path)
        return lambda value: time(value.seconds, value.nanos, unit)
    if kind.kind == "integer" and path in reads.as_text:
        return str
    if kind.kind == "enum":
        symbols = symbols_of(kind)
        return lambda value: symbols.get(value, value)
    return _PLAIN.get(kind.kind, _itself)


def _itself(value: Any) -> Any:
    return value


def _text(value: str | bytes) -> str:
    """Return a text; RejectedError for bytes that are none, which proto2 has not checked."""
    if isinstance(value, bytes):
        raise RejectedError(Reason.NOT_DECODABLE, "value: no record of its schema: a text that is not UTF-8")
    return value


def _number_of(value: Any) -> Any:
    """Return a confluent.type.Decimal as the nearest double; an object if its scale is beyond every double's."""
    scale = value.scale
    if 0 <= scale <= MOST_SCALE:
        return decimal(value.value, scale)
    if -MOST_SCALE <= scale < 0:
        unscaled = int.from_bytes(value.value, "big", signed=True)
        try:
            return float(unscaled * 10**-scale)
        except OverflowError:
            return math.inf if unscaled > 0 else -math.inf
    return {"scale": scale}


_PLAIN: Mapping[str, _Read] = {
    "string": _text,
    "decimal": _number_of,
    "message": lambda _: {},
    "array": lambda values: [None] * len(values),
    "map": lambda values: {str(key): None for key in values},
}
