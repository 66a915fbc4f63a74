"""One event's bytes → accepted, or the first reason in the contract's order why it is refused.

This is the definition of a valid event. It is exact and unhurried: `schemas.event` decides the ordinary record at a
tenth of the cost and asks here about every other one; a property test holds the two equal.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from schemas import rfc3339
from schemas.bundle import EventMapping, Feature

# Doubles count integers exactly below this; beyond it a sum of anchors would no longer be exact.
NUMERIC_LIMIT = 2.0**53
MAX_DEPTH = 100
MAX_ID_LENGTH = 128
MAX_DETAIL_BYTES = 512
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_ABSENT = object()


class Reason(StrEnum):
    """Why a record was not predicted: the header's value, the metric's label and the runbook's heading."""

    EMPTY = "empty"
    TOO_LARGE = "too_large"
    NOT_JSON = "not_json"
    ENVELOPE = "envelope"
    EVENT_TIME_IN_FUTURE = "event_time_in_future"
    MISSING_FEATURE = "missing_feature"
    WRONG_TYPE = "wrong_type"
    OUT_OF_RANGE = "out_of_range"
    NOT_FINITE = "not_finite"
    UNKNOWN_FIELD = "unknown_field"
    MODEL_ERROR = "model_error"
    SKIPPED = "skipped"


class Record(Protocol):
    """A record as it was read from Kafka; aiokafka's ConsumerRecord is one."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    timestamp: int
    timestamp_type: int


@dataclass(frozen=True, slots=True)
class Defect:
    """Why one record is refused: the reason, and one ASCII line of at most 512 bytes that a person can act on.

    `path` is the place in the event, outermost name first, for errors that are addressed to a program.
    """

    reason: Reason
    detail: str
    path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rules:
    """Limits of a valid event. Sizes in bytes, skew in milliseconds."""

    max_event_bytes: int = 65_536
    max_future_skew_ms: int = 300_000
    reject_unknown_fields: bool = False
    detail_values: bool = False


@dataclass(frozen=True, slots=True)
class Shape:
    """The fields of a JSON object that we know: names of leaves, and shapes of the objects within."""

    leaves: frozenset[str]
    objects: dict[str, Shape] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`defect` is None for a valid event; `known` is then its JSON with only the fields we know."""

    defect: Defect | None
    known: dict[str, Any]
    unknown_fields: int


def shape_of(features: Sequence[Feature], mapping: EventMapping) -> Shape:
    """Every path of the mapping and every feature as one tree; ValueError where two of them claim the same place."""
    tree: dict[str, Any] = {}
    placed: set[str] = set()

    def place(path: Sequence[str]) -> None:
        node: Any = tree
        for part in path[:-1]:
            node = node.setdefault(part, {}) if node is not None else None
        dotted = ".".join(path)
        # a feature may have a dot in its name: then two places can be written alike, and would be mistaken for one
        if node is None or path[-1] in node or dotted in placed:
            raise ValueError(f"event mapping: {dotted} is used twice")
        node[path[-1]] = None
        placed.add(dotted)

    for dotted in (mapping.event_id, mapping.customer_id, mapping.event_time):
        if dotted:
            place(split(dotted))
    for feature in features:
        place([*split(mapping.features), feature.source])
    if mapping == EventMapping():
        place(["schema_version"])

    def shape(node: dict[str, Any]) -> Shape:
        return Shape(
            frozenset(name for name, inner in node.items() if inner is None),
            {name: shape(inner) for name, inner in node.items() if inner is not None},
        )

    return shape(tree)


def split(dotted: str) -> list[str]:
    """A dotted path's parts; none for the empty path, which is the top level."""
    return dotted.split(".") if dotted else []


def record_size(record: Record) -> int:
    """Bytes of key, value and headers together."""
    size = len(record.key or b"") + len(record.value or b"")
    for name, value in record.headers:
        size += len(name.encode()) + len(value or b"")
    return size


class _RefusedError(Exception):
    def __init__(self, reason: Reason, detail: str, path: Sequence[str] = ()) -> None:
        super().__init__(reason)
        clean = detail.encode("ascii", "backslashreplace").decode()
        self.defect = Defect(reason, _CONTROL.sub(" ", clean)[:MAX_DETAIL_BYTES], tuple(path))


