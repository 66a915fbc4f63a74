"""The rule by which a label belongs to a prediction, case by case; tests/property/test_join.py has random ones."""

import numpy as np
import pytest

from drift_worker.performance.label_join import (
    NO_PREDICTION,
    UNKNOWN,
    distinct,
    identify,
    join,
    label_rows,
    outcomes,
    prediction_rows,
    settled,
)

HORIZON = 100
MADE = [
    ("ann", "p1", 10, 0.9, 0.5, 0, True),
    ("ann", "p2", 50, 0.2, 0.5, 0, False),
    ("bob", "p3", 20, 0.7, 0.5, 0, True),
]


def _joined(*labels, **changes):
    return join(prediction_rows(MADE), label_rows(labels), HORIZON, **changes)


@pytest.mark.parametrize(
    ("label", "outcome"),
    [
        (("ann", "p1", 60, True), [True, None, None]),
        (("ann", None, 60, True), [None, True, None]),
        (("ann", None, 40, False), [False, None, None]),
        (("bob", "p1", 60, True), [None, None, None]),
        (("ann", "p1", 9, True), [None, None, None]),
        (("ann", "p1", 110, True), [True, None, None]),
        (("ann", "p1", 111, True), [None, None, None]),
        (("cy", None, 60, True), [None, None, None]),
    ],
)
def test_a_label_is_about_the_prediction_it_names_or_the_latest_before_it(label, outcome):
    """The same customer's, not before the prediction, and at most a horizon after it."""
    joined = _joined(label)
    assert outcomes(joined) == outcome
    assert joined.unmatched == (outcome == [None] * 3)


def test_of_several_labels_the_one_that_names_the_prediction_counts():
    """Then the later one, then true."""
    assert outcomes(_joined(("bob", "p3", 30, False), ("bob", None, 90, True))) == [None, None, False]
    assert outcomes(_joined(("bob", None, 30, False), ("bob", None, 90, True))) == [None, None, True]
    assert outcomes(_joined(("bob", None, 90, True), ("bob", None, 90, False))) == [None, None, True]


def test_an_absent_label_is_negative_only_after_the_horizon_and_without_any_label():
    """A label of a later prediction proves nothing about this one."""
    joined = _joined(("ann", None, 60, True), absent_negative=True, now_ms=120)
    assert outcomes(joined) == [None, True, False]
    assert joined.label.tolist() == [-1, 0, -1]
    assert outcomes(_joined(absent_negative=True, now_ms=119)) == [False, None, None]
    assert outcomes(_joined(absent_negative=False, now_ms=1000)) == [None, None, None]


def test_a_prediction_is_settled_when_its_horizon_has_passed():
    """At the very millisecond."""
    assert settled(prediction_rows(MADE), HORIZON, 120).tolist() == [True, False, True]


def test_a_repeated_prediction_is_kept_once():
    """The last one given, for every reader of the topic."""
    rows = prediction_rows([MADE[0], MADE[2], ("ann", "p1", 10, 0.4, 0.5, 1, False)])
    assert distinct(rows).tolist() == [1, 2]


def test_an_id_is_never_that_of_no_prediction():
    """It is the same in every process: the label state holds it."""
    assert identify("7590-VHVEG") == 9653768739155012997
    assert identify("") != NO_PREDICTION
    nothing = join(prediction_rows([]), label_rows([("ann", None, 1, True)]), HORIZON)
    assert (len(nothing.outcome), nothing.unmatched) == (0, 1)
    assert np.array_equal(_joined().outcome, [UNKNOWN] * 3)
