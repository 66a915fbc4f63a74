"""What outcomes are worth: of each task, by customer, and nothing for a class that the table does not have."""

import numpy as np
import pytest
from pydantic import ValidationError

from drift_worker.performance.classification_metrics import Rows
from drift_worker.performance.money import ClassMoney, Money, ValueMoney, business_value, money_of
from drift_worker.performance.multiclass_metrics import ClassRows
from drift_worker.performance.regression_metrics import ValueRows
from schemas.bundle.manifest import Business, ClassBusiness, ValueBusiness

TOLD = np.array([True, True, False, False, True, False])
SAID = np.array([True, False, False, True, True, False])
BINARY = Rows(TOLD, SAID * 0.9, SAID, np.arange(6))
# classes a and b, and code 2: a class that the model does not have
CLASSES = ClassRows(np.array([0, 0, 1, 2]), np.array([0, 1, 0, 0]), np.zeros((4, 2)), np.arange(4))
VALUES = ValueRows(np.array([10.0, 10.0, 10.0]), np.array([13.0, 8.0, 10.0]), np.arange(3))


def test_of_a_binary_model_it_is_the_sum_of_the_outcomes():
    """2 found, 1 missed, 1 called in vain, 2 left alone."""
    money = Money(true_positive=100.0, false_negative=-50.0, false_positive=-10.0, true_negative=1.0)
    assert money.worth(BINARY).tolist() == [100.0, -50.0, 1.0, -10.0, 100.0, 1.0]
    assert business_value(BINARY, money).value == 142.0
    assert business_value(Rows(TOLD[:0], SAID[:0] * 0.9, SAID[:0], np.arange(0)), money).reason == "no_labels"
    assert money_of(None) is None
    stated = Business(currency="EUR", true_positive=100.0, false_positive=-10.0)
    assert money_of(stated) == Money(true_positive=100.0, false_positive=-10.0)


def test_of_several_classes_each_pair_has_its_worth():
    """An outcome that the model does not have, and a pair that is not stated, are worth nothing."""
    money = money_of(ClassBusiness(matrix={"a": {"a": 5.0, "b": -3.0}, "b": {"b": 7.0}}), ("a", "b"))
    assert isinstance(money, ClassMoney)
    assert money.worth(CLASSES).tolist() == [5.0, -3.0, 0.0, 0.0]
    assert business_value(CLASSES, money).value == 2.0


def test_the_same_table_for_a_model_with_its_classes_in_another_order():
    """A candidate may have other classes than the champion: codes are of its own."""
    stated = ClassBusiness(matrix={"a": {"a": 5.0, "b": -3.0}})
    money = money_of(stated, ("new", "b", "a"))
    rows = ClassRows(np.array([2, 2, 0]), np.array([2, 1, 0]), np.zeros((3, 3)), np.arange(3))
    assert money.worth(rows).tolist() == [5.0, -3.0, 0.0]


def test_of_a_regression_each_unit_over_and_under_has_its_worth():
    """3 too much at -2 each, 2 too little at -10 each, and one that is right."""
    money = money_of(ValueBusiness(over=-2.0, under=-10.0))
    assert isinstance(money, ValueMoney)
    assert money.worth(VALUES).tolist() == [-6.0, -20.0, 0.0]
    found = business_value(VALUES, money)
    assert (found.value, found.low < -26.0 < found.high) == (-26.0, True)


def test_rows_of_one_customer_count_as_one():
    """The error of a total that three customers with two rows each make."""
    twice = ValueRows(*(np.repeat(one, 2) for one in (VALUES.outcome, VALUES.value, VALUES.customer)))
    money = ValueMoney(-2.0, -10.0)
    once, repeated = business_value(VALUES, money), business_value(twice, money)
    assert (repeated.value, repeated.error) == (2 * once.value, pytest.approx(2 * once.error))
    same = ValueRows(VALUES.outcome, VALUES.value, np.zeros(3))
    assert (business_value(same, money).value, business_value(same, money).reason) == (-26.0, "one_customer")


@pytest.mark.parametrize(
    ("kind", "members"),
    [(ClassBusiness, {"matrix": {}}), (ValueBusiness, {"over": 1.0}), (ValueBusiness, {"over": 1.0, "under": np.inf})],
)
def test_what_states_no_worth_is_refused(kind, members):
    """An empty table, one side only, an infinite sum."""
    with pytest.raises(ValidationError):
        kind(**members)
