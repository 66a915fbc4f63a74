"""A batch of Protobuf records of one message → the values at the paths of a spec, field by field in arrays.

All records advance together, through the fields in the order of their numbers: serializers write them so. A record that
is not plainly written so, or has what is not plainly valid, is left to `protobuf`, which defines the result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from schemas import timestamps
from schemas.formats.protobuf_schema import Type, type_of
from schemas.mapping.places import JSON_TEXT
from schemas.validation import Shape

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor, FieldDescriptor

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
# Bytes after the last record: every value may be read at its end.
_PADDING = 16
# Of a number, and of a length that any record has.
_MOST_BYTES, _MOST_LENGTH_BYTES = 10, 4
# A repeated field that no spec reads may be there so often; with more of them a record is read on its own.
_MOST_REPEATED = 50
_EARLIEST_S, _LATEST_S = timestamps.EARLIEST_MS // 1000, timestamps.LATEST_MS // 1000
_NANOS = 10**9
_VARINTS = frozenset({"int32", "int64", "uint32", "uint64", "sint32", "sint64", "bool", "enum"})
_FIXED = {"fixed64": "<u8", "sfixed64": "<i8", "double": "<f8", "fixed32": "<u4", "sfixed32": "<i4", "float": "<f4"}
_RANGES = {"int32": (-(2**31), 2**31), "enum": (-(2**31), 2**31), "uint32": (0, 2**32), "bool": (0, 2)}
# by FieldDescriptor.TYPE_...; a group is not read in arrays
_CODES = {
    1: "double", 2: "float", 3: "int64", 4: "uint64", 5: "int32", 6: "fixed64", 7: "fixed32", 8: "bool", 9: "string",
    11: "message", 12: "bytes", 13: "uint32", 14: "enum", 15: "sfixed32", 16: "sfixed64", 17: "sint32", 18: "sint64",
}  # fmt: skip


class NotInArraysError(Exception):
    """The message has a part that the spec reads and that is read record by record."""


@dataclass(frozen=True, slots=True)
class Reads:
    """How a spec reads values. unit: of the event's time, how many are a second; None of text.

    as_text: the paths of integers that are their decimal text. time_path: of the event's time. required: paths that
    must not be null.
    """

    wanted: Mapping[tuple[str, ...], str]
    required: AbstractSet[str]
    as_text: AbstractSet[str]
    time_path: str
    unit: int | None

    def unit_at(self, path: str) -> int | None:
        """Return the unit of a time at a path, None if it is text there."""
        return self.unit if path == self.time_path else None


@dataclass(slots=True)
class _Field:
    """A field of a message.

    inner: of an object that the spec leads into. path: of a value that it reads. closed: an enum that has only its own
    numbers; others make an unknown field of it.
    """

    tag: bytes
    code: str
    presence: bool
    repeated: bool
    path: str | None = None
    kind: Type | None = None
    inner: list[_Field] | None = None
    counted: bool = False
    closed: bool = False
    symbols: Mapping[int, str] = field(default_factory=dict)


def symbols_of(kind: Type) -> dict[int, str]:
    """Return the symbols of an enum by number; of several that have one, the first."""
    assert kind.enum is not None, "only an enum has symbols"  # noqa: S101
    return {value.number: value.name for value in reversed(kind.enum.values)}


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


class Columns:
    """Reads records of one message. shape: the fields that are known. NotInArraysError."""

    def __init__(self, message: Descriptor, shape: Shape, reads: Reads) -> None:
        self._reads = reads
        self._always = 0
        self._fields = self._plan(message, shape, ())

    def _plan(self, message: Descriptor, shape: Shape, at: tuple[str, ...]) -> list[_Field]:
        made = []
        for one in sorted(message.fields, key=lambda one: one.number):
            found, kind, here = _described(one), type_of(one), (*at, one.name)
            if one.name in shape.objects:
                within = shape.objects[one.name]
                if kind.message is None or JSON_TEXT in within.objects or found.code != "message":
                    raise NotInArraysError
                found.inner = self._plan(kind.message, within, here)
            elif one.name in shape.leaves:
                if kind.kind in {"message", "map", "array", "bytes", "decimal"}:
                    raise NotInArraysError
                found.path, found.kind = self._reads.wanted[here], kind
                if kind.kind == "enum":
                    found.symbols = symbols_of(kind)
            elif not shape.open:
                found.counted = found.presence
                self._always += not found.presence
            made.append(found)
        return made

    def rows(
        self, raws: Sequence[bytes], is_message: Callable[[bytes], bool]
    ) -> tuple[list[tuple[Any, ...] | None], list[int]]:
        """Return per record the values in the order of the paths, and the number of its unknown fields.

        None for a record that is not plainly valid. is_message: of a record that has parts which are not read here.
        """
        reading = _Reading(raws)
        nothing: Sequence[Any] = [None] * len(raws)
        columns: dict[str, Sequence[Any]] = dict.fromkeys(self._reads.wanted.values(), nothing)
        self._read(reading, self._fields, columns)
        reading.bad |= reading.at != reading.end
        rows: list[tuple[Any, ...] | None] = list(zip(*columns.values(), strict=True))
        for row in np.flatnonzero(reading.bad).tolist():
            rows[row] = None
        for row in np.flatnonzero(reading.skipped & ~reading.bad).tolist():
            if not is_message(raws[row]):
                rows[row] = None
        return rows, (reading.unknown + self._always).tolist()

    def _read(self, reading: _Reading, fields: Sequence[_Field], columns: dict[str, Sequence[Any]]) -> None:
        for one in fields:
            has = reading.has(one.tag)
            if one.inner is not None:
                reading.bad |= ~has
                end = reading.enter(has)
                self._read(reading, one.inner, columns)
                reading.leave(end)
            elif one.path is not None:
                columns[one.path] = self._values(reading, one, has)
            else:
                if one.counted:
                    reading.unknown += has
                reading.skip(one, has)

    def _values(self, reading: _Reading, one: _Field, has: Flags) -> Sequence[Any]:
        """Return the value of each record, None where it has none."""
        kind, path = one.kind, one.path or ""
        assert kind is not None, "of a field that is read"  # noqa: S101
        if kind.kind == "time":
            end = reading.enter(has)
            seconds = reading.integers("int64", reading.has(b"\x08"))
            nanos = reading.integers("int32", reading.has(b"\x10"))
            reading.leave(end)
            values = _times(reading, seconds, nanos, self._reads.unit_at(path))
        elif kind.wrapper and kind.message is not None:
            end = reading.enter(has)
            inner = _described(kind.message.fields_by_name["value"])
            values = reading.values(inner, reading.has(inner.tag))
            reading.leave(end)
        else:
            values = reading.values(one, has)
        if kind.kind == "integer" and path in self._reads.as_text:
            values = list(map(str, values))
        if one.presence and not has.all():
            values = list(values)
            for row in np.flatnonzero(~has).tolist():
                values[row] = None
            if path in self._reads.required:
                reading.bad |= ~has
        return values


def _described(one: FieldDescriptor) -> _Field:
    """Return a field as serializers write it; NotInArraysError for a group."""
    code = _CODES.get(one.type)
    if code is None:
        raise NotInArraysError
    wire = 0 if code in _VARINTS else 1 if code in {"fixed64", "sfixed64", "double"} else 5 if code in _FIXED else 2
    if one.is_repeated and one.is_packed:
        wire = 2
    number, tag = one.number << 3 | wire, bytearray()
    while number >= 0x80:
        tag.append(number & 0x7F | 0x80)
        number >>= 7
    tag.append(number)
    closed = one.enum_type is not None and one.enum_type.is_closed
    return _Field(bytes(tag), code, one.has_presence, one.is_repeated, closed=closed)


def _times(reading: _Reading, seconds: Ints, nanos: Ints, unit: int | None) -> Sequence[Any]:
    wrong = (seconds < _EARLIEST_S) | (seconds > _LATEST_S) | (nanos < 0) | (nanos >= _NANOS)
    reading.bad |= wrong
    if unit is None and not wrong.any() and not (nanos % 10**6).any():
        return timestamps.render_batch(seconds * 1000 + nanos // 10**6)
    return [time(s, n, unit) for s, n in zip(seconds.tolist(), nanos.tolist(), strict=True)]


class _Reading:
    """The position in each record while a batch is read. end: of the message that is read.

    bad: records that are left to `protobuf`. skipped: those that have parts which are not looked into.
    """

    def __init__(self, raws: Sequence[bytes]) -> None:
        size = len(raws)
        self._raw = b"".join(raws)
        self._bytes = np.frombuffer(self._raw + bytes(_PADDING), dtype=np.uint8)
        sizes = np.fromiter(map(len, raws), dtype=np.int64, count=size)
        self.end: Ints = np.cumsum(sizes)
        self.at: Ints = self.end - sizes
        self.bad: Flags = np.zeros(size, dtype=np.bool_)
        self.skipped: Flags = np.zeros(size, dtype=np.bool_)
        self.unknown: Ints = np.zeros(size, dtype=np.int64)
        self._text: str | None = None
        self._high: Ints | None = None

    def has(self, tag: bytes) -> Flags:
        """Return which records have this tag next, and go behind it."""
        found: Flags = (self._bytes[self.at] == tag[0]) & (self.at < self.end)
        for n, byte in enumerate(tag[1:], 1):
            found &= self._bytes[self.at + n] == byte
        self._advance(len(tag), found)
        return found

    def _advance(self, by: Any, active: Flags) -> None:
        at = self.at + active * by
        beyond = at > self.end
        if beyond.any():
            self.bad |= beyond
            at = np.minimum(at, self.end)
        self.at = at

    def enter(self, has: Flags) -> Ints:
        """Read on in the message that these records have next; return where the one around it ends."""
        around, size = self.end, self._sizes(has)
        self.end = self.at + size
        return around

    def leave(self, end: Ints) -> None:
        """Read on in the message around, behind one that must be read to its end."""
        self.bad |= self.at != self.end
        self.at, self.end = self.end, end

    def _varints(self, active: Flags, most: int = _MOST_BYTES) -> NDArray[np.uint64]:
        """Read a number of 64 bits of these records; of others it is 0."""
        byte = self._bytes[self.at]
        value = (byte & 0x7F).astype(np.uint64)
        length = np.ones(len(byte), dtype=np.int64)
        more = (byte >= 0x80) & active
        for n in range(1, most):
            if not more.any():
                break
            byte = self._bytes[self.at + n]
            value |= np.where(more, (byte & 0x7F).astype(np.uint64) << np.uint64(7 * n), np.uint64(0))
            length += more
            if n == _MOST_BYTES - 1:
                self.bad |= more & (byte > 1)
            more &= byte >= 0x80
        self.bad |= more
        self._advance(length, active)
        found: NDArray[np.uint64] = value * active
        return found

    def _sizes(self, active: Flags) -> Ints:
        """Read a length of these records; of others it is 0."""
        size = self._varints(active, _MOST_LENGTH_BYTES).astype(np.int64)
        wrong = size > self.end - self.at
        if wrong.any():
            self.bad |= wrong
            size = np.where(wrong, 0, size)
        return size

    def integers(self, code: str, active: Flags) -> Ints:
        """Read an integer of at most 64 bits with a sign."""
        raw = self._varints(active)
        if code in {"sint32", "sint64"}:
            if code == "sint32":
                self.bad |= raw >= 2**32
            return (raw >> np.uint64(1)).view(np.int64) ^ -(raw & np.uint64(1)).view(np.int64)
        value = raw.view(np.int64)
        if code in _RANGES:
            low, high = _RANGES[code]
            self.bad |= (value < low) | (value >= high)
        return value

    def _fixed(self, code: str, active: Flags) -> NDArray[Any]:
        form = _FIXED[code]
        size = int(form[2])
        # a view in which a number begins at every byte
        view: NDArray[Any] = np.ndarray((len(self._raw) + 1,), form, self._bytes.data, 0, (1,))
        value = np.where(active, view[self.at], view.dtype.type(0))
        self._advance(size, active)
        return value

    def values(self, one: _Field, active: Flags) -> Sequence[Any]:
        """Read a value of these records; of others it is the default."""
        code = one.code
        if code == "string":
            return self._texts(active)
        if code in _FIXED:
            value = self._fixed(code, active)
            if code in {"double", "float"}:
                value = value.astype(np.float64)
                self.bad |= ~np.isfinite(value)
            return value.tolist()  # type: ignore[no-any-return]
        if code == "uint64":
            return self._varints(active).tolist()  # type: ignore[no-any-return]
        found = self.integers(code, active)
        if code == "bool":
            return (found == 1).tolist()  # type: ignore[no-any-return]
        if code != "enum":
            return found.tolist()  # type: ignore[no-any-return]
        symbols = list(map(one.symbols.get, found.tolist()))
        if None in symbols:
            self.bad |= np.fromiter((symbol is None for symbol in symbols), np.bool_, len(symbols))
        return symbols

    def _texts(self, active: Flags, *, wanted: bool = True) -> list[str]:
        size = self._sizes(active)
        starts, ends = self.at, self.at + size
        self.at = ends
        if self._text is None or self._high is None:
            self._text = self._raw.decode("latin-1")
            self._high = np.concatenate([[0], np.cumsum(self._bytes[: len(self._raw)] >= 0x80)])
        text = self._text
        values = [text[a:b] for a, b in zip(starts.tolist(), ends.tolist(), strict=True)] if wanted else []
        for row in np.flatnonzero(self._high[ends] != self._high[starts]).tolist():  # other text than ASCII
            try:
                decoded = self._raw[starts[row] : ends[row]].decode()
            except UnicodeDecodeError:
                self.bad[row] = True
                continue
            if wanted:
                values[row] = decoded
        return values

    def skip(self, one: _Field, has: Flags) -> None:
        """Go behind a field that no spec reads, and behind its repetitions."""
        self._skip(one, has)
        if one.repeated:
            for _ in range(_MOST_REPEATED):
                if not has.any():
                    return
                has = self.has(one.tag)
                self._skip(one, has)

    def _skip(self, one: _Field, has: Flags) -> None:
        if not has.any():
            return
        if one.code == "message" or one.repeated:
            self.skipped |= has  # what is in it, Google's reader checks
        if one.closed:
            self.bad |= has
        if one.tag[0] & 7 == 0:
            self._varints(has)
        elif one.tag[0] & 7 == 2:
            if one.code == "string":
                self._texts(has, wanted=False)
            else:
                self._advance(self._sizes(has), has)
        else:
            self._fixed(one.code, has)
