"""The model bundle: the only artifact that moves from training to the services.

A bundle is a directory. `manifest.json` names every other file with its sha256 and size. So a reader can reject a
damaged or foreign file *before* anything in it is unpickled. This module never unpickles; `scorer.model` does, last.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    FiniteFloat,
    SerializerFunctionWrapHandler,
    StrictBool,
    StrictInt,
    StrictStr,
    Tag,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from schemas.mapping.places import Source, header, place_of, scalar, steps_of
from schemas.task import (
    MAX_CLASS_LENGTH,
    MAX_CLASSES,
    MIN_CLASSES,
    Binary,
    Class,
    Interval,
    Multiclass,
    Regression,
    Task,
    TaskName,
)
from schemas.timestamps import known_zone

MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
MODEL = "model.joblib"
REFERENCE = "reference.npz"
TRAINED_ROWS = (
    "trained_rows.npy"  # optional: the rows that the model was fitted on (driftline/model_life/trained_rows.py)
)
# A model larger than 1 GiB does not fit a scorer's memory either; the limit keeps a wrong mount from filling it.
MAX_FILE_BYTES = 1 << 30
MAX_MANIFEST_BYTES = 16 << 20

Kind = Literal["numeric", "categorical", "boolean"]
SemVer = Annotated[str, Field(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$", max_length=64)]
Bound = Annotated[float | None, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
NotNegative = Annotated[float, Field(ge=0.0)]
Scalar = StrictBool | StrictInt | FiniteFloat | StrictStr
Listed = Annotated[
    tuple[Scalar, ...], BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)
]
ClassName = Annotated[str, Field(min_length=1, max_length=MAX_CLASS_LENGTH)]
ModelName = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,64}$")]
SCOPE = (
    "classifiers with predict_proba and 2 to 100 classes, and regressors, on numeric, categorical and boolean columns, "
    "on CPU; raw text and dates are out of scope"
)


class BundleError(Exception):
    """A bundle that must not be served. The text is one line: which file, and why."""


class _Frozen(BaseModel):
    # JSON has no infinity, but 1e400 is read as infinity: such a tolerance would accept every model
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False)


class Feature(_Frozen):
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


class EventMapping(_Frozen):
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


class DataFormat(_Frozen):
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


class FileEntry(_Frozen):
    """Digest and size in bytes of one file of the bundle."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0)]


class Libraries(_Frozen):
    """Versions the estimator was fitted with."""

    python: str
    numpy: str
    scikit_learn: Annotated[str, Field(alias="scikit-learn")]


class TrainingData(_Frozen):
    """sha256 of the training file's bytes, and its number of rows.

    id: the column of the customers' ids, if the spec names one; `driftline produce` sends these ids.
    """

    sha256: str
    rows: int
    id: str | None = None


class Golden(_Frozen):
    """Synthetic rows and the scores the model gave for them when the bundle was made.

    `rows` are feature objects by feature name, as JSON values; a loaded model must reproduce the scores within
    `tolerance` (absolute). They are `probabilities`, of a regression `values`, of several classes `distributions`.
    """

    rows: tuple[dict[str, Any], ...]
    probabilities: tuple[float, ...] | None = None
    values: tuple[float, ...] | None = None
    distributions: tuple[tuple[float, ...], ...] | None = None
    tolerance: float = 1e-9

    @property
    def scores(self) -> tuple[float, ...] | tuple[tuple[float, ...], ...]:
        """Return the scores, one per row."""
        return self.values or self.distributions or self.probabilities or ()

    @property
    def task(self) -> TaskName | None:
        """Return whose scores these are; None if they are of several tasks."""
        found: list[TaskName] = []
        found += ["binary"] if self.probabilities is not None else []
        found += ["regression"] if self.values is not None else []
        found += ["multiclass"] if self.distributions is not None else []
        return found[0] if len(found) == 1 else None

    @model_validator(mode="after")
    def _paired(self) -> Golden:
        if self.task is None and (self.probabilities, self.values, self.distributions) != (None, None, None):
            raise ValueError("golden: probabilities, values and distributions are of several tasks")
        if len(self.rows) != len(self.scores):
            raise ValueError("golden: as many probabilities as rows are needed, or of a regression values")
        try:
            json.dumps(self.rows, allow_nan=False, default=str)
        except ValueError:
            raise ValueError("golden: a row holds a number beyond the range of a double") from None
        return self


