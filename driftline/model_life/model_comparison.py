"""Is a challenger better than the champion? One question, one answer. Pure: arrays in, a Comparison out.

The advantage is the difference of a metric, in the direction in which more is better. Its interval is made of each
row's influence on both metrics, added up per customer. Where both models scored the same rows, their errors cancel row
by row (paired). Where each model has other customers, the variances add (two samples). One formula does both, because
it depends only on whose rows an influence comes from.

**One look.** Repeated looks until the interval clears the margin find an equal challenger better in 16 % of cases
instead of 2.5 % (50 looks at 95 %). So the error is spent once: n is set before, and the first n customers with a known
label decide, in the order of event time. Their data is what was known when the n-th label was. Before that there is no
answer, and later runs examine the same customers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from drift_worker.performance.any_rows import AnyRows, influence_of
from drift_worker.performance.classification_metrics import Bools, Rows
from drift_worker.performance.clustered_error import NO_ROWS, NO_SPREAD, ONE_CUSTOMER, Floats, Valued
from drift_worker.performance.money import AnyMoney
from schemas.task import TaskName

Metric = Literal["accuracy", "f1", "auc", "brier", "business_value", "f1_macro", "mae", "rmse"]
# By task. Where no metric is given, the first one of a task decides, unless the model is binary.
METRICS: Mapping[TaskName, tuple[Metric, ...]] = {
    "binary": ("accuracy", "f1", "auc", "brier", "business_value"),
    "multiclass": ("accuracy", "f1_macro", "business_value"),
    "regression": ("mae", "rmse", "business_value"),
}
# The names in performance.py, where they differ.
_NAMES = {"auc": "roc_auc"}
# Less is better.
LOSSES: frozenset[Metric] = frozenset({"brier", "mae", "rmse"})
# In the outcome's unit: an advantage is a share of the champion's, as a drop of performance is.
_RELATIVE: frozenset[Metric] = frozenset({"mae", "rmse"})
NO_ERROR = "no_error"  # every value of the champion is its outcome
# The fewest customers that a comparison decides by. Its intervals take sums over customers for normal, and with fewer
# an advantage that is worth a change of models is hardly ever found.
MIN_CUSTOMERS = 500
# The n of `driftline compare` unless another is set. There a person commits to one look. If two models differ on ten
# customers of a hundred and one is right in 2 points more, 2,000 show it in four of five cases.
ONE_LOOK_CUSTOMERS = 2000
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The metric of two models, and the challenger's advantage."""

    metric: Metric
    #: Number of customers of either model, each once.
    customers: int
    rows: int
    #: The champion's metric; business_value is money per customer.
    champion: float | None
    challenger: float | None
    #: Challenger's over champion's, in the direction of better; of mae and rmse as a share of the champion's.
    advantage: float | None = None
    #: The advantage's standard error.
    error: float | None = None
    #: The advantage's interval, at the requested confidence.
    low: float | None = None
    high: float | None = None
    #: low > margin; if all customers are alike, advantage > margin; None if that cannot be known.
    better: bool | None = None
    #: Why something is None.
    reason: str | None = None


def metric_of(asked: Metric | None, task: TaskName, otherwise: Metric) -> Metric:
    """Return the metric that decides: the one asked for, else `otherwise` of a binary model or the task's first.

    ValueError if it is of another task.

    >>> metric_of(None, "regression", "brier"), metric_of(None, "binary", "brier")
    ('mae', 'brier')
    """
    known = METRICS[task]
    if asked is None:
        return otherwise if task == "binary" else known[0]
    if asked not in known:
        raise ValueError(f"--metric {asked}: task of the models is {task}, and it has {', '.join(known)}")
    return asked


def relative(metric: Metric) -> bool:
    """Return whether an advantage is a share of the champion's metric, which has the outcome's unit."""
    return metric in _RELATIVE


def rows_of(outcome: Bools, probability: Floats, threshold: float, customer: NDArray[np.generic]) -> Rows:
    """Return one model's rows. outcome: bool (n,). probability: float64 (n,), positive from `threshold` on."""
    return Rows(outcome, probability, probability >= threshold, customer)


