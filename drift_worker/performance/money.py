"""What outcomes are worth in money, of any task: `[business]` of the spec. Pure numpy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from drift_worker.performance.any_rows import AnyRows
from drift_worker.performance.classification_metrics import Rows
from drift_worker.performance.clustered_error import NO_ROWS, ONE_CUSTOMER, Estimated, Floats, Z
from drift_worker.performance.multiclass_metrics import ClassRows
from schemas.bundle.manifest import AnyBusiness, Business, ClassBusiness


@dataclass(frozen=True, slots=True)
class Money:
    """The worth of each outcome of a binary model."""

    true_positive: float = 0.0
    false_positive: float = 0.0
    true_negative: float = 0.0
    false_negative: float = 0.0

    def worth(self, rows: AnyRows) -> Floats:
        """Return each row's worth."""
        assert isinstance(rows, Rows), "money is of the model's task"  # noqa: S101
        return np.where(
            rows.outcome,
            np.where(rows.predicted, self.true_positive, self.false_negative),
            np.where(rows.predicted, self.false_positive, self.true_negative),
        )


@dataclass(frozen=True, slots=True)
class ClassMoney:
    """The worth of each pair of outcome and prediction. matrix: float64 (classes, classes), by the rows' codes."""

    matrix: Floats

    def worth(self, rows: AnyRows) -> Floats:
        """Return each row's worth; 0 where a class is none of the matrix."""
        assert isinstance(rows, ClassRows), "money is of the model's task"  # noqa: S101
        classes = len(self.matrix)
        padded = np.zeros((classes + 1, classes + 1))
        padded[:classes, :classes] = self.matrix
        found: Floats = padded[np.minimum(rows.outcome, classes), np.minimum(rows.predicted, classes)]
        return found


@dataclass(frozen=True, slots=True)
class ValueMoney:
    """The worth of each unit by which a value is over its outcome, and under it."""

    over: float
    under: float

    def worth(self, rows: AnyRows) -> Floats:
        """Return each row's worth."""
        assert not isinstance(rows, Rows | ClassRows), "money is of the model's task"  # noqa: S101
        error = rows.value - rows.outcome
        return np.where(error > 0.0, self.over * error, self.under * -error)


AnyMoney: TypeAlias = Money | ClassMoney | ValueMoney


def money_of(business: AnyBusiness | None, classes: Sequence[str] | None = None) -> AnyMoney | None:
    """Return [business] of a bundle; None if the bundle has none. classes: those of the rows' first codes.

    >>> stated = ClassBusiness(matrix={"a": {"a": 5.0, "b": -1.0}})
    >>> money_of(stated, ["b", "a"]).matrix.tolist()
    [[0.0, 0.0], [-1.0, 5.0]]
    """
    if business is None:
        return None
    if isinstance(business, Business):
        return Money(**business.model_dump(exclude={"currency"}))
    if isinstance(business, ClassBusiness):
        names = classes or ()
        cells = [[business.matrix.get(told, {}).get(said, 0.0) for said in names] for told in names]
        return ClassMoney(np.array(cells, dtype=np.float64).reshape(len(names), len(names)))
    return ValueMoney(business.over, business.under)


def business_value(rows: AnyRows, money: AnyMoney) -> Estimated:
    """Return the sum of the rows' outcomes in money; its error is for the same number of similar customers.

    >>> told, scored = np.array([True, False, True]), np.array([0.9, 0.8, 0.1])
    >>> rows = Rows(told, scored, scored >= 0.5, np.arange(3))
    >>> business_value(rows, Money(true_positive=100.0, false_positive=-10.0)).value
    90.0
    """
    if not len(rows.outcome):
        return Estimated(None, reason=NO_ROWS)
    values = money.worth(rows)
    _, customer = np.unique(rows.customer, return_inverse=True)
    sums = np.bincount(customer, weights=values)
    total = math.fsum(values.tolist())
    if len(sums) < 2:
        return Estimated(total, reason=ONE_CUSTOMER)
    error = math.sqrt(len(sums) / (len(sums) - 1) * float(np.sum((sums - sums.mean()) ** 2)))
    return Estimated(total, error, total - Z * error, total + Z * error)
