"""Features side by side: where each one's counts are in the table, and what they are compared with."""

import numpy as np
import pytest

from drift_worker.counts.bins import GROUPS, Cells
from drift_worker.statistics.baseline import Columns, Distribution
from drift_worker.statistics.feature_table import Subjects, shares
from schemas.bundle.inputs import Feature
from schemas.bundle.manifest import Inflation
from schemas.measurement import WEEK
from schemas.reference import Reference

FEATURES = [
    Feature(name="plan", kind="categorical", categories=("a", "b", "c"), nullable=True),
    Feature(name="amount", kind="numeric", nullable=True),
    Feature(name="senior", kind="boolean"),
]
DRAW = np.random.default_rng(4)
REFERENCE = Reference(
    DRAW.gamma(2, 10, (400, 1)),
    np.column_stack([DRAW.integers(3, size=400), DRAW.integers(2, size=400)]).astype(np.int32),
    DRAW.random(400),
    np.zeros(2, dtype=np.int64),
)
COLUMNS = dict(enumerate(Columns(Cells(FEATURES, [("a", "b", "c"), ("false", "true")], REFERENCE), REFERENCE).features))
CHECKED = {1: {"psi": Inflation(ratio=1.4, lower=1.2, events=500), "ks": Inflation(ratio=1.1, lower=0.9, events=500)}}


def _window(series):
    """Return a vector whose groups hold other numbers in each cell."""
    cells = COLUMNS[series].cells
    vector = np.zeros(cells.size, dtype=np.int64)
    groups = cells.groups(vector)
    groups[:] = np.arange(groups.size).reshape(groups.shape)
    vector[: cells.cells] = np.arange(cells.cells)
    return vector


def test_numbers_come_first():
    """For any order of the manifest."""
    subjects = Subjects(COLUMNS, {})
    assert (subjects.series, subjects.numbers) == ([1, 0, 2], 1)
    assert subjects.names[1:] == [["a", "b", "c", "unseen"], ["false", "true"]]


def test_every_count_of_a_group_is_in_the_table_once():
    """By PSI cell, and missing and unseen apart."""
    subjects = Subjects(COLUMNS, {})
    window = {series: _window(series) for series in COLUMNS}
    tables = subjects.tables(window)
    for at, series in enumerate(subjects.series):
        column = COLUMNS[series]
        groups = column.cells.groups(window[series])
        assert np.array_equal(subjects.spans.of_feature(tables.cells, at), column.by_psi_cell(groups))
        assert np.array_equal(tables.missing[:, at], groups[:, -1])
    assert np.array_equal(tables.unseen[:, 0], COLUMNS[0].cells.groups(window[0])[:, -2])
    assert tables.categories[0].tolist() == [0.0, 1.0, 2.0, 3.0]


def test_an_absent_series_has_no_counts():
    """It does not move the counts of its neighbours."""
    subjects = Subjects(COLUMNS, {})
    whole, part = subjects.tables({s: _window(s) for s in COLUMNS}), subjects.tables({0: _window(0)})
    assert np.array_equal(part.categories[0], whole.categories[0])
    assert part.cells.shape == whole.cells.shape == (GROUPS, sum(subjects.spans.sizes))
    assert subjects.spans.of_feature(part.cells, 0).sum() == 0.0
    assert part.missing[:, 0].sum() == 0.0


def test_the_reference_is_the_baseline_unless_a_series_has_a_slot():
    """λ is the reference's, and does not apply to past weeks."""
    subjects = Subjects(COLUMNS, CHECKED)
    assert subjects.before({}) is subjects.training
    assert (float(subjects.training.by_psi[0]), float(subjects.training.by_ks[0])) == (1.4, 1.0)
    training = COLUMNS[1].training
    week = Distribution(WEEK, 90.0, training.psi_counts, training.shown, training.function)
    before = subjects.before({1: week})
    assert (float(before.by_psi[0]), float(before.effective[0])) == (1.0, 90.0)
    assert before.effective[1:].tolist() == subjects.training.effective[1:].tolist()


def test_shares_of_a_row_add_up_to_1():
    """A row without counts stays 0."""
    rows = shares(np.array([[1, 3], [0, 0]]))
    assert rows == [[0.25, 0.75], [0.0, 0.0]]
    assert sum(subject for subject in Subjects(COLUMNS, {}).training.shares[1]) == pytest.approx(1.0, abs=1e-5)
