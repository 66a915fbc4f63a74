"""Records of Protobuf → events as JSON has them, one by one and in batches.

Google's own reader parses each record. `event` is the definition. `rows` reads the same values of a batch, a message of
all records at a time, without an object per record.

A field without presence is always there, with its default value; one with presence is there if the record has it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import cached_property
from itertools import repeat
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from schemas import timestamps
from schemas.bundle import EventMapping, Feature
from schemas.formats.avro import decimal
from schemas.formats.avro_schema import MOST_SCALE
from schemas.formats.protobuf_schema import Type, messages_of, misfits, nested_in, type_of
from schemas.formats.registered import Registered, UnreadableSchemaError
from schemas.mapping.places import JSON_TEXT, position
from schemas.rejection import Reason, RejectedError
from schemas.validation import Shape, leaves_of, shape_of

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor, FieldDescriptor

# Of a message index: more than messages are nested, and than a file has messages.
_MOST_DEPTH, _MOST_BYTES = 32, 4
# The index of the first message of a file.
_FIRST = b"\0"
_EARLIEST_S, _LATEST_S = timestamps.EARLIEST_MS // 1000, timestamps.LATEST_MS // 1000
_PER_SECOND = {"s": 1, "ms": 1000, "us": 10**6, "ns": 10**9}
_NANOS = 10**9
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
            inside: Sequence[Descriptor] = self._messages
            message: Descriptor | None = None
            for at in index:
                message = inside[at] if 0 <= at < len(inside) else None
                if message is None:
                    text = f"value: its schema has no message with the index {list(index)}"
                    raise RejectedError(Reason.NOT_DECODABLE, text)
                inside = nested_in(message.nested_types)
            assert message is not None, "an index has a part"  # noqa: S101
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
        self._paths = list(leaves)
        above = f"{mapping.features}." if mapping.features else ""
        required = {above + feature.source for feature in features if not feature.nullable}
        integers = {above + feature.source for feature in features if feature.integers}
        as_text = (integers | {mapping.event_id, mapping.customer_id}) - mapping.only.keys()
        self._wanted = {tuple(steps): path for path, steps in leaves.items()}
        self._forms = _Forms(as_text, mapping)
        try:
            self._parse = GetMessageClass(message).FromString
        except RecursionError:
            raise UnreadableSchemaError("its messages are parts of each other too deep") from None
        self._whole = self._object(message, shape, ())
        self._batch = None if self.misfit is not None else self._columns(message, shape, (), required)

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
        form = self._forms.of(kind, self._wanted.get(at, ""))
        if not kind.wrapper:
            return form
        return lambda message: form(message.value)

    def _columns(
        self, message: Descriptor, shape: Shape, at: tuple[str, ...], required: AbstractSet[str]
    ) -> _Columns | None:
        """Return what reads a message of many records at a time, None if it has parts that are read one by one."""
        made = _Columns()
        for field in message.fields:
            here, kind = (*at, field.name), type_of(field)
            presence = field.has_presence
            if field.name in shape.objects:
                within = shape.objects[field.name]
                if kind.message is None or JSON_TEXT in within.objects:
                    return None
                inner = self._columns(kind.message, within, here, required)
                if inner is None:
                    return None
                made.objects.append((field.name, inner))
            elif field.name in shape.leaves:
                if kind.kind in {"message", "map", "array", "bytes"}:
                    return None
                path = self._wanted[here]
                made.leaves.append(_Leaf(path, field, kind, self._forms, required=path in required))
            elif not shape.open:
                if presence:
                    made.maybe.append(field.name)
                else:
                    made.always += 1
        return made

    def rows(self, raws: Sequence[bytes]) -> tuple[list[tuple[Any, ...] | None], list[int]] | None:
        """Return as `Protobuf.rows`."""
        from google.protobuf.message import DecodeError  # noqa: PLC0415 - an extra

        if self._batch is None:
            return None
        good: Sequence[int] = range(len(raws))
        try:
            messages = list(map(self._parse, raws))
        except DecodeError:
            messages, good = self._parsed(raws)
        batch = _Batch(len(messages))
        nothing: Sequence[Any] = [None] * len(messages)
        columns: dict[str, Sequence[Any]] = dict.fromkeys(self._paths, nothing)
        self._batch.read(messages, batch, columns)
        found: list[tuple[Any, ...] | None] = list(zip(*columns.values(), strict=True))
        for at in np.flatnonzero(batch.bad).tolist():
            found[at] = None
        if len(found) == len(raws):
            return found, batch.unknown.tolist()
        rows: list[tuple[Any, ...] | None] = [None] * len(raws)
        unknown = [0] * len(raws)
        for i, row, surplus in zip(good, found, batch.unknown.tolist(), strict=True):
            rows[i], unknown[i] = row, surplus
        return rows, unknown

    def _parsed(self, raws: Sequence[bytes]) -> tuple[list[Any], list[int]]:
        """Return the messages of those records that are some, and which records these are."""
        from google.protobuf.message import DecodeError  # noqa: PLC0415 - an extra

        messages, good = [], []
        for i, raw in enumerate(raws):
            try:
                messages.append(self._parse(raw))
                good.append(i)
            except DecodeError:
                pass  # `event` says so
        return messages, good


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


class _Forms:
    """How values are written in JSON. as_text: the paths at which an integer is its decimal text."""

    def __init__(self, as_text: AbstractSet[str], mapping: EventMapping) -> None:
        self._as_text = as_text
        self._time = mapping.event_time
        self._unit = _PER_SECOND.get(mapping.time_unit)

    def unit(self, path: str) -> int | None:
        """Return how many of a time's unit are a second, None of a time that is text."""
        return self._unit if path == self._time else None

    def is_text(self, path: str) -> bool:
        """Return whether an integer is its decimal text, so that no digit is lost."""
        return path in self._as_text

    def of(self, kind: Type, path: str) -> _Read:
        """Return what makes JSON of a value that has no wrapper."""
        if kind.kind == "time":
            unit = self.unit(path)
            return lambda value: time(value.seconds, value.nanos, unit)
        if kind.kind == "integer" and self.is_text(path):
            return str
        if kind.kind == "enum" and kind.enum is not None:
            symbols = _symbols(kind)
            return lambda value: symbols.get(value, value)
        return _PLAIN.get(kind.kind, _itself)


