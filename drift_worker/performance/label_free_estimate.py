"""Performance without labels: the accuracy, precision, recall, F1 and ROC AUC expected of these scores.

The method is confidence-based performance estimation (CBPE), as NannyML describes it (https://nannyml.readthedocs.io,
"How it works", "Confidence-based Performance Estimation"). A calibrated probability q is the share of such customers
who are positive. So of those labelled positive a share of q is right, and of the others a share of 1 - q. Every metric
here is a function of the outcomes y; its estimate is the function at y = q.

Each band is the sum of two parts. Sampling: outcomes are independent draws of probability q; a Poisson-binomial sum has
variance Σ q(1-q). The gradient dy carries it to the metric (delta method), at 95 %. Calibration: how far the estimate
was off on training customers when some of them were made more frequent. The bundle stores this part
(driftline/training/without_labels/calibration.py).

The estimate is wrong when P(y | x) changes: customers who look the same then behave differently. Scores alone cannot
show that. So a realised metric outside both bands is an alert (docs/model-life.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.bundle.manifest import Calibration

METRICS = ("accuracy", "precision", "recall", "f1", "roc_auc")
Z = 1.959963984540054  # both tails of the normal distribution, 5 % together

Floats = NDArray[np.float64]
# a metric, and its derivative by each row's outcome
Valued = tuple[float, Floats]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric estimated without labels. sampling, calibration: the band's halves, which is within 0 to `most`."""

    value: float
    sampling: float
    calibration: float
    most: float = 1.0

    @property
    def low(self) -> float:
        """Return the lower end of the band."""
        return max(0.0, self.value - self.sampling - self.calibration)

    @property
    def high(self) -> float:
        """Return the upper end of the band."""
        return min(self.most, self.value + self.sampling + self.calibration)


def calibrated(probability: Floats, calibration: Calibration) -> Floats:
    """Return calibrated probabilities (n,): linear between the breakpoints, constant beyond them."""
    return np.interp(probability, calibration.x, calibration.y)


def estimate(
    probability: Floats,
    threshold: float,
    calibration: Calibration,
    customers: NDArray[np.int64] | None = None,
) -> dict[str, Estimate | None]:
    """Estimate each of METRICS from scores alone; None where it is undefined or the bundle states no band.

    probability: float64 (n,), from the model, not calibrated. customers: int64 (n,), equal for rows of one customer.
    The outcomes of one customer count as one draw: repeats make a band wider, never narrower. None: each row is a
    customer.

    >>> import numpy as np
    >>> perfect = Calibration(x=(0.0, 1.0), y=(0.0, 1.0), rows=100, band={"accuracy": 0.01})
    >>> estimate(np.array([0.9, 0.8, 0.1, 0.2]), 0.5, perfect)["accuracy"].value
    0.85
    """
    q = calibrated(probability, calibration)
    spread = np.sqrt(q * (1.0 - q))
    which = None if customers is None else np.unique(customers, return_inverse=True)[1]
    found: dict[str, Estimate | None] = {}
    for name, valued in metrics(q, probability, threshold).items():
        stated = calibration.band.get(name)
        if valued is None or stated is None:
            found[name] = None
            continue
        value, gradient = valued
        found[name] = Estimate(value, sampling(gradient * spread, which), stated)
    return found


def sampling(parts: Floats, which: NDArray[np.int64] | None) -> float:
    """Return the band's half for chance alone. parts: (n,), by how much one standard deviation of a row moves a metric.

    which: int64 (n,), 0 to m - 1, equal for rows of one customer; None: each row is a customer.
    """
    variance = float(np.sum(parts**2))
    if which is not None:
        # a customer with rows on both sides of the threshold would be right in one of them for certain: not assumed
        variance = max(variance, float(np.sum(np.bincount(which, weights=parts) ** 2)))
    return Z * math.sqrt(variance)


def metrics(
    outcome: Floats, probability: Floats, threshold: float, weight: Floats | None = None
) -> dict[str, Valued | None]:
    """Return each of METRICS with its gradient by the outcomes; None where it is undefined (no positive label, …).

    outcome: (n,), 0 and 1 for the realised metric, calibrated probabilities for the expected one. weight: (n,), how
    often each row counts; None: once.
    """
    n = len(outcome)
    w = np.ones(n) if weight is None else weight
    label = (probability >= threshold).astype(np.float64)
    total, labelled = float(w.sum()), float((w * label).sum())
    positive, hits = float((w * outcome).sum()), float((w * outcome * label).sum())
    found: dict[str, Valued | None] = dict.fromkeys(METRICS)
    if total > 0.0:
        right = float((w * np.where(label > 0.0, outcome, 1.0 - outcome)).sum())
        found["accuracy"] = right / total, w * (2.0 * label - 1.0) / total
    if labelled > 0.0:
        found["precision"] = hits / labelled, w * label / labelled
    if positive > 0.0:
        found["recall"] = hits / positive, w * (label - hits / positive) / positive
    if labelled + positive > 0.0:
        f1 = 2.0 * hits / (labelled + positive)
        found["f1"] = f1, w * (2.0 * label - f1) / (labelled + positive)
    found["roc_auc"] = roc_auc(w * outcome, w * (1.0 - outcome), np.unique(probability, return_inverse=True)[1], w)
    return found


def roc_auc(positive: Floats, negative: Floats, place: NDArray[np.int64], weight: Floats) -> Valued | None:
    """Share of pairs of different rows, one positive and one negative, of which the positive has the higher score.

    Ties count half. A row's own pair does not exist: it cannot be both. place: (n,), the rank of each row's score among
    the distinct ones, from 0. positive, negative: (n,), mass of each row. weight: how often it counts.
    """
    # per distinct score: mass at it, and below it
    at_negative = np.bincount(place, weights=negative)
    at_positive = np.bincount(place, weights=positive)
    beaten = (np.cumsum(at_negative) - 0.5 * at_negative)[place] - 0.5 * negative
    above = (at_positive.sum() - np.cumsum(at_positive) + 0.5 * at_positive)[place] - 0.5 * positive
    other_negative, other_positive = negative.sum() - negative, positive.sum() - positive
    pairs = float(np.sum(positive * other_negative))
    if not pairs > 0.0:
        return None
    auc = float(np.sum(positive * beaten)) / pairs
    # d(wins) - auc·d(pairs), where one more unit of outcome adds `weight` to positive and takes it from negative
    gradient = weight * ((beaten - above) - auc * (other_negative - other_positive)) / pairs
    return auc, gradient
