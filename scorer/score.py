"""Columns → probabilities of the positive class."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.features import Columns

# An average of certain estimators may exceed 1 by its last bits (scikit-learn's own calibration cuts them off, too).
ROUNDING = 1e-9

Predict = Callable[[Columns], NDArray[np.float64]]


class FrameForm:
    """The estimator as it was fitted, on a DataFrame: right for every estimator, 7 ms of fixed cost per call."""

    name = "frame"

    def __init__(self, estimator: Any, positive_column: int) -> None:
        self._estimator = estimator
        self._positive = positive_column
        # the stream and /predict ask from two threads, and an estimator of somebody else's may not be made for that
        self._lock = threading.Lock()

    def __call__(self, columns: Columns) -> NDArray[np.float64]:
        """float64 (n,), the positive class's probability per row. Raises whatever the estimator raises."""
        frame = columns.frame()
        with self._lock:
            return np.asarray(self._estimator.predict_proba(frame)[:, self._positive], dtype=np.float64)


def predict_each(predict: Predict, columns: Columns) -> tuple[NDArray[np.float64], dict[int, str]]:
    """Probabilities per row, and what went wrong by row for those that have none (their entry is NaN).

    An estimator that raises on a batch raises on few of its rows: the batch is halved until they are alone, so that one
    poison record costs its neighbours nothing. A result that is not a probability counts as wrong, too.
    """
    out = np.full(columns.n, np.nan)
    wrong: dict[int, str] = {}
    pending = [np.arange(columns.n, dtype=np.int64)] if columns.n else []
    while pending:
        rows = pending.pop()
        try:
            got = predict(columns if len(rows) == columns.n else columns.take(rows))
            if got.shape != rows.shape:
                raise ValueError(f"predict_proba gave {got.shape[0]} rows for {len(rows)}")  # noqa: TRY301
        except Exception as error:  # noqa: BLE001 - the estimator is foreign code and may raise anything
            if len(rows) == 1:
                wrong[int(rows[0])] = type(error).__name__
            else:
                half = len(rows) // 2
                pending += [rows[:half], rows[half:]]
            continue
        in_range = np.clip(got, 0.0, 1.0)
        out[rows] = np.where(np.abs(got - in_range) <= ROUNDING, in_range, np.nan)
        for row in rows[np.isnan(out[rows])]:
            wrong[int(row)] = "a result that is not a probability"
    return out, wrong
