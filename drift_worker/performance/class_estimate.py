"""Performance of several classes without labels: accuracy, precision, recall, F1, ROC AUC and log loss to be expected.

The method is that of drift_worker/performance/label_free_estimate.py, with one outcome per class: 1 for the class that
the customer has, else 0. A calibrated probability of a class is the share of such customers who have it. Every metric
is a function of these outcomes; its estimate is the function at the calibrated probabilities.

Each class is calibrated against the rest, then the probabilities of a row are divided by their sum (Zadrozny & Elkan
2002, "Transforming classifier scores into accurate multiclass probability estimates"). Sampling: a customer has exactly
one class, so the variance of Σ g·y over the classes of one row is Σ g²q - (Σ g·q)².
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drift_worker.performance.label_free_estimate import Estimate, Floats, Valued, roc_auc, sampling
from schemas.bundle.manifest import ClassCalibration

METRICS = ("accuracy", "precision_macro", "recall_macro", "f1_macro", "roc_auc_ovr", "log_loss")
OF_A_CLASS = ("precision", "recall", "f1")

Ranks = tuple[NDArray[np.int64], ...]


@dataclass(frozen=True, slots=True)
class ClassEstimates:
    """METRICS over all classes, and OF_A_CLASS of each class in the model's order; None where one is not estimated."""

    overall: dict[str, Estimate | None]
    classes: tuple[dict[str, Estimate | None], ...]


@dataclass(frozen=True, slots=True)
class ClassMetrics:
    """METRICS with their gradients by the outcomes, (n, classes); None where one is undefined.

    classes: OF_A_CLASS of each class. Their gradients are by that class's outcomes alone, (n,).
    """

    overall: dict[str, Valued | None]
    classes: tuple[dict[str, Valued], ...]


def calibrated(probabilities: Floats, curves: Sequence[tuple[Sequence[float], Sequence[float]]]) -> Floats:
    """Return calibrated probabilities (n, classes). curves: breakpoints (x, y) of each class, in the model's order.

    A row of which no class has any calibrated probability keeps its own.

    >>> import numpy as np
    >>> half = ((0.0, 1.0), (0.0, 0.5))
    >>> calibrated(np.array([[0.6, 0.4]]), [half, ((0.0, 1.0), (0.0, 1.0))]).round(3).tolist()
    [[0.429, 0.571]]
    """
    found = np.column_stack([np.interp(probabilities[:, k], x, y) for k, (x, y) in enumerate(curves)])
    total = found.sum(axis=1, keepdims=True)
    return np.where(total > 0.0, found / np.where(total > 0.0, total, 1.0), probabilities)


def estimate(
    probabilities: Floats,
    classes: Sequence[str],
    calibration: ClassCalibration,
    customers: NDArray[np.int64] | None = None,
) -> ClassEstimates:
    """Estimate every metric from probabilities alone, float64 (n, classes), from the model, not calibrated.

    classes: the model's, in its order. customers: int64 (n,), equal for rows of one customer, whose outcomes count as
    one draw; None: each row is a customer.
    """
    curves = [calibration.curves[name] for name in classes]
    q = calibrated(probabilities, [(curve.x, curve.y) for curve in curves])
    which = None if customers is None else np.unique(customers, return_inverse=True)[1]
    found = metrics(q, probabilities)

    def band(valued: Valued | None, stated: float | None, column: int | None, most: float = 1.0) -> Estimate | None:
        if valued is None or stated is None:
            return None
        value, gradient = valued
        if column is None:
            mean = np.sum(gradient * q, axis=1)
            variance = np.sum(gradient**2 * q, axis=1) - mean**2
        else:
            variance = gradient**2 * q[:, column] * (1.0 - q[:, column])
        return Estimate(value, sampling(np.sqrt(np.maximum(variance, 0.0)), which), stated, most)

    overall = {
        name: band(found.overall[name], calibration.band.get(name), None, math.inf if name == "log_loss" else 1.0)
        for name in METRICS
    }
    each = tuple(
        {name: band(valued, calibration.class_band.get(classes[k], {}).get(name), k) for name, valued in one.items()}
        for k, one in enumerate(found.classes)
    )
    return ClassEstimates(overall, each)


def metrics(
    outcome: Floats, probabilities: Floats, weight: Floats | None = None, ranks: Ranks | None = None
) -> ClassMetrics:
    """Return every metric with its gradient.

    outcome: (n, classes), of each row 0 and one 1 for the realised metric, calibrated probabilities for the expected
    one. weight: (n,), how often each row counts; None: once. ranks: `ranked(probabilities)`; None: made here.
    """
    n, classes = probabilities.shape
    w = np.ones(n) if weight is None else weight
    label = np.eye(classes)[probabilities.argmax(axis=1)]
    total = float(w.sum())
    each = tuple(_of_class(outcome[:, k], label[:, k], w) for k in range(classes))
    overall: dict[str, Valued | None] = dict.fromkeys(METRICS)
    if not total > 0.0:
        return ClassMetrics(overall, each)
    overall["accuracy"] = float((w[:, None] * outcome * label).sum()) / total, w[:, None] * label / total
    occurring = (w[:, None] * (outcome + label)).sum(axis=0) > 0.0
    for name in OF_A_CLASS:
        overall[f"{name}_macro"] = _mean([one[name] for one in each], occurring)
    areas = [
        roc_auc(w * outcome[:, k], w * (1.0 - outcome[:, k]), place, w)
        for k, place in enumerate(ranked(probabilities) if ranks is None else ranks)
    ]
    known = [area for area in areas if area is not None]
    if len(known) == classes:
        overall["roc_auc_ovr"] = _mean(known, np.ones(classes, dtype=np.bool_))
    # as in scikit-learn: no probability is closer to 0 or 1 than the precision of doubles
    edge = float(np.finfo(np.float64).eps)
    loss = w[:, None] * -np.log(np.clip(probabilities, edge, 1.0 - edge)) / total
    overall["log_loss"] = float((loss * outcome).sum()), loss
    return ClassMetrics(overall, each)


def ranked(probabilities: Floats) -> Ranks:
    """Return of each class the rank of every row's probability among the distinct ones, (n,)."""
    return tuple(np.unique(column, return_inverse=True)[1] for column in probabilities.T)


def _of_class(outcome: Floats, label: Floats, w: Floats) -> dict[str, Valued]:
    """Return OF_A_CLASS; 0 where one is undefined, as scikit-learn does."""
    labelled, positive, hits = float((w * label).sum()), float((w * outcome).sum()), float((w * outcome * label).sum())
    found: dict[str, Valued] = dict.fromkeys(OF_A_CLASS, (0.0, np.zeros(len(w))))
    if labelled > 0.0:
        found["precision"] = hits / labelled, w * label / labelled
    if positive > 0.0:
        found["recall"] = hits / positive, w * (label - hits / positive) / positive
    if labelled + positive > 0.0:
        f1 = 2.0 * hits / (labelled + positive)
        found["f1"] = f1, w * (2.0 * label - f1) / (labelled + positive)
    return found


def _mean(each: Sequence[Valued], among: NDArray[np.bool_]) -> Valued:
    """Return the mean over some classes, with its gradient (n, classes)."""
    share = among / among.sum()
    value = float(np.dot([one[0] for one in each], share))
    return value, np.column_stack([one[1] for one in each]) * share
