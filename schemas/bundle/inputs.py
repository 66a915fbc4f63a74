"""What a model's events hold: its features, where they are in a record, and how training reads them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    SerializerFunctionWrapHandler,
    StrictBool,
    StrictInt,
    StrictStr,
    model_serializer,
    model_validator,
)

from schemas.mapping.places import Source, header, place_of, scalar, steps_of
from schemas.timestamps import known_zone

Kind = Literal["numeric", "categorical", "boolean"]
Bound = Annotated[float | None, Field(allow_inf_nan=False)]
Scalar = StrictBool | StrictInt | FiniteFloat | StrictStr
Listed = Annotated[
    tuple[Scalar, ...], BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)
]


class Frozen(BaseModel):
    """A part of the manifest: it never changes, and has no members that this version does not know."""

    # JSON has no infinity, but 1e400 is read as infinity: such a tolerance would accept every model
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False)


class Feature(Frozen):
    """One column of the model, in the manifest's order.

    `min` and `max` are inclusive and come from the spec, never from data: a customer who drifted must be scored and
    measured as drift, not rejected. `categories` is None only for numeric and boolean features. Integers among them
    become their decimal text, and `integers` states that an event may have JSON integers. parse: a string that is a
    number is that number. true, false: the JSON values of a boolean; None: those of JSON.
    `dtype` is pandas' type of the column in the estimator's frame, where it is not the usual one: `category` with
    `categories` as its categories, or `bool` (float64 where the feature is nullable).
    """

    name: Annotated[str, Field(min_length=1, max_length=128)]
    kind: Kind
    from_: Annotated[str | None, Field(alias="from")] = None
    unit: str | None = None
    min: Bound = None
    max: Bound = None
    categories: tuple[str, ...] | None = None
    integers: Literal[True] | None = None
    parse: Literal["number"] | None = None
    true: tuple[Scalar, ...] | None = None
    false: tuple[Scalar, ...] | None = None
    nullable: bool = False
    dtype: Literal["category", "bool"] | None = None
    effect_warning: float | None = None
    effect_critical: float | None = None

    @property
    def source(self) -> str:
        """Return the place of this feature within the event's features, as text."""
        return self.from_ or self.name

    @property
    def path(self) -> tuple[str, ...]:
        """The same as the names of nested members: `from` is a dotted path, and `name` is one name with its dots."""
        return (self.name,) if self.from_ is None else steps_of(self.from_)

    @model_validator(mode="before")
    @classmethod
    def _integers_as_text(cls, values: Any) -> Any:
        categories = values.get("categories") if isinstance(values, dict) else None
        if isinstance(categories, list | tuple) and any(type(category) is int for category in categories):
            return {**values, "categories": [str(c) if type(c) is int else c for c in categories], "integers": True}
        return values

    @model_validator(mode="after")
    def _consistent(self) -> Feature:
        if self.from_ is not None:
            try:
                steps_of(self.from_)
            except ValueError as error:
                raise ValueError(f"feature {self.name}: from: {error}") from None
        if problems := value_problems(self.kind, parse=self.parse, true=self.true, false=self.false):
            raise ValueError(f"feature {self.name}: {problems[0]}")
        if self.kind == "categorical" and self.categories is None:
            raise ValueError(f"feature {self.name}: a categorical feature needs its categories")
        if self.kind != "categorical" and self.categories is not None:
            raise ValueError(f"feature {self.name}: only a categorical feature has categories")
        if self.kind != "numeric" and (self.min is not None or self.max is not None):
            raise ValueError(f"feature {self.name}: only a numeric feature has min and max")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"feature {self.name}: min is above max")
        if self.dtype is not None and self.kind != {"category": "categorical", "bool": "boolean"}[self.dtype]:
            raise ValueError(f"feature {self.name}: dtype {self.dtype} is not of a {self.kind} feature")
        if len(set(self.categories or ())) != len(self.categories or ()):
            raise ValueError(f"feature {self.name}: a category is listed twice")
        return self


def value_problems(
    kind: Kind, *, parse: str | None, true: Sequence[object] | None, false: Sequence[object] | None
) -> list[str]:
    """Return what is wrong with the ways in which a feature's values may be written, as `KEY: why`."""
    problems = ["parse: only a numeric feature has it"] if parse is not None and kind != "numeric" else []
    if true is None and false is None:
        return problems
    if kind != "boolean":
        return [*problems, "true: only a boolean feature has true and false"]
    if not true or not false:
        return [*problems, "true: expected a list of values, and one of false"]
    seen: set[object] = set()
    for value in (*true, *false):
        if scalar(value) in seen:
            problems.append(f"true: {value!r} is listed twice")
        seen.add(scalar(value))
    return problems


#: What each preset sets, unless the spec does.
PRESETS: dict[str, dict[str, Any]] = {
    "debezium": {
        "event_id": "",
        "event_time": "payload.ts_ms",
        "time_unit": "ms",
        "features": "payload.after",
        "only": {"payload.op": ("c", "u", "r")},
        "tombstones": "ignore",
    },
    "cloudevents": {"event_id": "id", "customer_id": "subject", "event_time": "time", "features": "data"},
}


