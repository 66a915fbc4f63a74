"""Columns → scores: the model's result for each event."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.bundle.manifest import EstimatorInput
from schemas.features import Columns
from schemas.task import Task

Predict = Callable[[Columns], NDArray[np.float64]]


class FrameForm:
    """The estimator as it was fitted: correct for every estimator, 7 ms of fixed cost per call.

    task: what it predicts. form: the manifest's `input`: a DataFrame, or an array.
    """

    name = "frame"

    def __init__(self, estimator: Any, task: Task, form: EstimatorInput | None = None) -> None:
        self._estimator = estimator
        self._task = task
        self._input = form
        # the stream and /predict call from two threads, and a user's estimator may not be thread-safe
        self._lock = threading.Lock()

    def __call__(self, columns: Columns) -> NDArray[np.float64]:
        """Return the score per row. Errors of the estimator pass through."""
        asked = columns.as_fitted(self._input)
        with self._lock:
            return self._task.scores(self._estimator, asked)


def predict_each(predict: Predict, columns: Columns, task: Task) -> tuple[NDArray[np.float64], dict[int, str]]:
    """Return the score of each row, and the error by row for rows without one (their entry is NaN).

    An estimator that raises on a batch raises because of few rows. The batch is halved until these are alone, so that a
    poison record does not affect its neighbours. A result that is not valid in this task counts as an error, too.
    """
    out = np.full(task.shape(columns.n), np.nan)
    wrong: dict[int, str] = {}
    pending = [np.arange(columns.n, dtype=np.int64)] if columns.n else []
    while pending:
        rows = pending.pop()
        try:
            got = predict(columns if len(rows) == columns.n else columns.take(rows))
            if got.shape != task.shape(len(rows)):
                raise ValueError(f"{task.method} gave {got.shape[0]} rows for {len(rows)}, or other classes")  # noqa: TRY301
        except Exception as error:  # noqa: BLE001 - the estimator is foreign code and may raise anything
            if len(rows) == 1:
                wrong[int(rows[0])] = type(error).__name__
            else:
                half = len(rows) // 2
                pending += [rows[:half], rows[half:]]
            continue
        out[rows] = task.valid(got)
        # a score that is not valid is NaN, of several classes in all of its numbers
        for row in rows[np.isnan(out[rows].reshape(len(rows), -1)[:, 0])]:
            wrong[int(row)] = f"a result that is not a {task.result}"
    return out, wrong
