"""Performance of joined rows against scikit-learn on the same rows, and its intervals against repetition."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from drift_worker.performance.classification_metrics import METRICS, Rows, performance
from drift_worker.performance.money import Money, business_value

# Few values, so that ties are the rule; and the ends, where the logarithm is cut.
PROBABILITY = st.sampled_from([0.0, 1e-300, 0.1, 0.25, 0.5, 0.5000000000000001, 0.75, 0.9, 1.0]) | st.floats(0.0, 1.0)
ROW = st.tuples(st.booleans(), PROBABILITY, st.integers(0, 8))
ORACLE = {
    "accuracy": lambda r: sk.accuracy_score(r.outcome, r.predicted),
    "precision": lambda r: sk.precision_score(r.outcome, r.predicted, zero_division=np.nan),
    "recall": lambda r: sk.recall_score(r.outcome, r.predicted, zero_division=np.nan),
    "f1": lambda r: sk.f1_score(r.outcome, r.predicted, zero_division=np.nan),
    "roc_auc": lambda r: sk.roc_auc_score(r.outcome, r.probability) if len(set(r.outcome.tolist())) == 2 else np.nan,
    "brier": lambda r: sk.brier_score_loss(r.outcome, r.probability, labels=[False, True]),
    "log_loss": lambda r: sk.log_loss(r.outcome, r.probability, labels=[False, True]),
}


def _rows(drawn, threshold):
    told, probability, customer = (np.array(column) for column in zip(*drawn, strict=True))
    probability = probability.astype(np.float64)
    return Rows(told.astype(np.bool_), probability, probability >= threshold, customer)


def _check(rows):
    found = performance(rows)
    assert tuple(found) == METRICS
    for name, oracle in ORACLE.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = oracle(rows)
        if math.isnan(expected):
            assert found[name].value is None
            assert found[name].reason in {"one_class", "no_positives", "none_predicted"}
        else:
            assert found[name].value == pytest.approx(expected, abs=1e-12, rel=1e-12), name


@settings(max_examples=300, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=60), st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_every_metric_is_scikit_learns(drawn, threshold):
    """To 1e-12, with ties, one class, nothing predicted, probabilities of 0 and 1; where it has none, none and why."""
    _check(_rows(drawn, threshold))


def test_every_metric_is_scikit_learns_on_many_rows():
    """200,000 rows, half of them with one of a hundred scores."""
    draw = np.random.default_rng(1)
    p = draw.random(200_000)
    p[::2] = np.round(p[::2], 2)
    _check(Rows(draw.random(200_000) < p, p, p >= 0.5, draw.integers(50_000, size=200_000)))


@settings(max_examples=100, deadline=None)
@given(st.lists(ROW, min_size=2, max_size=40), st.integers(2, 5))
def test_customers_repeated_word_for_word_tell_nothing_new(drawn, times):
    """Every row k times over, by the same customer: the same values and the same errors as once."""
    once = _rows(drawn, 0.5)
    many = Rows(*(np.tile(getattr(once, name), times) for name in ("outcome", "probability", "predicted", "customer")))
    for name, one in performance(once).items():
        other = performance(many)[name]
        assert one.reason == other.reason
        assert [one.value, one.error] == [None if x is None else pytest.approx(x) for x in (other.value, other.error)]


@pytest.mark.parametrize("repeats", [1, 4])
def test_the_interval_holds_the_truth_as_often_as_it_says(repeats):
    """400 cohorts of 600 customers, each once or four times alike: 95 % intervals miss in 2 % to 9 %."""
    draw = np.random.default_rng(7)
    scores = draw.beta(2, 4, 400_000)
    told = draw.random(400_000) < scores
    truth = {name: one.value for name, one in performance(_scored(told, scores, np.arange(400_000))).items()}
    missed = dict.fromkeys(METRICS, 0)
    for _ in range(400):
        picked = np.repeat(draw.integers(400_000, size=600), repeats)
        for name, one in performance(_scored(told[picked], scores[picked], picked)).items():
            missed[name] += not one.low <= truth[name] <= one.high
    assert {name for name, number in missed.items() if not 8 <= number <= 36} == set()


def _scored(told, scores, customer):
    return Rows(told, scores, scores >= 0.5, customer)


def test_money_is_the_sum_over_outcomes():
    """Two true positives, one false positive, three true negatives, one false negative."""
    told = np.array([1, 1, 0, 0, 0, 0, 1], dtype=np.bool_)
    predicted = np.array([1, 1, 1, 0, 0, 0, 0], dtype=np.bool_)
    money = Money(true_positive=100.0, false_positive=-10.0, true_negative=0.5, false_negative=-40.0)
    found = business_value(Rows(told, predicted * 0.9, predicted, np.arange(7)), money)
    assert found.value == 151.5
    assert found.low < 151.5 < found.high


@pytest.mark.parametrize(
    ("told", "scored", "reasons"),
    [
        ([], [], dict.fromkeys(METRICS, "no_labels")),
        ([True, True], [0.9, 0.2], {"roc_auc": "one_class"}),
        ([False, False], [0.1, 0.2], {"recall": "no_positives", "precision": "none_predicted", "f1": "no_positives"}),
        ([True, False], [0.9, 0.1], {"accuracy": "no_spread", "roc_auc": "no_spread"}),
    ],
)
def test_what_is_not_known_says_why(told, scored, reasons):
    """Without a value, or with a value that nothing is known to spread around."""
    scored = np.array(scored, dtype=np.float64)
    found = performance(Rows(np.array(told, dtype=np.bool_), scored, scored >= 0.5, np.arange(len(told))))
    assert {name: found[name].reason for name in reasons} == reasons
    assert all(one.low is None for one in found.values() if one.reason)