class EventMapping(Frozen):
    """Where an event's parts are: paths (schemas.mapping.places); the defaults are Driftline's own envelope.

    Empty strings: `event_id` = the prediction id, `customer_id` = the record's key, `event_time` = the record's Kafka
    timestamp, `features` = the event's top level. time_unit: of `event_time`. time_zone: of a time without an offset.
    only: path → the values of which one must be there; any other record is no event. preset: an envelope that others
    defined, which may be written in two forms (`forms`). format: of the value; all but `json` need the schema
    registry that has their schemas.
    """

    preset: Literal["debezium", "cloudevents"] | None = None
    format: Literal["json", "avro", "json-schema", "protobuf"] = "json"
    event_id: str = "event_id"
    customer_id: str = "customer_id"
    event_time: str = "event_time"
    features: str = "features"
    time_unit: Literal["rfc3339", "s", "ms", "us", "ns"] = "rfc3339"
    time_zone: str | None = None
    only: dict[str, Listed] = {}
    tombstones: Literal["reject", "ignore"] = "reject"

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("preset") in PRESETS:
            return {**PRESETS[values["preset"]], **values}
        return values

    @model_validator(mode="after")
    def _consistent(self) -> EventMapping:
        if problems := self.problems():
            raise ValueError("; ".join(problems))
        return self

    def problems(self) -> list[str]:
        """Return what is wrong with the paths and with what does not fit together, as `KEY: why`."""
        problems = []
        if self.preset == "debezium" and "customer_id" not in self.model_fields_set:
            problems.append('customer_id: expected where the customer is, like "payload.after.id" or "$key.id"')
        for name in _PATHS:
            sources = set(Source) - ({Source.TIMESTAMP} if name != "event_time" else set())
            sources = {Source.VALUE} if name == "features" else sources
            problems += _path_problems(name, getattr(self, name), sources)
        for path, values in self.only.items():
            problems += _path_problems("only", path, set(Source) - {Source.TIMESTAMP})
            problems += [f"only: {path or 'a path'}: expected a list of values"] * (not values or not path)
        if self.time_zone is not None:
            if self.time_unit != "rfc3339":
                problems.append("time_zone: a number since the epoch has none")
            elif not known_zone(self.time_zone):
                problems.append(f"time_zone: {self.time_zone!r} is no IANA name of a zone, like Europe/Paris")
        return problems

    @property
    def is_envelope(self) -> bool:
        """Whether the parts are where Driftline's own envelope has them."""
        own = EventMapping.model_fields
        return self.preset is None and all(getattr(self, name) == own[name].default for name in _PATHS)

    def forms(self) -> tuple[EventMapping, ...]:
        """Return the mapping of each form in which such events are written; `form_of` is its position.

        Debezium: as JsonConverter writes it with schemas, then without. CloudEvents: structured, then binary.
        """
        if self.preset == "debezium":
            return self._at(_in_payload), self._at(lambda path: path.removeprefix("payload."))
        return (self, self._at(_in_binary_mode)) if self.preset == "cloudevents" else (self,)

    def form_of(self, value: bytes | None, headers: Sequence[tuple[str, bytes | None]]) -> int:
        """Return the position in `forms` for a record: by the first member, or by the header of the binary mode."""
        if self.preset == "debezium":
            return 0 if _WITH_SCHEMA.match(value or b"") else 1
        return int(self.preset == "cloudevents" and header(headers, "ce_specversion") is not None)

    def _at(self, moved: Callable[[str], str]) -> EventMapping:
        """Return the same with other paths in the value; paths into key, headers and timestamp stay."""
        kept = {path: path if not path or path.startswith("$") else moved(path) for path in (*self.only, *self._paths)}
        paths = {name: kept[getattr(self, name)] for name in _PATHS}
        return self.model_copy(update={**paths, "only": {kept[path]: values for path, values in self.only.items()}})

    @property
    def _paths(self) -> tuple[str, ...]:
        return tuple(getattr(self, name) for name in _PATHS)

    @model_serializer(mode="wrap")
    def _as_ever(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is at its default and was not known to earlier versions, which reject unknown members."""
        fields = EventMapping.model_fields
        members: dict[str, Any] = written(self)
        return {name: v for name, v in members.items() if name in _PATHS or getattr(self, name) != fields[name].default}


_PATHS = ("event_id", "customer_id", "event_time", "features")
# With schemas, JsonConverter writes an object of `schema` and `payload`, in this order.
_WITH_SCHEMA = re.compile(rb'\s*\{\s*"(schema|payload)"\s*:')


def _in_payload(path: str) -> str:
    return path if path.startswith("payload.") else f"payload.{path}"


def _in_binary_mode(path: str) -> str:
    """Return where an attribute or a part of `data` is when the attributes are headers and the data is the value."""
    first, _, inner = path.partition(".")
    return inner if first in {"data", "data|json"} else f"$header.ce_{path}"


def _path_problems(name: str, path: str, sources: set[Source]) -> list[str]:
    try:
        found = place_of(path).source
    except ValueError as error:
        return [f"{name}: {error}"]
    return [] if found in sources else [f"{name}: {path!r}: cannot be there"]


class DataFormat(Frozen):
    """How a file of customers writes its cells: `[data]` of the spec, kept in the bundle for later files.

    separator: between the cells of a line; None: found by the header. decimal: the mark in numbers. thousands: the mark
    between groups of digits; a space is any space, an apostrophe any apostrophe. missing: texts of a missing value.
    """

    separator: Annotated[str | None, Field(pattern=r'^[^"\r\n]$')] = None
    decimal: Literal[".", ","] = "."
    thousands: Literal[",", ".", " ", "'", "_"] | None = None
    missing: tuple[Annotated[str, Field(min_length=1, max_length=128)], ...] = ()
    encoding: Annotated[str, Field(max_length=64)] = "utf-8"

    @model_validator(mode="after")
    def _consistent(self) -> DataFormat:
        if self.decimal == self.thousands:
            raise ValueError("thousands: is the decimal mark")
        try:
            # an empty name would decode without any check of the name
            with contextlib.suppress(UnicodeDecodeError):
                b"    ".decode(self.encoding)
        except (LookupError, UnicodeError):
            raise ValueError(f"encoding: {self.encoding!r} is not known") from None
        return self
