"""Cells of a reference column: which value is counted where."""

import numpy as np
import pytest

from drift_worker.counts.bins import GROUPS, CategoryCells, NumericCells


def test_a_value_counts_below_at_or_between_anchors():
    """Cell 2i+1 is anchor i itself, cell 2i lies below it, the last cell above all; -0.0 is 0.0."""
    cells = NumericCells("x", np.array([0.0, 10.0]), np.zeros(9, dtype=np.int64), np.zeros(5, dtype=np.int16), 1)
    values = np.array([-1.0, 0.0, -0.0, 5.0, 10.0, 11.0, 1e300])
    assert cells.cell_of(values).tolist() == [0, 1, 1, 2, 3, 4, 4]


def test_anchors_are_the_distinct_values_and_the_break_points():
    """Percentiles are interpolated, so the break points are anchors of their own; repeats among them are kept."""
    cells = NumericCells.of("x", np.array([1.0, 1.0, 1.0, np.nan, 2.0]))
    assert cells.anchors.tolist() == pytest.approx([1.0, 1.1, 1.4, 1.7, 2.0])
    assert cells.breaks.tolist() == [0, 0, 0, 0, 0, 0, 1, 2, 3]


def test_few_values_are_psi_cells_of_their_own():
    """Up to 20 distinct values: one cell each, and one for everything else."""
    cells = NumericCells.of("x", np.array([0.0] * 95 + [1.0] * 5))
    assert cells.psi_cells == 3
    assert cells.psi_cell[cells.cell_of(np.array([-3.0, 0.0, 0.5, 1.0, 2.0]))].tolist() == [0, 1, 0, 2, 0]


def test_a_value_holding_a_tenth_is_a_psi_cell_of_its_own():
    """Zero holds 60 %: one cell; the rest is cut into four at its quantiles, each with about a tenth."""
    rest = np.arange(1.0, 401.0)
    cells = NumericCells.of("x", np.concatenate([np.zeros(600), rest]))
    vector = np.bincount(cells.cell_of(np.concatenate([np.zeros(600), rest])), minlength=cells.size)
    assert cells.psi_counts(vector).tolist() == [100, 600, 100, 100, 100]


def test_an_empty_reference_column_has_one_cell():
    """All missing: everything that comes is in one cell, nothing fails."""
    cells = NumericCells.of("x", np.full(5, np.nan))
    assert (cells.cells, cells.psi_cells) == (1, 1)
    assert cells.cell_of(np.array([1.0, -1.0])).tolist() == [0, 0]


def test_a_vector_has_its_parts_one_after_the_other():
    """Cells, missing, three moments, two sums of the score, and the groups with missing last."""
    cells = NumericCells.of("x", np.array([1.0, 2.0, 3.0]))
    vector = np.arange(cells.size)
    a = len(cells.anchors)
    assert cells.size == 2 * a + 1 + 6 + GROUPS * (cells.psi_cells + 1)
    assert cells.missing(vector) == 2 * a + 1
    assert cells.log_moments(vector) == (2 * a + 2, 2 * a + 3, 2 * a + 4)
    assert cells.score_sums(vector) == (2 * a + 5, 2 * a + 6)
    assert cells.groups(vector)[0, 0] == cells.groups_at
    assert cells.groups(vector)[-1, -1] == cells.size - 1


def test_a_category_code_is_its_index_from_either_end():
    """Codes -1 and -2 are missing and unseen: the last two cells."""
    cells = CategoryCells("plan", ("a", "b", "c"), open=True)
    vector = np.arange(cells.size)
    assert (vector[: cells.cells][-1], vector[: cells.cells][-2]) == (cells.missing(vector), cells.unseen(vector))
    assert cells.values(vector).tolist() == [0, 1, 2, 3]
    assert cells.groups(vector).shape == (GROUPS, 5)
