"""Counts add up to the same bits however the events are split, ordered and merged."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from drift_worker.counts import aggregate
from drift_worker.counts.bins import CategoryCells, Cells
from schemas.bundle.inputs import Feature
from schemas.reference import Reference

N = 60
FEATURES = (
    Feature(name="amount", kind="numeric"),
    Feature(name="plan", kind="categorical", categories=("a", "b", "c")),
    Feature(name="senior", kind="boolean"),
)


def _make_cells():
    draw = np.random.default_rng(1)
    reference = Reference(
        draw.normal(size=(200, 1)),
        draw.integers(-1, 2, (200, 2)).astype(np.int32),
        draw.random(200),
        np.zeros(2, dtype=np.int64),
    )
    return Cells(FEATURES, (("a", "b", "c"), ("false", "true")), reference)


CELLS = _make_cells()
HASH = aggregate.CustomerHash("00" * 32)


def _events(seed):
    draw = np.random.default_rng(seed)
    numeric = draw.normal(size=(N, 1)) * 10.0 ** draw.integers(-9, 9, (N, 1))
    numeric[draw.random((N, 1)) < 0.1] = np.nan
    numeric[draw.random((N, 1)) < 0.1] = 0.0
    codes = np.column_stack([draw.integers(-2, 3, N), draw.integers(-1, 2, N)]).astype(np.int32)
    customers = HASH([f"customer-{i}" for i in draw.integers(0, 20, N)])
    return draw.integers(0, 5, N), numeric, codes, customers, draw.random(N)


def _add_up(parts):
    total = {}
    for pane, series, part in parts:
        vector = total.setdefault((pane, series), np.zeros(aggregate.size_of(CELLS, series), dtype=np.int64))
        part.add_to(vector)
    return {key: vector.tobytes() for key, vector in total.items() if vector.any()}


def _both(panes, numeric, codes, customers, scores):
    yield from aggregate.count_events(CELLS, panes, numeric, codes, customers)
    yield from aggregate.count_scores(CELLS, panes, scores, scores > 0.5, customers)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(0, N), max_size=6), st.randoms(use_true_random=False))
def test_any_split_and_order_gives_the_same_bits(seed, cuts, random):
    """Events shuffled, cut into batches anywhere and added in any order: every vector is the same."""
    batch = _events(seed)
    whole = _add_up(_both(*batch))
    order = list(range(N))
    random.shuffle(order)
    bounds = [0, *sorted(cuts), N]
    parts = []
    for first, last in itertools.pairwise(bounds):
        rows = order[first:last]
        parts += _both(*(column[rows] for column in batch))
    random.shuffle(parts)
    assert _add_up(parts) == whole


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32))
def test_counting_many_panes_at_once_is_counting_each_alone(seed):
    """The sparse way of counting (thousands of panes in a batch) and the dense one agree to the bit."""
    panes, *columns = _events(seed)
    spread = panes * 1000 + np.arange(N)  # a pane per event: the sparse way
    alone = _add_up(_both(panes, *columns))
    together = _add_up((int(pane) // 1000, series, part) for pane, series, part in _both(spread, *columns))
    assert {key: v for key, v in together.items() if key[1] == aggregate.CUSTOMERS} != {}
    assert together == _add_up(
        (int(pane) // 1000, series, part)
        for i in range(N)
        for pane, series, part in _both(spread[i : i + 1], *(c[i : i + 1] for c in columns))
    )
    assert {series for _, series in alone} == {
        0,
        1,
        2,
        aggregate.SCORE,
        aggregate.CUSTOMERS,
        aggregate.SCORED_CUSTOMERS,
        aggregate.PRODUCTS,
        aggregate.STAND_IN,
        aggregate.SCORES,
    }


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32))
def test_every_event_is_in_exactly_one_cell_of_every_feature(seed):
    """Cells plus missing, and the groups, each hold every event once."""
    panes, numeric, codes, customers, _ = _events(seed)
    for _, series, part in aggregate.count_events(CELLS, panes * 0, numeric, codes, customers):
        if series < 0:
            continue
        feature = CELLS.features[series]
        vector = np.zeros(feature.size, dtype=np.int64)
        part.add_to(vector)
        assert feature.values(vector).sum() + feature.missing(vector) == N
        assert feature.groups(vector).sum() == N
        if isinstance(feature, CategoryCells):
            assert (feature.groups(vector).sum(axis=0) == vector[: feature.cells]).all()
        else:
            by_cell = np.append(feature.psi_counts(vector), feature.missing(vector))
            assert (feature.groups(vector).sum(axis=0) == by_cell).all()
