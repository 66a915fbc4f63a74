"""The spec: one TOML file that describes the customers and the model to train for them.

`read_spec` either returns a Spec in which everything fits together, or raises one SpecError that lists every problem
with its table and key. Paths in `[event]`, tables and keys: docs/contracts.md, model bundle.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from schemas.bundle.inputs import DataFormat, EventMapping, Feature, Kind, Listed, value_problems
from schemas.bundle.manifest import BUSINESS, SCOPE, TAGGED, AnyBusiness, ModelName, SemVer
from schemas.mapping.places import steps_of
from schemas.task import Method, TaskName
from schemas.validation import NUMERIC_LIMIT, shape_of

#: Kinds of estimators by task; the first one is the default.
ESTIMATORS: Mapping[TaskName, tuple[str, ...]] = {
    "binary": ("logistic_regression", "hist_gradient_boosting", "random_forest"),
    "multiclass": ("logistic_regression", "hist_gradient_boosting", "random_forest"),
    "regression": ("ridge", "hist_gradient_boosting", "random_forest"),
}
_KINDS = tuple(dict.fromkeys(kind for kinds in ESTIMATORS.values() for kind in kinds))

Number = Annotated[float, Field(allow_inf_nan=False, gt=-NUMERIC_LIMIT, lt=NUMERIC_LIMIT)]
Gate = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1, max_length=128)]


class SpecError(Exception):
    """A spec that cannot be used. The text is one line with every problem in it, each with its table and key."""


def _threshold(value: object) -> object:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value == "f1" or (number and 0.0 <= value <= 1.0):  # type: ignore[operator] # a number by the line above
        return value
    raise ValueError('expected a number from 0 to 1, or "f1"')


def _positive(value: object) -> object:
    if isinstance(value, str | int):
        return value
    if isinstance(value, float) and value.is_integer():  # 1.0, as pandas writes a label column with gaps
        return int(value)
    raise ValueError("expected a string, a whole number, or true or false")


def _estimator(value: object) -> object:
    if isinstance(value, str) and (value in _KINDS or re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", value)):
        return value
    raise ValueError(f'expected {", ".join(_KINDS)}, or "package.module:factory"')


def _kind(value: object) -> object:
    if value in ("numeric", "categorical", "boolean"):  # not a set: a list cannot be looked up in one
        return value
    scope = f"; Driftline's scope: {SCOPE}" if value in ("text", "string", "date", "datetime", "time") else ""
    raise ValueError(f"expected numeric, categorical or boolean{scope}")


def _array(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=False)


class ModelTable(_Table):
    """`[model]`. threshold: probability from which the label is positive, or "f1": chosen on validation data.

    task: what the model predicts. method, unit, min, max: of a regression; a value outside the range is no error.

    columns: every feature once, in the order of the columns that the estimator is fitted on; None: as they are listed.
    """

    name: ModelName
    version: SemVer
    task: TaskName = "binary"
    method: Method = "predict"
    unit: Annotated[str | None, Field(min_length=1, max_length=64)] = None
    min: Number | None = None
    max: Number | None = None
    threshold: Annotated[float | Literal["f1"], BeforeValidator(_threshold)] = 0.5
    columns: Annotated[tuple[Name, ...] | None, BeforeValidator(_array)] = None


class LabelsTable(_Table):
    """`[data]` where labels are not needed. target: the label's column; positive: its value for the positive class.

    id: the customer's column. The others: schemas.bundle.inputs.DataFormat.
    """

    target: Name | None = None
    positive: Annotated[str | int | bool | None, BeforeValidator(_positive)] = None
    absent_label: Literal["negative"] | None = None
    id: Name | None = None
    separator: str | None = None
    decimal: Literal[".", ","] = "."
    thousands: Literal[",", ".", " ", "'", "_"] | None = None
    missing: Annotated[tuple[Name, ...], BeforeValidator(_array)] = ()
    encoding: str = "utf-8"

    @model_validator(mode="after")
    def _readable(self) -> Self:
        try:
            self.format()
        except ValidationError as error:
            raise ValueError("; ".join(_format_problem(detail) for detail in error.errors())) from None
        return self

    def format(self) -> DataFormat:
        """Return how the file of customers writes its cells."""
        return DataFormat(**{name: getattr(self, name) for name in DataFormat.model_fields})

    def recorded(self) -> DataFormat | None:
        """Return the format for the manifest; None where it is the default. Each file's header shows its separator."""
        form = self.format().model_copy(update={"separator": None})
        return None if form == DataFormat() else form


