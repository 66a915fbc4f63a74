"""Labels, shadow predictions and predictions, read in this order → the rows on which two models are compared. No I/O.

Predictions of two models on one event have the same source position. drift_worker/performance/label_join.py decides
which label belongs to which prediction, from all predictions of the customer by any model. Only labelled customers take
memory, apart from the positions themselves (8 bytes each): they give the share of the stream with both.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drift_worker.performance import label_join
from drift_worker.performance.any_rows import AnyRows, taken
from drift_worker.performance.classification_metrics import Rows
from drift_worker.performance.multiclass_metrics import ClassRows
from drift_worker.performance.regression_metrics import ValueRows
from drift_worker.performance.task_facts import VALUE_PREDICTION, facts_of
from schemas import timestamps
from schemas.headers import SOURCE_OFFSET, SOURCE_PARTITION, SOURCE_TOPIC, whole
from schemas.label import LabelReason, known_outcome
from schemas.prediction import AnyPrediction, ClassPrediction, Prediction, decode_any
from schemas.task import Binary, Multiclass, Outcome, Regression, Task, TaskName

ModelName = tuple[str, str]  # name and version
Header = tuple[str, bytes]
# Why a prediction of a model with another task is left out.
OTHER_TASK = "the task of its model is another one"
_OFFSET_BITS = 48  # an offset below, the partition above
# A prediction of several classes; label: `identify` of the class.
_CLASS_PREDICTION = np.dtype(
    [("customer", "<u8"), ("prediction", "<u8"), ("time_ms", "<i8"), ("label", "<u8"), ("version", "<u2")]
)
# What labels and rows need of a task; not the classes of a model, which predictions name themselves.
_TASKS: Mapping[TaskName, Task] = {
    "binary": Binary(positive_class=True),
    "multiclass": Multiclass(()),
    "regression": Regression(),
}
_ROWS: Mapping[TaskName, np.dtype[np.void]] = {
    "binary": label_join.PREDICTION,
    "multiclass": _CLASS_PREDICTION,
    "regression": VALUE_PREDICTION,
}


@dataclass(slots=True, eq=False)
class _Rows:
    """Rows of labelled customers, and the positions of all customers' events, by model."""

    made: list[tuple[Any, ...]] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    everywhere: dict[int, array[int]] = field(default_factory=dict)
    newest: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Labelled:
    """One model's rows and the event time of each, int64 (n,), epoch ms."""

    rows: AnyRows
    time_ms: NDArray[np.int64]

    def take(self, which: NDArray[np.bool_]) -> Labelled:
        """Return only these rows."""
        return Labelled(taken(self.rows, which), self.time_ms[which])


@dataclass(frozen=True, slots=True)
class Coverage:
    """Source positions that the champion answered since the challenger's first in each partition, and those of both."""

    champion: int
    both: int


