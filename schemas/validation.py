"""One event's bytes → accepted, ignored, or the first reason in the contract's order why it is rejected.

This is the definition of a valid event. It is exact and slow: `schemas.event` decides ordinary records at a tenth of
the cost and passes every other one to this module. A property test holds the two equal.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any, Protocol

from schemas import timestamps
from schemas.bundle.inputs import EventMapping, Feature
from schemas.mapping.places import JSON_TEXT, Place, Source, header, place_of, position, put, scalar, steps_of, written
from schemas.rejection_reasons import Reason, RejectedError, Rejection

# Doubles count integers exactly below this; beyond it a sum of anchors would no longer be exact.
NUMERIC_LIMIT = 2.0**53
MAX_DEPTH = 100
MAX_ID_LENGTH = 128
# Kafka's value for a record without a timestamp.
NO_TIMESTAMP = -1
ABSENT = object()
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)((?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)")


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


class RuleSettings(Protocol):
    """The settings that decide what a valid event is; kafka_runtime's EventSettings is one."""

    @property
    def scorer_max_event_bytes(self) -> int:
        """Return the limit for key, value and headers together, in bytes."""

    @property
    def scorer_max_future_skew(self) -> timedelta:
        """Return how far an event may be ahead of the clock."""

    @property
    def scorer_unknown_fields(self) -> str:
        """Return `ignore` or `reject`."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Limits of a valid event. Sizes in bytes, skew in milliseconds."""

    max_event_bytes: int = 65_536
    max_future_skew_ms: int = 300_000
    reject_unknown_fields: bool = False
    detail_values: bool = False

    @classmethod
    def of(cls, settings: RuleSettings) -> Rules:
        """Return the rules that a service or a command was configured with."""
        return cls(
            max_event_bytes=settings.scorer_max_event_bytes,
            max_future_skew_ms=round(settings.scorer_max_future_skew.total_seconds() * 1000),
            reject_unknown_fields=settings.scorer_unknown_fields == "reject",
        )


class Ignored(StrEnum):
    """Why a record is no event, and is neither predicted nor rejected: the metric's label."""

    ONLY = "only"
    TOMBSTONE = "tombstone"

    @property
    def text(self) -> str:
        """What that means, for a person."""
        return "[event.only] lists other values" if self is Ignored.ONLY else "a null value"


@dataclass(frozen=True, slots=True)
class Shape:
    """The fields of a JSON object that we know: names of leaves, and shapes of what is within.

    An array has its known positions as names, and a text that is JSON the one name JSON_TEXT. open: other fields belong
    to an envelope that others defined, and are not unknown.
    """

    leaves: frozenset[str]
    objects: dict[str, Shape] = field(default_factory=dict)
    open: bool = False


@dataclass(frozen=True, slots=True)
class Validation:
    """What one record is. Neither rejected nor ignored: a valid event.

    known: of a valid event, path as in mapping and features → the JSON value there; what is absent is left out.
    """

    rejection: Rejection | None = None
    known: dict[str, Any] = field(default_factory=dict)
    unknown_fields: int = 0
    ignored: Ignored | None = None


def leaves_of(features: Sequence[Feature], mapping: EventMapping) -> dict[str, tuple[str, ...]]:
    """Return every path in the value that is read, as it is written → its steps."""
    leaves = {path: steps_of(path) for path in _own_paths(mapping)}
    root = steps_of(mapping.features)
    leaves |= {f"{mapping.features}." * bool(root) + f.source: (*root, *f.path) for f in features}
    if mapping.is_envelope:
        leaves["schema_version"] = ("schema_version",)
    return leaves | {path: steps_of(path) for path in mapping.only if not path.startswith("$")}


def _own_paths(mapping: EventMapping) -> list[str]:
    paths = (mapping.event_id, mapping.customer_id, mapping.event_time)
    return [path for path in paths if path and not path.startswith("$")]