def _itself(value: Any) -> Any:
    return value


def _symbols(kind: Type) -> dict[int, str]:
    """Return the symbols of an enum by number; of several that have one, the first."""
    assert kind.enum is not None, "only an enum has symbols"  # noqa: S101
    return {value.number: value.name for value in reversed(kind.enum.values)}


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


def time(seconds: int, nanos: int, unit: int | None) -> int | str:
    """Return a Timestamp as the spec reads it: in a unit, or as text with 3, 6 or 9 digits of a second.

    One that is none, or of no year that can be written, is the number of its seconds.

    >>> time(1795327200, 123_000_000, None), time(1795327200, 123_000_000, 1000), time(1 << 60, 0, None)
    ('2026-11-22T06:00:00.123Z', 1795327200123, 1152921504606846976)
    """
    if unit is not None:
        return seconds * unit + nanos * unit // _NANOS
    if not _EARLIEST_S <= seconds <= _LATEST_S or not 0 <= nanos < _NANOS:
        return seconds
    digits = f"{nanos:09d}"
    shown = 3 if digits.endswith("000000") else 6 if digits.endswith("000") else 9
    return f"{timestamps.render(seconds * 1000)[:-5]}.{digits[:shown]}Z"


class _Batch:
    """What is found in a batch beside values. bad: records that are left to `event`."""

    def __init__(self, size: int) -> None:
        self.bad = np.zeros(size, dtype=np.bool_)
        self.unknown = np.zeros(size, dtype=np.int64)