class Paired:
    """The content of the three topics, of models of one task."""

    def __init__(
        self,
        events_topic: str,
        now_ms: int,
        future_skew_ms: int,
        *,
        everywhere: bool = True,
        task: TaskName = "binary",
        classes: Sequence[str] = (),
    ) -> None:
        """Start. `everywhere`: whether positions of customers without a label are kept, for `coverage`.

        classes: those that get the first codes in rows of several classes, in this order; others follow.
        """
        self.classes = classes
        self.task = task
        self._facts = facts_of(_TASKS[task])
        self._events = events_topic.encode()
        self._now_ms = now_ms
        self._skew_ms = future_skew_ms
        self._everywhere_wanted = everywhere
        self._models: dict[ModelName, int] = {}
        self._labels: list[tuple[int, int, int, Any]] = []
        self._customers: set[int] = set()
        self._newest_ms = 0  # of any prediction or label: "now" in event time
        self._of = {"predictions": _Rows(), "shadow": _Rows()}
        self.left_out: Counter[str] = Counter()

    # -- in ------------------------------------------------------------------------------------------------------------

    def label(self, value: bytes | None) -> None:
        """Take in a record of the labels' topic; all of them come first."""
        one = known_outcome(value, self._now_ms, self._skew_ms, _TASKS[self.task].outcome)
        if isinstance(one, LabelReason):
            self.left_out[f"label {one}"] += 1
            return
        customer, named = label_join.identify(one.customer_id), one.prediction_id
        about = label_join.NO_PREDICTION if named is None else label_join.identify(named)
        self._labels.append((customer, about, one.time_ms, self._facts.said(one.outcome)))
        self._newest_ms = max(self._newest_ms, one.time_ms)
        self._customers.add(customer)

    def prediction(self, value: bytes | None, headers: Sequence[Header]) -> None:
        """Take in a record of `predictions`."""
        self._take("predictions", value, headers)

    def shadow(self, value: bytes | None, headers: Sequence[Header]) -> None:
        """Take in a record of `predictions-shadow`."""
        self._take("shadow", value, headers)

    def _take(self, topic: str, value: bytes | None, headers: Sequence[Header]) -> None:
        position = self._position(headers)
        one = _decoded(value)
        if one is not None and one.task != self.task:
            self.left_out[f"{topic}: {OTHER_TASK}"] += 1
            return
        time_ms = timestamps.parse(one.event_time) if one is not None else None
        if position is None or one is None or time_ms is None:
            self.left_out[f"{topic}: not a prediction of this stream"] += 1
            return
        self._newest_ms = max(self._newest_ms, time_ms)
        found, model = self._of[topic], self._model(one)
        found.newest[model] = max(one.scored_at, found.newest.get(model, ""))
        if self._everywhere_wanted:
            found.everywhere.setdefault(model, array("q")).append(position)
        customer = label_join.identify(one.customer_id)
        if customer in self._customers:
            joined_by = (customer, label_join.identify(one.prediction_id), time_ms)
            found.made.append((*joined_by, *_members(one, model)))
            found.positions.append(position)

    def _model(self, one: AnyPrediction) -> int:
        return self._models.setdefault((one.model.name, one.model.version), len(self._models))

    def _position(self, headers: Sequence[Header]) -> int | None:
        found = dict(headers)
        partition, offset = whole(found.get(SOURCE_PARTITION)), whole(found.get(SOURCE_OFFSET))
        if found.get(SOURCE_TOPIC) != self._events or partition is None or offset is None:
            return None
        if partition >> (63 - _OFFSET_BITS) or offset >> _OFFSET_BITS:
            return None  # no broker's: the two are one number of 64 bits here
        return (partition << _OFFSET_BITS) | offset

    # -- out -----------------------------------------------------------------------------------------------------------

    def models(self, topic: str) -> list[ModelName]:
        """Return the models with predictions of this kind, `predictions` or `shadow`; the latest to score is first."""
        newest = self._of[topic].newest
        names = {index: name for name, index in self._models.items()}
        return [names[i] for i in sorted(newest, key=lambda i: newest[i], reverse=True)]

    def coverage(self, champion: ModelName, challenger: ModelName) -> Coverage:
        """Return which share of the champion's answers has the challenger's shadow, too."""
        answered = self._everywhere("predictions", champion)
        shadowed = self._everywhere("shadow", challenger)
        partitions, starts = np.unique(shadowed >> _OFFSET_BITS, return_index=True)
        first = dict(zip(partitions.tolist(), shadowed[starts].tolist(), strict=True))
        begun = np.zeros(len(answered), dtype=np.bool_)
        for partition, start in first.items():
            begun |= (answered >> _OFFSET_BITS == partition) & (answered >= start)
        return Coverage(int(begun.sum()), len(np.intersect1d(answered, shadowed, assume_unique=True)))

    def _everywhere(self, topic: str, model: ModelName) -> NDArray[np.int64]:
        """Return the positions, ascending, each once."""
        found = self._of[topic].everywhere.get(self._models.get(model, -1), array("q"))
        return np.unique(np.array(found, dtype=np.int64))

    def of_both(self, champion: ModelName, challenger: ModelName, horizon_ms: int) -> tuple[Labelled, Labelled]:
        """Return settled rows with a label that both models have scored, the same ones in the same order."""
        predictions, positions, has, told = self._settled(horizon_ms)
        shadow = np.array(self._of["shadow"].made, dtype=_ROWS[self.task])
        shadow_at = np.array(self._of["shadow"].positions, dtype=np.int64)
        theirs = shadow["version"] == self._models.get(challenger, -1)
        shadow, shadow_at = shadow[theirs], shadow_at[theirs]
        ours = np.flatnonzero((predictions["version"] == self._models.get(champion, -1)) & has)
        _, one, other = np.intersect1d(positions[ours], shadow_at, return_indices=True)
        one = ours[one]
        return self._labelled(predictions[one], told[one]), self._labelled(shadow[other], told[one])

    def of_each(self, champion: ModelName, challenger: ModelName, horizon_ms: int) -> tuple[Labelled, Labelled]:
        """Return settled rows with a label of each model's customers, as in a split."""
        predictions, _, has, told = self._settled(horizon_ms)
        sides = []
        for model in (champion, challenger):
            mine = (predictions["version"] == self._models.get(model, -1)) & has
            sides.append(self._labelled(predictions[mine], told[mine]))
        return sides[0], sides[1]

    def outcomes(self, horizon_ms: int) -> dict[tuple[int, int], tuple[Outcome, int]]:
        """Return source partition and offset → the outcome and when it was known, of predictions that have one."""
        _, positions, has, told, known_ms = self._joined(horizon_ms)
        rows = zip(positions[has].tolist(), told[has].tolist(), known_ms[has].tolist(), strict=True)
        said = self._facts.outcome
        return {(at >> _OFFSET_BITS, at & ((1 << _OFFSET_BITS) - 1)): (said(one), ms) for at, one, ms in rows}

    def _settled(
        self, horizon_ms: int
    ) -> tuple[label_join.Predictions, NDArray[np.int64], NDArray[np.bool_], NDArray[Any]]:
        """Return rows, positions, whether each has a settled outcome, and the outcomes."""
        predictions, positions, has, told, _ = self._joined(horizon_ms)
        has &= label_join.settled(predictions, horizon_ms, min(self._now_ms, self._newest_ms))
        return predictions, positions, has, told

    def _joined(
        self, horizon_ms: int
    ) -> tuple[label_join.Predictions, NDArray[np.int64], NDArray[np.bool_], NDArray[Any], NDArray[np.int64]]:
        """Return every prediction of a labelled customer once.

        They are: row, position, whether it has an outcome, the outcome as a row of a label has it (any value without
        one), and when its label was known, 0 without one.
        """
        predictions = np.array(self._of["predictions"].made, dtype=_ROWS[self.task])
        kept = label_join.distinct(predictions)
        predictions = predictions[kept]
        positions = np.array(self._of["predictions"].positions, dtype=np.int64)[kept]
        labels = np.array(self._labels, dtype=self._facts.label)
        chosen, _ = label_join.matched(predictions, labels, horizon_ms)
        has = chosen >= 0
        told = np.zeros(len(predictions), dtype=labels.dtype["label"])
        told[has] = labels["label"][chosen[has]]
        known_ms = np.zeros(len(predictions), dtype=np.int64)
        known_ms[has] = labels["time_ms"][chosen[has]]
        return predictions, positions, has, told, known_ms

    def _labelled(self, made: label_join.Predictions, told: NDArray[Any]) -> Labelled:
        return Labelled(_COMPARED[self.task](made, told, self.classes), made["time_ms"].copy())


