"""The join of labels and predictions against the rule read aloud, one fact at a time; order must not matter."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drift_worker.performance.label_join import UNKNOWN, distinct, join, label_rows, prediction_rows

HORIZON = 10
CUSTOMER = st.sampled_from(["ann", "bob", "cy"])
MADE = st.lists(st.tuples(CUSTOMER, st.integers(0, 25)), max_size=12)
SAID = st.lists(
    st.tuples(CUSTOMER, st.sampled_from([None, None, "p-0", "p-1", "p-2", "p-9"]), st.integers(0, 40), st.booleans()),
    max_size=12,
)


def _predictions(made):
    return prediction_rows((c, f"p-{i}", at, 0.5, 0.5, 0, True) for i, (c, at) in enumerate(made))


def _outcomes(joined):
    return [None if value == UNKNOWN else bool(value) for value in joined.outcome.tolist()]


def _aloud(made, said, now, absent_negative):
    """Outcome by prediction id, in plain Python."""
    names = {f"p-{i}": (customer, at) for i, (customer, at) in enumerate(made)}
    found = {}
    for customer, about, at, label in sorted(set(said), key=lambda one: (one[1] is not None, one[2], one[3])):
        if about is None:
            earlier = [when for who, when in names.values() if who == customer and when < at]
            # `tied` decides between several at the same moment
            mine = [n for n, one in names.items() if one == (customer, max(earlier, default=None))]
        else:
            mine = [about] if names.get(about, ("", 0))[0] == customer else []
        mine = [n for n in mine if 0 <= at - names[n][1] <= HORIZON]
        if mine:
            found[tuple(mine)] = label
    for name, (customer, made_at) in names.items():
        heard = any(who == customer and 0 <= at - made_at <= HORIZON for who, _, at, _ in said)
        if absent_negative and made_at + HORIZON <= now and not heard:
            found.setdefault((name,), False)
    return found


@settings(max_examples=500, deadline=None)
@given(MADE, SAID, st.integers(0, 50), st.booleans())
def test_the_join_is_the_rule_read_aloud(made, said, now, absent_negative):
    """By id, else the customer's latest before the label, within the horizon; absent is negative only on request."""
    made = list({(customer, at): (customer, at) for customer, at in made}.values())  # ties: a test of their own
    joined = join(_predictions(made), label_rows(said), HORIZON, absent_negative=absent_negative, now_ms=now)
    expected = _aloud(made, said, now, absent_negative)
    assert _outcomes(joined) == [expected.get((f"p-{i}",)) for i in range(len(made))]


@settings(max_examples=300, deadline=None)
@given(MADE, SAID, st.randoms(use_true_random=False), st.integers(1, 3))
def test_order_and_repetition_change_nothing(made, said, shuffle, times):
    """Facts shuffled and given several times over, ties included: the same outcome of every prediction."""
    predictions, labels = _predictions(made), label_rows(said)
    once = dict(zip(predictions["prediction"].tolist(), join(predictions, labels, HORIZON).outcome, strict=True))
    order = list(range(len(made))) * times
    shuffle.shuffle(order)
    again = predictions[np.array(order, dtype=np.int64)]
    again = again[distinct(again)]
    repeated = said * times
    shuffle.shuffle(repeated)
    joined = join(again, label_rows(repeated), HORIZON)
    assert dict(zip(again["prediction"].tolist(), joined.outcome, strict=True)) == once


def test_the_last_of_equal_predictions_is_kept():
    """As a compacted topic keeps it."""
    rows = [("ann", "p-1", 5, 0.1, 0.5, 0, False), ("bob", "p-1", 5, 0.2, 0.5, 0, False)]
    kept = prediction_rows([*rows, ("ann", "p-1", 5, 0.9, 0.5, 1, True)])
    assert kept[distinct(kept)]["probability"].tolist() == [0.2, 0.9]


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        ([("ann", "p-0", 5, True)], [True, None]),  # at the moment of the prediction
        ([("ann", "p-0", 4, True)], [None, None]),  # before it
        ([("ann", "p-0", 15, True)], [True, None]),
        ([("ann", "p-0", 16, True)], [None, None]),  # beyond the horizon
        ([("ann", None, 5, True)], [None, None]),  # not before the label
        ([("ann", None, 6, True)], [True, None]),
        ([("ann", None, 9, True)], [None, True]),
        ([("ann", "p-7", 9, True)], [None, None]),  # names one that does not exist: about no other
        ([("bob", "p-0", 9, True)], [None, None]),  # names another customer's
        ([("ann", None, 9, True), ("ann", "p-1", 8, False)], [None, False]),  # one that names it counts first
        ([("ann", None, 9, True), ("ann", None, 10, False)], [None, False]),  # then the later one
        ([("ann", None, 9, True), ("ann", None, 9, False)], [None, True]),  # then true
    ],
)
def test_corners_of_the_rule(said, outcome):
    """Ann was scored at 5 and at 8, and the horizon is 10."""
    random.shuffle(said)
    made = _predictions([("ann", 5), ("ann", 8)])
    assert _outcomes(join(made, label_rows(said), HORIZON)) == outcome


def test_an_absent_label_is_negative_only_where_the_customer_was_not_heard_of():
    """Ann's label went to her later prediction; of the earlier one nothing is known. Bob's absence is his answer."""
    made = _predictions([("ann", 1), ("ann", 2), ("bob", 1), ("bob", 6)])
    said = label_rows([("ann", None, 7, True)])
    joined = join(made, said, HORIZON, absent_negative=True, now_ms=15)
    assert _outcomes(joined) == [None, True, False, None]
    assert _outcomes(join(made, said, HORIZON, now_ms=15)) == [None, True, None, None]
