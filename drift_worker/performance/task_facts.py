"""What the label state holds of one prediction and of one label, by task: as records, and as rows in memory. Pure.

Every dtype begins with the members by which labels are joined (drift_worker/performance/label_join.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from drift_worker.performance.label_join import LABEL, PREDICTION, identify
from drift_worker.performance.label_records import (
    ClassFact,
    MadeFact,
    Pair,
    PredictionFact,
    ValueFact,
    of_class,
    of_prediction,
    of_value,
)
from schemas.prediction import AnyPrediction, ClassPrediction, Prediction, ValuePrediction
from schemas.task import SHOWN_CLASSES, Binary, Multiclass, Outcome, Task

_JOINED_BY = [("customer", "<u8"), ("prediction", "<u8"), ("time_ms", "<i8")]
VALUE_PREDICTION = np.dtype([*_JOINED_BY, ("value", "<f8"), ("low", "<f8"), ("high", "<f8"), ("version", "<u2")])
VALUE_LABEL = np.dtype([*_JOINED_BY, ("label", "<f8")])
CLASS_LABEL = np.dtype([*_JOINED_BY, ("label", "<u8")])

Marks = NDArray[np.uint64]


class TaskFacts(Protocol):
    """The facts of one task."""

    @property
    def prediction(self) -> np.dtype[np.void]:
        """Return the dtype of a row per prediction."""

    @property
    def label(self) -> np.dtype[np.void]:
        """Return the dtype of a row per label."""

    def record(self, prediction: AnyPrediction, time_ms: int) -> tuple[int, Pair] | None:
        """Return the customer's hash and the record of a prediction; None if it is of another task."""

    def made(self, fact: MadeFact, version: int) -> tuple[Any, ...] | None:
        """Return the row of a prediction; None if it is of another task. version: its index."""

    def said(self, outcome: Outcome) -> Any:
        """Return the row's member `label`; None if the outcome is of another task."""

    def outcome(self, said: Any) -> Outcome:
        """Return the outcome of a row's member `label`."""

    def bits(self, labels: NDArray[np.void]) -> Marks:
        """Return `label` of each row as a number by which rows are told apart, (n,)."""


class BinaryFacts:
    """A probability, its threshold and its label; an outcome is true or false."""

    prediction = PREDICTION
    label = LABEL

    def record(self, prediction: AnyPrediction, time_ms: int) -> tuple[int, Pair] | None:
        """Return the probability with its threshold and label."""
        if not isinstance(prediction, Prediction):
            return None
        p = prediction
        return of_prediction(
            p.customer_id, p.prediction_id, p.model.name, p.model.version, time_ms, p.probability, p.threshold, p.label
        )

    def made(self, fact: MadeFact, version: int) -> tuple[Any, ...] | None:
        """Return the members in the order of PREDICTION."""
        if not isinstance(fact, PredictionFact):
            return None
        return (
            *(fact.customer, fact.prediction, fact.time_ms, fact.probability, fact.threshold),
            *(version, fact.positive),
        )

    def said(self, outcome: Outcome) -> Any:
        """Return it, if it is a boolean."""
        return outcome if isinstance(outcome, bool) else None

    def outcome(self, said: Any) -> Outcome:
        """Return the boolean."""
        return bool(said)

    def bits(self, labels: NDArray[np.void]) -> Marks:
        """Return 0 and 1."""
        return labels["label"].astype(np.uint64)


class ValueFacts:
    """A value with the ends of its interval; an outcome is a number."""

    prediction = VALUE_PREDICTION
    label = VALUE_LABEL

    def record(self, prediction: AnyPrediction, time_ms: int) -> tuple[int, Pair] | None:
        """Return the value with its interval."""
        if not isinstance(prediction, ValuePrediction):
            return None
        p = prediction
        ends = None if p.interval is None else (p.interval.low, p.interval.high)
        return of_value(p.customer_id, p.prediction_id, p.model.name, p.model.version, time_ms, p.value, ends)

    def made(self, fact: MadeFact, version: int) -> tuple[Any, ...] | None:
        """Return the members in the order of VALUE_PREDICTION."""
        if not isinstance(fact, ValueFact):
            return None
        return fact.customer, fact.prediction, fact.time_ms, fact.value, fact.low, fact.high, version

    def said(self, outcome: Outcome) -> Any:
        """Return it, if it is a number."""
        return outcome if isinstance(outcome, float) else None

    def outcome(self, said: Any) -> Outcome:
        """Return the number."""
        return float(said)

    def bits(self, labels: NDArray[np.void]) -> Marks:
        """Return the bits of the doubles."""
        return np.ascontiguousarray(labels["label"]).view(np.uint64)


class ClassFacts:
    """A class with the probabilities of all; an outcome is a class. Rows hold classes as hashes of their names.

    Of more than ten classes, predictions hold only the likeliest ones, and rows none.
    """

    label = CLASS_LABEL

    def __init__(self, classes: Sequence[str]) -> None:
        self._classes = classes
        self._all = len(classes) <= SHOWN_CLASSES
        shares = [("probabilities", "<f8", (len(classes),))] if self._all else []
        self.prediction = np.dtype([*_JOINED_BY, ("label", "<u8"), *shares, ("version", "<u2")])
        #: The classes that were seen, by hash.
        self.names = {identify(name): name for name in classes}

    def record(self, prediction: AnyPrediction, time_ms: int) -> tuple[int, Pair] | None:
        """Return the class with the probabilities."""
        if not isinstance(prediction, ClassPrediction):
            return None
        p = prediction
        return of_class(
            *(p.customer_id, p.prediction_id, p.model.name, p.model.version, time_ms, p.label, p.probabilities)
        )

    def made(self, fact: MadeFact, version: int) -> tuple[Any, ...] | None:
        """Return the members in the order of `prediction`; NaN for a class that has no probability."""
        if not isinstance(fact, ClassFact):
            return None
        shares = [fact.probabilities.get(name, np.nan) for name in self._classes]
        joined_by = (fact.customer, fact.prediction, fact.time_ms)
        return (*joined_by, self._hash(fact.label), *([shares] if self._all else []), version)

    def said(self, outcome: Outcome) -> Any:
        """Return the class's hash, if it is a class."""
        return self._hash(outcome) if isinstance(outcome, str) else None

    def outcome(self, said: Any) -> Outcome:
        """Return the class."""
        return self.names[int(said)]

    def bits(self, labels: NDArray[np.void]) -> Marks:
        """Return the hashes."""
        return np.ascontiguousarray(labels["label"])

    def _hash(self, name: str) -> int:
        number = identify(name)
        self.names[number] = name
        return number


def facts_of(task: Task) -> TaskFacts:
    """Return the facts of a model's task."""
    if isinstance(task, Multiclass):
        return ClassFacts(task.classes)
    return BinaryFacts() if isinstance(task, Binary) else ValueFacts()
