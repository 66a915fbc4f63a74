"""One record of Avro → an event as JSON has it. This is the definition; `avro_columns` reads the same in batches."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from schemas import timestamps
from schemas.bundle.inputs import EventMapping, Feature
from schemas.formats.avro_columns import Columns
from schemas.formats.avro_schema import Node, parse, prepare
from schemas.formats.registered import MisfitError, Registered
from schemas.rejection_reasons import Reason, RejectedError
from schemas.validation import leaves_of, shape_of

# int64 of a time that no text can have
_DIGITS = {1000: "ms", 10**6: "us", 10**9: "ns"}
_EARLIEST_S, _LATEST_S = timestamps.EARLIEST_MS // 1000, timestamps.LATEST_MS // 1000
_DAY_S = 86_400


class Avro:
    """Reads the records of one Avro schema for one spec."""

    def __init__(self, registered: Registered, features: Sequence[Feature], mapping: EventMapping) -> None:
        """Compile; UnreadableSchemaError."""
        self._root, self._schema, self._named = parse(registered)
        self.misfit: str | None = None
        try:
            prepare(self._root, features, mapping)
        except MisfitError as error:
            self.misfit = str(error)
        if self.misfit is None:
            leaves, shape = leaves_of(features, mapping), shape_of(features, mapping)
            above = f"{mapping.features}." if mapping.features else ""
            required = {above + feature.source for feature in features if not feature.nullable} | {"schema_version"}
            self._columns: Columns | None = Columns(self._root, leaves, shape, required & leaves.keys())
        else:
            self._columns = None

    def misfit_of(self, _body: bytes) -> str | None:
        """Return why a record is no event of the spec: of all records the same."""
        return self.misfit

    def event(self, body: bytes) -> object:
        """Return a record as the JSON value that it is; RejectedError."""
        from fastavro import schemaless_reader  # noqa: PLC0415 - an extra

        stream = io.BytesIO(body)
        try:
            value = schemaless_reader(stream, self._schema, None, return_named_type=False)
        except Exception as error:  # noqa: BLE001 - fastavro raises many kinds for bytes that are no record
            text = f"value: no record of its schema: {type(error).__name__} at byte {stream.tell()}"
            raise RejectedError(Reason.NOT_DECODABLE, text) from None
        if (left := len(body) - stream.tell()) != 0:
            raise RejectedError(Reason.NOT_DECODABLE, f"value: {left} bytes behind the record of its schema")
        return json_value(self._root, value)

    def rows(self, bodies: Sequence[bytes]) -> tuple[list[tuple[Any, ...] | None], list[int]] | None:
        """Return the values at the paths of each record, and the number of its unknown fields.

        None for a record that only `event` can read, and for all if the schema has parts that only it can.
        """
        return None if self._columns is None else self._columns.rows(bodies)


def json_value(node: Node, value: Any) -> Any:
    """Return a value of fastavro as the JSON value that it is.

    >>> json_value(Node("bytes", "decimal", scale=2), bytes([1, 0]))
    2.56
    """
    if value is None:
        return None
    if node.kind == "union":
        return json_value(_branch(node, value), value)
    if node.kind == "record":
        return {name: json_value(inner, value[name]) for name, inner in node.fields.items()}
    if node.kind == "array" and node.inner is not None:
        return [json_value(node.inner, one) for one in value]
    if node.kind == "map" and node.inner is not None:
        return {name: json_value(node.inner, one) for name, one in value.items()}
    if node.scale is not None:
        return decimal(value, node.scale)
    return time(value, node) if node.ticks is not None else value


def _branch(node: Node, value: Any) -> Node:
    """Return the branch of a union that a value is of; of several that it could be of, the first."""
    present = node.present
    if len(present) == 1:
        return present[0]
    kinds = _KINDS[type(value)]
    return next((b for b in present if b.kind in kinds and (b.kind != "record" or b.fields.keys() == value.keys())),
                Node("null"))  # fmt: skip


_KINDS: dict[type, frozenset[str]] = {
    bool: frozenset({"boolean"}),
    int: frozenset({"int", "long"}),
    float: frozenset({"float", "double"}),
    str: frozenset({"string", "enum"}),
    bytes: frozenset({"bytes", "fixed"}),
    dict: frozenset({"record", "map"}),
    list: frozenset({"array"}),
}


def decimal(raw: bytes, scale: int) -> float:
    """Return the double that is nearest to a decimal; an infinity beyond the double range."""
    unscaled = int.from_bytes(raw, "big", signed=True)
    try:
        return unscaled / int(10**scale)
    except OverflowError:
        return math.inf if unscaled > 0 else -math.inf


def time(ticks: int, node: Node) -> int | str:
    """Return a time as the spec reads it: as text in UTC, or in the unit of its `time_unit`, or the ticks that it has.

    A time of no year that can be written is the number of its ticks.

    >>> time(1795327200123, Node("long", ticks=1000, as_text=True)), time(20779, Node("int", ticks=0, as_text=True))
    ('2026-11-22T06:00:00.123Z', '2026-11-22')
    """
    per_second = node.ticks or 1
    second = ticks * _DAY_S if node.ticks == 0 else ticks // per_second
    if node.as_text:
        if not _EARLIEST_S <= second <= _LATEST_S:
            return ticks
        if node.ticks == 0:
            date = str(np.datetime64(ticks, "D"))
            return f"{date}T00:00:00Z" if node.is_event_time else date
        text = str(np.array(ticks).astype(f"datetime64[{_DIGITS[per_second]}]"))
        return text if (node.logical or "").startswith("local") else f"{text}Z"
    if node.unit is None:
        return ticks
    return ticks * _DAY_S * node.unit if node.ticks == 0 else ticks * node.unit // per_second
