"""What a model predicts: how its estimator is called, which of its results are valid, and what they are called.

Every difference between tasks is here. Whoever scores, publishes, counts or measures asks the manifest for its task.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

TaskName = Literal["binary", "regression"]
Method = Literal["predict", "score_samples"]
Class: TypeAlias = str | int | float | bool
#: What happened to a customer, as its label has it.
Outcome: TypeAlias = bool | float | str
Floats = NDArray[np.float64]

# An average of certain estimators may exceed 1 in its last bits (scikit-learn's calibration cuts them off, too).
ROUNDING = 1e-9


class Task(Protocol):
    """One kind of model. A *score* is the one number per event whose drift is measured."""

    @property
    def name(self) -> TaskName:
        """Return its name in spec and manifest."""

    @property
    def method(self) -> str:
        """Return the method of the estimator that is called."""

    @property
    def result(self) -> str:
        """Return what a score is: the word for messages."""

    def unfit(self, estimator: Any) -> str | None:
        """Return why an estimator is none of this task; None if it is one."""

    def mismatch(self, estimator: Any) -> str | None:
        """Return which member of the manifest contradicts an estimator of this task, and how; None if none does."""

    def scores(self, estimator: Any, asked: Any) -> Floats:
        """Return the estimator's score per row of `asked`, float64 (n,). Its errors pass through."""

    def valid(self, scores: Floats) -> Floats:
        """Return the scores as they are published, NaN in place of each that is not valid."""

    def labels(self, scores: Floats) -> NDArray[np.bool_]:
        """Return bool (n,): whether the label of the prediction is true."""

    def content(self, score: float) -> dict[str, Any]:
        """Return the members of a prediction that hold its result, as JSON values."""

    def tolerances(self, scores: Floats, share: float) -> Floats:
        """Return by how much another computation of each score may differ, (n,). share: of a score's own size."""

    def outcome(self, value: object) -> Outcome | None:
        """Return the outcome that a label's JSON value is; None if it is none of this task."""


@dataclass(frozen=True, slots=True)
class Binary:
    """One of two classes: the score is the probability of the positive one, 0 to 1."""

    positive_class: Class
    #: The smallest probability whose label is true.
    threshold: float = 0.5

    name: ClassVar[TaskName] = "binary"
    method: ClassVar[str] = "predict_proba"
    result: ClassVar[str] = "probability"

    def unfit(self, estimator: Any) -> str | None:
        """Require two classes and `predict_proba`."""
        classes = getattr(estimator, "classes_", None)
        if classes is None or len(classes) != 2 or not hasattr(estimator, self.method):
            return "not a fitted binary classifier with predict_proba"
        return None

    def mismatch(self, estimator: Any) -> str | None:
        """Require that the positive class is one of the estimator's."""
        members = _members(estimator)
        if self.positive_class in members:
            return None
        return f"positive_class: {self.positive_class!r} is not one of {members}"

    def scores(self, estimator: Any, asked: Any) -> Floats:
        """Return the column of the positive class."""
        column = _members(estimator).index(self.positive_class)
        return np.asarray(estimator.predict_proba(asked)[:, column], dtype=np.float64)

    def valid(self, scores: Floats) -> Floats:
        """Accept 0 to 1; an excess in the last bits is cut off."""
        in_range = np.clip(scores, 0.0, 1.0)
        return np.where(np.abs(scores - in_range) <= ROUNDING, in_range, np.nan)

    def labels(self, scores: Floats) -> NDArray[np.bool_]:
        """Return where the probability reaches the threshold."""
        reached: NDArray[np.bool_] = scores >= self.threshold
        return reached

    def content(self, score: float) -> dict[str, Any]:
        """Return `probability`, `label` and `threshold`."""
        return {"probability": score, "label": score >= self.threshold, "threshold": self.threshold}

    def tolerances(self, scores: Floats, share: float) -> Floats:
        """Return `share`: probabilities have the size 1."""
        return np.full(len(scores), share)

    def outcome(self, value: object) -> Outcome | None:
        """Accept true and false: whether the customer belongs to the positive class."""
        return value if isinstance(value, bool) else None


@dataclass(frozen=True, slots=True)
class Interval:
    """Where an outcome is beside its value: from value + low to value + high, in a share `level` of all customers."""

    low: float
    high: float
    level: float


@dataclass(frozen=True, slots=True)
class Regression:
    """A number: the score is the value that the estimator returns."""

    method: Method = "predict"
    interval: Interval | None = None

    name: ClassVar[TaskName] = "regression"
    result: ClassVar[str] = "finite number"

    def unfit(self, estimator: Any) -> str | None:
        """Require the method, and no classes."""
        if hasattr(estimator, "classes_"):
            return 'task is "regression", and this is a classifier: it has classes'
        if not hasattr(estimator, self.method):
            return f'task is "regression", and this has no {self.method}'
        return None

    def mismatch(self, estimator: Any) -> str | None:  # noqa: ARG002
        """Return None: nothing in the manifest is about the estimator's results."""
        return None

    def scores(self, estimator: Any, asked: Any) -> Floats:
        """Return the values; of a matrix with one column, that column."""
        values = np.asarray(getattr(estimator, self.method)(asked), dtype=np.float64)
        return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values

    def valid(self, scores: Floats) -> Floats:
        """Accept what is finite, the ends of its interval included."""
        finite = np.isfinite(scores)
        if self.interval is not None:
            with np.errstate(over="ignore", invalid="ignore"):
                finite &= np.isfinite(scores + self.interval.low) & np.isfinite(scores + self.interval.high)
        return np.where(finite, scores, np.nan)

    def labels(self, scores: Floats) -> NDArray[np.bool_]:
        """Return false everywhere: a number has no label."""
        return np.zeros(len(scores), dtype=np.bool_)

    def content(self, score: float) -> dict[str, Any]:
        """Return `value`, and `interval` if the model has one."""
        if self.interval is None:
            return {"value": score}
        ends = {"low": score + self.interval.low, "high": score + self.interval.high}
        return {"value": score, "interval": {**ends, "level": self.interval.level}}

    def tolerances(self, scores: Floats, share: float) -> Floats:
        """Return `share` of each value's size, or of the median's where that is larger."""
        sizes = np.abs(scores)
        typical = float(np.median(sizes)) if len(sizes) else 0.0
        return share * np.maximum(sizes, typical or 1.0)

    def outcome(self, value: object) -> Outcome | None:
        """Accept a number within the double range."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        try:
            number = float(value)
        except OverflowError:
            return None
        return number if math.isfinite(number) else None


def _members(estimator: Any) -> list[Any]:
    members: list[Any] = np.asarray(estimator.classes_).tolist()
    return members
