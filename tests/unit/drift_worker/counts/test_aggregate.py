"""What one event adds to which counter."""

import hashlib

import numpy as np
import pytest

from drift_worker.counts import aggregate
from drift_worker.counts.bins import CategoryCells, Cells, NumericCells
from schemas.reference import Reference


def _add(cells, column, **more):
    n = len(column)
    tally = aggregate._Tally(np.zeros(n, dtype=np.int64))
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


def test_a_value_adds_to_a_sum_in_units_of_the_reference():
    """Of any size and sign; what is beyond 16 times the reference counts as that, and no sum can overflow."""
    cells = NumericCells.of_values("score", np.array([-90.0, 20.0, 70.0]))
    assert (cells.limits, cells.unit) == ((-2048.0, 2048.0), float(1 << 25))
    vector = _add(cells, [64.5, -0.25, 1e300, -1e300], labels=np.zeros(4, dtype=np.bool_))
    assert cells.score_sums(vector) == (round(64.25 * (1 << 25)), 0)
    part = aggregate.sparse(_add(cells, [-2048.0, -2048.0], labels=np.zeros(2, dtype=np.bool_)))
    both = Cells(
        (),
        (),
        Reference(
            np.empty((3, 0)),
            np.empty((3, 0), dtype=np.int32),
            np.array([-90.0, 20.0, 70.0]),
            np.empty(0, dtype=np.int64),
        ),
        "regression",
    )
    aggregate.check_part(both, aggregate.SCORE, part, 2)
    with pytest.raises(ValueError, match="a count outside"):
        aggregate.check_part(both, aggregate.SCORE, part, 1)


def test_category_codes_index_the_vector():
    """-2 (unseen) and -1 (missing) index from the end."""
    cells = CategoryCells("plan", ("a", "b"), open=True)
    tally = aggregate._Tally(np.zeros(4, dtype=np.int64))
    vector = np.zeros(cells.size, dtype=np.int64)
    for _, _, part in tally.indices(0, cells.size, [np.array([0, -2, -1, 1]) % cells.cells]):
        part.add_to(vector)
    assert vector[:4].tolist() == [1, 1, 1, 1]
    assert (cells.unseen(vector), cells.missing(vector)) == (1, 1)


def test_the_customer_hash_depends_on_the_reference_and_on_nothing_else():
    """Fixed values: another worker, another Python, another day must hash alike."""
    one, other = aggregate.CustomerHash("ab" * 32), aggregate.CustomerHash("cd" * 32)
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


@pytest.mark.parametrize("ids", [["é", "ab", "zz"], ["a", "b"], ["abc", "de", "f"], ["é", "x"], ["x" * 128]])
def test_a_batch_of_customers_hashes_as_each_alone(ids):
    """Whether all ids have one length, in bytes or in characters, or not."""
    hash_of = aggregate.CustomerHash("ab" * 32)
    assert hash_of(ids).tolist() == [hash_of([one, "another id"])[0] for one in ids]


def _sketch_of(ids):
    hashes = aggregate.CustomerHash("00" * 32)(ids)
    vector = np.zeros(aggregate.SKETCH_SIZE, dtype=np.int64)
    for _, _, part in aggregate._Tally(np.zeros(len(ids), dtype=np.int64)).sketch(aggregate.CUSTOMERS, hashes):
        part.add_to(vector)
    return vector


@pytest.mark.parametrize(("customers", "each"), [(1000, 1), (200, 5), (5000, 2), (1, 300), (20000, 1)])
def test_the_sketch_knows_how_often_customers_repeat(customers, each):
    """Σk² within 10 % (three standard deviations and the bias), and never outside [m, m²]."""
    m = customers * each
    estimate = aggregate.sum_of_squares(_sketch_of([f"c{i}" for i in range(customers)] * each), m)
    assert m <= estimate <= m * m
    assert estimate == pytest.approx(customers * each**2, rel=0.10)


def test_the_sketch_knows_how_much_two_windows_share():
    """Σk·l over the customers of both windows: 500 shared ones of 1,000."""
    one = _sketch_of([f"c{i}" for i in range(1000)])
    other = _sketch_of([f"c{i}" for i in range(500, 1500)] * 3)
    assert aggregate.overlap(one, other) == pytest.approx(1500, rel=0.25)


def test_customer_groups_are_even():
    """64 groups with 1/64 of the customers each: the spread between groups then means something."""
    sizes = np.bincount(
        aggregate.group_of(aggregate.CustomerHash("00" * 32)([f"c{i}" for i in range(64000)])), minlength=64
    )
    assert len(sizes) == 64
    assert 850 < sizes.min() <= sizes.max() < 1150


def test_parts_of_a_series_add_up_in_any_state():
    """Sparse, with new and known entries, empty and whole: what a vector adds up to, and entries in order."""
    draw = np.random.default_rng(1)
    for size in (40, 4000):
        sums, vector = aggregate.SeriesSum(size), np.zeros(size, dtype=np.int64)
        for number in (0, 3, 0, 1, 5, 9, 30, 2):
            part = np.zeros(size, dtype=np.int64)
            np.add.at(part, draw.integers(0, size, number), 1)
            part[:2] -= number > 3  # as a sketch does: an entry may come to 0
            sums.add(aggregate.sparse(part))
            vector += part
            assert sums.vector().tolist() == vector.tolist()
            assert sums._part is None or (np.diff(sums._part.indices.astype(np.int64)) > 0).all()


@pytest.mark.parametrize(
    ("at", "least", "most"),
    [
        (0, 0, 2),
        (5, 0, 2),  # missing
        (6, 0, 2),  # of the log moments, their number
        (7, -60_000, 60_000),
        (8, 0, 1_800_000_000),
        (9, 0, 2 << 32),
        (10, 0, 2),  # labels
        (11, 0, 2),  # a customer group
    ],
)
def test_no_entry_of_a_part_is_more_than_its_records_can_add(at, least, most):
    """Of two records, at each place of a number's vector: the bound itself passes, one beyond is rejected."""
    reference = Reference(
        np.empty((2, 0)), np.empty((2, 0), dtype=np.int32), np.array([0.25, 0.5]), np.empty(0, dtype=np.int64)
    )
    cells = Cells((), (), reference)
    scale = (len(cells.score.anchors) * 2 + 1) - 5
    for count, bound in ((least, True), (most, True), (least - 1, False), (most + 1, False)):
        indices = np.array([at + scale * (at >= 5)], dtype=np.uint32)
        part = aggregate.Sparse(indices, np.array([count], dtype=np.int64))
        if bound:
            aggregate.check_part(cells, aggregate.SCORE, part, 2)
        else:
            with pytest.raises(ValueError, match="packed counts"):
                aggregate.check_part(cells, aggregate.SCORE, part, 2)
    twice = aggregate.Sparse(np.array([3, 3], dtype=np.uint32), np.array([1, 1], dtype=np.int64))
    with pytest.raises(ValueError, match="do not increase"):
        aggregate.check_part(cells, aggregate.SCORE, twice, 2)
