"""One reference beside another: means, shares, missing values, and the drift worker's PSI."""

import numpy as np
import pytest

from driftline.reference_diff import differences
from schemas.bundle.inputs import Feature
from schemas.reference import Reference

FEATURES = (
    Feature(name="age", kind="numeric", nullable=True),
    Feature(name="plan", kind="categorical", categories=("gold", "red"), nullable=True),
    Feature(name="senior", kind="boolean"),
)


def reference(age, plan, senior, score, singletons=0):
    """One row per entry; None is missing."""
    numeric = np.array([[np.nan if a is None else a] for a in age], dtype=np.float64)
    codes = np.column_stack([plan, senior]).astype(np.int32)
    return Reference(numeric, codes, np.array(score, dtype=np.float64), np.array([singletons, 0], dtype=np.int64))


OLD = reference([20, 20, 30, 30], [0, 0, 1, 1], [0, 0, 0, 1], [0.25, 0.25, 0.75, 0.75])


def test_a_reference_beside_itself_has_not_moved():
    """PSI 0 everywhere, and both numbers of every pair alike."""
    for change in differences(FEATURES, OLD, OLD):
        assert change.psi == 0.0
        for pair in (change.missing, change.mean, change.sd, *(change.shares or {}).values()):
            assert pair is None or pair[0] == pair[1]


def test_each_kind_says_what_moved():
    """Mean and sd of numbers, shares of categories among values present, the share that is missing, and the score."""
    new = reference([20, None, None, 40], [0, 1, 1, -1], [1, 1, 1, 1], [0.5, 0.5, 0.5, 0.5])
    age, plan, senior, score = differences(FEATURES, OLD, new)
    assert (age.name, age.kind, age.missing, age.mean, age.sd) == ("age", "numeric", (0.0, 0.5), (25, 30), (5, 10))
    assert plan.missing == (0.0, 0.25)
    assert plan.shares == {"gold": (0.5, 1 / 3), "red": (0.5, 2 / 3)}
    assert senior.shares == {"false": (0.75, 0.0), "true": (0.25, 1.0)}
    assert (score.name, score.kind, score.mean, score.sd) == ("score", "score", (0.5, 0.5), (0.25, 0.0))


def test_psi_is_the_drift_workers_over_the_former_cells():
    """Two categories, counts (2, 2) and (1, 2): shares (3/6, 3/6) and (2/5, 3/5) with one added to each count."""
    new = reference([20, 20, 30, 30], [0, 1, 1, -1], [0, 0, 0, 1], [0.25, 0.25, 0.75, 0.75])
    plan = differences(FEATURES, OLD, new)[1]
    assert plan.psi == pytest.approx((2 / 5 - 1 / 2) * np.log(4 / 5) + (3 / 5 - 1 / 2) * np.log(6 / 5))


def test_a_category_that_was_rare_shares_its_cell_with_the_unseen():
    """Learnt categories that were seen once represent unseen ones: more of one is not a cell that appears."""
    old = reference([1] * 8, [0] * 7 + [1], [0] * 8, [0.5] * 8, singletons=1)
    new = reference([1] * 8, [0] * 6 + [1] * 2, [0] * 8, [0.5] * 8)
    plan = differences(FEATURES, old, new)[1]
    expected = (7 / 10 - 8 / 10) * np.log(7 / 8) + (3 / 10 - 2 / 10) * np.log(3 / 2)
    assert plan.psi == pytest.approx(expected)


def test_a_column_without_values_has_no_psi():
    """Unknown is null, never 0."""
    new = reference([None] * 4, [-1] * 4, [0] * 4, [0.5] * 4)
    age, plan, *_ = differences(FEATURES, OLD, new)
    assert (age.psi, age.mean, plan.psi) == (None, None, None)
    assert age.missing == (0.0, 1.0)
    assert age.as_dict() == {"name": "age", "kind": "numeric", "missing": (0.0, 1.0), "psi": None}
