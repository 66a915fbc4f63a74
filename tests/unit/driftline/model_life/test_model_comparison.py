"""Champion and challenger on arrays: the advantage, its interval, and that the error is spent once."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from drift_worker.performance.any_rows import rows_of_task
from drift_worker.performance.classification_metrics import Rows
from drift_worker.performance.money import Money, ValueMoney, money_of
from drift_worker.performance.multiclass_metrics import ClassRows
from drift_worker.performance.regression_metrics import ValueRows
from driftline.model_life.model_comparison import METRICS, Comparison, compare, deciding, metric_of, rows_of
from schemas.bundle.manifest import ClassBusiness
from schemas.task import Multiclass, Regression

MONEY = Money(true_positive=100.0, false_positive=-10.0)


def _pair(rng, n, skill=0.0, rows_each=1):
    """Two models of one kind on the same rows, the second with `skill` more; customers have several rows."""
    truth = np.repeat(rng.normal(size=n), rows_each)
    outcome = truth + rng.normal(size=len(truth)) > 0.3
    customer = np.repeat(np.arange(n), rows_each)
    first = 1 / (1 + np.exp(-(truth + np.repeat(rng.normal(size=n), rows_each))))
    second = 1 / (1 + np.exp(-(truth * (1 + skill) + np.repeat(rng.normal(size=n), rows_each))))
    return rows_of(outcome, first, 0.5, customer), rows_of(outcome, second, 0.5, customer)


def _values(rng, n, skill=0.0, rows_each=1):
    """Two regressions on the same rows, the second with `skill` less error; a customer's errors are alike."""
    outcome = np.repeat(rng.gamma(3.0, 20.0, size=n), rows_each)
    customer = np.repeat(np.arange(n), rows_each)
    both = np.repeat(rng.normal(size=n), rows_each) * 10 + rng.normal(size=len(outcome))
    own = np.repeat(rng.normal(size=n), rows_each) * 5
    values = outcome + both, outcome + (both + own) / (1 + skill)
    return [rows_of_task(Regression(), outcome, value, customer) for value in values]


def _classes(rng, n, skill=0.0, rows_each=1):
    """Two models of three classes on the same rows, the second with `skill` more; a customer's scores are alike."""
    task, codes = Multiclass(("a", "b", "c")), rng.choice(3, n, p=[0.5, 0.3, 0.2])
    outcome = np.array(task.classes)[np.repeat(codes, rows_each)]
    customer = np.repeat(np.arange(n), rows_each)
    sides = []
    for more in (0.0, skill):
        score = np.repeat(rng.random((n, 3)) + np.eye(3)[codes] * (0.5 + more), rows_each, axis=0)
        sides.append(rows_of_task(task, outcome, score / score.sum(axis=1, keepdims=True), customer))
    return sides


PRICES = ClassBusiness(matrix={"a": {"a": 10.0, "b": -2.0, "c": -2.0}, "b": {"b": 20.0, "a": -5.0}, "c": {"c": 30.0}})
WORTH = {"binary": MONEY, "multiclass": money_of(PRICES, ("a", "b", "c")), "regression": ValueMoney(-1.0, -3.0)}
DRAWN = {"binary": _pair, "multiclass": _classes, "regression": _values}
OF_ALL = [(task, metric) for task, metrics in METRICS.items() for metric in metrics]


def test_of_one_row_a_customer_the_paired_interval_is_the_textbooks():
    """The mean of differences and its standard error, as scipy has it; the sample's standard deviation is n - 1."""
    before, after = _pair(np.random.default_rng(1), 400)
    found = compare("accuracy", before, after, confidence=0.9)
    one, other = (side.predicted == side.outcome for side in (before, after))
    difference = other.astype(float) - one
    assert found.advantage == pytest.approx(difference.mean())
    assert found.error == pytest.approx(stats.sem(difference))
    z = 1.6448536269514722
    assert (found.low, found.high) == pytest.approx(
        (found.advantage - z * found.error, found.advantage + z * found.error)
    )
    assert (found.customers, found.rows) == (400, 400)


def test_two_samples_variances_add():
    """Customers of each model's own: the unpaired interval, larger than the paired one of the same rows."""
    before, after = _pair(np.random.default_rng(2), 600)
    elsewhere = Rows(after.outcome, after.probability, after.predicted, after.customer + 1000)
    unpaired = compare("brier", before, elsewhere)
    apart = [(side.probability - side.outcome) ** 2 for side in (before, after)]
    assert unpaired.advantage == pytest.approx(apart[0].mean() - apart[1].mean())
    assert unpaired.error == pytest.approx(math.hypot(*(stats.sem(side, ddof=0) for side in apart)), rel=1e-3)
    assert unpaired.error > compare("brier", before, after).error
    assert (unpaired.customers, unpaired.rows) == (1200, 1200)


