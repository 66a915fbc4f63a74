"""A batch of Avro records of one schema → the values at the paths of a spec, field by field in arrays.

All records advance together: a field is read from every record before the next one. Whatever is not plainly a record of
the schema is left to `avro`, which defines the result. (Of PyPI's readers into Arrow, pyruhvro 0.4.0 is as fast, but
accepts surplus bytes, and one bad record fails its batch.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas import timestamps
from schemas.formats.avro_schema import Node
from schemas.validation import Shape

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
# Bytes after the last record: every field may be read at the end of a record that is too short.
_PADDING = 16
# A number of 63 bits has 9 bytes.
_MOST_BYTES = 9
_DAY_S = 86_400
_EARLIEST_S, _LATEST_S = timestamps.EARLIEST_MS // 1000, timestamps.LATEST_MS // 1000
_UNITS = {1000: "ms", 10**6: "us", 10**9: "ns"}


class _NotInArrays(Exception):  # noqa: N818 - a decision, not an error
    """The schema has a part that is read record by record: an array, a map, a union of several types."""


class Columns:
    """Reads records of one schema. paths: those that are read, as they are written → their steps.

    shape: the fields that are known. required: the paths whose value must not be null.
    """

    def __init__(
        self, root: Node, paths: Mapping[str, Sequence[str]], shape: Shape, required: AbstractSet[str]
    ) -> None:
        self._root = root
        self._shape = shape
        self._paths = list(paths)
        self._required = required
        self._wanted: dict[tuple[str, ...], str] = {tuple(steps): path for path, steps in paths.items()}
        self._inside = {steps[:depth] for steps in self._wanted for depth in range(len(steps))}
        try:
            self._check(root, ())
            self.possible = root.kind == "record"
        except _NotInArrays:
            self.possible = False

    def _check(self, node: Node, at: tuple[str, ...]) -> None:
        present = node.present
        nulls = len(node.branches) - len(present) if node.kind == "union" else 0
        if len(present) != 1 or nulls > 1 or present[0].kind in {"array", "map", "union"}:
            raise _NotInArrays
        one = present[0]
        if one.kind == "record":
            if at in self._wanted:
                raise _NotInArrays
            for name, inner in one.fields.items():
                self._check(inner, (*at, name))
            return
        raw = one.kind in {"null", "bytes", "fixed"} and one.scale is None
        if at in self._inside or (at in self._wanted and raw) or (one.kind == "enum" and not one.symbols):
            raise _NotInArrays

    def rows(self, bodies: Sequence[bytes]) -> tuple[list[tuple[Any, ...] | None], list[int]] | None:
        """Return as `avro.Avro.rows`."""
        if not self.possible:
            return None
        reading = _Reading(bodies)
        nothing: Sequence[Any] = [None] * len(bodies)
        columns: dict[str, Sequence[Any]] = dict.fromkeys(self._paths, nothing)
        unknown = np.zeros(len(bodies), dtype=np.int64)
        for path, values, surplus in self._read(reading, self._root, (), None, self._shape):
            if path is not None:
                columns[path] = values
            unknown += surplus
        good = reading.ended()
        rows: list[tuple[Any, ...] | None] = list(zip(*columns.values(), strict=True))
        for row in np.flatnonzero(~good).tolist():
            rows[row] = None
        return rows, unknown.tolist()

    def _read(
        self, reading: _Reading, node: Node, at: tuple[str, ...], active: Flags | None, shape: Shape | None
    ) -> Iterator[tuple[str | None, Sequence[Any], Ints | int]]:
        """Yield path, values and unknown fields of each field. active: which records have it; None: all.

        shape: the known fields of an object that the spec leads into; None: of nothing in it.
        """
        path = self._wanted.get(at)
        if node.kind == "union":
            active = reading.branch(node, active, needed=path in self._required or at in self._inside)
            node = node.present[0]
        if node.kind != "record":
            values = reading.leaf(node, active, wanted=path is not None)
            yield path, values or (), 0
            return
        for name, inner in node.fields.items():
            here = (*at, name)
            if shape is None or name in shape.leaves or name in shape.objects:
                within = None if shape is None else shape.objects.get(name)
                yield from self._read(reading, inner, here, active, within)
                continue
            for _ in self._read(reading, inner, here, active, None):
                pass  # what is in an unknown field is not counted
            if not shape.open:
                yield None, (), 1 if active is None else active.astype(np.int64)


class _Reading:
    """The position in each record while a batch is read."""

    def __init__(self, bodies: Sequence[bytes]) -> None:
        self._raw = b"".join(bodies)
        self._bytes = np.frombuffer(self._raw + bytes(_PADDING), dtype=np.uint8)
        sizes = np.fromiter(map(len, bodies), dtype=np.int64, count=len(bodies))
        self._ends = np.cumsum(sizes)
        self._at = self._ends - sizes
        self._bad = np.zeros(len(bodies), dtype=np.bool_)
        self._last = len(self._raw)
        self._text: str | None = None
        self._high: Ints | None = None

    def ended(self) -> Flags:
        """Return which records were read from their first byte to their last."""
        good: Flags = ~self._bad & (self._at == self._ends)
        return good

    def _advance(self, by: Any, active: Flags | None) -> None:
        if active is not None:
            by = np.where(active, by, 0)
        self._at = self._at + by
        # the last record has no neighbour that a missing end would be read from, and would seem to end where it should
        self._bad |= self._at > self._ends
        self._at = np.minimum(self._at, self._last)

    def _doubt(self, rows: Flags, active: Flags | None) -> None:
        self._bad |= rows if active is None else rows & active

    def branch(self, node: Node, active: Flags | None, *, needed: bool) -> Flags | None:
        """Read which branch of a union each record has; return which have the one beside null.

        needed: a record that has null is not plainly valid.
        """
        chosen = self._bytes[self._at] >> 1
        self._doubt((self._bytes[self._at] & 0x81) != 0, active)
        self._doubt(chosen >= len(node.branches), active)
        self._advance(1, active)
        if len(node.branches) == 1:
            return active
        found: Flags = chosen == next(i for i, one in enumerate(node.branches) if one.kind != "null")
        if needed:
            self._doubt(~found, active)
        return found if active is None else found & active

    def _integers(self, active: Flags | None) -> Ints:
        """Read a zigzag number of each record."""
        byte = self._bytes[self._at].astype(np.int64)
        value = byte & 0x7F
        length = np.ones(len(byte), dtype=np.int64)
        more = byte >= 0x80
        for n in range(1, _MOST_BYTES):
            if not more.any():
                break
            byte = self._bytes[np.minimum(self._at + n, self._last)].astype(np.int64)
            value |= np.where(more, (byte & 0x7F) << (7 * n), 0)
            length += more
            more &= byte >= 0x80
        self._doubt(more, active)
        self._advance(length, active)
        found: Ints = (value >> 1) ^ -(value & 1)
        return found

    def leaf(self, node: Node, active: Flags | None, *, wanted: bool) -> Sequence[Any] | None:
        """Read a value of each record; return them where they are wanted, None where a record has none."""
        kind = node.kind
        if kind == "null":
            return None
        if kind in {"float", "double"}:
            return self._reals(kind, active, wanted=wanted)
        if kind == "boolean":
            byte = self._bytes[self._at]
            self._doubt(byte > 1, active)
            self._advance(1, active)
            return _listed((byte == 1).tolist(), active) if wanted else None
        if kind in {"string", "bytes", "fixed"}:
            return self._texts(node, active, wanted=wanted)
        values = self._integers(active)
        if kind == "enum":
            self._doubt((values < 0) | (values >= len(node.symbols)), active)
            names = np.array(node.symbols, dtype=object)
            return _listed(names[np.clip(values, 0, len(node.symbols) - 1)].tolist(), active) if wanted else None
        if kind == "int":
            self._doubt(abs(values) > 2**31, active)
        if not wanted:
            return None
        return _listed(self._times(values, node, active) if node.ticks is not None else values.tolist(), active)

    def _reals(self, kind: str, active: Flags | None, *, wanted: bool) -> Sequence[Any] | None:
        size, form = (8, "<f8") if kind == "double" else (4, "<f4")
        start = self._at
        self._advance(size, active)
        if not wanted:
            return None
        # a view in which a number begins at every byte
        view: NDArray[Any] = np.ndarray((self._last + 1,), form, self._bytes.data, 0, (1,))
        values = view[start].astype(np.float64)
        self._doubt(~np.isfinite(values), active)
        return _listed(values.tolist(), active)

    def _texts(self, node: Node, active: Flags | None, *, wanted: bool) -> Sequence[Any] | None:
        lengths: Any = node.size if node.kind == "fixed" else self._integers(active)
        wrong = (lengths < 0) | (lengths > self._ends - self._at)
        self._doubt(wrong, active)
        lengths = np.where(wrong, 0, lengths)
        starts = self._at
        self._advance(lengths, active)
        if node.kind == "string" and self._text is None:
            self._text = self._raw.decode("latin-1")
            self._high = np.concatenate([[0], np.cumsum(self._bytes[: self._last] >= 0x80)])
        ends = starts + lengths
        if node.kind == "string" and self._high is not None and self._text is not None:
            high = self._high[ends] != self._high[starts]
            text = self._text
            values: list[Any] = []
            if wanted:
                values = [text[a:b] for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]
            for row in np.flatnonzero(high).tolist():  # other text than ASCII
                try:
                    decoded = self._raw[starts[row] : ends[row]].decode()
                except UnicodeDecodeError:
                    self._bad[row] = True
                    continue
                if wanted:
                    values[row] = decoded
            return _listed(values, active) if wanted else None
        if not wanted:
            return None
        raw, scale = self._raw, 10 ** (node.scale or 0)
        self._doubt(lengths > 8, active)  # so that a double is the nearest one, and the division never fails
        pairs = zip(starts.tolist(), np.minimum(ends, starts + 8).tolist(), strict=True)
        return _listed([int.from_bytes(raw[a:b], "big", signed=True) / scale for a, b in pairs], active)

    def _times(self, values: Ints, node: Node, active: Flags | None) -> list[Any]:
        per_second = node.ticks or 1
        seconds = values * _DAY_S if node.ticks == 0 else values // per_second
        wrong = (seconds < _EARLIEST_S) | (seconds > _LATEST_S)
        self._doubt(wrong, active)
        values = np.where(wrong, 0, values)
        if node.as_text:
            if node.ticks == 0:
                end = "T00:00:00Z" if node.is_event_time else ""
                return [f"{date}{end}" for date in np.datetime_as_string(values.astype("datetime64[D]")).tolist()]
            texts = timestamps.render_batch(values, _UNITS[per_second])
            local = (node.logical or "").startswith("local")
            return [text[:-1] for text in texts] if local else texts
        if node.unit is None:
            return values.tolist()  # type: ignore[no-any-return]
        if node.ticks != 0 and per_second >= node.unit:
            return (values // (per_second // node.unit)).tolist()  # type: ignore[no-any-return]
        factor = _DAY_S * node.unit if node.ticks == 0 else node.unit // per_second
        # beyond int64 only the exact reading is right
        wrong = abs(values) > 2**62 // factor
        self._doubt(wrong, active)
        return (np.where(wrong, 0, values) * factor).tolist()  # type: ignore[no-any-return]


def _listed(values: list[Any], active: Flags | None) -> list[Any]:
    """Return values with None where a record has none."""
    if active is not None:
        for row in np.flatnonzero(~active).tolist():
            values[row] = None
    return values
