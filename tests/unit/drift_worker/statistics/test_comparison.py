"""The cells of all features against those before them."""

import numpy as np
import pytest

from drift_worker.counts.bins import GROUPS, Cells
from drift_worker.statistics.baseline import Columns
from drift_worker.statistics.comparison import compare
from drift_worker.statistics.feature_table import Subjects
from schemas.bundle.inputs import Feature
from schemas.reference import Reference

PLAN = Feature(name="plan", kind="categorical", categories=("a", "b"))
REFERENCE = Reference(
    np.empty((1000, 0)),
    np.array([[0]] * 700 + [[1]] * 300, dtype=np.int32),
    np.array([0.2] * 700 + [0.8] * 300),
    np.zeros(1, dtype=np.int64),
)
SUBJECTS = Subjects(dict(enumerate(Columns(Cells([PLAN], [("a", "b")], REFERENCE), REFERENCE).features)), {})


def _compared(a, b, repeat=1.0):
    table = np.tile(np.array([a, b, 0.0]), (GROUPS, 1))
    return compare(SUBJECTS, SUBJECTS.training, table, repeat)


def test_equal_shares_are_no_distance():
    """Of any number of events."""
    found = _compared(7, 3)
    assert float(found.psi[0]) == pytest.approx(0.0, abs=1e-4)
    assert float(found.moved[0]) == pytest.approx(0.0)
    assert float(found.score_shift[0]) == pytest.approx(0.0)
    assert (float(found.events[0]), float(found.h[0])) == (10 * GROUPS, 1 / 1000 + 1 / (10 * GROUPS))


def test_a_moved_share_is_the_largest_and_moves_the_score():
    """From 70 % to 40 %: L∞ 0.3, and the mean score rises by 0.3·(0.8 - 0.2)."""
    found = _compared(4, 6)
    assert float(found.moved[0]) == pytest.approx(0.3)
    assert float(found.score_shift[0]) == pytest.approx(0.18)
    assert float(found.psi[0]) == pytest.approx(0.3 * np.log(7 / 4) + 0.3 * np.log(6 / 3), rel=0.01)
    assert 0.0 < float(found.psi_corrected[0]) < float(found.psi[0])


def test_one_dominant_customer_is_no_drift():
    """A tenth of the events in one group, all of them b: without that group nothing moved."""
    table = np.tile(np.array([7.0, 3.0, 0.0]), (GROUPS, 1))
    table[0, 1] += 100.0
    found = compare(SUBJECTS, SUBJECTS.training, table, 1.0)
    assert float(found.moved[0]) == pytest.approx(0.0, abs=1e-9)
    assert float(found.psi_corrected[0]) == 0.0
    assert float(found.events[0]) == 10 * GROUPS + 100


def test_repeats_count_for_less():
    """The same shares in every group are no repeats; all of a group in one cell are."""
    table = np.zeros((GROUPS, 3))
    table[::2, 0], table[1::2, 1] = 10.0, 10.0
    found = compare(SUBJECTS, SUBJECTS.training, table, 5.0)
    assert float(found.effective[0]) == pytest.approx(10 * GROUPS / 5)