@pytest.mark.parametrize(("task", "metric"), OF_ALL)
def test_the_interval_is_as_wide_as_repetition_says(task, metric):
    """Over 300 samples with five rows a customer the advantage's spread is its error; by rows it would be too small."""
    rng = np.random.default_rng(3)
    found = [compare(metric, *DRAWN[task](rng, 150, rows_each=5), money=WORTH[task]) for _ in range(300)]
    spread = np.std([c.advantage for c in found])
    assert np.mean([c.error for c in found]) == pytest.approx(spread, rel=0.12)


@pytest.mark.parametrize(("task", "metric"), [pair for pair in OF_ALL if pair[1] != "f1"])
def test_a_better_challenger_is_found_better_and_the_other_way_round_it_is_not(task, metric):
    """Whichever direction of the metric is the good one."""
    before, after = DRAWN[task](np.random.default_rng(4), 4000, 1.5)
    assert compare(metric, before, after, money=WORTH[task]).better is True
    assert compare(metric, after, before, money=WORTH[task]).better is False
    advantage = compare(metric, before, after, money=WORTH[task]).advantage
    assert compare(metric, before, after, money=WORTH[task], margin=2 * advantage).better is False


@pytest.mark.parametrize("unit", [1.0, 1e-9, 1e9])
def test_an_advantage_of_errors_is_a_share_of_the_champions(unit):
    """In no unit, as a drop of performance is; both errors are shown in the outcome's, and they are paired."""
    outcome = np.array([1.0, 2.0, 3.0, 4.0]) * unit
    errors = np.array([4.0, 4.0, 8.0, 0.0]), np.array([3.0, 3.0, 5.0, 1.0])
    sides = [rows_of_task(Regression(), outcome, outcome + e * unit, np.arange(4)) for e in errors]
    found = compare("mae", *sides, margin=0.3)
    assert (found.champion, found.challenger) == pytest.approx((4 * unit, 3 * unit))
    assert (found.advantage, found.better, found.rows) == (pytest.approx(0.25), False, 4)
    # of the ratio of two means: the residuals of errors against the champion's, n - 1
    share = (errors[1] - 0.75 * errors[0]) / 4
    assert found.error == pytest.approx(share.std(ddof=1) / 2, rel=1e-9)
    assert found.low < 0.25 < found.high
    assert compare("mae", sides[1], sides[0]).advantage == pytest.approx(-1 / 3)
    exact = rows_of_task(Regression(), outcome, outcome, np.arange(4))
    assert (compare("mae", exact, sides[0]).better, compare("mae", exact, sides[0]).reason) == (False, "no_error")
    assert compare("mae", sides[0], exact).advantage == 1.0


def test_a_metric_is_one_of_the_task():
    """Without an option, the task's own decides."""
    assert [metric_of(None, task, "brier") for task in METRICS] == ["brier", "accuracy", "mae"]
    assert metric_of("f1_macro", "multiclass", "brier") == "f1_macro"
    with pytest.raises(ValueError, match=r"--metric brier: task of the models is regression, and it has mae, rmse, b"):
        metric_of("brier", "regression", "brier")


def test_money_is_per_customer():
    """Two customers with three rows: 100 for a hit, -10 for a false alarm."""
    outcome, customer = np.array([True, False, True]), np.array([1, 1, 2])
    nobody = rows_of(outcome, np.array([0.1, 0.1, 0.1]), 0.5, customer)
    everybody = rows_of(outcome, np.array([0.9, 0.9, 0.9]), 0.5, customer)
    found = compare("business_value", nobody, everybody, money=MONEY)
    assert (found.champion, found.challenger, found.advantage) == (0.0, 95.0, 95.0)
    with pytest.raises(ValueError, match="worth"):
        compare("business_value", nobody, everybody)


def test_money_of_several_classes_is_by_each_models_own_codes():
    """The challenger's classes are in another order; both are right for one customer of two."""
    stated = ClassBusiness(matrix={"a": {"a": 10.0}, "b": {"b": 4.0}})
    customers, nothing = np.arange(2), np.zeros((2, 2))
    one = ClassRows(np.array([0, 1]), np.array([0, 0]), nothing, customers)  # a is code 0: right about a
    other = ClassRows(np.array([1, 0]), np.array([0, 0]), nothing, customers)  # b is code 0: right about b
    found = compare(
        "business_value",
        one,
        other,
        money=money_of(stated, ("a", "b")),
        challengers_money=money_of(stated, ("b", "a")),
    )
    assert (found.champion, found.challenger, found.advantage) == (5.0, 2.0, -3.0)