class EstimatorInput(_Frozen):
    """What the estimator's `predict_proba` gets, where it is no frame with the features' names as its columns.

    kind: a frame, or a numpy array with the features as its columns. columns: of the frame, in the features' order.
    """

    kind: Literal["frame", "array"] = "frame"
    columns: Annotated[tuple[str, ...] | None, Field(min_length=1)] = None

    @model_validator(mode="after")
    def _consistent(self) -> EstimatorInput:
        if (self.kind == "array") != (self.columns is None):
            raise ValueError("input: a frame has columns, an array has none")
        return self


class Business(_Frozen):
    """Money per outcome, in `currency`."""

    currency: str = "EUR"
    true_positive: float = 0.0
    false_positive: float = 0.0
    true_negative: float = 0.0
    false_negative: float = 0.0


class ClassBusiness(_Frozen):
    """Money per outcome and predicted class, in `currency`. matrix: outcome → prediction → money; absent: 0."""

    currency: str = "EUR"
    matrix: Annotated[dict[ClassName, dict[ClassName, float]], Field(min_length=1)]


class ValueBusiness(_Frozen):
    """Money per unit by which a value is over its outcome, and under it, in `currency`."""

    currency: str = "EUR"
    over: float
    under: float


#: Words that pydantic adds to the place of a fault, and that readers do not need, begin with this.
TAGGED = "tagged-"


def _kind_of_business(stated: Any) -> str:
    members = stated if isinstance(stated, dict) else dict(stated) if isinstance(stated, BaseModel) else {}
    task = "multiclass" if "matrix" in members else "regression" if {"over", "under"} & set(members) else "binary"
    return TAGGED + task


AnyBusiness = Annotated[
    Annotated[Business, Tag(f"{TAGGED}binary")]
    | Annotated[ClassBusiness, Tag(f"{TAGGED}multiclass")]
    | Annotated[ValueBusiness, Tag(f"{TAGGED}regression")],
    Discriminator(_kind_of_business),
]
#: By task: how a bundle states what outcomes are worth.
BUSINESS: Mapping[TaskName, type[Business | ClassBusiness | ValueBusiness]] = {
    "binary": Business,
    "multiclass": ClassBusiness,
    "regression": ValueBusiness,
}


def unknown_in_matrix(business: ClassBusiness, classes: Sequence[str]) -> list[str]:
    """Return the names in a matrix that are no classes."""
    named = {*business.matrix, *(said for cells in business.matrix.values() for said in cells)}
    return sorted(named - set(classes))


class Inflation(_Frozen):
    """How far a statistic differs from its null distribution on one reference.

    ratio: its observed over its nominal 99 % point (λ), `lower` the 95 % lower bound of that, in windows of `events`.
    """

    ratio: float
    lower: float
    events: int

    @property
    def divisor(self) -> float:
        """Return the divisor of the statistic in the drift worker: λ where it is significantly above 1, else 1."""
        return self.ratio if self.lower > 1.0 else 1.0


class SelfCheck(_Frozen):
    """`Inflation` per statistic (`psi`, `ks`, `chi2`) of every feature by name, and of the score.

    windows: number simulated of each size; 0: the bundle was made without. The simulation does not cover repeated
    customers, a season, or a stream that differs from the reference from the start.
    """

    windows: int = 0
    features: dict[str, dict[str, Inflation]] = {}
    score: dict[str, Inflation] = {}

    def sentence(self) -> str:
        """Return the result of the simulation as a sentence, for the author of the bundle."""
        found = {**self.features, "score": self.score}
        known = sum(len(statistics) for statistics in found.values())
        strays = [
            f"{statistic} of {name} by {one.divisor:g}"
            for name, statistics in found.items()
            for statistic, one in statistics.items()
            if one.divisor > 1.0
        ]
        return (
            f"self-check of {known} drift statistics, {self.windows} simulated windows of each size: "
            + (f"divided before they are tested: {', '.join(strays)}" if strays else "none alarms too often")
            + " (repeated customers, seasons and another population cannot be seen here)"
        )