def shape_of(features: Sequence[Feature], mapping: EventMapping) -> Shape:
    """Return every path of the mapping and every feature as one tree; ValueError where two use the same place."""
    tree: dict[str, Any] = {}
    placed: set[str] = set()

    def place(dotted: str, steps: Sequence[str]) -> None:
        node: Any = tree
        for part in steps[:-1]:
            node = node.setdefault(part, {}) if node is not None else None
        # a feature may have a dot in its name: then two places can be written alike, and would be mistaken for one
        if node is None or steps[-1] in node or dotted in placed:
            raise ValueError(f"event mapping: {dotted} is used twice")
        node[steps[-1]] = None
        placed.add(dotted)

    root = steps_of(mapping.features)
    for path in _own_paths(mapping):
        place(path, steps_of(path))
    for feature in features:
        place(dotted((*root, *feature.path)), (*root, *feature.path))
    if mapping.is_envelope:
        place("schema_version", ("schema_version",))
    for path in mapping.only:
        if not path.startswith("$") and path not in placed:
            place(path, steps_of(path))

    def shape(node: dict[str, Any], at: tuple[str, ...]) -> Shape:
        return Shape(
            frozenset(name for name, inner in node.items() if inner is None),
            {name: shape(inner, (*at, name)) for name, inner in node.items() if inner is not None},
            mapping.preset is not None and at[: len(root)] != root,
        )

    return shape(tree, ())


def dotted(steps: Sequence[str]) -> str:
    """Return steps as a path is written; the empty path is the top level."""
    return ".".join(steps).replace(f".{JSON_TEXT}", JSON_TEXT)


def features_object(features: Sequence[Feature], row: Mapping[str, Any]) -> dict[str, Any]:
    """Return an event's object of features from values by feature name; an absent name is left out.

    >>> age = Feature(name="age", kind="numeric", **{"from": "customer.age"})
    >>> features_object([age], {"age": 42})
    {'customer': {'age': 42}}
    """
    found: dict[str, Any] = {}
    for feature in features:
        if feature.name in row:
            value = row[feature.name]
            if isinstance(value, bool) and feature.true is not None and feature.false is not None:
                value = feature.true[0] if value else feature.false[0]
            put(found, feature.path, value)
    made: dict[str, Any] = written(found)
    return made


def record_size(record: Record) -> int:
    """Return the bytes of key, value and headers together."""
    known: int | None = getattr(record, "size", None)
    if known is not None:
        return known
    size = len(record.key or b"") + len(record.value or b"")
    for name, value in record.headers:
        size += len(name.encode()) + len(value or b"")
    return size


class MisplacedError(Exception):
    """A step of a path leads into a value that has no such parts, or whose text is no JSON."""

    def __init__(self, depth: int, value: object, why: str) -> None:
        super().__init__(why)
        self.depth, self.value, self.why = depth, value, why


class Reading:
    """One record while it is read: each text in it that is JSON is parsed once."""

    def __init__(self, record: Record | None) -> None:
        self.record = record
        self._parsed: dict[str | bytes, object] = {}

    def parse(self, text: str | bytes) -> object:
        """Return the JSON in a text; RejectedError."""
        if text not in self._parsed:
            self._parsed[text] = parse_json(text.encode() if isinstance(text, str) else text)
        return self._parsed[text]

    def step(self, node: object, step: str, depth: int) -> object:
        """Return what is one step further, ABSENT if nothing is; MisplacedError."""
        if step == JSON_TEXT:
            if not isinstance(node, str):
                raise MisplacedError(depth, node, "expected a text that is JSON, got")
            try:
                return self.parse(node)
            except RejectedError as error:
                raise MisplacedError(depth, ABSENT, error.rejection.detail.replace("value: ", "no JSON: ")) from None
        if isinstance(node, dict):
            return node.get(step, ABSENT)
        if isinstance(node, list) and (at := position(step)) is not None:
            return node[at] if at < len(node) else ABSENT
        raise MisplacedError(depth, node, "expected an object, got")

    def walk(self, node: object, steps: Sequence[str], above: int = 0) -> object:
        """Return what is at the end of a path; MisplacedError, with its depth counted from `above`."""
        for depth, step in enumerate(steps):
            node = self.step(node, step, above + depth)
        return node

    def part(self, place: Place, event: object) -> object:
        """Return what is at a place of the record; ABSENT, RejectedError or MisplacedError if nothing is."""
        if place.source is Source.VALUE:
            return self.walk(event, place.steps)
        assert self.record is not None, "without one, a path leads into a value"  # noqa: S101
        if place.source is Source.HEADER:
            raw = header(self.record.headers, place.steps[0])
        else:
            raw = self.record.key
            if place.steps and raw is not None:
                return self.walk(self.parse(raw), place.steps)
        try:
            return ABSENT if raw is None else raw.decode()
        except UnicodeDecodeError:
            raise MisplacedError(0, ABSENT, "not UTF-8") from None

    def peek(self, place: Place, event: object) -> object:
        """Return the same, and ABSENT for whatever is in the way."""
        try:
            return self.part(place, event)
        except (RejectedError, MisplacedError):
            return ABSENT