class Examiner:
    """Examines events for one bundle's features and mapping."""

    def __init__(self, features: Sequence[Feature], mapping: EventMapping, rules: Rules) -> None:
        self._features = tuple(features)
        self._mapping = mapping
        self._rules = rules
        self._shape = shape_of(features, mapping)
        self._versioned = mapping == EventMapping()

    def examine(self, record: Record, now_ms: int) -> Verdict:
        """The verdict on one record; never raises for anything a record can hold."""
        try:
            return self._examine(record, now_ms)
        except _RefusedError as refused:
            return Verdict(refused.defect, {}, 0)

    def _examine(self, record: Record, now_ms: int) -> Verdict:
        if not record.value:
            raise _RefusedError(Reason.EMPTY, "value: expected a JSON object, got no bytes")
        size = record_size(record)
        limit = self._rules.max_event_bytes
        if size > limit:
            raise _RefusedError(Reason.TOO_LARGE, f"key, value and headers: {size} bytes, at most {limit} are read")
        event = parse_json(record.value)
        if not isinstance(event, dict):
            raise _RefusedError(Reason.ENVELOPE, f"event: expected a JSON object, got {self._seen(event)}")
        time_ms = self._envelope(event, record)
        features = self._lookup(event, split(self._mapping.features))
        if not isinstance(features, dict):
            text = f"{self._mapping.features}: expected an object, got {self._seen(features)}"
            raise _RefusedError(Reason.ENVELOPE, text, split(self._mapping.features))
        if time_ms > now_ms + self._rules.max_future_skew_ms:
            ahead = (time_ms - now_ms) / 1000
            where = self._mapping.event_time or "Kafka timestamp"
            skew = self._rules.max_future_skew_ms / 1000
            text = f"{where}: {ahead:.0f} s ahead of this clock, at most {skew:.0f} s are accepted"
            raise _RefusedError(Reason.EVENT_TIME_IN_FUTURE, text, split(self._mapping.event_time))
        for feature in self._features:
            self._feature(feature, features.get(feature.source, _ABSENT))
        unknown: list[str] = []
        known = _prune(event, self._shape, "", unknown)
        if unknown and self._rules.reject_unknown_fields:
            name = unknown[0] if len(unknown[0]) <= MAX_ID_LENGTH else unknown[0][:MAX_ID_LENGTH] + "..."
            raise _RefusedError(Reason.UNKNOWN_FIELD, f"{name!r}: not a field of this event", unknown[0].split("."))
        if self._versioned:
            # it has said all it can; 1.0 is the same JSON number, but no integer to the decoder of `known`
            known.pop("schema_version", None)
        return Verdict(None, known, len(unknown))

    def _envelope(self, event: dict[str, Any], record: Record) -> int:
        """Checks the envelope's own members; returns the event time in milliseconds."""
        mapping = self._mapping
        if mapping.event_id:
            self._identifier(mapping.event_id, self._lookup(event, split(mapping.event_id)))
        if mapping.customer_id:
            self._identifier(mapping.customer_id, self._lookup(event, split(mapping.customer_id)))
        elif (customer_id := customer_id_from_key(record.key)) is None:
            size = len(record.key or b"")
            raise _RefusedError(Reason.ENVELOPE, f"record key: expected a customer id in UTF-8, got {size} bytes")
        else:
            self._identifier("record key", customer_id)
        version = event.get("schema_version", 1) if self._versioned else 1
        if isinstance(version, bool) or version != 1:
            raise _RefusedError(
                Reason.ENVELOPE, f"schema_version: expected 1, got {self._seen(version)}", ["schema_version"]
            )
        if not mapping.event_time:
            if record.timestamp < rfc3339.EARLIEST_MS:
                raise _RefusedError(Reason.ENVELOPE, "Kafka timestamp: before the year 1")
            return record.timestamp
        text = self._lookup(event, split(mapping.event_time))
        ms = rfc3339.parse(text) if isinstance(text, str) else None
        if ms is None:
            expected = "expected an RFC 3339 date-time with an offset or Z"
            detail = f"{mapping.event_time}: {expected}, got {self._seen(text)}"
            raise _RefusedError(Reason.ENVELOPE, detail, split(mapping.event_time))
        return ms

    def _identifier(self, path: str, value: object) -> None:
        if not isinstance(value, str) or not valid_identifier(value):
            expected = f"expected a string of 1 to {MAX_ID_LENGTH} characters without control characters"
            raise _RefusedError(Reason.ENVELOPE, f"{path}: {expected}, got {self._seen(value)}", split(path))

    def _feature(self, feature: Feature, value: object) -> None:
        path = [*split(self._mapping.features), feature.source]
        name = ".".join(path)
        if value is _ABSENT or value is None:
            if feature.nullable:
                return
            raise _RefusedError(
                Reason.MISSING_FEATURE, f"{name}: expected {_expected(feature)}, got {self._seen(value)}", path
            )
        right = {
            "numeric": isinstance(value, int | float) and not isinstance(value, bool),
            "categorical": isinstance(value, str),
            "boolean": isinstance(value, bool),
        }
        if not right[feature.kind]:
            raise _RefusedError(
                Reason.WRONG_TYPE, f"{name}: expected {_expected(feature)}, got {self._seen(value)}", path
            )
        if isinstance(value, int | float) and feature.kind == "numeric":
            if isinstance(value, float) and math.isinf(value):
                raise _RefusedError(Reason.NOT_FINITE, f"{name}: a number beyond the range of a double", path)
            low, high = feature.min, feature.max
            beyond = abs(value) >= NUMERIC_LIMIT
            if beyond or (low is not None and value < low) or (high is not None and value > high):
                text = f"{name}: expected {_expected(feature)}, got {self._seen(value)} outside it"
                raise _RefusedError(Reason.OUT_OF_RANGE, text, path)

    def _lookup(self, event: dict[str, Any], path: Sequence[str]) -> object:
        node: object = event
        for depth, part in enumerate(path):
            if not isinstance(node, dict):
                text = f"{'.'.join(path[:depth])}: expected an object, got {self._seen(node)}"
                raise _RefusedError(Reason.ENVELOPE, text, path[:depth])
            node = node.get(part, _ABSENT)
        return node

    def _seen(self, value: object) -> str:
        if value is _ABSENT:
            return "nothing"
        if value is None or isinstance(value, bool):
            kind = "null" if value is None else "a boolean"
        elif isinstance(value, str):
            kind = f"a string of {len(value)} characters"
        elif isinstance(value, int | float):
            kind = "a number"
        else:
            kind = f"an {'array' if isinstance(value, list) else 'object'} of {len(value)}"  # type: ignore[arg-type]
        if self._rules.detail_values and isinstance(value, str | int | float):
            return f"{kind} ({str(value)[:64]!r})" if isinstance(value, str | float) else f"{kind} ({value:.6g})"
        return kind