class _Leaf:
    """A value that a path ends at, in a message of many records."""

    def __init__(self, path: str, field: FieldDescriptor, kind: Type, forms: _Forms, *, required: bool) -> None:
        self.path = path
        self._name, self._kind, self._required = field.name, kind, required
        self._presence = field.has_presence
        inside = {"time": ("seconds", "nanos")}.get(kind.kind, ("value",) if kind.wrapper else ())
        #: What is read of a message.
        self.names = [f"{field.name}.{part}" for part in inside] or [field.name]
        of = kind.message.fields_by_name["value"] if kind.wrapper and kind.message is not None else field
        # a value that differs from the default is there
        self._default = None if kind.kind in {"time", "decimal"} else of.default_value
        self._form = forms.of(kind, path)
        self._as_text, self._unit = forms.is_text(path), forms.unit(path)

    def values(self, messages: Sequence[Any], read: Sequence[Sequence[Any]], batch: _Batch) -> Sequence[Any]:
        """Return the value of each record, None where it has none. read: a column for each of the names."""
        found = self._converted(read, batch)
        if not self._presence:
            return found
        name, default = self._name, self._default
        absent = [
            i for i, value in enumerate(read[0])
            if (default is None or value == default) and not type(messages[i]).HasField(messages[i], name)
        ]  # fmt: skip
        if absent:
            found = list(found)
            for i in absent:
                found[i] = None
            if self._required:
                batch.bad[absent] = True
        return found

    def _converted(self, read: Sequence[Sequence[Any]], batch: _Batch) -> Sequence[Any]:
        kind, column = self._kind.kind, read[0]
        if kind == "time":
            return self._times(read, batch)
        if kind == "integer":
            return list(map(str, column)) if self._as_text else column
        if kind == "string" and not set(map(type, column)) <= {str}:
            batch.bad |= np.fromiter((type(value) is bytes for value in column), np.bool_, len(column))
        if kind in {"enum", "decimal"}:
            column = list(map(self._form, column))
            if kind == "enum":
                batch.bad |= np.fromiter((type(v) is int for v in column), np.bool_, len(column))
                return column
            column = [value if type(value) is float else math.nan for value in column]
        if kind in {"real", "decimal"}:
            batch.bad |= ~np.isfinite(np.array(column, dtype=np.float64))
        return column

    def _times(self, read: Sequence[Sequence[Any]], batch: _Batch) -> Sequence[Any]:
        seconds, nanos = (np.array(column, dtype=np.int64) for column in read)
        wrong = (seconds < _EARLIEST_S) | (seconds > _LATEST_S) | (nanos < 0) | (nanos >= _NANOS)
        batch.bad |= wrong
        if self._unit is None and not wrong.any() and not (nanos % 10**6).any():
            return timestamps.render_batch(seconds * 1000 + nanos // 10**6)
        return [time(s, n, self._unit) for s, n in zip(*read, strict=True)]


class _Columns:
    """Reads one message of many records. leaves, objects: what the spec reads. maybe, always: its unknown fields."""

    def __init__(self) -> None:
        self.leaves: list[_Leaf] = []
        self.objects: list[tuple[str, _Columns]] = []
        self.maybe: list[str] = []
        self.always = 0

    def read(self, messages: Sequence[Any], batch: _Batch, columns: dict[str, Sequence[Any]]) -> None:
        """Put the values of each path into columns; an object that is absent makes the record bad."""
        from google.protobuf.unknown_fields import UnknownFieldSet  # noqa: PLC0415 - an extra

        size = len(messages)
        if not size:
            return
        has = type(messages[0]).HasField
        batch.bad |= np.fromiter(map(len, map(UnknownFieldSet, messages)), np.int64, size) > 0
        batch.unknown += self.always
        for name in self.maybe:
            batch.unknown += np.fromiter(map(has, messages, repeat(name)), np.bool_, size)
        names = [name for leaf in self.leaves for name in leaf.names] + [name for name, _ in self.objects]
        read: list[Sequence[Any]] = list(zip(*map(attrgetter(*names, "DESCRIPTOR"), messages), strict=True))
        at = 0
        for leaf in self.leaves:
            columns[leaf.path] = leaf.values(messages, read[at : at + len(leaf.names)], batch)
            at += len(leaf.names)
        for (name, inner), column in zip(self.objects, read[at:], strict=False):
            batch.bad |= ~np.fromiter(map(has, messages, repeat(name)), np.bool_, size)
            inner.read(column, batch, columns)