class ValueReader(Protocol):
    """Reads the values of records that are not plain JSON; schemas.formats has one."""

    def event(self, value: bytes) -> object:
        """Return a value as the JSON value that it is; RejectedError."""

    def require_fit(self, value: bytes) -> None:
        """Raise RejectedError if no value of the same kind can be an event of the spec."""


class _Json:
    """Reads values that are JSON."""

    def event(self, value: bytes) -> object:
        """Return a value; RejectedError."""
        return parse_json(value)

    def require_fit(self, value: bytes) -> None:
        """Accept: what JSON has is only known by reading it."""


class EventValidator:
    """Validates events for one bundle's features and mapping."""

    def __init__(self, features: Sequence[Feature], mapping: EventMapping, rules: Rules) -> None:
        self._mapping = mapping
        self._forms = [FormValidator(features, form, rules) for form in mapping.forms()]

    def validate(self, record: Record, now_ms: int) -> Validation:
        """Return what one record is; no record's content raises."""
        form = self._forms[self._mapping.form_of(record.value, record.headers) if len(self._forms) > 1 else 0]
        return form.validate(record, now_ms)


class FormValidator:
    """Validates events that are written in one form."""

    def __init__(
        self, features: Sequence[Feature], mapping: EventMapping, rules: Rules, reader: ValueReader | None = None
    ) -> None:
        self._reader = reader or _Json()
        self._features = tuple(features)
        self._mapping = mapping
        self._rules = rules
        self._shape = shape_of(features, mapping)
        self._leaves = leaves_of(features, mapping)
        self._root = steps_of(mapping.features)
        self._positional = all(position(feature.path[0]) is not None for feature in features)
        self._time = timestamps.TimeForm(mapping.time_unit, mapping.time_zone)
        only = [(place_of(path), frozenset(map(scalar, values))) for path, values in mapping.only.items()]
        # these are looked at before the value, which may be no JSON at all in a record of another kind
        self._only_text = [(p, v) for p, v in only if p.source is Source.HEADER or p.text == "$key"]
        self._only_json = [one for one in only if one not in self._only_text]
        self._booleans = {feature.name: boolean_values(feature) for feature in features}

    def validate(self, record: Record, now_ms: int) -> Validation:
        """Return what one record is."""
        try:
            return self._validate(record, now_ms)
        except RejectedError as rejected:
            return Validation(rejected.rejection)

    def _validate(self, record: Record, now_ms: int) -> Validation:
        if record.value is None and self._mapping.tombstones == "ignore":
            return Validation(ignored=Ignored.TOMBSTONE)
        reading = Reading(record)
        if any(scalar(reading.peek(place, None)) not in listed for place, listed in self._only_text):
            return Validation(ignored=Ignored.ONLY)
        if not record.value:
            raise RejectedError(Reason.EMPTY, "value: expected a JSON object, got no bytes")
        size = record_size(record)
        limit = self._rules.max_event_bytes
        if size > limit:
            raise RejectedError(Reason.TOO_LARGE, f"key, value and headers: {size} bytes, at most {limit} are read")
        event = self._reader.event(record.value)
        if not isinstance(event, dict):
            raise RejectedError(Reason.ENVELOPE, f"event: expected a JSON object, got {self._seen(event)}")
        if any(scalar(reading.peek(place, event)) not in listed for place, listed in self._only_json):
            return Validation(ignored=Ignored.ONLY)
        self._reader.require_fit(record.value)
        time_ms = self._envelope(event, reading)
        features = self._part("", Place(Source.VALUE, self._root, self._mapping.features), event, reading)
        if not isinstance(features, dict) and not (isinstance(features, list) and self._positional):
            text = f"{self._mapping.features}: expected an object, got {self._seen(features)}"
            raise RejectedError(Reason.ENVELOPE, text, _names(self._root))
        if time_ms > now_ms + self._rules.max_future_skew_ms:
            ahead = (time_ms - now_ms) / 1000
            where = self._mapping.event_time or "Kafka timestamp"
            skew = self._rules.max_future_skew_ms / 1000
            text = f"{where}: {ahead:.0f} s ahead of this clock, at most {skew:.0f} s are accepted"
            raise RejectedError(Reason.EVENT_TIME_IN_FUTURE, text, _names(place_of(self._mapping.event_time).steps))
        for feature in self._features:
            self._feature(feature, features, reading)
        unknown: list[str] = []
        _find_unknown(event, self._shape, "", unknown, reading)
        if unknown and self._rules.reject_unknown_fields:
            name = unknown[0] if len(unknown[0]) <= MAX_ID_LENGTH else unknown[0][:MAX_ID_LENGTH] + "..."
            raise RejectedError(Reason.UNKNOWN_FIELD, f"{name!r}: not a field of this event", unknown[0].split("."))
        # of a version all is said; 1.0 is the same JSON number, but no integer to the decoder of `known`
        found = {path: _at(event, steps, reading) for path, steps in self._leaves.items() if path != "schema_version"}
        return Validation(None, {path: value for path, value in found.items() if value is not ABSENT}, len(unknown))

    def _envelope(self, event: dict[str, Any], reading: Reading) -> int:
        """Checks the envelope's own members; returns the event time in milliseconds."""
        mapping, record = self._mapping, reading.record
        assert record is not None, "the one that is validated"  # noqa: S101
        if mapping.event_id:
            self._identifier(mapping.event_id, event, reading)
        if mapping.customer_id not in {"", "$key"}:
            self._identifier(mapping.customer_id, event, reading)
        elif (customer_id := customer_id_from_key(record.key)) is None:
            size = len(record.key or b"")
            raise RejectedError(Reason.ENVELOPE, f"record key: expected a customer id in UTF-8, got {size} bytes")
        else:
            self._check_identifier("record key", customer_id, [])
        version = event.get("schema_version", 1) if mapping.is_envelope else 1
        if isinstance(version, bool) or version != 1:
            raise RejectedError(
                Reason.ENVELOPE, f"schema_version: expected 1, got {self._seen(version)}", ["schema_version"]
            )
        if mapping.event_time in {"", "$timestamp"}:
            if record.timestamp == NO_TIMESTAMP:
                raise RejectedError(Reason.ENVELOPE, "no Kafka timestamp, which is this event's time")
            if record.timestamp < timestamps.EARLIEST_MS:
                raise RejectedError(Reason.ENVELOPE, "Kafka timestamp: before the year 1")
            return record.timestamp
        place = place_of(mapping.event_time)
        value = self._part(mapping.event_time, place, event, reading)
        found = self._time.read(value)
        if found is None:
            detail = f"{mapping.event_time}: expected {self._time.expected}, got {self._seen(value)}"
            raise RejectedError(Reason.ENVELOPE, detail, _names(place.steps))
        return found[0]

    def _identifier(self, path: str, event: dict[str, Any], reading: Reading) -> None:
        place = place_of(path)
        self._check_identifier(path, self._part(path, place, event, reading), _names(place.steps))

    def _check_identifier(self, path: str, value: object, names: Sequence[str]) -> None:
        if identifier(value) is None:
            expected = f"expected a string of 1 to {MAX_ID_LENGTH} characters without control characters"
            if isinstance(value, int) and not isinstance(value, bool):
                text = f"{path}: {expected}, or an integer below 2^53, got a larger one: {self._seen(value)}"
                raise RejectedError(Reason.ENVELOPE, text, names)
            raise RejectedError(Reason.ENVELOPE, f"{path}: {expected}, or an integer, got {self._seen(value)}", names)

    def _part(self, path: str, place: Place, event: object, reading: Reading) -> object:
        """Return what is at a place of the envelope; ABSENT if nothing is."""
        try:
            return reading.part(place, event)
        except MisplacedError as error:
            steps = place.steps[: error.depth]
            where = path if place.source is not Source.VALUE else dotted(steps)
            got = f" {self._seen(error.value)}" if error.why.endswith(" got") else ""
            raise RejectedError(Reason.ENVELOPE, f"{where}: {error.why}{got}", _names(steps)) from None
        except RejectedError as error:  # of a key that is no JSON
            text = error.rejection.detail.replace("value: ", "")
            raise RejectedError(Reason.ENVELOPE, f"record key: expected JSON: {text}") from None

    def _feature(self, feature: Feature, features: object, reading: Reading) -> None:
        above = self._root
        path = [*above, *feature.path]
        name = dotted(path)
        value: object = features
        for depth, step in enumerate(feature.path):
            if value is ABSENT or value is None:
                break  # a feature within an object that is missing is missing
            try:
                value = reading.step(value, step, depth)
            except MisplacedError as error:
                outer = [*above, *feature.path[:depth]]
                got = f" {self._seen(error.value)}" if error.why.endswith(" got") else ""
                raise RejectedError(Reason.WRONG_TYPE, f"{dotted(outer)}: {error.why}{got}", _names(outer)) from None
        if value is ABSENT or value is None:
            if feature.nullable:
                return
            text = f"{name}: expected {_expected(feature)}, got {self._seen(value)}"
            raise RejectedError(Reason.MISSING_FEATURE, text, _names(path))
        number = value
        if feature.parse and isinstance(value, str):
            number = number_of(value)
        right = {
            "numeric": isinstance(number, int | float) and not isinstance(number, bool),
            "categorical": isinstance(value, str) or (bool(feature.integers) and type(value) is int),
            "boolean": scalar(value) in self._booleans[feature.name],
        }
        if not right[feature.kind]:
            text = f"{name}: expected {_expected(feature)}, got {self._seen(value)}"
            raise RejectedError(Reason.WRONG_TYPE, text, _names(path))
        if isinstance(number, float) and not math.isfinite(number) and feature.kind == "numeric":
            what = "not a number" if math.isnan(number) else "a number beyond the range of a double"
            raise RejectedError(Reason.NOT_FINITE, f"{name}: {what}", _names(path))
        if isinstance(number, int | float) and feature.kind != "boolean":
            low, high = feature.min, feature.max
            beyond = abs(number) >= NUMERIC_LIMIT
            if beyond or (low is not None and number < low) or (high is not None and number > high):
                text = f"{name}: expected {_expected(feature)}, got {self._seen(value)} outside it"
                raise RejectedError(Reason.OUT_OF_RANGE, text, _names(path))

    def _seen(self, value: object) -> str:
        if value is ABSENT:
            return "nothing"
        if value is None or isinstance(value, bool):
            kind = "null" if value is None else "a boolean"
        elif isinstance(value, str):
            kind = f"a string of {len(value)} characters"
        elif isinstance(value, int | float):
            kind = "a number"
        elif isinstance(value, bytes):
            kind = f"{len(value)} bytes"
        else:
            kind = f"an {'array' if isinstance(value, list) else 'object'} of {len(value)}"  # type: ignore[arg-type]
        if self._rules.detail_values and isinstance(value, str | int | float):
            return f"{kind} ({str(value)[:64]!r})" if isinstance(value, str | float) else f"{kind} ({value:.6g})"
        return kind


