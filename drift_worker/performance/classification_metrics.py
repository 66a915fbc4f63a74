"""Joined rows → performance: the usual metrics, with intervals for repeated customers. Pure numpy.

Values equal scikit-learn's on the same rows. An undefined metric (no positive, no row labelled positive) is None with a
reason; scikit-learn returns `zero_division` or warns.

Standard errors are those of drift_worker/performance/clustered_error.py. For ROC AUC the influences are the placements
of DeLong, DeLong & Clarke-Pearson 1988. They are summed per customer as in N. A. Obuchowski 1997, "Nonparametric
analysis of clustered ROC curve data". Nothing is resampled: a cohort of 10^6 rows takes one sort.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drift_worker.performance.clustered_error import NO_ROWS, Estimated, Floats, Valued, estimated

METRICS = ("accuracy", "precision", "recall", "f1", "roc_auc", "brier", "log_loss")
ONE_CLASS = "one_class"
NO_POSITIVES = "no_positives"  # no outcome is positive
NONE_PREDICTED = "none_predicted"  # no row is predicted positive

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows whose outcome is known. All arrays are (n,).

    outcome: bool, the truth. probability: float64, 0 to 1. predicted: bool, the model's label at its threshold.
    customer: any dtype that sorts, equal for rows of one customer.
    """

    outcome: Bools
    probability: Floats
    predicted: Bools
    customer: NDArray[np.generic]


def performance(rows: Rows) -> dict[str, Estimated]:
    """Return every metric of METRICS.

    >>> import numpy as np
    >>> told, scored = np.array([True, False, True, False]), np.array([0.9, 0.2, 0.4, 0.3])
    >>> found = performance(Rows(told, scored, scored >= 0.5, np.arange(4)))
    >>> found["accuracy"].value, found["roc_auc"].value, found["recall"].value
    (0.75, 1.0, 0.5)
    """
    n = len(rows.outcome)
    if not n:
        return dict.fromkeys(METRICS, Estimated(None, reason=NO_ROWS))
    _, customer = np.unique(rows.customer, return_inverse=True)
    return {name: estimated(influences(rows), customer, upper=upper) for name, (influences, upper) in _DEFINED.items()}


def influence(metric: str, rows: Rows) -> tuple[float, Floats] | str:
    """Return a metric of METRICS and each row's influence on it, float64 (n,), or the reason why it is undefined.

    The difference of two metrics needs the influences: errors of the same rows cancel row by row.
    """
    return _DEFINED[metric][0](rows) if len(rows.outcome) else NO_ROWS


def _mean(of_rows: Floats) -> tuple[float, Floats]:
    value = float(np.mean(of_rows))
    return value, (of_rows - value) / len(of_rows)


def _ratio(part: Floats, whole: Floats, otherwise: str) -> Valued:
    """Return Σ part / Σ whole."""
    total = float(whole.sum())
    if total == 0.0:
        return otherwise
    value = float(part.sum()) / total
    return value, (part - value * whole) / total


def _accuracy(rows: Rows) -> Valued:
    return _mean((rows.predicted == rows.outcome).astype(np.float64))


def _precision(rows: Rows) -> Valued:
    hit = (rows.predicted & rows.outcome).astype(np.float64)
    return _ratio(hit, rows.predicted.astype(np.float64), NONE_PREDICTED)


def _recall(rows: Rows) -> Valued:
    hit = (rows.predicted & rows.outcome).astype(np.float64)
    return _ratio(hit, rows.outcome.astype(np.float64), NO_POSITIVES)


def _f1(rows: Rows) -> Valued:
    hit = (rows.predicted & rows.outcome).astype(np.float64)
    return _ratio(2.0 * hit, rows.predicted.astype(np.float64) + rows.outcome, NO_POSITIVES)


def _roc_auc(rows: Rows) -> Valued:
    positive, n = rows.outcome, len(rows.outcome)
    positives = int(positive.sum())
    negatives = n - positives
    if not positives or not negatives:
        return ONE_CLASS
    _, place = np.unique(rows.probability, return_inverse=True)
    positive_at = np.bincount(place, weights=positive)
    negative_at = np.bincount(place, weights=~positive)
    # shares of the other class that a row beats, ties half: whole and half numbers below 2^53, so exact until divided
    below = (np.cumsum(negative_at) - 0.5 * negative_at)[place]
    above = (positives - np.cumsum(positive_at) + 0.5 * positive_at)[place]
    value = float(below[positive].sum()) / (positives * negatives)
    influence = np.where(positive, (below / negatives - value) / positives, (above / positives - value) / negatives)
    return value, influence


def _brier(rows: Rows) -> Valued:
    return _mean((rows.probability - rows.outcome) ** 2)


def _log_loss(rows: Rows) -> Valued:
    # as in scikit-learn: no probability is closer to 0 or 1 than the precision of doubles
    edge = float(np.finfo(np.float64).eps)
    p = np.clip(rows.probability, edge, 1.0 - edge)
    return _mean(-np.log(np.where(rows.outcome, p, 1.0 - p)))


# name → its definition, and its largest possible value
_DEFINED: dict[str, tuple[Callable[[Rows], Valued], float]] = {
    "accuracy": (_accuracy, 1.0),
    "precision": (_precision, 1.0),
    "recall": (_recall, 1.0),
    "f1": (_f1, 1.0),
    "roc_auc": (_roc_auc, 1.0),
    "brier": (_brier, 1.0),
    "log_loss": (_log_loss, math.inf),
}
