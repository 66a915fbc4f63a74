"""Scores and outcomes of each task → rows, some of them, and their influences."""

from __future__ import annotations

import numpy as np
import pytest

from drift_worker.performance.any_rows import influence_of, names_of, rows_of_task, taken
from drift_worker.performance.multiclass_metrics import class_performance
from drift_worker.performance.regression_metrics import value_performance
from schemas.task import Binary, Interval, Multiclass, Regression

CUSTOMERS = np.array([3, 3, 5, 8])
WHICH = np.array([True, False, True, True])
TIERS = Multiclass(("bronze", "gold"))


def test_classes_that_a_model_does_not_have_follow_its_own():
    """They count as wrong, and the codes are those of the model's own classes."""
    outcome = np.array(["gold", "new", "bronze", "also new"])
    score = np.array([[0.2, 0.8], [0.9, 0.1], [0.6, 0.4], [0.3, 0.7]])
    rows = rows_of_task(TIERS, outcome, score, CUSTOMERS)
    assert names_of(TIERS, outcome) == ["bronze", "gold", "also new", "new"]
    assert (rows.outcome.tolist(), rows.predicted.tolist()) == ([1, 3, 0, 2], [1, 0, 0, 1])
    assert class_performance(rows)["accuracy"].value == 0.5
    some = taken(rows, WHICH)
    assert (some.outcome.tolist(), some.probabilities.tolist()) == ([1, 0, 2], score[WHICH].tolist())
    assert some.customer.tolist() == [3, 5, 8]


def test_values_have_their_interval_where_the_model_has_one():
    """And none that is made up elsewhere."""
    outcome, value = np.array([1.0, 2.0, 3.0, 9.0]), np.array([1.5, 2.0, 2.0, 3.0])
    rows = rows_of_task(Regression(interval=Interval(-1.0, 1.0, 0.9)), outcome, value, CUSTOMERS)
    assert value_performance(rows)["interval_coverage"].value == 0.75
    assert taken(rows, WHICH).low.tolist() == [0.5, 1.0, 2.0]
    plain = taken(rows_of_task(Regression(), outcome, value, CUSTOMERS), WHICH)
    assert (plain.low, plain.value.tolist()) == (None, [1.5, 2.0, 3.0])


@pytest.mark.parametrize(
    ("task", "metric", "value"),
    [(Binary(1, 0.7), "accuracy", 0.75), (Regression(), "mae", 0.375), (TIERS, "accuracy", 0.5)],
)
def test_a_metric_is_that_of_the_rows_task(task, metric, value):
    """Its influences add up to nothing."""
    scores = {"binary": np.array([0.9, 0.6, 0.1, 0.8]), "regression": np.array([0.5, 0.0, 1.0, 1.0])}
    outcomes = {"binary": np.array([True, True, False, True]), "regression": np.array([0.0, 0.0, 2.0, 1.0])}
    score = scores.get(task.name, np.array([[0.2, 0.8], [0.9, 0.1], [0.6, 0.4], [0.3, 0.7]]))
    outcome = outcomes.get(task.name, np.array(["gold", "gold", "gold", "gold"]))
    found, moved = influence_of(metric, rows_of_task(task, outcome, score, CUSTOMERS))
    assert found == value
    assert moved.sum() == pytest.approx(0.0, abs=1e-15)
    assert moved.any()