def _expected(feature: Feature) -> str:
    if feature.kind == "numeric":
        low = "-2^53" if feature.min is None else f"{feature.min:g}"
        high = "2^53" if feature.max is None else f"{feature.max:g}"
        text = f"a number from {low} to {high}"
        return f"{text}, or a string of one" if feature.parse else text
    if feature.kind == "categorical":
        return "a string or an integer" if feature.integers else "a string"
    if feature.true is not None and feature.false is not None:
        return " or ".join(json.dumps(value) for value in (*feature.true, *feature.false))
    return "true or false"


def identifier(value: object) -> str | None:
    """Return an id as text: a string as it is, an integer in decimal; None if the value is no id.

    >>> identifier("7590-VHVEG"), identifier(17), identifier(True), identifier("")
    ('7590-VHVEG', '17', None, None)
    """
    if isinstance(value, str):
        return value if valid_identifier(value) else None
    return str(value) if type(value) is int and abs(value) < NUMERIC_LIMIT else None


def number_of(text: str) -> int | float | None:
    """Return the number that a text is in JSON's own form; None if it is none, an infinity if it is beyond a double.

    >>> number_of("85.00"), number_of("1e400"), number_of("085"), number_of(" 85")
    (85.0, inf, None, None)
    """
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    return float(text) if match[1] else _integer(text)


