"""The manifest: what a bundle says about its model. It names every other file with its sha256 and size."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    Discriminator,
    Field,
    FiniteFloat,
    Tag,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from schemas.bundle.inputs import Bound, DataFormat, EventMapping, Feature, Frozen
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

MANIFEST = "manifest.json"
SemVer = Annotated[str, Field(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$", max_length=64)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
NotNegative = Annotated[float, Field(ge=0.0)]
ClassName = Annotated[str, Field(min_length=1, max_length=MAX_CLASS_LENGTH)]
ModelName = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,64}$")]
SCOPE = (
    "classifiers with predict_proba and 2 to 100 classes, and regressors, on numeric, categorical and boolean columns, "
    "on CPU; raw text and dates are out of scope"
)


class BundleError(Exception):
    """A bundle that must not be served. The text is one line: which file, and why."""


class FileEntry(Frozen):
    """Digest and size in bytes of one file of the bundle."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0)]


class Libraries(Frozen):
    """Versions the estimator was fitted with."""

    python: str
    numpy: str
    scikit_learn: Annotated[str, Field(alias="scikit-learn")]


class TrainingData(Frozen):
    """sha256 of the training file's bytes, and its number of rows.

    id: the column of the customers' ids, if the spec names one; `driftline produce` sends these ids.
    """

    sha256: str
    rows: int
    id: str | None = None


class Golden(Frozen):
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


class EstimatorInput(Frozen):
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


class Business(Frozen):
    """Money per outcome, in `currency`."""

    currency: str = "EUR"
    true_positive: float = 0.0
    false_positive: float = 0.0
    true_negative: float = 0.0
    false_negative: float = 0.0


class ClassBusiness(Frozen):
    """Money per outcome and predicted class, in `currency`. matrix: outcome → prediction → money; absent: 0."""

    currency: str = "EUR"
    matrix: Annotated[dict[ClassName, dict[ClassName, float]], Field(min_length=1)]


class ValueBusiness(Frozen):
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


class Inflation(Frozen):
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


class SelfCheck(Frozen):
    """`Inflation` per statistic (`psi`, `ks`, `chi2`) of every feature by name, and of the score.

    windows: number simulated of each size; 0: the bundle was made without. The simulation does not cover repeated
    customers, a season, or a stream that differs from the reference from the start.
    """

    windows: int = 0
    features: dict[str, dict[str, Inflation]] = Field({})
    score: dict[str, Inflation] = Field({})

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


class Calibration(Frozen):
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


class Curve(Frozen):
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


class ClassCalibration(Frozen):
    """The probabilities of several classes as frequencies, from out-of-fold scores of `rows` labelled customers.

    curves: of each class, against the rest; calibrated probabilities are divided by their sum. band: as of a
    `Calibration`, of metrics over all classes. class_band: of each class's own.
    """

    curves: dict[ClassName, Curve]
    rows: Annotated[int, Field(ge=1)]
    band: dict[str, NotNegative]
    class_band: dict[ClassName, dict[str, Share]]


class ErrorCurve(Frozen):
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


class ValueFacts(Frozen):
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


class Residuals(Frozen):
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


class Manifest(Frozen):
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
    files: dict[str, FileEntry] = Field({})
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
    metrics: dict[str, float] = Field({})
    metric_errors: dict[str, float] = Field({})
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


def manifest_bytes(manifest: Manifest) -> bytes:
    """Return the manifest as it is written: indented JSON, UTF-8, `from` under that name, absent options left out."""
    return manifest.model_dump_json(by_alias=True, indent=2, exclude_none=True).encode() + b"\n"