def compare(
    metric: Metric,
    champion: AnyRows,
    challenger: AnyRows,
    *,
    margin: float = 0.0,
    confidence: float = 0.95,
    money: AnyMoney | None = None,
    challengers_money: AnyMoney | None = None,
) -> Comparison:
    """Return the challenger's advantage, with its interval. The rows are the same ones for both, or each has others.

    money: of the champion's rows. challengers_money: of the other rows, if their codes of classes are others.

    >>> outcome = np.tile([True, False], 50)
    >>> exact = np.where(outcome, 0.9, 0.1)
    >>> guess = np.where(np.arange(100) < 10, 1.0 - exact, exact)
    >>> better = compare("accuracy", rows_of(outcome, guess, 0.5, np.arange(100)),
    ...                  rows_of(outcome, exact, 0.5, np.arange(100)))
    >>> round(better.advantage, 3), round(better.low, 3), better.better
    (0.1, 0.041, True)
    """
    everyone = np.concatenate([champion.customer, challenger.customer])
    names, customer = np.unique(everyone, return_inverse=True)
    paired = len(champion.customer) == len(challenger.customer) and np.array_equal(
        champion.customer, challenger.customer
    )
    rows = len(champion.customer) if paired else len(everyone)
    one = _valued(metric, champion, money)
    other = _valued(metric, challenger, challengers_money or money)
    before, was = (None, None) if isinstance(one, str) else one
    after, now = (None, None) if isinstance(other, str) else other
    known = Comparison(metric, len(names), rows, before, after)
    if before is None or after is None or was is None or now is None:
        return replace(known, reason=one if isinstance(one, str) else str(other))
    if metric in _RELATIVE:
        if not before > 0.0:
            return replace(known, better=False, reason=NO_ERROR)
        # of a quotient, to first order
        was, now, after, before = was * (after / before / before), now / before, after / before, 1.0
    known = replace(known, advantage=(before - after) if metric in LOSSES else (after - before))
    assert known.advantage is not None, "just set"  # noqa: S101
    if len(names) < 2:
        return replace(known, reason=ONE_CUSTOMER)
    sums = np.bincount(customer, weights=np.concatenate([-was, now]))
    error = math.sqrt(len(sums) / (len(sums) - 1) * float(np.sum(sums**2)))
    if error < 1e-12 * max(1.0, abs(before), abs(after)):
        # the models never differ, or always by the same: the spread of other customers cannot be estimated from them
        return replace(known, better=known.advantage > margin, reason=NO_SPREAD)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    low, high = known.advantage - z * error, known.advantage + z * error
    return replace(known, error=error, low=low, high=high, better=low > margin)


def deciding(time_ms: Ints, customer: NDArray[np.generic], n: int) -> tuple[Bools, int, int | None]:
    """Return which rows decide, bool (rows,), the number of customers, and the time up to which events count.

    time_ms: event time of each row, whose outcome is known and can change no more. The first n customers by their first
    event decide, equal times in the customers' order, with every row up to the n-th's first. With fewer customers no
    row decides and the time is None.

    >>> deciding(np.array([30, 10, 20, 40]), np.array([7, 8, 8, 9]), 2)[0].tolist()
    [True, True, True, False]
    """
    names, code = np.unique(customer, return_inverse=True)
    first = np.full(len(names), np.iinfo(np.int64).max, dtype=np.int64)
    np.minimum.at(first, code, time_ms)
    if len(names) < n:
        return np.zeros(len(time_ms), dtype=np.bool_), len(names), None
    chosen = np.lexsort((np.arange(len(names)), first))[:n]
    until = int(first[chosen[-1]])
    among = np.zeros(len(names), dtype=np.bool_)
    among[chosen] = True
    return among[code] & (time_ms <= until), len(names), until


def _valued(metric: Metric, rows: AnyRows, money: AnyMoney | None) -> Valued:
    if metric != "business_value":
        return influence_of(_NAMES.get(metric, metric), rows)
    if not len(rows.outcome):
        return NO_ROWS
    if money is None:
        raise ValueError("business_value: what an outcome is worth was not given")
    # a customer counts once, with any number of rows: the mean over customers of their sums
    _, code, count = np.unique(rows.customer, return_inverse=True, return_counts=True)
    values, customers = money.worth(rows), len(count)
    value = math.fsum(values.tolist()) / customers
    return value, (values - value / count[code]) / customers
