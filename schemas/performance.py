"""How good a model was in one cohort: the predictions of one UTC day, by model version, and their outcomes."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

VERSION = 1
# The last part of the key on drift-measurements: `{model}/performance`.
KEY_PART = "performance"


class Cohort(msgspec.Struct, frozen=True):
    """[start, end) in event time, RFC 3339; `day` in UTC."""

    day: str
    start: str
    end: str


class LabelCount(msgspec.Struct, frozen=True):
    """Predictions of the cohort with a positive and a negative outcome; of the latter, `absent` had no label."""

    positive: int
    negative: int
    absent: int

    @property
    def known(self) -> int:
        """Return the number of predictions whose outcome is known."""
        return self.positive + self.negative

    def counts(self) -> list[int]:
        """Return every number of predictions."""
        return [self.positive, self.negative, self.absent]


class Coverage(msgspec.Struct, frozen=True):
    """The share of outcomes that are known: of all predictions, and of those labelled positive and negative by it.

    positive, negative: known outcomes of each kind over the number estimated from the scores; None where that is 0.
    predicted_positive, predicted_negative: the share by predicted label; None without predictions of that label.
    """

    all: float
    positive: float | None
    negative: float | None
    predicted_positive: float | None
    predicted_negative: float | None


class Metric(msgspec.Struct, frozen=True):
    """A value with its standard error and 95 % interval; rows of one customer count as one. `reason`: why null."""

    value: float | None
    error: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str | None = None


class Band(msgspec.Struct, frozen=True):
    """The value expected from the scores alone, with the two parts of its band (see docs/model-life.md)."""

    value: float
    low: float
    high: float
    sampling: float
    calibration: float


class Value(msgspec.Struct, frozen=True):
    """Money of the outcomes that are known."""

    currency: str
    total: Metric


class Performance(msgspec.Struct, frozen=True, kw_only=True):
    """One cohort of one model version. final: every prediction is older than the horizon; it is written once.

    expected: of the held-out customers, from the bundle, where it is of this version. estimated: from the scores of all
    predictions. estimated_labelled: of those with a known outcome. state: PerformanceDrop's, after this cohort. judged:
    whether this cohort counts for it; reason: if not, why.
    """

    version: int = VERSION
    model: str
    model_version: str
    cohort: Cohort
    status: Literal["provisional", "final"]
    horizon: str
    predictions: int
    customers: int
    labels: LabelCount
    coverage: Coverage
    metrics: dict[str, Metric] = {}
    business: Value | None = None
    expected: dict[str, Metric] = {}
    estimated: dict[str, Band | None] = {}
    estimated_labelled: dict[str, Band | None] = {}
    judged: bool = False
    state: str = "inactive"
    reason: str | None = None

    def encode(self) -> bytes:
        """Return the record's value, JSON."""
        return _ENCODER.encode(self)

    def key(self) -> bytes:
        """Return the record's key on drift-measurements."""
        return f"{self.model}/{KEY_PART}".encode()


class ValueLabelCount(msgspec.Struct, frozen=True):
    """Predictions of the cohort whose outcome is known."""

    known: int

    def counts(self) -> list[int]:
        """Return every number of predictions."""
        return [self.known]


class ValueCoverage(msgspec.Struct, frozen=True):
    """The share of the predictions whose outcome is known."""

    all: float


class ValuePerformance(msgspec.Struct, frozen=True, kw_only=True):
    """One cohort of one version of a regression: the members of `Performance` that a number has."""

    version: int = VERSION
    task: Literal["regression"] = "regression"
    model: str
    model_version: str
    cohort: Cohort
    status: Literal["provisional", "final"]
    horizon: str
    predictions: int
    customers: int
    labels: ValueLabelCount
    coverage: ValueCoverage
    metrics: dict[str, Metric] = {}
    business: Value | None = None
    expected: dict[str, Metric] = {}
    estimated: dict[str, Band | None] = {}
    estimated_labelled: dict[str, Band | None] = {}
    judged: bool = False
    state: str = "inactive"
    reason: str | None = None

    def encode(self) -> bytes:
        """Return the record's value, JSON."""
        return _ENCODER.encode(self)

    def key(self) -> bytes:
        """Return the record's key on drift-measurements."""
        return f"{self.model}/{KEY_PART}".encode()


class ClassLabelCount(msgspec.Struct, frozen=True):
    """Predictions of the cohort whose outcome is known: all of them, and by class.

    classes: of every class of the model. unseen: of classes that it does not have, the most frequent ones by name.
    """

    known: int
    classes: dict[str, int]
    unseen: dict[str, int] = {}

    def counts(self) -> list[int]:
        """Return every number of predictions."""
        return [self.known, *self.classes.values(), *self.unseen.values()]


class ClassCoverage(msgspec.Struct, frozen=True):
    """The share of the predictions whose outcome is known: of all, and by the predicted class."""

    all: float
    predicted: dict[str, float]


class ClassPerformance(msgspec.Struct, frozen=True, kw_only=True):
    """One cohort of one version of a model with several classes: the members of `Performance` that it has.

    predicted: how many predictions have each class as their label. classes: precision, recall and F1 of each class that
    outcomes or predictions have. estimated_classes: the same by the probabilities of all predictions.
    """

    version: int = VERSION
    task: Literal["multiclass"] = "multiclass"
    model: str
    model_version: str
    cohort: Cohort
    status: Literal["provisional", "final"]
    horizon: str
    predictions: int
    customers: int
    predicted: dict[str, int]
    labels: ClassLabelCount
    coverage: ClassCoverage
    metrics: dict[str, Metric] = {}
    classes: dict[str, dict[str, Metric]] = {}
    business: Value | None = None
    expected: dict[str, Metric] = {}
    estimated: dict[str, Band | None] = {}
    estimated_classes: dict[str, dict[str, Band | None]] = {}
    estimated_labelled: dict[str, Band | None] = {}
    judged: bool = False
    state: str = "inactive"
    reason: str | None = None

    def encode(self) -> bytes:
        """Return the record's value, JSON."""
        return _ENCODER.encode(self)

    def key(self) -> bytes:
        """Return the record's key on drift-measurements."""
        return f"{self.model}/{KEY_PART}".encode()


AnyPerformance: TypeAlias = Performance | ClassPerformance | ValuePerformance


class _Task(msgspec.Struct, frozen=True):
    """The member by which a cohort's task is known; absent: binary."""

    task: str | None = None


def decode_performance(raw: bytes) -> AnyPerformance:
    """Return the cohort in `raw`; ValueError if it is not one of this version."""
    try:
        task = _TASK.decode(raw).task
        decoder = _DECODERS.get(task)
        if decoder is None:
            raise ValueError(f"not a performance: task {task!r} is not known")
        found = decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"not a performance: {error}") from None
    if found.version != VERSION:
        raise ValueError(f"performance: version {found.version} is not known, only {VERSION}")
    cohort: AnyPerformance = found
    return cohort


_ENCODER = msgspec.json.Encoder()
_TASK = msgspec.json.Decoder(_Task)
_DECODERS: dict[str | None, msgspec.json.Decoder[Any]] = {
    None: msgspec.json.Decoder(Performance),
    "multiclass": msgspec.json.Decoder(ClassPerformance),
    "regression": msgspec.json.Decoder(ValuePerformance),
}
