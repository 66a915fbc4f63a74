"""Facts (predictions and labels) → which label belongs to which prediction. A pure function of the set of facts.

The rule:
- A label that names a prediction belongs to that prediction alone, provided that the customer is the same.
- Any other label belongs to the customer's latest prediction before `label_time`.
- In both cases the prediction came first, and at most `horizon` before the label.
- Of several labels of one prediction, one that names it comes before one that does not, then the later one, then
  `true`. So each label is used at most once, and each prediction has at most one. Of numbers the larger one, and of
  two classes always the same one, comes before the other.
- An outcome without a label, older than the horizon, is negative only if the model's spec has `absent_label =
  "negative"`. The customer must also have no label at all within the horizon: a label of a later prediction of the same
  customer proves nothing about this one.

The result does not depend on order or repetition: identical facts are one, and the facts themselves break ties. The
arrays hold hashes of names, so a waiting prediction takes only its row (PREDICTION.itemsize).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# One prediction. customer, prediction: `identify` of their ids. version: an index assigned by the caller.
PREDICTION = np.dtype(
    [
        ("customer", "<u8"),
        ("prediction", "<u8"),
        ("time_ms", "<i8"),
        ("probability", "<f8"),
        ("threshold", "<f8"),
        ("version", "<u2"),
        ("positive", "?"),
    ]
)
# One label. prediction: `identify` of the id it names, or NO_PREDICTION. Other tasks have other dtypes with the same
# first members (drift_worker/performance/task_facts.py); what is not about outcomes is the same for all.
LABEL = np.dtype([("customer", "<u8"), ("prediction", "<u8"), ("time_ms", "<i8"), ("label", "?")])
NO_PREDICTION = 0
UNKNOWN = -1  # outcome; else 0 or 1

Predictions = NDArray[np.void]
Labels = NDArray[np.void]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Joined:
    """Result per prediction, in the order given.

    outcome: int8 (n,), 1 positive, 0 negative, UNKNOWN. label: int64 (n,), index of its label, -1 without one. An
    absent label that counts as negative has -1, too. unmatched: number of labels that belong to no prediction.
    """

    outcome: NDArray[np.int8]
    label: Ints
    unmatched: int


def identify(name: str) -> int:
    """Return 64 bits of a customer id or a prediction id, never NO_PREDICTION; the same in every process.

    Two names share a value with a probability of 2^-64 per pair: among 10^7 customers, once in 400,000 such sets.

    >>> identify("7590-VHVEG")
    9653768739155012997
    """
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little") or 1


def prediction_rows(rows: Iterable[tuple[str, str, int, float, float, int, bool]]) -> Predictions:
    """Return PREDICTION rows of (customer id, prediction id, event time ms, probability, threshold, version, label)."""
    return np.array([(identify(c), identify(p), *rest) for c, p, *rest in rows], dtype=PREDICTION)


def label_rows(rows: Iterable[tuple[str, str | None, int, bool]]) -> Labels:
    """Return LABEL rows of (customer id, the prediction id it names or None, label time ms, label)."""
    named = ((identify(c), NO_PREDICTION if p is None else identify(p), *rest) for c, p, *rest in rows)
    return np.array(list(named), dtype=LABEL)


def distinct(predictions: Predictions) -> Ints:
    """Return the rows to keep, int64, ascending: the last one of each (customer, prediction).

    Every reader of the complete topic has the same last one, compacted or not.
    """
    order = np.lexsort((np.arange(len(predictions)), predictions["prediction"], predictions["customer"]))
    ordered = predictions[order]
    last = np.ones(len(order), dtype=np.bool_)
    last[:-1] = (ordered["customer"][1:] != ordered["customer"][:-1]) | (
        ordered["prediction"][1:] != ordered["prediction"][:-1]
    )
    kept: Ints = np.sort(order[last])
    return kept


def join(
    predictions: Predictions,
    labels: Labels,
    horizon_ms: int,
    *,
    absent_negative: bool = False,
    now_ms: int | None = None,
) -> Joined:
    """Return the label of each prediction, by the rule above.

    predictions: PREDICTION (n,), each (customer, prediction) once (see `distinct`). labels: LABEL (m,), repetitions
    allowed. now_ms: event time up to which facts are complete. absent_negative: an absent label is negative if the
    prediction was made at `now_ms - horizon_ms` or before; otherwise none is.

    >>> made = prediction_rows([("ann", "p-0-1", 1000, 0.9, 0.5, 0, True), ("ann", "p-0-2", 2000, 0.8, 0.5, 0, True)])
    >>> said = label_rows([("ann", None, 3000, False), ("ann", "p-0-1", 3000, True)])
    >>> join(made, said, horizon_ms=5000).outcome.tolist()
    [1, 0]
    """
    chosen, unmatched = matched(predictions, labels, horizon_ms)
    outcome = np.full(len(predictions), UNKNOWN, dtype=np.int8)
    has = chosen >= 0
    outcome[has] = labels["label"][chosen[has]]
    if absent_negative and now_ms is not None:
        silent = ~has & settled(predictions, horizon_ms, now_ms)
        outcome[silent & ~_heard_of(predictions, labels, horizon_ms)] = 0
    return Joined(outcome, chosen, unmatched)


def matched(predictions: Predictions, labels: Labels, horizon_ms: int) -> tuple[Ints, int]:
    """Return the index of each prediction's label, (n,), -1 without one, and how many labels belong to no prediction.

    The arguments are those of `join`, of any task.
    """
    about = _about(predictions, labels, horizon_ms)
    used = about >= 0
    chosen = np.full(len(predictions), -1, dtype=np.int64)
    candidates = np.flatnonzero(used)
    # the last one of each prediction wins: named, then latest, then true; equal ones are the same label
    naming = labels["prediction"][candidates] != NO_PREDICTION
    order = np.lexsort((labels["label"][candidates], labels["time_ms"][candidates], naming, about[candidates]))
    ranked = candidates[order]
    chosen[about[ranked]] = ranked  # numpy assigns in order: the last of equal indices stays
    return chosen, int((~used).sum())


def settled(predictions: Predictions, horizon_ms: int, now_ms: int) -> NDArray[np.bool_]:
    """Return whether every label that a prediction can have has had time to arrive, bool (n,).

    now_ms: event time. Labels of customers who leave arrive first: the labelled part of younger predictions is biased.
    """
    known: NDArray[np.bool_] = predictions["time_ms"] + horizon_ms <= now_ms
    return known


def _about(predictions: Predictions, labels: Labels, horizon_ms: int) -> Ints:
    """Return the row of the prediction that each label belongs to, (m,), -1 for none."""
    about = np.full(len(labels), -1, dtype=np.int64)
    if not len(predictions) or not len(labels):
        return about
    naming = labels["prediction"] != NO_PREDICTION
    about[naming] = _named(predictions, labels[naming])
    about[~naming] = _latest(predictions, labels[~naming])
    found = about >= 0
    age = labels["time_ms"] - predictions["time_ms"][np.maximum(about, 0)]
    about[found & ((age < 0) | (age > horizon_ms))] = -1
    return about


def _named(predictions: Predictions, labels: Labels) -> Ints:
    """Return the row with the same customer and prediction id."""
    order = np.lexsort((predictions["customer"], predictions["prediction"]))
    ids, customers = predictions["prediction"][order], predictions["customer"][order]
    place = np.minimum(_before(ids, customers, labels["prediction"], labels["customer"]), len(order) - 1)
    same = (ids[place] == labels["prediction"]) & (customers[place] == labels["customer"])
    return np.where(same, order[place], -1)


def _latest(predictions: Predictions, labels: Labels) -> Ints:
    """Return the row of the customer's latest prediction before the label's time; of equal times, the largest hash."""
    order = np.lexsort((predictions["prediction"], predictions["time_ms"], predictions["customer"]))
    customers, times = predictions["customer"][order], predictions["time_ms"][order]
    place = _before(customers, times, labels["customer"], labels["time_ms"]) - 1
    same = (place >= 0) & (customers[place] == labels["customer"])
    return np.where(same, order[place], -1)


def _before(
    first: NDArray[np.generic], second: NDArray[np.generic], asked: NDArray[np.generic], then: NDArray[np.generic]
) -> Ints:
    """Return how many of the ascending pairs (first, second) are smaller than each queried pair (`asked`, `then`)."""
    # a queried pair sorts before rows that are equal to it
    is_row = np.concatenate([np.ones(len(first), dtype=np.int8), np.zeros(len(asked), dtype=np.int8)])
    order = np.lexsort((is_row, np.concatenate([second, then]), np.concatenate([first, asked])))
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.cumsum(is_row[order], dtype=np.int64)
    return place[len(first) :]


def _heard_of(predictions: Predictions, labels: Labels, horizon_ms: int) -> NDArray[np.bool_]:
    """Return whether the customer has any label after the prediction and within the horizon, (n,)."""
    ordered = labels[np.lexsort((labels["time_ms"], labels["customer"]))]
    customers, times = ordered["customer"], ordered["time_ms"]
    first = _before(customers, times, predictions["customer"], predictions["time_ms"])
    last = _before(customers, times, predictions["customer"], predictions["time_ms"] + horizon_ms + 1)
    heard: NDArray[np.bool_] = last > first
    return heard


def outcomes(joined: Joined) -> Sequence[bool | None]:
    """Return `joined.outcome` as True, False and None, for code that reads rows one by one."""
    return [None if value == UNKNOWN else bool(value) for value in joined.outcome.tolist()]
