"""All features of a window are computed side by side: none may affect another, in any order."""

import msgspec
import numpy as np
import pytest

from drift_worker.counts import aggregate
from drift_worker.counts.bins import Cells
from drift_worker.statistics import design_effect
from drift_worker.statistics.measure import Measurer
from drift_worker.statistics.stacked import Spans
from schemas.bundle.inputs import Feature
from schemas.reference import Reference

HASH = aggregate.CustomerHash("00" * 32)
# Kinds that alternate, categories of one, three and forty: their places in the table differ from the manifest's.
FEATURES = (
    Feature(name="city", kind="categorical", categories=tuple(f"v{i}" for i in range(40)), nullable=True),
    Feature(name="amount", kind="numeric", nullable=True),
    Feature(name="senior", kind="boolean", nullable=True),
    Feature(name="constant", kind="numeric"),
    Feature(name="only", kind="categorical", categories=("a",)),
    Feature(name="stars", kind="numeric", nullable=True),
    Feature(name="plan", kind="categorical", categories=("a", "b", "c"), nullable=True),
)
CODED = [i for i, feature in enumerate(FEATURES) if feature.kind != "numeric"]
LAW = np.random.default_rng(9).dirichlet(np.full(40, 0.4))


def _rows(n, seed, *, moved):
    """Numbers and codes of n events; ties, gaps in the columns that may have them, and unseen categories if moved."""
    draw = np.random.default_rng(seed)
    numeric = np.column_stack([draw.gamma(4, 10 + 5 * moved, n), np.full(n, 7.25), draw.integers(1, 6, n)])
    plan = draw.choice(3, n, p=[0.3, 0.3, 0.4] if moved else [0.6, 0.3, 0.1])
    codes = np.column_stack([draw.choice(40, n, p=LAW), draw.random(n) < 0.2, np.zeros(n), plan]).astype(np.int32)
    for column, share in ((numeric[:, 0], 0.02), (numeric[:, 2], 0.1)):
        column[draw.random(n) < share] = np.nan
    for column, share in ((codes[:, 0], 0.05), (codes[:, 1], 0.3)):
        column[draw.random(n) < share * (1 + moved)] = -1
    if moved:
        codes[draw.random(n) < 0.02, 3] = -2
    return numeric, codes, draw.random(n)


def _bundle(features, numeric, codes, score):
    singletons = (np.bincount(codes[codes[:, 0] >= 0, 0]) == 1).sum() if features[0].name == "city" else 0
    unseen = np.array([singletons] + [0] * (codes.shape[1] - 1), dtype=np.int64)[: codes.shape[1]]
    reference = Reference(numeric, codes, score, unseen)
    categories = [f.categories or ("false", "true") for f in features if f.kind != "numeric"]
    cells = Cells(features, categories, reference)
    return cells, Measurer(cells, reference, min_events=500)


def _measured(features, reference, events, customers):
    cells, measurer = _bundle(features, *reference)
    numeric, codes, _ = events
    window = {}
    for _, series, part in aggregate.count_events(
        cells, np.zeros(len(numeric), dtype=np.int64), numeric, codes, customers
    ):
        window.setdefault(series, np.zeros(aggregate.size_of(cells, series), dtype=np.int64))
        part.add_to(window[series])
    return msgspec.to_builtins(measurer.features(window))


def _flat(value, path=()):
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _flat(inner, (*path, key))
    else:
        yield path, value


@pytest.mark.parametrize(("moved", "times"), [(False, 1), (True, 1), (True, 6), (True, 0)])
def test_a_feature_measured_among_others_is_the_one_measured_alone(moved, times):
    """Quiet and moved windows, customers six times alike, and one customer with a quarter of the events (0)."""
    reference, events = _rows(3000, 1, moved=False), _rows(1800, 2, moved=moved)
    number = np.arange(1800) // max(1, times)
    if times == 0:
        number[:450] = 0
        for column in events:
            column[:450] = column[0]
    customers = HASH([f"c{i}" for i in number.tolist()])
    together = _measured(FEATURES, reference, events, customers)
    assert list(together) == [feature.name for feature in FEATURES]
    assert together["plan"]["tests"].keys() == ({"chi2", "unseen"} if moved else {"chi2"})
    for i, feature in enumerate(FEATURES):
        coded = CODED.index(i) if i in CODED else None
        numbers = [] if i in CODED else [i - sum(c < i for c in CODED)]
        codes = [] if coded is None else [coded]
        of, now = ((numeric[:, numbers], code[:, codes], score) for numeric, code, score in (reference, events))
        alone = dict(_flat(_measured((feature,), of, now, customers)[feature.name]))
        beside = dict(_flat(together[feature.name]))
        assert beside.keys() == alone.keys()
        for path, value in alone.items():
            if path == ("score_shift",):
                continue  # its part of the score, the others as they were: it depends on them
            assert beside[path] == (pytest.approx(value, abs=1e-12, rel=1e-12) if type(value) is float else value), path


def test_cells_are_added_up_feature_by_feature():
    """Two features of two and three cells: sums, the largest, cumulative counts, and one value for each cell."""
    spans, cells = Spans.of([2, 3]), np.array([[1.0, 2.0, 3.0, 4.0, 5.0], [0.0, 1.0, 0.0, 2.0, 0.0]])
    assert spans.sums(cells).tolist() == [[3.0, 12.0], [1.0, 2.0]]
    assert spans.largest(cells).tolist() == [[2.0, 5.0], [1.0, 2.0]]
    assert spans.cumulative(cells).tolist() == [[1.0, 3.0, 3.0, 7.0, 12.0], [0.0, 1.0, 0.0, 2.0, 2.0]]
    assert spans.each(np.array([7.0, 8.0])).tolist() == [7.0, 7.0, 8.0, 8.0, 8.0]
    assert spans.of_feature(cells, 1).tolist() == [[3.0, 4.0, 5.0], [0.0, 2.0, 0.0]]


def test_the_design_effect_is_what_groups_differ_by():
    """Two groups of two events: each has a separate cell (V = 4 where 1 is expected), or both the same shares."""
    spans, table = Spans.of([2, 2]), np.array([[2.0, 0.0, 1.0, 1.0], [0.0, 2.0, 1.0, 1.0]])
    for effect in (design_effect.deff_cells, design_effect.deff_thresholds):
        assert effect(table, spans, 10.0, 2).tolist() == [4.0, 1.0]
        assert effect(table, spans, 3.0, 2).tolist() == [3.0, 1.0]
        # a third group without events is one more that could have differed, or none at all
        more = np.vstack([table, np.zeros(4)])
        assert effect(more, spans, 10.0, 3).tolist() == [3.0, 1.0]
        assert effect(more, spans, 10.0, np.array([2, 3])).tolist() == [4.0, 1.0]


def test_groups_above_a_twentieth_are_left_out_if_others_remain():
    """Of 40 groups with one event each, one has 21: it leaves the first feature; no other group has the second."""
    sizes = np.ones((40, 3))
    sizes[5, 0], sizes[:, 1] = 21.0, 0.0
    sizes[7, 1] = 9.0
    kept = design_effect.without_dominant(sizes)
    assert np.flatnonzero(~kept[:, 0]).tolist() == [5]
    assert kept[:, 1:].all()
