"""Keys and values of the label state: a fact is read as it was written, and a tombstone has its key."""

import pytest

from drift_worker.performance.label_join import NO_PREDICTION, identify
from drift_worker.performance.label_records import (
    CohortFact,
    DecisionsFact,
    LabelFact,
    PredictionFact,
    cohort_key,
    decisions_key,
    decode,
    is_decision,
    label_key,
    of_label,
    of_prediction,
    prediction_key,
)

ANN, P1 = identify("ann"), identify("p1")


def test_a_prediction_is_placed_by_its_customer_and_named_by_both_ids():
    """No id is in the record in clear."""
    customer, (key, value) = of_prediction("ann", "p1", "churn", "1.4.0", 1234, 0.75, 0.5, True)
    assert customer == ANN
    assert decode(key, value) == PredictionFact(ANN, P1, "churn", "1.4.0", 1234, 0.75, 0.5, True)
    assert key == prediction_key(ANN, P1)
    assert b"ann" not in key + value
    assert decode(key, None) == PredictionFact(ANN, P1, None)


@pytest.mark.parametrize(("about", "prediction"), [("p1", P1), (None, NO_PREDICTION)])
def test_a_label_is_all_in_its_key(about, prediction):
    """So compaction can drop no label that differs in anything."""
    customer, (key, value) = of_label("ann", about, 1234, True)
    assert customer == ANN
    assert decode(key, value) == LabelFact(ANN, prediction, 1234, label=True)
    assert key == label_key(ANN, prediction, 1234, True)
    assert key != label_key(ANN, prediction, 1234, False)
    assert decode(key, None) == LabelFact(ANN, prediction, 1234, label=True, gone=True)


def test_cohorts_and_decisions_are_no_facts_of_customers():
    """Only the evaluator writes them."""
    cohort, decisions = cohort_key("churn", "1.4.0", "2026-11-22"), decisions_key("churn")
    assert decode(cohort, None) == CohortFact("churn", "1.4.0", "2026-11-22")
    assert decode(decisions, b"state") == DecisionsFact("churn", b"state")
    assert [is_decision(key) for key in (cohort, decisions, prediction_key(1, 2), None)] == [True, True, False, False]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (None, b""),
        (b"x", b""),
        (b"p123", None),
        (prediction_key(1, 2), b"\x01"),
        (label_key(1, 2, 3, True), b"\x02"),
        (decisions_key("churn"), None),
        (cohort_key("churn", "1.4.0", "2026-11-22"), b"{}"),
        (b"cno-parts", None),
    ],
)
def test_other_records_are_an_error(key, value):
    """A key that is cut, a value of another layout, a name without its parts."""
    with pytest.raises(ValueError, match="not a fact of the label state"):
        decode(key, value)


@pytest.mark.parametrize("changes", [{"probability": 1.5}, {"threshold": -0.1}, {"model": ""}, {"version": "a b"}])
def test_a_prediction_that_no_stage_writes_is_an_error(changes):
    """NaN and numbers beyond 0 to 1 would be in every sum."""
    arguments = {"model": "churn", "version": "1.4.0", "time_ms": 1, "probability": 0.5, "threshold": 0.5, **changes}
    _, (key, value) = of_prediction("ann", "p1", positive=True, **arguments)
    with pytest.raises(ValueError, match="not a fact of the label state"):
        decode(key, value)