def test_money_of_a_regression_is_what_its_errors_cost():
    """Both are off by 2, one of them on the side that costs less."""
    outcome, customers = np.array([10.0, 20.0]), np.arange(2)
    over, under = (ValueRows(outcome, outcome + by, customers) for by in (2.0, -2.0))
    found = compare("business_value", under, over, money=ValueMoney(over=-1.0, under=-5.0))
    assert (found.champion, found.challenger, found.better) == (-10.0, -2.0, True)


def test_what_cannot_be_known_has_a_reason_and_no_verdict():
    """No rows, one class, one customer; two models that never differ are not better."""
    empty = rows_of(np.zeros(0, dtype=bool), np.zeros(0), 0.5, np.zeros(0, dtype=np.int64))
    assert compare("accuracy", empty, empty) == Comparison(
        "accuracy", 0, 0, None, None, None, None, None, None, None, "no_labels"
    )
    outcome, customer = np.array([True, True]), np.array([1, 2])
    same = rows_of(outcome, np.array([0.9, 0.2]), 0.5, customer)
    assert compare("auc", same, same).reason == "one_class"
    assert (compare("accuracy", same, same).better, compare("accuracy", same, same).reason) == (False, "no_spread")
    wrong, right = (rows_of(outcome, np.array([p, p]), 0.5, customer) for p in (0.1, 0.9))
    assert (compare("accuracy", wrong, right).better, compare("accuracy", right, wrong).better) == (True, False)
    one = rows_of(outcome, np.array([0.9, 0.2]), 0.5, np.array([1, 1]))
    assert (compare("accuracy", one, one).better, compare("accuracy", one, one).reason) == (None, "one_customer")


def test_the_first_n_decide_and_go_on_deciding():
    """By the time of their first event; what comes of anybody later changes nothing."""
    known, customer = np.array([50, 10, 30, 20]), np.array([1, 2, 3, 2])
    assert deciding(known, customer, 4)[1:] == (3, None)
    now, labelled, until = deciding(known, customer, 2)
    assert (now.tolist(), labelled, until) == ([False, True, True, True], 3, 30)
    later = deciding(np.append(known, [60, 70, 80]), np.append(customer, [4, 2, 3]), 2)
    assert later[0].tolist() == [*now.tolist(), False, False, False]
    assert later[2] == 30
    tied = deciding(np.array([5, 5, 5]), np.array([9, 8, 7]), 2)
    assert tied[0].tolist() == [False, True, True]


def _equal_challengers(seed, count, customers):
    """Per case and customer, 1 where only the challenger was right, -1 where only the champion was, each 10 %."""
    drawn = np.random.default_rng(seed).random((count, customers))
    return np.where(drawn < 0.1, 1.0, np.where(drawn < 0.2, -1.0, 0.0))


def _rows(difference):
    """A champion and a challenger of whom the latter is right where it is 1 and wrong where it is -1."""
    outcome, customer = np.ones(len(difference), dtype=bool), np.arange(len(difference))
    champion = rows_of(outcome, np.where(difference == 1.0, 0.1, 0.9), 0.5, customer)
    return champion, rows_of(outcome, np.where(difference == -1.0, 0.1, 0.9), 0.5, customer)


def test_looking_fifty_times_finds_an_equal_challenger_better_in_16_percent_and_once_in_less_than_5():
    """2,000 equal challengers, a look after every 40 customers up to 2,000, at 95 %."""
    difference = _equal_challengers(5, 2000, 2000)
    n = np.arange(40, 2001, 40)
    mean = np.cumsum(difference, axis=1)[:, n - 1] / n
    spread = np.sqrt((np.cumsum(difference**2, axis=1)[:, n - 1] / n - mean**2) / (n - 1))
    looks_better = mean - 1.959963984540054 * spread > 0
    assert 0.14 < looks_better.any(axis=1).mean() < 0.19
    # what these looks are is what compare() answers
    for row, look in ((0, 0), (1, 24), (np.flatnonzero(looks_better[:, 9])[0], 9)):
        champion, challenger = _rows(difference[row, : n[look]])
        assert compare("accuracy", champion, challenger).better is bool(looks_better[row, look])

    known = np.arange(2000)  # customers become known one after the other

    def answer(row, seen):
        among, _, until = deciding(known[:seen], known[:seen], 1000)
        return until and compare("accuracy", *_rows(difference[row, :seen][among])).better

    answers = [[answer(row, seen) for seen in (999, 1000, 2000)] for row in range(400)]
    assert {a[0] for a in answers} == {None}
    assert all(a[1] is a[2] for a in answers), "a later look gave another answer"
    assert np.mean([a[1] for a in answers]) <= 0.05