def boolean_values(feature: Feature) -> dict[tuple[str, object] | None, bool]:
    """Return the JSON values that a boolean feature has, in the form of `scalar`, and what they mean."""
    true, false = feature.true or (True,), feature.false or (False,)
    return {scalar(value): truth for truth, values in ((True, true), (False, false)) for value in values}


def _names(steps: Sequence[str]) -> list[str]:
    """Return a path as a program is told of it."""
    return [step for step in steps if step != JSON_TEXT]


def _at(event: object, steps: Sequence[str], reading: Reading) -> object:
    """Return the value at the end of a path, ABSENT if a part of it is missing or null."""
    node = event
    for step in steps:
        if node is ABSENT or node is None:
            return ABSENT
        node = reading.step(node, step, 0)
    return node


def _find_unknown(value: object, shape: Shape, prefix: str, unknown: list[str], reading: Reading) -> None:
    """Append the dotted names of all fields that are not in the shape."""
    if isinstance(value, str) and JSON_TEXT in shape.objects:
        _find_unknown(reading.parse(value), shape.objects[JSON_TEXT], prefix, unknown, reading)
    elif isinstance(value, list):
        for step, inner in shape.objects.items():
            if (at := position(step)) is not None and at < len(value):
                _find_unknown(value[at], inner, f"{prefix}{step}.", unknown, reading)
    elif isinstance(value, dict):
        for name, inside in value.items():
            if name in shape.objects:
                if inside is not None:  # else the nullable features in it are missing
                    _find_unknown(inside, shape.objects[name], f"{prefix}{name}.", unknown, reading)
            elif name not in shape.leaves and not shape.open:
                unknown.append(prefix + name)