class Calibration(_Frozen):
    """The model's score as a frequency, from out-of-fold scores of `rows` labelled customers (isotonic regression).

    x, y: breakpoints, x strictly increasing, y not decreasing; linear between them, constant beyond. band: per metric,
    the error of estimates from calibrated scores, out of fold, when a part of the customers was made more frequent. A
    metric without a band is not estimated.
    """

    x: tuple[Share, ...]
    y: tuple[Share, ...]
    rows: Annotated[int, Field(ge=1)]
    band: dict[str, Share]

    @model_validator(mode="after")
    def _monotone(self) -> Calibration:
        _check_rising(self.x, self.y)
        return self


class Curve(_Frozen):
    """A rising curve from 0 to 1: breakpoints as of a `Calibration`."""

    x: tuple[Share, ...]
    y: tuple[Share, ...]

    @model_validator(mode="after")
    def _monotone(self) -> Curve:
        _check_rising(self.x, self.y)
        return self


def _check_rising(x: Sequence[float], y: Sequence[float]) -> None:
    if not x or len(x) != len(y):
        raise ValueError("calibration: as many y as x are needed, and at least one")
    if any(a >= b for a, b in pairwise(x)) or any(a > b for a, b in pairwise(y)):
        raise ValueError("calibration: x must increase, and y must not decrease")


class ClassCalibration(_Frozen):
    """The probabilities of several classes as frequencies, from out-of-fold scores of `rows` labelled customers.

    curves: of each class, against the rest; calibrated probabilities are divided by their sum. band: as of a
    `Calibration`, of metrics over all classes. class_band: of each class's own.
    """

    curves: dict[ClassName, Curve]
    rows: Annotated[int, Field(ge=1)]
    band: dict[str, NotNegative]
    class_band: dict[ClassName, dict[str, Share]]


class ErrorCurve(_Frozen):
    """The size of the error to expect at a value, |outcome - value|, from `rows` out-of-fold values.

    x: values, strictly increasing. y: the mean size there, linear between two values and constant beyond. spread: its
    standard deviation. band: the error of an estimate as a share of it, as of a `Calibration`.
    """

    x: tuple[FiniteFloat, ...]
    y: tuple[NotNegative, ...]
    spread: tuple[NotNegative, ...]
    rows: Annotated[int, Field(ge=1)]
    band: NotNegative

    @model_validator(mode="after")
    def _increasing(self) -> ErrorCurve:
        if not self.x or not len(self.x) == len(self.y) == len(self.spread):
            raise ValueError("error_curve: as many y and spread as x are needed, and at least one")
        if any(a >= b for a, b in pairwise(self.x)):
            raise ValueError("error_curve: x must increase")
        return self


class ValueFacts(_Frozen):
    """What the author of a regression states about its values, for readers: `unit`, and the range to expect.

    A value outside the range is no error.
    """

    unit: Annotated[str | None, Field(max_length=64)] = None
    min: Bound = None
    max: Bound = None

    @model_validator(mode="after")
    def _consistent(self) -> ValueFacts:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("value: min is above max")
        return self


class Residuals(_Frozen):
    """Out-of-fold residuals (outcome minus value) of `rows` customers, as an interval around a value.

    low, high: what is added to a value. A share `level` of new customers is between both (split conformal prediction,
    Vovk et al. 2005), as long as they are like those of the training.
    """

    low: float
    high: float
    level: Annotated[float, Field(gt=0.0, lt=1.0)]
    rows: Annotated[int, Field(ge=1)]

    @model_validator(mode="after")
    def _consistent(self) -> Residuals:
        if self.low > self.high:
            raise ValueError("residuals: low is above high")
        return self


#: Members of the manifest that models of one task alone have.
_OF_TASK: Mapping[TaskName, tuple[str, ...]] = {
    "binary": ("absent_label", "calibration"),
    "multiclass": ("classes", "class_calibration"),
    "regression": ("method", "value", "residuals", "error_curve"),
}


