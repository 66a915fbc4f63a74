"""Rows of any task whose outcome is known: some of them, and a metric with each row's influence. Pure numpy."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from drift_worker.performance.classification_metrics import Bools, Rows, influence
from drift_worker.performance.clustered_error import Floats, Valued
from drift_worker.performance.multiclass_metrics import ClassRows, class_influence
from drift_worker.performance.regression_metrics import ValueRows, value_influence
from schemas.task import Multiclass, Regression, Task

AnyRows: TypeAlias = Rows | ClassRows | ValueRows


def taken(rows: AnyRows, which: Bools) -> AnyRows:
    """Return only the rows of `which`, bool (n,)."""
    columns = {column.name: getattr(rows, column.name) for column in fields(rows)}
    kept: dict[str, Any] = {name: None if values is None else values[which] for name, values in columns.items()}
    return replace(rows, **kept)


def rows_of_task(task: Task, outcome: NDArray[Any], score: Floats, customer: NDArray[np.generic]) -> AnyRows:
    """Return the rows of a model's scores.

    outcome: (n,), bool, names of classes (also of ones that the model does not have) or float64. score: of the task's
    shape. customer: (n,).

    >>> outcome, score = np.array(["b", "new"]), np.array([[0.2, 0.8], [0.6, 0.4]])
    >>> rows = rows_of_task(Multiclass(("a", "b")), outcome, score, np.arange(2))
    >>> rows.outcome.tolist(), rows.predicted.tolist()
    ([1, 2], [1, 0])
    """
    if isinstance(task, Regression):
        around = task.interval
        ends = () if around is None else (score + around.low, score + around.high)
        return ValueRows(outcome, score, customer, *ends)
    if isinstance(task, Multiclass):
        codes = {name: code for code, name in enumerate(names_of(task, outcome))}
        told = np.array([codes[one] for one in outcome.tolist()], dtype=np.int64)
        return ClassRows(told, score.argmax(axis=1).astype(np.int64), score, customer)
    return Rows(outcome, score, task.labels(score), customer)


def names_of(task: Multiclass, outcome: NDArray[Any]) -> list[str]:
    """Return the names of the codes of `rows_of_task`: the model's classes, then other outcomes, sorted."""
    return [*task.classes, *sorted(set(outcome.tolist()) - set(task.classes))]


def influence_of(metric: str, rows: AnyRows) -> Valued:
    """Return a metric of the task and each row's influence on it, float64 (n,), or the reason why it is undefined."""
    if isinstance(rows, ClassRows):
        return class_influence(metric, rows)
    if isinstance(rows, ValueRows):
        return value_influence(metric, rows)
    return influence(metric, rows)