class DataTable(LabelsTable):
    """`[data]` for training."""

    target: Name


class EstimatorTable(_Table):
    """`[estimator]`. One of its task's ESTIMATORS (None: the first of them), or "package.module:factory".

    A factory takes no arguments and returns an unfitted estimator.
    """

    kind: Annotated[str | None, BeforeValidator(_estimator)] = None


class TrainingTable(_Table):
    """`[training]`. seed: 0 to 2^32 - 1, as numpy takes it; test_size: share of rows held out for the metrics."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    test_size: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2


class FeatureTable(_Table):
    """`[features.<name>]`. categories: None = learnt from the data. The other fields: schemas.bundle.inputs.Feature."""

    kind: Annotated[Kind, BeforeValidator(_kind)]
    from_: Annotated[Name | None, Field(alias="from")] = None
    unit: str | None = None
    min: Number | None = None
    max: Number | None = None
    categories: Annotated[tuple[Name | int, ...] | None, BeforeValidator(_array), Field(min_length=1)] = None
    parse: Literal["number"] | None = None
    true: Annotated[Listed | None, Field(min_length=1)] = None
    false: Annotated[Listed | None, Field(min_length=1)] = None
    nullable: bool = False
    effect_warning: Gate | None = None
    effect_critical: Gate | None = None

    @model_validator(mode="after")
    def _consistent(self) -> FeatureTable:
        problems = [
            f"{key}: only a numeric feature has it"
            for key in ("unit", "min", "max")
            if self.kind != "numeric" and getattr(self, key) is not None
        ]
        if self.kind != "categorical" and self.categories is not None:
            problems.append("categories: only a categorical feature has them")
        if self.min is not None and self.max is not None and self.min > self.max:
            problems.append(f"min: {self.min:g} is above max {self.max:g}")
        if self.effect_warning and self.effect_critical and self.effect_warning > self.effect_critical:
            problems.append("effect_warning: is above effect_critical")
        problems += [f"categories: {name!r} is listed twice" for name in _repeated([*map(str, self.categories or ())])]
        problems += value_problems(self.kind, parse=self.parse, true=self.true, false=self.false)
        if problems:
            raise ValueError("; ".join(problems))
        return self


class EventSpec(_Table):
    """What the validation of events needs: `[features]`; the other tables may be absent.

    `features` keeps the file's order, which is the order of the model's columns.
    """

    model: ModelTable | None = None
    event: EventMapping = EventMapping()
    data: LabelsTable = LabelsTable()
    estimator: EstimatorTable = EstimatorTable()
    training: TrainingTable = TrainingTable()
    business: AnyBusiness | None = None
    features: Annotated[dict[Name, FeatureTable], Field(min_length=1)]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        problems = []
        if self.data.target in self.features:
            problems.append(f"[features.{self.data.target}]: is the target of [data]; a model must not see its label")
        problems += self._of_its_task()
        if self.model is not None and self.model.columns is not None:
            problems += _not_the_features(self.model.columns, self.features)
        sources = [table.from_ or name for name, table in self.features.items()]
        problems += [f"[features] from: {name!r} is used twice" for name in _repeated(sources)]
        for name, table in self.features.items():
            try:
                steps_of(table.from_ or "")
            except ValueError as error:
                problems.append(f"[features.{name}] from: {error}")
        if not problems:
            try:
                for form in self.event.forms():
                    shape_of(self.manifest_features({}), form)
            except ValueError as error:
                problems.append(f"[event]: {error}")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def estimator_kind(self) -> str:
        """Return the kind of the estimator to train."""
        return self.estimator.kind or ESTIMATORS[self.task][0]

    @property
    def task(self) -> TaskName:
        """Return what the model predicts."""
        return "binary" if self.model is None else self.model.task

    def _of_its_task(self) -> list[str]:
        """Return which tables and keys are of another task."""
        model = self.model
        if model is None:
            return []
        foreign: dict[str, bool] = {}
        if model.task != "binary":
            foreign = {
                "[model] threshold": "threshold" in model.model_fields_set,
                "[data] positive": self.data.positive is not None,
                "[data] absent_label": self.data.absent_label is not None,
            }
        if model.task != "regression":
            names = ("method", "unit", "min", "max")
            foreign |= {f"[model] {name}": name in model.model_fields_set for name in names}
        problems = [f'{name}: not with task = "{model.task}"' for name, there in foreign.items() if there]
        if self.business is not None and not isinstance(self.business, BUSINESS[model.task]):
            keys = ", ".join(name for name in BUSINESS[model.task].model_fields if name != "currency")
            problems.append(f'[business]: not with task = "{model.task}", where it has {keys}')
        if model.min is not None and model.max is not None and model.min > model.max:
            problems.append(f"[model] min: {model.min:g} is above max {model.max:g}")
        return problems

    def ordered(self, columns: Sequence[str]) -> Self:
        """Return the spec with its features in the order of these names, each of which is a feature."""
        return self.model_copy(update={"features": {name: self.features[name] for name in columns}})

    def with_categories(self, categories: Mapping[str, Sequence[str]]) -> Self:
        """Return the spec with these categories, by feature, instead of its own."""
        tables = {
            name: table.model_copy(update={"categories": tuple(categories[name])}) if name in categories else table
            for name, table in self.features.items()
        }
        return self.model_copy(update={"features": tables})

    def manifest_features(self, learnt: Mapping[str, Sequence[str]]) -> tuple[Feature, ...]:
        """Return the manifest's features; `learnt` has the categories of the categorical features that list none."""
        features = []
        for name, table in self.features.items():
            fields = table.model_dump(by_alias=True)
            if table.kind == "categorical" and table.categories is None:
                fields["categories"] = tuple(learnt.get(name, ()))
            features.append(Feature(name=name, **fields))
        return tuple(features)


