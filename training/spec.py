"""The spec: one TOML file that says what the customers look like and which model to train for them.

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

from schemas.bundle import SCOPE, Business, EventMapping, Feature, Kind, ModelName, SemVer
from schemas.verdict import NUMERIC_LIMIT, shape_of

ESTIMATORS = ("logistic_regression", "hist_gradient_boosting", "random_forest")

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
    raise ValueError("expected a string, a whole number, or true or false")


def _estimator(value: object) -> object:
    if isinstance(value, str) and (value in ESTIMATORS or re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", value)):
        return value
    raise ValueError(f'expected {", ".join(ESTIMATORS)}, or "package.module:factory"')


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
    """`[model]`. threshold: probability from which the label is positive, or "f1": chosen on validation data."""

    name: ModelName
    version: SemVer
    threshold: Annotated[float | Literal["f1"], BeforeValidator(_threshold)] = 0.5


class LabelsTable(_Table):
    """`[data]` where labels are not needed. target: the label's column; positive: its value for the positive class.

    id: the customer's column.
    """

    target: Name | None = None
    positive: Annotated[str | int | bool | None, BeforeValidator(_positive)] = None
    absent_label: Literal["negative"] | None = None
    id: Name | None = None


class DataTable(LabelsTable):
    """`[data]` for training."""

    target: Name
    positive: Annotated[str | int | bool, BeforeValidator(_positive)]


class EstimatorTable(_Table):
    """`[estimator]`. One of ESTIMATORS, or "package.module:factory" (no arguments → an unfitted estimator)."""

    kind: Annotated[str, BeforeValidator(_estimator)] = "logistic_regression"


class TrainingTable(_Table):
    """`[training]`. seed: 0 to 2^32 - 1, as numpy takes it; test_size: share of rows held out for the metrics."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    test_size: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2


class FeatureTable(_Table):
    """`[features.<name>]`. categories: None = learnt from the data. The other fields: schemas.bundle.Feature."""

    kind: Annotated[Kind, BeforeValidator(_kind)]
    from_: Annotated[Name | None, Field(alias="from")] = None
    unit: str | None = None
    min: Number | None = None
    max: Number | None = None
    categories: Annotated[tuple[Name, ...] | None, BeforeValidator(_array), Field(min_length=1)] = None
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
        problems += [f"categories: {name!r} is listed twice" for name in _repeated(self.categories or ())]
        if problems:
            raise ValueError("; ".join(problems))
        return self


class FeatureSpec(_Table):
    """What a bundle around a fitted estimator needs: `[data]` may be absent, `[estimator]` is not looked at.

    `features` keeps the file's order, which is the order of the model's columns.
    """

    model: ModelTable
    event: EventMapping = EventMapping()
    data: LabelsTable = LabelsTable()
    estimator: EstimatorTable = EstimatorTable()
    training: TrainingTable = TrainingTable()
    business: Business | None = None
    features: Annotated[dict[Name, FeatureTable], Field(min_length=1)]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        problems = []
        if self.data.target in self.features:
            problems.append(f"[features.{self.data.target}]: is the target of [data]; a model must not see its label")
        sources = [table.from_ or name for name, table in self.features.items()]
        problems += [f"[features] from: {name!r} is used twice" for name in _repeated(sources)]
        for key, path in self.event.model_dump().items():
            if path and "" in path.split("."):
                problems.append(f"[event] {key}: {path!r} has an empty part")
        if not problems:
            try:
                shape_of(self.manifest_features({}), self.event)
            except ValueError as error:
                problems.append(f"[event]: {error}")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def manifest_features(self, learnt: Mapping[str, Sequence[str]]) -> tuple[Feature, ...]:
        """The manifest's features; `learnt` has the categories of the categorical features that list none."""
        features = []
        for name, table in self.features.items():
            fields = table.model_dump(by_alias=True)
            if table.kind == "categorical" and table.categories is None:
                fields["categories"] = tuple(learnt.get(name, ()))
            features.append(Feature(name=name, **fields))
        return tuple(features)


class Spec(FeatureSpec):
    """A whole spec, from which a model can be trained."""

    data: DataTable


AnySpec = TypeVar("AnySpec", bound=FeatureSpec)


def read_spec(path: Path) -> Spec:
    """The spec in a TOML file. SpecError, one line, if it can't be read or says anything that is not understood."""
    return _read(path, Spec)


def read_feature_spec(path: Path) -> FeatureSpec:
    """As `read_spec`, for a model that is fitted already."""
    return _read(path, FeatureSpec)


def parse_spec(text: str) -> Spec:
    """The spec in a TOML text; SpecError as `read_spec`, without the file's name."""
    return _parse(text, Spec)


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
        return kind.model_validate(document, strict=True)
    except ValidationError as error:
        raise SpecError("; ".join(_problem(detail) for detail in error.errors())) from None


def _problem(detail: ErrorDetails) -> str:
    """One of pydantic's findings as `[table] key: what is wrong`."""
    where = [str(part) for part in detail["loc"] if not str(part).startswith(("function-", "tagged-"))]
    depth = 2 if where[:1] == ["features"] else 1
    table, key = ".".join(where[:depth]), ".".join(where[depth:])
    message = detail["msg"].removeprefix("Value error, ")
    match detail["type"]:
        case "missing":
            message = "is missing"
        case "extra_forbidden":
            message = "is not known here"
    if not table:
        return message
    return f"[{table}] {key}: {message}" if key else f"[{table}]: {message}"


def _repeated(names: Sequence[str]) -> list[str]:
    return sorted(name for name, count in Counter(names).items() if count > 1)
