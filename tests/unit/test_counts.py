"""What one event adds to which counter."""

import hashlib

import numpy as np
import pytest

from drift_worker import counts
from drift_worker.cells import CategoryCells, NumericCells


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


def _add(cells, column, **more):
    n = len(column)
    tally = counts._Tally(np.zeros(n, dtype=np.int64))
    vector = np.zeros(cells.size, dtype=np.int64)
    for _, _, part in tally.numeric(0, cells, np.array(column), np.zeros(n, dtype=np.int64), **more):
        part.add_to(vector)
    return vector


def test_log_moments_are_whole_thousandths_of_a_decade():
    """Count, sum and sum of squares of 1000·log10|x| over the values that are not zero."""
    cells = NumericCells.of("x", np.array([1.0, 2.0]))
    vector = _add(cells, [0.0, 1000.0, -10.0, np.nan, 0.1])
    assert cells.log_moments(vector) == (3, 3000 + 1000 - 1000, 3000**2 + 1000**2 + 1000**2)
    assert cells.missing(vector) == 1


def test_a_score_adds_its_fixed_point_value_and_its_label():
    """Probabilities are summed in units of 2^-32, so that the mean is additive and exact."""
    cells = NumericCells.of("score", np.array([0.1, 0.9]))
    vector = _add(cells, [0.25, 0.5], labels=np.array([False, True]))
    assert cells.score_sums(vector) == (3 << 30, 1)


def test_category_codes_index_the_vector():
    """-2 (unseen) and -1 (missing) stand at the end."""
    cells = CategoryCells("plan", ("a", "b"), open=True)
    tally = counts._Tally(np.zeros(4, dtype=np.int64))
    vector = np.zeros(cells.size, dtype=np.int64)
    for _, _, part in tally.indices(0, cells.size, [np.array([0, -2, -1, 1]) % cells.cells]):
        part.add_to(vector)
    assert vector[:4].tolist() == [1, 1, 1, 1]
    assert (cells.unseen(vector), cells.missing(vector)) == (1, 1)


def test_the_customer_hash_depends_on_the_reference_and_on_nothing_else():
    """Fixed values: another worker, another Python, another day must hash alike."""
    one, other = counts.CustomerHash("ab" * 32), counts.CustomerHash("cd" * 32)
    ids = ["7590-VHVEG", "é", "7590-VHVEG", "7590-VHVE"]
    hashes = one(ids)
    assert hashes[0] == hashes[2]
    assert len({*hashes.tolist()}) == 3
    assert one(["é"])[0] == hashes[1], "the batch must not matter"
    assert hashes.tolist() != other(ids).tolist()
    key = hashlib.sha256(b"driftline-customer" + b"ab" * 32).digest()[:16]
    assert one.key_id == hashlib.sha256(key).hexdigest()[:8]
    assert hashes.tolist() == GOLDEN_HASHES


# computed with Python integers from the docstring of CustomerHash
GOLDEN_HASHES = [18226580118579774796, 3631497618239257712, 18226580118579774796, 17154185214546511925]


def _sketch_of(ids):
    hashes = counts.CustomerHash("00" * 32)(ids)
    vector = np.zeros(counts.SKETCH_SIZE, dtype=np.int64)
    for _, _, part in counts._Tally(np.zeros(len(ids), dtype=np.int64)).sketch(counts.CUSTOMERS, hashes):
        part.add_to(vector)
    return vector


@pytest.mark.parametrize(("customers", "each"), [(1000, 1), (200, 5), (5000, 2), (1, 300), (20000, 1)])
def test_the_sketch_knows_how_often_customers_repeat(customers, each):
    """Σk² within 10 % (three standard deviations and the bias), and never outside [m, m²]."""
    m = customers * each
    estimate = counts.sum_of_squares(_sketch_of([f"c{i}" for i in range(customers)] * each), m)
    assert m <= estimate <= m * m
    assert estimate == pytest.approx(customers * each**2, rel=0.10)


def test_the_sketch_knows_how_much_two_windows_share():
    """Σk·l over the customers of both windows: 500 shared ones of 1,000."""
    one = _sketch_of([f"c{i}" for i in range(1000)])
    other = _sketch_of([f"c{i}" for i in range(500, 1500)] * 3)
    assert counts.overlap(one, other) == pytest.approx(1500, rel=0.25)


def test_customer_groups_are_even():
    """64 groups with 1/64 of the customers each: the spread between groups then means something."""
    sizes = np.bincount(counts.group_of(counts.CustomerHash("00" * 32)([f"c{i}" for i in range(64000)])), minlength=64)
    assert len(sizes) == 64
    assert 850 < sizes.min() <= sizes.max() < 1150
