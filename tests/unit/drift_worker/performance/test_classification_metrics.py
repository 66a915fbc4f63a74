"""Metrics of labelled rows; tests/property/test_performance.py compares random ones with scikit-learn."""

import numpy as np
import pytest

from drift_worker.performance.classification_metrics import (
    METRICS,
    Rows,
    influence,
    performance,
)


def _rows(outcome, probability, customer=None):
    p = np.array(probability, dtype=np.float64)
    names = np.arange(len(p)) if customer is None else np.array(customer)
    return Rows(np.array(outcome, dtype=np.bool_), p, p >= 0.5, names)


ROWS = _rows([True, True, False, False, True, False], [0.9, 0.4, 0.2, 0.6, 0.8, 0.1])


def test_values_are_those_of_a_hand():
    """Two of three positives are found, one negative is called positive."""
    found = {name: metric.value for name, metric in performance(ROWS).items()}
    assert set(found) == set(METRICS)
    assert (found["accuracy"], found["precision"], found["recall"]) == pytest.approx((4 / 6, 2 / 3, 2 / 3))
    assert found["f1"] == pytest.approx(2 / 3)
    assert found["roc_auc"] == pytest.approx(8 / 9)
    assert found["brier"] == pytest.approx((0.01 + 0.36 + 0.04 + 0.36 + 0.04 + 0.01) / 6)


@pytest.mark.parametrize(
    ("outcome", "probability", "metric", "reason"),
    [
        ([], [], "accuracy", "no_labels"),
        ([True, True], [0.9, 0.1], "roc_auc", "one_class"),
        ([False, False], [0.9, 0.1], "recall", "no_positives"),
        ([True, False], [0.1, 0.2], "precision", "none_predicted"),
    ],
)
def test_an_undefined_metric_has_a_reason_and_no_number(outcome, probability, metric, reason):
    """Never 0: scikit-learn warns and returns `zero_division`."""
    found = performance(_rows(outcome, probability))[metric]
    assert (found.value, found.reason) == (None, reason)


def test_an_error_needs_two_customers_and_a_spread():
    """One customer's rows are one draw."""
    alone = performance(_rows([True, False], [0.9, 0.8], customer=["ann", "ann"]))["accuracy"]
    assert (alone.value, alone.error, alone.reason) == (0.5, None, "one_customer")
    alike = performance(_rows([True, True], [0.9, 0.9]))["accuracy"]
    assert (alike.value, alike.error, alike.reason) == (1.0, None, "no_spread")


def test_repeated_customers_widen_the_interval():
    """The same rows of the same customers twice hold no more information than once."""
    once = performance(ROWS)["accuracy"]
    twice = performance(
        _rows(np.tile(ROWS.outcome, 2), np.tile(ROWS.probability, 2), customer=np.tile(ROWS.customer, 2))
    )["accuracy"]
    assert twice.error == pytest.approx(once.error)
    assert 0.0 <= once.low < once.value < once.high <= 1.0


def test_influences_add_up_to_nothing():
    """To first order each row moves the metric by its influence around the value."""
    for metric in METRICS:
        value, each = influence(metric, ROWS)
        assert value == performance(ROWS)[metric].value
        assert float(each.sum()) == pytest.approx(0.0, abs=1e-12)