class FeatureSpec(EventSpec):
    """What a bundle around a fitted estimator needs: `[data]` may be absent, `[estimator]` is not looked at."""

    model: ModelTable


class Spec(FeatureSpec):
    """A whole spec, from which a model can be trained."""

    data: DataTable

    @property
    def positive(self) -> str | int | bool:
        """Return the positive class of a binary model."""
        assert self.data.positive is not None, "validated below; only binary models are asked"  # noqa: S101
        return self.data.positive

    @model_validator(mode="after")
    def _trainable(self) -> Self:
        problems = []
        if self.task == "binary" and self.data.positive is None:
            problems.append("[data] positive: is missing")
        if self.model.method != "predict":
            problems.append(f'[model] method: "{self.model.method}" is for `driftline bundle`: it is not trained here')
        kind = self.estimator.kind
        if kind is not None and ":" not in kind and kind not in ESTIMATORS[self.task]:
            expected = ", ".join(ESTIMATORS[self.task])
            problems.append(
                f'[estimator] kind: {kind} is of another task; with task = "{self.task}" there are {expected}'
            )
        if problems:
            raise ValueError("; ".join(problems))
        return self


AnySpec = TypeVar("AnySpec", bound=EventSpec)
ModelSpec = TypeVar("ModelSpec", bound=FeatureSpec)