class Manifest(_Frozen):
    """The content of `manifest.json`. `files` lists every other file of the bundle except the signature.

    task: None is binary. positive_class, threshold, absent_label, calibration: of a binary model. method,
    value, residuals, error_curve: of a regression; method None is `predict`. classes, class_calibration: of a model
    with several, in its order.

    metric_errors: the standard errors of `metrics`, where they are known. absent_label: the meaning of an absent label
    at the horizon; None: unknown. data_format: how the training file writes its cells; None: as the defaults. input: of
    the estimator; None: a frame whose columns have the features' names. notes:
    facts that a reader of `metrics` and of the reference's scores needs, one sentence each; absent if there are none.
    """

    format: Literal[1] = 1
    name: ModelName
    version: SemVer
    created_at: datetime
    files: dict[str, FileEntry] = {}
    libraries: Libraries
    features: Annotated[tuple[Feature, ...], Field(min_length=1)]
    input: EstimatorInput | None = None
    event: EventMapping = EventMapping()
    task: TaskName | None = None
    method: Literal["score_samples"] | None = None
    value: ValueFacts | None = None
    residuals: Residuals | None = None
    classes: Annotated[tuple[ClassName, ...] | None, Field(min_length=MIN_CLASSES, max_length=MAX_CLASSES)] = None
    positive_class: Annotated[Class | None, Field(validate_default=True)] = None
    threshold: Annotated[
        float | None, Field(ge=0.0, le=1.0, validate_default=True, json_schema_extra={"default": 0.5})
    ] = None
    training_data: TrainingData
    data_format: DataFormat | None = None
    metrics: dict[str, float] = {}
    metric_errors: dict[str, float] = {}
    absent_label: Literal["negative"] | None = None
    notes: tuple[str, ...] | None = None
    golden: Golden
    self_check: SelfCheck = SelfCheck()
    calibration: Calibration | None = None
    class_calibration: ClassCalibration | None = None
    error_curve: ErrorCurve | None = None
    business: AnyBusiness | None = None

    @property
    def predicts(self) -> Task:
        """Return what the model predicts."""
        if self.task == "regression":
            known = self.residuals
            interval = None if known is None else Interval(known.low, known.high, known.level)
            return Regression(self.method or "predict", interval)
        if self.classes is not None:
            return Multiclass(self.classes)
        assert self.positive_class is not None and self.threshold is not None, "validated below"  # noqa: S101, PT018
        return Binary(self.positive_class, self.threshold)

    def binary(self, what: str) -> Binary:
        """Return the same where only binary models are supported: BundleError with `what` is not, of any other."""
        task = self.predicts
        if not isinstance(task, Binary):
            raise BundleError(f"{MANIFEST}: task is {task.name}: {what} is for binary models only so far")
        return task

    @field_validator("positive_class")
    @classmethod
    def _of_two_classes(cls, value: Class | None, others: ValidationInfo) -> Class | None:
        task = others.data.get("task") or "binary"
        if (value is None) == (task == "binary"):
            other = "multiclass" if task == "multiclass" else "regression"
            raise ValueError(f'expected one of the classes, unless task is "{other}"')
        return value

    @field_validator("threshold")
    @classmethod
    def _of_a_probability(cls, value: float | None, others: ValidationInfo) -> float | None:
        task = others.data.get("task") or "binary"
        if task == "binary":
            return 0.5 if value is None else value
        if value is not None:
            raise ValueError(f'a model whose task is "{task}" has none')
        return None

    @model_validator(mode="after")
    def _of_its_task(self) -> Manifest:
        task = self.task or "binary"
        foreign = [name for other, names in _OF_TASK.items() if other != task for name in names]
        if found := [name for name in foreign if getattr(self, name) is not None]:
            raise ValueError(f"{found[0]}: not of a model whose task is {task}")
        if self.business is not None and not isinstance(self.business, BUSINESS[task]):
            raise ValueError(f"business: not of a model whose task is {task}")
        if self.golden.task not in {task, None} or (self.golden.task is None and self.golden.rows):
            raise ValueError(f"golden: not of a model whose task is {task}")
        if task == "multiclass":
            if self.classes is None or len(set(self.classes)) < len(self.classes):
                raise ValueError("classes: expected every class of the model once")
            if any(len(one) != len(self.classes) for one in self.golden.distributions or ()):
                raise ValueError("golden: as many probabilities as classes are needed in each row")
            if self.class_calibration is not None and set(self.class_calibration.curves) != set(self.classes):
                raise ValueError("class_calibration: expected a curve of every class")
            if isinstance(self.business, ClassBusiness) and (unknown := unknown_in_matrix(self.business, self.classes)):
                raise ValueError(f"business: {unknown[0]!r} is no class of the model")
        return self

    @model_validator(mode="after")
    def _names_are_distinct(self) -> Manifest:
        for what, names in (
            ("name", [f.name for f in self.features]),
            ("source", [f.source for f in self.features]),
        ):
            twice = sorted({n for n in names if names.count(n) > 1})
            if twice:
                raise ValueError(f"features: {what} used twice: {', '.join(twice)}")
        if self.input is not None and self.input.columns is not None and len(self.input.columns) != len(self.features):
            raise ValueError("input: as many columns as features are needed")
        return self


