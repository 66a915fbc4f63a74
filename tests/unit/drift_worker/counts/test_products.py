"""Sums of products: exact, the same for any split, and what a wide bundle keeps of them."""

import numpy as np
import pytest

from drift_worker.counts import aggregate, products
from drift_worker.counts.bins import Cells
from drift_worker.counts.wire_format import pack, unpack
from schemas.bundle.inputs import Feature
from schemas.reference import Reference

FEATURES = (
    Feature(name="a", kind="numeric", nullable=True),
    Feature(name="plan", kind="categorical", categories=tuple("pqr"), nullable=True),
    Feature(name="b", kind="numeric", nullable=True),
    Feature(name="city", kind="categorical", categories=tuple("abcdefghijkl"), nullable=True),
)
CATEGORIES = [tuple("pqr"), tuple("abcdefghijkl")]


def _rows(generator, n):
    numeric = generator.normal(size=(n, 2))
    numeric[generator.random(n) < 0.1, 0] = np.nan
    codes = np.column_stack([generator.integers(-2, 3, n), generator.integers(-1, 12, n)]).astype(np.int32)
    score = 1.0 / (1.0 + np.exp(-numeric[:, 1]))
    return numeric, codes, score


def _cells(seed=0, n=2000):
    numeric, codes, score = _rows(np.random.default_rng(seed), n)
    reference = Reference(numeric, np.maximum(codes, -1), score, np.zeros(2, dtype=np.int64))
    return Cells(FEATURES, CATEGORIES, reference)


CELLS = _cells()
GENERATOR = np.random.default_rng(1)
NUMERIC, CODES, SCORE = _rows(GENERATOR, 3000)
CUSTOMERS = GENERATOR.integers(0, 2**63, 3000).astype(np.uint64)


def _counted(rows, panes):
    """What these rows add to each pane and series, as whole vectors; every part goes over the wire."""
    found = {}
    for pane, series, part in (
        *aggregate.count_events(CELLS, panes[rows], NUMERIC[rows], CODES[rows], CUSTOMERS[rows]),
        *aggregate.count_scores(CELLS, panes[rows], SCORE[rows], SCORE[rows] > 0.5, CUSTOMERS[rows]),
    ):
        size = aggregate.size_of(CELLS, series)
        vector = found.setdefault((pane, series), np.zeros(size, dtype=np.int64))
        for piece in pack(part):
            received = unpack(piece, size)
            aggregate.check_part(CELLS, series, received, len(rows))
            received.add_to(vector)
    return found


def test_the_sums_are_those_of_the_rows():
    """Counted by the production code, and by a plain loop over what each event is."""
    table = {c.series: c for c in (*CELLS.products.numbers, *CELLS.products.categories)}
    assert sorted(table) == [0, 1, 2, 3]
    columns = [np.ones(3000)]
    for series, at in ((0, 0), (2, 1)):
        cells, values = CELLS.features[series], NUMERIC[:, at]
        score = [0.0 if np.isnan(v) else float(table[series].table[cells.cell_of(np.array([v]))[0]]) for v in values]
        columns.append(np.array(score))
    for series, at in ((1, 0), (3, 1)):
        columns += [(CODES[:, at] == code).astype(float) for code in table[series].codes]
    z = np.stack(columns)
    counted = _counted(np.arange(3000), np.zeros(3000, dtype=np.int64))
    expected = (z @ z.T).astype(np.int64)
    assert len(table[3].codes) == products.TOP
    kept = CELLS.products
    assert np.array_equal(counted[0, aggregate.PRODUCTS], expected[kept.first, kept.second])
    assert np.array_equal(kept.matrix(counted[0, aggregate.PRODUCTS]), expected)


