"""What a model predicts: how its estimator is called, which of its results are valid, and what they are called.

Every difference between tasks is here. Whoever scores, publishes, counts or measures asks the manifest for its task.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

TaskName = Literal["binary", "multiclass", "regression"]
Method = Literal["predict", "score_samples"]
Class: TypeAlias = str | int | float | bool
#: What happened to a customer, as its label has it.
Outcome: TypeAlias = bool | float | str
Floats = NDArray[np.float64]
MIN_CLASSES, MAX_CLASSES = 3, 100
# Probabilities in one prediction: those of the likeliest classes.
SHOWN_CLASSES = 10
MAX_CLASS_LENGTH = 128
# Estimators in single precision add up to 1 within 1e-7 or so.
SUM_ROUNDING = 1e-6

# An average of certain estimators may exceed 1 in its last bits (scikit-learn's calibration cuts them off, too).
ROUNDING = 1e-9


class Task(Protocol):
    """One kind of model. A *score* is its result for one event: a number, or of several classes their probabilities."""

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
        """Return the estimator's score per row of `asked`, float64 of `shape`. Its errors pass through."""

    def shape(self, rows: int) -> tuple[int, ...]:
        """Return the shape of the scores of so many rows."""

    def watched(self, scores: Floats) -> Floats:
        """Return the one number per row whose drift is measured, (n,)."""

    def predicted(self, scores: Floats) -> NDArray[np.int32] | None:
        """Return the index of each row's class, (n,); None where predictions have no class."""

    def valid(self, scores: Floats) -> Floats:
        """Return the scores as they are published, NaN in place of each that is not valid."""

    def labels(self, scores: Floats) -> NDArray[np.bool_]:
        """Return bool (n,): whether the label of the prediction is true."""

    def content(self, score: Any) -> dict[str, Any]:
        """Return the members of a prediction that hold its result, as JSON values. score: as `tolist` has a row."""

    def tolerances(self, scores: Floats, share: float) -> Floats:
        """Return by how much another computation of each number may differ. share: of a score's own size."""

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

    def shape(self, rows: int) -> tuple[int, ...]:
        """Return (n,): a number per row."""
        return (rows,)

    def watched(self, scores: Floats) -> Floats:
        """Return the probabilities."""
        return scores

    def predicted(self, scores: Floats) -> NDArray[np.int32] | None:  # noqa: ARG002
        """Return None: a label is true or false."""
        return None

    def valid(self, scores: Floats) -> Floats:
        """Accept 0 to 1; an excess in the last bits is cut off."""
        in_range = np.clip(scores, 0.0, 1.0)
        return np.where(np.abs(scores - in_range) <= ROUNDING, in_range, np.nan)

    def labels(self, scores: Floats) -> NDArray[np.bool_]:
        """Return where the probability reaches the threshold."""
        reached: NDArray[np.bool_] = scores >= self.threshold
        return reached

    def content(self, score: Any) -> dict[str, Any]:
        """Return `probability`, `label` and `threshold`."""
        return {"probability": score, "label": score >= self.threshold, "threshold": self.threshold}

    def tolerances(self, scores: Floats, share: float) -> Floats:
        """Return `share`: probabilities have the size 1."""
        return np.full(len(scores), share)

    def outcome(self, value: object) -> Outcome | None:
        """Accept true and false: whether the customer belongs to the positive class."""
        return value if isinstance(value, bool) else None