def _decoded(value: bytes | None) -> AnyPrediction | None:
    try:
        return decode_any(value or b"")
    except ValueError:
        return None


def _members(one: AnyPrediction, model: int) -> tuple[Any, ...]:
    """Return the members of a row that are not those by which labels are joined."""
    if isinstance(one, Prediction):
        return one.probability, one.threshold, model, one.label
    if isinstance(one, ClassPrediction):
        return label_join.identify(one.label), model
    return one.value, np.nan, np.nan, model


def _binary(made: label_join.Predictions, told: NDArray[Any], classes: Sequence[str]) -> AnyRows:  # noqa: ARG001
    return Rows(told, made["probability"].copy(), made["positive"].copy(), made["customer"].copy())


def _values(made: label_join.Predictions, told: NDArray[Any], classes: Sequence[str]) -> AnyRows:  # noqa: ARG001
    return ValueRows(told, made["value"].copy(), made["customer"].copy())


def _classes(made: label_join.Predictions, told: NDArray[Any], classes: Sequence[str]) -> AnyRows:
    first = np.array([label_join.identify(name) for name in classes], dtype=np.uint64)
    found = np.concatenate([told, made["label"]])
    names = np.concatenate([first, np.setdiff1d(found, first)])
    order = np.argsort(names)
    codes = order[np.searchsorted(names[order], found)]
    outcome, predicted = codes[: len(told)], codes[len(told) :]
    return ClassRows(outcome, predicted, np.empty((len(told), 0)), made["customer"].copy())


_COMPARED: Mapping[TaskName, Callable[[label_join.Predictions, NDArray[Any], Sequence[str]], AnyRows]] = {
    "binary": _binary,
    "multiclass": _classes,
    "regression": _values,
}
