"""Metrics of several classes are scikit-learn's, and their errors are those of many samples."""

import numpy as np
import pytest
from sklearn import metrics as sk

from drift_worker.performance.multiclass_metrics import METRICS, ClassRows, class_performance, of_each_class


def _rows(draw, n, k, classes=None):
    """Rows of k classes whose probabilities are right in part."""
    p = draw.dirichlet(np.ones(k), n)
    told = np.array([draw.choice(k, p=row) for row in p])
    return ClassRows(told, p.argmax(axis=1), p if classes is None else p[:, :classes], np.arange(n))


@pytest.mark.parametrize(("k", "n"), [(3, 200), (5, 3000), (10, 5000)])
def test_metrics_equal_scikit_learns(k, n):
    """Every macro metric and each class's, within 1e-12."""
    rows = _rows(np.random.default_rng(k), n, k)
    told, said, p = rows.outcome, rows.predicted, rows.probabilities
    found = class_performance(rows)
    expected = {
        "accuracy": sk.accuracy_score(told, said),
        "precision_macro": sk.precision_score(told, said, average="macro", zero_division=0),
        "recall_macro": sk.recall_score(told, said, average="macro", zero_division=0),
        "f1_macro": sk.f1_score(told, said, average="macro", zero_division=0),
        "roc_auc_ovr": sk.roc_auc_score(told, p, multi_class="ovr", average="macro"),
        "log_loss": sk.log_loss(told, p),
    }
    assert list(found) == list(METRICS)
    for name, number in expected.items():
        assert found[name].value == pytest.approx(number, rel=1e-12, abs=1e-12), name
        assert found[name].low < number < found[name].high
    each = of_each_class(rows)
    scores = sk.precision_recall_fscore_support(told, said, zero_division=0)
    for code in range(k):
        of_class = [each[code][name].value for name in ("precision", "recall", "f1")]
        assert of_class == pytest.approx([column[code] for column in scores[:3]], rel=1e-12, abs=1e-12)


def test_classes_that_do_not_occur_do_not_count_and_a_new_one_does():
    """As scikit-learn: macro means are over what occurs; a class of no probability is wrong in every row."""
    told, said = np.array([0, 0, 1, 3, 3, 1]), np.array([0, 1, 1, 0, 1, 1])
    p = np.eye(3)[np.minimum(said, 2)] * 0.7 + 0.1
    found = class_performance(ClassRows(told, said, p, np.arange(6)))
    for name, function in (("f1_macro", sk.f1_score), ("recall_macro", sk.recall_score)):
        assert found[name].value == pytest.approx(function(told, said, average="macro", zero_division=0), rel=1e-12)
    assert found["accuracy"].value == 0.5
    assert (found["roc_auc_ovr"].value, found["roc_auc_ovr"].reason) == (None, "class_missing")
    known = told < 3
    assert found["log_loss"].value == pytest.approx(sk.log_loss(told[known], p[known], labels=[0, 1, 2]), rel=1e-12)


def test_what_is_not_known_has_a_reason():
    """No rows at all; probabilities that predictions of many classes do not hold."""
    empty = ClassRows(np.empty(0, dtype=int), np.empty(0, dtype=int), np.empty((0, 3)), np.empty(0))
    assert {one.reason for one in class_performance(empty).values()} == {"no_labels"}
    assert of_each_class(empty) == {}
    codes = np.array([0, 1, 2])
    left_out = class_performance(ClassRows(codes, codes, np.full((3, 3), np.nan), np.arange(3)))
    assert left_out["accuracy"].value == 1.0
    assert {left_out[name].reason for name in ("roc_auc_ovr", "log_loss")} == {"probabilities_left_out"}


def test_standard_errors_are_those_of_many_samples():
    """The spread of each metric over 400 samples of 600 customers, within a fifth; repeats are no new customers."""
    draw = np.random.default_rng(3)
    samples = [_rows(draw, 600, 4) for _ in range(400)]
    found = [class_performance(rows) for rows in samples]
    for name in METRICS:
        spread = np.std([one[name].value for one in found])
        assert np.mean([one[name].error for one in found]) == pytest.approx(spread, rel=0.2), name
    one = samples[0]
    twice = ClassRows(
        *(np.repeat(part, 2, axis=0) for part in (one.outcome, one.predicted, one.probabilities)),
        np.repeat(one.customer, 2),
    )
    assert class_performance(twice)["f1_macro"].error == pytest.approx(found[0]["f1_macro"].error, rel=1e-9)
