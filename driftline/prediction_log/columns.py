"""The columns of an exported prediction, by the task of its model, and the row of a prediction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas.prediction import AnyPrediction, ClassPrediction, Prediction
from schemas.task import TaskName

Row = dict[str, Any]

_FIRST = ("prediction_id", "event_id", "customer_id", "event_time", "scored_at")
_LAST = (
    *("model_name", "model_version"),
    *("source_topic", "source_partition", "source_offset", "source_timestamp_ms"),
)
_RESULT: Mapping[TaskName, tuple[str, ...]] = {
    "binary": ("probability", "label", "threshold"),
    "multiclass": ("label", "probability", "probabilities"),
    "regression": ("value", "interval_low", "interval_high", "interval_level"),
}
# Members of every row, in this order; `input`, and `outcome` and `label_time`, follow on request.
COLUMNS: Mapping[TaskName, tuple[str, ...]] = {task: (*_FIRST, *result, *_LAST) for task, result in _RESULT.items()}


def row_of(one: AnyPrediction, source: tuple[str, int, int], timestamp_ms: int | None) -> Row:
    """Return the row of a prediction. source: topic, partition and offset of its event; timestamp_ms: the event's."""
    first = (one.prediction_id, one.event_id, one.customer_id, one.event_time, one.scored_at)
    values = (*first, *_result(one), one.model.name, one.model.version, *source, timestamp_ms)
    return dict(zip(COLUMNS[one.task], values, strict=True))


def _result(one: AnyPrediction) -> tuple[Any, ...]:
    if isinstance(one, Prediction):
        return one.probability, one.label, one.threshold
    if isinstance(one, ClassPrediction):
        return one.label, one.probability, one.probabilities
    around = one.interval
    return one.value, *((None, None, None) if around is None else (around.low, around.high, around.level))