def valid_identifier(text: str) -> bool:
    """Return whether a text has 1-128 code points, no control characters, no surrogates."""
    return 1 <= len(text) <= MAX_ID_LENGTH and _CONTROL.search(text) is None


def customer_id_from_key(key: bytes | None) -> str | None:
    """Return the key as text, or None if it is absent or not UTF-8."""
    if key is None:
        return None
    try:
        return key.decode()
    except UnicodeDecodeError:
        return None


def parse_json(raw: bytes) -> object:
    """Return JSON in UTF-8 with unique meaning (RFC 8259).

    A repeated field's last value wins; numbers beyond a double are ±inf.

    Refuses (not_json) a BOM, a lone surrogate escape, NaN and Infinity tokens, nesting deeper than 100.
    """
    if raw[:1] == b"\x00":
        raise RejectedError(Reason.NOT_JSON, f"value: {_framing(raw)}; JSON without it is expected")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise RejectedError(Reason.NOT_JSON, f"value: byte {error.start} is not UTF-8") from None
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH and _depth(text) > MAX_DEPTH:
        raise RejectedError(Reason.NOT_JSON, f"value: nested deeper than {MAX_DEPTH}")
    try:
        parsed: object = json.loads(text, parse_constant=_no_constant, parse_int=_integer)
    except json.JSONDecodeError as error:
        raise RejectedError(Reason.NOT_JSON, f"value: {error.msg} at character {error.pos}") from None
    if "\\u" in text and _has_lone_surrogate(text):
        raise RejectedError(Reason.NOT_JSON, "value: a lone surrogate escape")
    return parsed


def _framing(raw: bytes) -> str:
    """Name the framing of a value with a leading zero byte; a registry adds that byte and a schema id of four bytes."""
    if len(raw) < 5:
        return "a leading zero byte, as in schema-registry framing"
    framing, inner = f"schema-registry framing (schema id {int.from_bytes(raw[1:5], 'big')})", raw[5:].lstrip()
    return f"{framing} around {'JSON' if inner[:1] in {b'{', b'['} else 'Avro or Protobuf'}"


def read_json(raw: bytes) -> tuple[object, Rejection | None]:
    """Return an event's JSON and None; or None and the rejection with the reason `not_json`."""
    try:
        return parse_json(raw), None
    except RejectedError as rejected:
        return None, rejected.rejection


def _no_constant(token: str) -> float:
    raise RejectedError(Reason.NOT_JSON, f"value: {token} is not JSON")


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