def test_any_split_gives_the_same_bits():
    """Over batches, orders, panes and partitions: the sums are equal."""
    panes = GENERATOR.integers(0, 7, 3000)
    whole = _counted(np.arange(3000), panes)
    order = GENERATOR.permutation(3000)
    total = {}
    for rows in np.array_split(order, 13):
        for key, vector in _counted(rows, panes).items():
            total[key] = total.get(key, 0) + vector
    assert total.keys() == whole.keys()
    assert {series for _, series in whole} >= {aggregate.PRODUCTS, aggregate.STAND_IN, aggregate.SCORES}
    for key, vector in whole.items():
        assert np.array_equal(total[key], vector), key


def test_more_rows_than_float32_can_add_up():
    """A batch of 40,000 events with high scores: the sum of their squares is far beyond 2^24."""
    scores = np.random.default_rng(9).integers(30, 49, 40_000)
    z = np.zeros((CELLS.products.p, 40_000), dtype=np.float32)
    z[0], z[1] = 1.0, scores
    sums = CELLS.products.matrix(CELLS.products.sums(z))
    assert sums[1, 1] == int((scores * scores).sum())
    assert sums[0, 1] == int(scores.sum())


def test_a_normal_score_is_that_of_the_middle_rank():
    """Ties share a score, an empty cell has that of the gap, and a missing value has 0."""
    scores = products.normal_scores(np.array([0, 1, 0, 2, 0, 1, 0, 0]))
    assert scores.tolist() == [-18, -18, -11, 0, 11, 18, 18, 0]


def test_a_wide_bundle_keeps_the_features_that_the_score_depends_on():
    """100 numbers and no room for them all: those of the model are kept, and the layout follows from the reference."""
    generator = np.random.default_rng(5)
    x = generator.normal(size=(1500, 100))
    score = 1.0 / (1.0 + np.exp(-(2.0 * x[:, 97] - x[:, 50])))
    features = [Feature(name=f"n{i}", kind="numeric", nullable=True) for i in range(100)]
    reference = Reference(x, np.empty((1500, 0), dtype=np.int32), score, np.empty(0, dtype=np.int64))
    kept = Cells(features, [], reference).products
    assert {97, 50} <= set(kept.series)
    assert kept.size <= products.MOST_SUMS < products.sums_needed(Cells(features, [], reference)._all_columns[0])
    assert 50 <= len(kept.series) < 100
    assert Cells(features, [], reference).products.series == kept.series


def test_a_reference_with_few_rows_keeps_nothing():
    """And counting goes on without relations."""
    cells = _cells(n=50)
    assert cells.products.size == 0
    counted = list(aggregate.count_events(cells, np.zeros(5, dtype=np.int64), NUMERIC[:5], CODES[:5], CUSTOMERS[:5]))
    assert aggregate.PRODUCTS not in {series for _, series, _ in counted}
    with pytest.raises(IndexError):
        aggregate.size_of(cells, aggregate.PRODUCTS)


@pytest.mark.parametrize("series", [aggregate.PRODUCTS, aggregate.STAND_IN, aggregate.SCORES])
def test_a_part_that_no_such_number_of_records_can_add_is_rejected(series):
    """One forged delta must not outweigh a stream."""
    fine = aggregate.Sparse(np.array([0], dtype=np.uint32), np.array([3]))
    aggregate.check_part(CELLS, series, fine, 3)
    forged = aggregate.Sparse(np.array([0], dtype=np.uint32), np.array([48 * 48 * 4]))
    with pytest.raises(ValueError, match="packed counts"):
        aggregate.check_part(CELLS, series, forged, 3)


def test_the_stand_in_follows_the_score():
    """Its sketch by customer, with the signs of the customers' own, has the correlation that the rows have."""
    counted = _counted(np.arange(3000), np.zeros(3000, dtype=np.int64))
    kept = CELLS.products
    a, b = (counted[0, series].astype(float) for series in (aggregate.STAND_IN, aggregate.SCORES))
    assert np.corrcoef(a, b)[0, 1] > 0.9
    assert np.abs(kept.coefficients).max() == 1000