def _expected(feature: Feature) -> str:
    if feature.kind == "numeric":
        low = "-2^53" if feature.min is None else f"{feature.min:g}"
        high = "2^53" if feature.max is None else f"{feature.max:g}"
        return f"a number from {low} to {high}"
    return "a string" if feature.kind == "categorical" else "true or false"


def _prune(event: dict[str, Any], shape: Shape, prefix: str, unknown: list[str]) -> dict[str, Any]:
    """`event` with only the fields of `shape`; the dotted names of all others are appended to `unknown`."""
    known = {}
    for name, value in event.items():
        if name in shape.leaves:
            known[name] = value
        elif name in shape.objects and isinstance(value, dict):
            known[name] = _prune(value, shape.objects[name], f"{prefix}{name}.", unknown)
        else:
            unknown.append(prefix + name)
    return known


def valid_identifier(text: str) -> bool:
    """1-128 code points, no control characters, no surrogates."""
    return 1 <= len(text) <= MAX_ID_LENGTH and _CONTROL.search(text) is None


def customer_id_from_key(key: bytes | None) -> str | None:
    """The key as text, or None if it is absent or not UTF-8."""
    if key is None:
        return None
    try:
        return key.decode()
    except UnicodeDecodeError:
        return None


def parse_json(raw: bytes) -> object:
    """RFC 8259 JSON in UTF-8 with unique meaning; a repeated field's last value wins; numbers beyond a double are ±inf.

    Refuses (not_json) a BOM, a lone surrogate escape, NaN and Infinity tokens, nesting deeper than 100.
    """
    if raw[:1] == b"\x00":
        text = "value: a leading zero byte: schema-registry framing of Avro or Protobuf; JSON is expected"
        raise _RefusedError(Reason.NOT_JSON, text)
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise _RefusedError(Reason.NOT_JSON, f"value: byte {error.start} is not UTF-8") from None
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH and _depth(text) > MAX_DEPTH:
        raise _RefusedError(Reason.NOT_JSON, f"value: nested deeper than {MAX_DEPTH}")
    try:
        parsed: object = json.loads(text, parse_constant=_no_constant, parse_int=_integer)
    except json.JSONDecodeError as error:
        raise _RefusedError(Reason.NOT_JSON, f"value: {error.msg} at character {error.pos}") from None
    if "\\u" in text and _has_lone_surrogate(text):
        raise _RefusedError(Reason.NOT_JSON, "value: a lone surrogate escape")
    return parsed


def read_json(raw: bytes) -> tuple[object, Defect | None]:
    """`raw` as an event's JSON is read, and None; or None and the defect, whose reason is then `not_json`."""
    try:
        return parse_json(raw), None
    except _RefusedError as refused:
        return None, refused.defect


def _no_constant(token: str) -> float:
    raise _RefusedError(Reason.NOT_JSON, f"value: {token} is not JSON")


def _integer(digits: str) -> int | float:
    # 309 digits are beyond the double range, and int() refuses more than 4,300
    return int(digits) if len(digits) <= 300 else float(digits)


def _depth(text: str) -> int:
    depth = deepest = 0
    for character in _STRING.sub("", text):
        if character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest


def _has_lone_surrogate(text: str) -> bool:
    high_end = -1  # where an unpaired high surrogate's escape ended
    for match in _ESCAPE.finditer(text):
        code = int(match[1], 16) if match[1] else 0
        if 0xDC00 <= code <= 0xDFFF and match.start() == high_end:
            high_end = -1
            continue
        if high_end != -1 or 0xDC00 <= code <= 0xDFFF:
            return True
        if 0xD800 <= code <= 0xDBFF:
            high_end = match.end()
    return high_end != -1