def read_spec(path: Path) -> Spec:
    """Return the spec in a TOML file; SpecError, one line, if a part of it is not understood."""
    return _read(path, Spec)


def read_feature_spec(path: Path) -> FeatureSpec:
    """Return the spec of a model that is fitted already; otherwise as `read_spec`."""
    return _read(path, FeatureSpec)


def read_event_spec(path: Path) -> EventSpec:
    """Return the spec of events, with or without a model; otherwise as `read_spec`."""
    return _read(path, EventSpec)


def parse_spec(text: str) -> Spec:
    """Return the spec in a TOML text; SpecError as `read_spec`, without the file's name."""
    return _parse(text, Spec)


def parse_feature_spec(text: str) -> FeatureSpec:
    """Return the spec of a model that is fitted already, in a TOML text; SpecError as `parse_spec`."""
    return _parse(text, FeatureSpec)


def _read(path: Path, kind: type[AnySpec]) -> AnySpec:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise SpecError(f"{path}: {error.strerror or error}") from None
    try:
        return _parse(raw.decode("utf-8"), kind)
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: not UTF-8 (byte {error.start})") from None
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from None


def _parse(text: str, kind: type[AnySpec]) -> AnySpec:
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # tomllib lets a number of 4,301 digits and deep nesting through
        raise SpecError(f"not TOML: {error}") from None
    try:
        spec = kind.model_validate(document, strict=True)
    except ValidationError as error:
        raise SpecError("; ".join(_problem(detail) for detail in error.errors())) from None
    columns = None if spec.model is None else spec.model.columns
    return spec if columns is None else spec.ordered(columns)


def with_columns(spec: ModelSpec, columns: Sequence[str]) -> ModelSpec:
    """Return the spec with another `[model] columns`; SpecError if these are not its features."""
    problems = _not_the_features(columns, spec.features)
    if problems:
        raise SpecError("; ".join(problems))
    model = spec.model.model_copy(update={"columns": tuple(columns)})
    return spec.model_copy(update={"model": model}).ordered(columns)


def _not_the_features(columns: Sequence[str], features: Mapping[str, object]) -> list[str]:
    unknown = [name for name in columns if name not in features]
    absent = [name for name in features if name not in columns]
    return [
        *(f"[model] columns: {name!r} is no feature" for name in unknown),
        *(f"[model] columns: {name!r} is missing" for name in absent),
        *(f"[model] columns: {name!r} is listed twice" for name in _repeated(columns)),
    ]


def _problem(detail: ErrorDetails) -> str:
    """Return one of pydantic's findings as `[table] key: what is wrong`."""
    where = [str(part) for part in detail["loc"] if not str(part).startswith(("function-", TAGGED))]
    depth = 2 if where[:1] == ["features"] else 1
    table, key = ".".join(where[:depth]), ".".join(where[depth:])
    message = detail["msg"].removeprefix("Value error, ")
    if where == ["model", "name"] and detail["type"] == "string_pattern_mismatch":
        near = re.sub(r"[^a-z0-9]+", "-", str(detail["input"]).lower()).strip("-")[:64]
        message = "expected a-z, 0-9 and hyphens, at most 64 characters" + (f", such as {near!r}" if near else "")
    match detail["type"]:
        case "missing":
            message = "is missing"
        case "extra_forbidden":
            message = "is not known here"
    if not table:
        return message
    if table == "event" and not key and detail["type"] == "value_error":
        return "; ".join(f"[event] {problem}" for problem in message.split("; "))
    return f"[{table}] {key}: {message}" if key else f"[{table}]: {message}"


def _format_problem(detail: ErrorDetails) -> str:
    if detail["loc"][:1] == ("separator",):
        return "separator: expected one character that is no quote and no line end"
    return detail["msg"].removeprefix("Value error, ")


def _repeated(names: Sequence[str]) -> list[str]:
    return sorted(name for name, count in Counter(names).items() if count > 1)
