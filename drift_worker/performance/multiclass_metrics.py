"""Outcomes and predicted classes → how good a model of several classes was, with standard errors. No I/O.

Values equal scikit-learn's on the same rows, with `average="macro"` over the classes that occur in outcomes or
predictions, and `zero_division=0`. Standard errors are those of drift_worker/performance/clustered_error.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drift_worker.performance.classification_metrics import Rows, influence
from drift_worker.performance.clustered_error import NO_ROWS, Estimated, Floats, Valued, estimated

METRICS = ("accuracy", "precision_macro", "recall_macro", "f1_macro", "roc_auc_ovr", "log_loss")
OF_A_CLASS = ("precision", "recall", "f1")
CLASS_MISSING = "class_missing"  # ROC AUC needs outcomes of every class
PROBABILITIES_LEFT_OUT = "probabilities_left_out"  # predictions hold those of the likeliest ten classes

Codes = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ClassRows:
    """Rows whose outcome is known. All arrays have n rows.

    outcome, predicted: codes of classes, those of the model first; more are classes that it does not have. classes: how
    many the model has. probabilities: float64 (n, classes), NaN where they are not known. customer: any dtype that
    sorts, equal for rows of one customer.
    """

    outcome: Codes
    predicted: Codes
    probabilities: Floats
    customer: NDArray[np.generic]

    @property
    def classes(self) -> int:
        """Return the number of the model's classes."""
        return int(self.probabilities.shape[1])


def class_performance(rows: ClassRows) -> dict[str, Estimated]:
    """Return every metric of METRICS.

    >>> import numpy as np
    >>> told, p = np.array([0, 1, 2, 2]), np.eye(3)[[0, 1, 2, 1]] * 0.7 + 0.1
    >>> round(class_performance(ClassRows(told, p.argmax(axis=1), p, np.arange(4)))["f1_macro"].value, 4)
    0.7778
    """
    if not len(rows.outcome):
        return dict.fromkeys(METRICS, Estimated(None, reason=NO_ROWS))
    _, customer = np.unique(rows.customer, return_inverse=True)
    return {
        name: estimated(class_influence(name, rows), customer, upper=math.inf if name == "log_loss" else 1.0)
        for name in METRICS
    }


def of_each_class(rows: ClassRows) -> dict[int, dict[str, Estimated]]:
    """Return OF_A_CLASS of each class that occurs in outcomes or predictions, by its code."""
    _, customer = np.unique(rows.customer, return_inverse=True)
    return {
        code: {name: estimated(_of_class(name, rows, code), customer, upper=1.0) for name in OF_A_CLASS}
        for code in _present(rows)
    }


def class_influence(metric: str, rows: ClassRows) -> Valued:
    """Return a metric of METRICS and each row's influence on it, float64 (n,), or the reason why it is undefined."""
    if not len(rows.outcome):
        return NO_ROWS
    if metric == "accuracy":
        return _mean((rows.predicted == rows.outcome).astype(np.float64))
    if metric == "roc_auc_ovr":
        return _roc_auc(rows)
    if metric == "log_loss":
        return _log_loss(rows)
    each = [_of_class(metric.removesuffix("_macro"), rows, code) for code in _present(rows)]
    return _average(each, len(rows.outcome))


def _present(rows: ClassRows) -> list[int]:
    found: list[int] = np.union1d(rows.outcome, rows.predicted).tolist()
    return found


def _mean(of_rows: Floats) -> tuple[float, Floats]:
    value = float(np.mean(of_rows))
    return value, (of_rows - value) / len(of_rows)


def _of_class(metric: str, rows: ClassRows, code: int) -> tuple[float, Floats]:
    """Return a metric of one class against the rest; 0 where it is undefined, as scikit-learn does."""
    told, said = rows.outcome == code, rows.predicted == code
    part = (told & said).astype(np.float64)
    whole = {"precision": said, "recall": told}.get(metric, told).astype(np.float64)
    if metric == "f1":
        part, whole = 2.0 * part, told.astype(np.float64) + said
    total = float(whole.sum())
    if total == 0.0:
        return 0.0, np.zeros(len(told))
    value = float(part.sum()) / total
    return value, (part - value * whole) / total


def _average(each: list[tuple[float, Floats]], rows: int) -> tuple[float, Floats]:
    moved = np.zeros(rows)
    for _, one in each:
        moved += one / len(each)
    return float(np.mean([value for value, _ in each])), moved


def _known(rows: ClassRows) -> NDArray[np.bool_] | str:
    """Return which rows have probabilities of a class that the model has; or why none can be used."""
    if np.isnan(rows.probabilities).any():
        return PROBABILITIES_LEFT_OUT
    known: NDArray[np.bool_] = rows.outcome < rows.classes
    return known if known.any() else CLASS_MISSING


def _roc_auc(rows: ClassRows) -> Valued:
    """Return the mean of each class's area against the rest."""
    known = _known(rows)
    if isinstance(known, str):
        return known
    each = []
    for code in range(rows.classes):
        told, p = rows.outcome[known] == code, np.ascontiguousarray(rows.probabilities[known, code])
        found = influence("roc_auc", Rows(told, p, told, rows.customer[known]))
        if isinstance(found, str):
            return CLASS_MISSING
        each.append((found[0], _spread(found[1], known)))
    return _average(each, len(known))


def _log_loss(rows: ClassRows) -> Valued:
    known = _known(rows)
    if isinstance(known, str):
        return known
    p = rows.probabilities[known, rows.outcome[known]]
    # as in scikit-learn: no probability is closer to 0 or 1 than the precision of doubles
    edge = float(np.finfo(np.float64).eps)
    value, moved = _mean(-np.log(np.clip(p, edge, 1.0 - edge)))
    return value, _spread(moved, known)


def _spread(influences: Floats, known: NDArray[np.bool_]) -> Floats:
    """Return the influences of all rows: 0 for a row that is left out."""
    everything = np.zeros(len(known))
    everything[known] = influences
    return everything