@dataclass(frozen=True, slots=True)
class BundleBytes:
    """A bundle whose every byte was checked against its manifest; no part is unpickled yet."""

    manifest: Manifest
    manifest_sha256: str
    signed: bool
    files: Mapping[str, bytes]


def new_requirement(old: Manifest, new: Manifest) -> str | None:
    """Return the first new requirement of `new` for producers.

    None: every event that `old` accepts is valid for `new`, too.

    A narrower `min` or `max` is no new input: the author of the spec decided it.
    """
    if new.event != old.event:
        return "the event mapping is another one"
    had = {feature.source: feature for feature in old.features}
    for feature in new.features:
        before = had.get(feature.source)
        if before is not None and before.kind != feature.kind:
            return f"{feature.source} is {feature.kind} and was {before.kind}"
        if before is not None and (
            (before.parse and not feature.parse)
            or (before.integers and not feature.integers)
            or (before.true, before.false) != (feature.true, feature.false)
        ):
            return f"{feature.source} is written in another way"
        if not feature.nullable and (before is None or before.nullable):
            was = "did not exist before" if before is None else "could be missing"
            return f"{feature.source} is required and {was}"
    return None


def one_line(error: Exception) -> str:
    """Return an error of a model's own code as one line: its kind, and the beginning of what it reports."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def parse_manifest(raw: bytes) -> Manifest:
    """Return the manifest in `manifest.json`'s bytes; BundleError names the first invalid field."""
    try:
        return Manifest.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        parts = [str(part) for part in first["loc"]]
        where = ".".join(part for part in parts if not part.startswith(TAGGED)) or "top level"
        raise BundleError(f"{MANIFEST}: {where}: {first['msg']}") from None


def check_file(name: str, raw: bytes, entry: FileEntry) -> None:
    """Raise BundleError unless `raw` has the size and sha256 of the manifest."""
    if len(raw) != entry.size:
        raise BundleError(f"{name}: {len(raw)} bytes, expected {entry.size} by the manifest")
    if hashlib.sha256(raw).hexdigest() != entry.sha256:
        raise BundleError(f"{name}: sha256 differs from the manifest's")


def check_signature(manifest_raw: bytes, signature: bytes | None, public_key_pem: bytes) -> None:
    """Raise BundleError unless `signature` is the Ed25519 signature of `manifest_raw` under the PEM key."""
    try:
        key = load_pem_public_key(public_key_pem)
    except ValueError:
        raise BundleError("MODEL_PUBLIC_KEY: not a PEM public key") from None
    if not isinstance(key, Ed25519PublicKey):
        raise BundleError("MODEL_PUBLIC_KEY: not an Ed25519 key")
    if signature is None:
        raise BundleError(f"{SIGNATURE}: missing, and MODEL_PUBLIC_KEY requires a signed bundle")
    try:
        key.verify(signature, manifest_raw)
    except InvalidSignature:
        raise BundleError(f"{SIGNATURE}: not a signature of {MANIFEST} by MODEL_PUBLIC_KEY") from None


def sign_bundle(directory: Path, private_key_pem: bytes) -> Manifest:
    """Check every file of the bundle, then write `manifest.sig`; return the signed manifest.

    BundleError if the bundle is not whole, or if the PEM bytes are no unencrypted Ed25519 private key.
    """
    try:
        key = load_pem_private_key(private_key_pem, password=None)
    except (TypeError, ValueError, UnsupportedAlgorithm):
        raise BundleError("private key: not an unencrypted PEM file") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise BundleError("private key: not an Ed25519 key")
    manifest_raw = _read_manifest(directory)
    bundle = read_bundle(directory)
    if hashlib.sha256(manifest_raw).hexdigest() != bundle.manifest_sha256:
        raise BundleError(f"{MANIFEST}: was replaced while the bundle was checked")
    _replace(directory / SIGNATURE, key.sign(manifest_raw))
    return bundle.manifest