@dataclass(frozen=True, slots=True)
class Multiclass:
    """One of several classes: the score is the probability of each, in the order of `classes`."""

    classes: tuple[str, ...]

    name: ClassVar[TaskName] = "multiclass"
    method: ClassVar[str] = "predict_proba"
    result: ClassVar[str] = "distribution over the classes"

    def unfit(self, estimator: Any) -> str | None:
        """Require 3 to 100 classes, each with a text of its own, and `predict_proba`."""
        if not hasattr(estimator, self.method):
            return f'task is "multiclass", and this has no {self.method}'
        found = class_texts(estimator)
        return found if isinstance(found, str) else None

    def mismatch(self, estimator: Any) -> str | None:
        """Require the estimator's classes, in its order."""
        found = class_texts(estimator)
        if found == self.classes:
            return None
        return f"classes: the estimator has {', '.join(found) if isinstance(found, tuple) else 'none'}"

    def scores(self, estimator: Any, asked: Any) -> Floats:
        """Return the probability of every class, (n, classes)."""
        return np.asarray(estimator.predict_proba(asked), dtype=np.float64)

    def shape(self, rows: int) -> tuple[int, ...]:
        """Return (n, classes)."""
        return (rows, len(self.classes))

    def watched(self, scores: Floats) -> Floats:
        """Return the largest probability of each row: how sure the model is."""
        largest: Floats = scores.max(axis=1)
        return largest

    def predicted(self, scores: Floats) -> NDArray[np.int32] | None:
        """Return the class with the largest probability; of equal ones the first."""
        best: NDArray[np.int32] = scores.argmax(axis=1).astype(np.int32)
        return best

    def valid(self, scores: Floats) -> Floats:
        """Accept rows of 0 to 1 that add up to 1; an excess in the last bits is cut off."""
        in_range = np.clip(scores, 0.0, 1.0)
        with np.errstate(invalid="ignore"):
            good = (np.abs(scores - in_range) <= ROUNDING).all(axis=1) & (
                np.abs(scores.sum(axis=1) - 1.0) <= SUM_ROUNDING
            )
        return np.where(good[:, None], in_range, np.nan)

    def labels(self, scores: Floats) -> NDArray[np.bool_]:
        """Return false everywhere: a class is neither true nor false."""
        return np.zeros(len(scores), dtype=np.bool_)

    def content(self, score: Any) -> dict[str, Any]:
        """Return `label`, its `probability`, and `probabilities` of the likeliest classes."""
        best = max(range(len(score)), key=score.__getitem__)
        return {"label": self.classes[best], "probability": score[best], "probabilities": self.shown(score)}

    def shown(self, score: Sequence[float]) -> dict[str, float]:
        """Return the probabilities by class, in the order of the classes; of many the likeliest, largest first."""
        if len(self.classes) <= SHOWN_CLASSES:
            return dict(zip(self.classes, score, strict=True))
        order = sorted(range(len(score)), key=lambda at: -score[at])[:SHOWN_CLASSES]
        return {self.classes[at]: score[at] for at in order}

    def tolerances(self, scores: Floats, share: float) -> Floats:
        """Return `share`: probabilities have the size 1."""
        return np.full(scores.shape, share)

    def outcome(self, value: object) -> Outcome | None:
        """Accept the text of a class, also of one that the model does not have; a JSON integer is its decimal text."""
        text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        return text if isinstance(text, str) and valid_class(text) else None


def valid_class(text: str) -> bool:
    """Return whether a text can be the name of a class."""
    return 1 <= len(text) <= MAX_CLASS_LENGTH and text.isprintable()


def class_text(member: object) -> str | None:
    """Return a class of an estimator as the text that it has everywhere else; None if it has none.

    >>> class_text("gold"), class_text(2), class_text(2.0), class_text(2.5)
    ('gold', '2', '2', None)
    """
    if isinstance(member, float) and member.is_integer():
        member = int(member)
    if isinstance(member, int) and not isinstance(member, bool):
        return str(member)
    return member if isinstance(member, str) and valid_class(member) else None


def class_texts(estimator: Any) -> tuple[str, ...] | str:
    """Return the classes of a fitted estimator as texts, in its order; or why they cannot be a model's."""
    members = _members(estimator) if has_classes(estimator) else []
    texts = tuple(text for member in members if (text := class_text(member)) is not None)
    if not MIN_CLASSES <= len(members) <= MAX_CLASSES:
        return f'task is "multiclass", and this has {len(members)} classes; expected {MIN_CLASSES} to {MAX_CLASSES}'
    if len(set(texts)) < len(members):
        return f"classes {members[:5]} are no distinct texts of 1 to {MAX_CLASS_LENGTH} characters, nor whole numbers"
    return texts


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
        if has_classes(estimator):
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

    def shape(self, rows: int) -> tuple[int, ...]:
        """Return (n,): a number per row."""
        return (rows,)

    def watched(self, scores: Floats) -> Floats:
        """Return the values."""
        return scores

    def predicted(self, scores: Floats) -> NDArray[np.int32] | None:  # noqa: ARG002
        """Return None: a number has no class."""
        return None

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

    def content(self, score: Any) -> dict[str, Any]:
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


def has_classes(estimator: Any) -> bool:
    """Return whether an estimator is a fitted classifier. CatBoost's regressors have an empty list of classes.

    >>> class Regressor: classes_ = ()
    >>> has_classes(Regressor()), has_classes(object())
    (False, False)
    """
    classes = getattr(estimator, "classes_", None)
    return classes is not None and len(classes) > 0


def _members(estimator: Any) -> list[Any]:
    members: list[Any] = np.asarray(estimator.classes_).tolist()
    return members
