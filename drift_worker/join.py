"""Facts (predictions and labels) → which label belongs to which prediction. A pure function of the set of facts.

The rule:
- A label that names a prediction is about that one, if it is the same customer's, and about no other.
- Any other label is about the customer's latest prediction before `label_time`.
- Either only if the prediction came first and at most `horizon` before the label.
- Of several labels of one prediction, one that names it counts before one that does not, then the later one, then
  `true`. So each label is used at most once, and each prediction has at most one.
- Without a label, and older than the horizon, an outcome is negative only if the model's spec says
  `absent_label = "negative"`, and only if the customer has no label at all within the horizon: one that went to a
  later prediction of the same customer says nothing surely of this one.

Order and repetition cannot matter: identical facts are one, and ties are broken by what the facts say. The arrays hold
hashes of names, so that a waiting prediction costs its row (PREDICTION.itemsize) and nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# One prediction. customer, prediction: `identify` of their ids. version: an index that the caller understands.
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
# One label. prediction: `identify` of the id it names, or NO_PREDICTION.
LABEL = np.dtype([("customer", "<u8"), ("prediction", "<u8"), ("time_ms", "<i8"), ("label", "?")])
NO_PREDICTION = 0
UNKNOWN = -1  # outcome; else 0 or 1

Predictions = NDArray[np.void]
Labels = NDArray[np.void]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Joined:
    """Per prediction, in the order given.

    outcome: int8 (n,), 1 positive, 0 negative, UNKNOWN. label: int64 (n,), index of the label it has, -1 without one
    (an absent label that counts as negative has none, either). unmatched: labels that belong to no prediction.
    """

    outcome: NDArray[np.int8]
    label: Ints
    unmatched: int


def identify(name: str) -> int:
    """64 bits of a customer id or a prediction id, never NO_PREDICTION; the same in every process.

    Two names share one with a probability of 2^-64 a pair: among 10^7 customers, once in 400,000 such sets.

    >>> identify("7590-VHVEG")
    9653768739155012997
    """
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little") or 1


def prediction_rows(rows: Iterable[tuple[str, str, int, float, float, int, bool]]) -> Predictions:
    """PREDICTION rows of (customer id, prediction id, event time ms, probability, threshold, version, predicted)."""
    return np.array([(identify(c), identify(p), *rest) for c, p, *rest in rows], dtype=PREDICTION)


def label_rows(rows: Iterable[tuple[str, str | None, int, bool]]) -> Labels:
    """LABEL rows of (customer id, the prediction id it names or None, label time ms, label)."""
    named = ((identify(c), NO_PREDICTION if p is None else identify(p), *rest) for c, p, *rest in rows)
    return np.array(list(named), dtype=LABEL)


def distinct(predictions: Predictions) -> Ints:
    """int64: the rows to keep so that each (customer, prediction) is there once: the last one given. Ascending.

    Whoever reads a topic to its end has the same last one, compacted or not.
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
    """Which label each prediction has, by the rule above.

    predictions: PREDICTION (n,), each (customer, prediction) once (see `distinct`). labels: LABEL (m,), repetitions
    allowed. now_ms: event time up to which is known; an absent label can be negative only of predictions made at
    `now_ms - horizon_ms` or before, and of none without it.

    >>> made = prediction_rows([("ann", "p-0-1", 1000, 0.9, 0.5, 0, True), ("ann", "p-0-2", 2000, 0.8, 0.5, 0, True)])
    >>> said = label_rows([("ann", None, 3000, False), ("ann", "p-0-1", 3000, True)])
    >>> join(made, said, horizon_ms=5000).outcome.tolist()
    [1, 0]
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
    outcome = np.full(len(predictions), UNKNOWN, dtype=np.int8)
    has = chosen >= 0
    outcome[has] = labels["label"][chosen[has]]
    if absent_negative and now_ms is not None:
        silent = ~has & settled(predictions, horizon_ms, now_ms)
        outcome[silent & ~_heard_of(predictions, labels, horizon_ms)] = 0
    return Joined(outcome, chosen, int((~used).sum()))


def settled(predictions: Predictions, horizon_ms: int, now_ms: int) -> NDArray[np.bool_]:
    """Bool (n,): whether every label that a prediction can have has had time to come.

    now_ms: event time. Of younger ones, those who leave are known first: what has a label already are others.
    """
    known: NDArray[np.bool_] = predictions["time_ms"] + horizon_ms <= now_ms
    return known


def _about(predictions: Predictions, labels: Labels, horizon_ms: int) -> Ints:
    """(m,) row of the prediction that each label is about, -1 for none."""
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
    """The row with the same customer and prediction id."""
    order = np.lexsort((predictions["customer"], predictions["prediction"]))
    ids, customers = predictions["prediction"][order], predictions["customer"][order]
    place = np.minimum(_before(ids, customers, labels["prediction"], labels["customer"]), len(order) - 1)
    same = (ids[place] == labels["prediction"]) & (customers[place] == labels["customer"])
    return np.where(same, order[place], -1)


def _latest(predictions: Predictions, labels: Labels) -> Ints:
    """The row of the customer's latest prediction before the label's time; of equal times, the largest id's hash."""
    order = np.lexsort((predictions["prediction"], predictions["time_ms"], predictions["customer"]))
    customers, times = predictions["customer"][order], predictions["time_ms"][order]
    place = _before(customers, times, labels["customer"], labels["time_ms"]) - 1
    same = (place >= 0) & (customers[place] == labels["customer"])
    return np.where(same, order[place], -1)


def _before(
    first: NDArray[np.generic], second: NDArray[np.generic], asked: NDArray[np.generic], then: NDArray[np.generic]
) -> Ints:
    """How many of the ascending pairs (first, second) are smaller than each pair (asked, then)."""
    # a question stands before rows that are equal to it
    is_row = np.concatenate([np.ones(len(first), dtype=np.int8), np.zeros(len(asked), dtype=np.int8)])
    order = np.lexsort((is_row, np.concatenate([second, then]), np.concatenate([first, asked])))
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.cumsum(is_row[order], dtype=np.int64)
    return place[len(first) :]


def _heard_of(predictions: Predictions, labels: Labels, horizon_ms: int) -> NDArray[np.bool_]:
    """(n,) whether the customer has any label after the prediction and within the horizon."""
    ordered = labels[np.lexsort((labels["time_ms"], labels["customer"]))]
    customers, times = ordered["customer"], ordered["time_ms"]
    first = _before(customers, times, predictions["customer"], predictions["time_ms"])
    last = _before(customers, times, predictions["customer"], predictions["time_ms"] + horizon_ms + 1)
    heard: NDArray[np.bool_] = last > first
    return heard


def outcomes(joined: Joined) -> Sequence[bool | None]:
    """`joined.outcome` as True, False and None, for those who look at rows one by one."""
    return [None if value == UNKNOWN else bool(value) for value in joined.outcome.tolist()]