def _read(path: Path, cap: int) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(cap + 1)
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror or error}") from None
    if len(raw) > cap:
        raise BundleError(f"{path}: larger than {cap} bytes")
    return raw


def _read_manifest(directory: Path) -> bytes:
    """Return the manifest's bytes; BundleError names what is there instead of a bundle, where that is recognised."""
    how = "driftline bundle --spec SPEC --model MODEL --data CUSTOMERS makes a bundle of it"
    if (directory / "MLmodel").exists() and not (directory / MANIFEST).exists():
        raise BundleError(f"{directory}: is an MLflow model and no bundle: {how}")
    if directory.is_file():
        raise BundleError(f"{directory}: is a file; a bundle is a directory: {how}")
    return _read(directory / MANIFEST, MAX_MANIFEST_BYTES)


def read_bundle(directory: Path, public_key_pem: bytes | None = None) -> BundleBytes:
    """Read every file once, and check the bytes that were read: size cap, manifest, signature, then size and sha256.

    Raises BundleError with the file and the defect. Without a public key, a signature is not checked.
    """
    manifest_raw = _read_manifest(directory)
    signature = None
    if public_key_pem is not None:
        signature_path = directory / SIGNATURE
        signature = _read(signature_path, 4096) if signature_path.exists() else None
        check_signature(manifest_raw, signature, public_key_pem)
    manifest = parse_manifest(manifest_raw)
    files = {}
    for name in (MODEL, REFERENCE):
        if name not in manifest.files:
            raise BundleError(f"{MANIFEST}: files: {name} is not listed")
    for name, entry in manifest.files.items():
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", name):
            raise BundleError(f"{MANIFEST}: files: {name!r} is not a plain file name")
        files[name] = _read(directory / name, MAX_FILE_BYTES)
        check_file(name, files[name], entry)
    return BundleBytes(manifest, hashlib.sha256(manifest_raw).hexdigest(), signature is not None, files)


def write_bundle(directory: Path, manifest: Manifest, files: Mapping[str, bytes]) -> Manifest:
    """Write `files`, then the manifest, which is replaced atomically and last: readers poll it.

    Returns the manifest as written, with `files` filled in. A signature of an earlier bundle is removed, because it
    does not sign the new manifest.
    """
    directory.mkdir(parents=True, exist_ok=True)
    entries = {name: FileEntry(sha256=hashlib.sha256(raw).hexdigest(), size=len(raw)) for name, raw in files.items()}
    sealed = manifest.model_copy(update={"files": entries})
    (directory / SIGNATURE).unlink(missing_ok=True)
    for name, raw in files.items():
        _replace(directory / name, raw)
    _replace(directory / MANIFEST, manifest_bytes(sealed))
    return sealed


def copy_bundle(source: Path, directory: Path, manifest_sha256: str | None = None) -> Manifest:
    """Copy the bundle in `source`, byte for byte and with its signature, into `directory`.

    The manifest is replaced last.

    Files that only the former one had stay, unlisted and unread. BundleError, before anything is written, if `source`
    is not whole, or its manifest, which names all its files' hashes, is not `manifest_sha256`.
    """
    manifest_raw = _read_manifest(source)
    bundle = read_bundle(source)
    if hashlib.sha256(manifest_raw).hexdigest() != bundle.manifest_sha256 or (
        manifest_sha256 not in {None, bundle.manifest_sha256}
    ):
        raise BundleError(f"{source / MANIFEST}: was replaced while the bundle was read")
    signature = _read(source / SIGNATURE, 4096) if (source / SIGNATURE).exists() else None
    directory.mkdir(parents=True, exist_ok=True)
    (directory / SIGNATURE).unlink(missing_ok=True)
    signed = {} if signature is None else {SIGNATURE: signature}
    for name, raw in {**bundle.files, **signed, MANIFEST: manifest_raw}.items():
        _replace(directory / name, raw)
    return bundle.manifest


def manifest_bytes(manifest: Manifest) -> bytes:
    """Return the manifest as it is written: indented JSON, UTF-8, `from` under that name, absent options left out."""
    return manifest.model_dump_json(by_alias=True, indent=2, exclude_none=True).encode() + b"\n"


def _replace(path: Path, raw: bytes) -> None:
    part = path.with_name(path.name + ".part")
    part.write_bytes(raw)
    part.replace(path)
