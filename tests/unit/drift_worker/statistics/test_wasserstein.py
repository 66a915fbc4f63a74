"""The normalised Wasserstein distance from counts is scipy's, of the values that represent the cells."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from drift_worker.counts import aggregate
from drift_worker.counts.bins import Cells, NumericCells
from drift_worker.statistics import wasserstein
from drift_worker.statistics.baseline import Columns
from drift_worker.statistics.catalogue import CATALOGUE, EFFECTS
from drift_worker.statistics.ks import function
from drift_worker.statistics.measure import Measurer
from drift_worker.statistics.stacked import NumberPair
from schemas.bundle.inputs import Feature
from schemas.measurement import FeatureMeasurement
from schemas.reference import Reference

AMOUNT = Feature(name="amount", kind="numeric")
SAMPLE = st.lists(st.one_of(st.floats(-1e6, 1e6), st.integers(-3, 3).map(float)), min_size=1, max_size=80).map(np.array)
HASH = aggregate.CustomerHash("00" * 32)


def _reference(values):
    codes = np.empty((len(values), 0), dtype=np.int32)
    return Reference(values[:, None], codes, np.linspace(0, 1, len(values)), np.zeros(0, dtype=np.int64))


def _column(values):
    reference = _reference(values)
    return Columns(Cells([AMOUNT], [], reference), reference).features[0]


@settings(max_examples=300, deadline=None)
@given(SAMPLE, SAMPLE)
def test_counts_give_scipys_distance(reference, window):
    """Ties, values between and beyond the reference's, tiny references: equal to 1e-12."""
    column = _column(reference)
    cells = column.cells
    r, w = (np.bincount(cells.cell_of(values), minlength=cells.cells) for values in (reference, window))
    pair = NumberPair(function(np.cumsum(r)), np.cumsum(w), column.positions, column.spread)
    found = wasserstein.of_pair(pair)
    if np.std(reference) == 0.0:  # also where its square is no double
        assert found is None
        return
    expected = stats.wasserstein_distance(column.positions, column.positions, r, w) / np.std(reference)
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_values_of_the_reference_alone_give_the_distance_of_the_raw_values():
    """Where the window has no other values than the reference, nothing is lost in the cells: to 1e-12."""
    draw = np.random.default_rng(1)
    for scale in (1.0, 1e-6, 1e6):
        reference = draw.gamma(2.0, 30.0, 2000) * scale
        window = draw.choice(reference, 1500, p=reference / reference.sum())
        column = _column(reference)
        cumulative = np.cumsum(np.bincount(column.cells.cell_of(window), minlength=column.cells.cells))
        pair = NumberPair(column.training.function, cumulative, column.positions, column.spread)
        raw = stats.wasserstein_distance(reference, window) / np.std(reference)
        assert wasserstein.of_pair(pair) == pytest.approx(raw, abs=1e-12)


@pytest.mark.parametrize("against", ["training", "week"])
def test_a_window_has_the_distance_of_numbers_and_of_the_score(against):
    """A shift of half a standard deviation is about 0.5; categories have none, and nothing alerts by it."""
    draw = np.random.default_rng(2)
    values = draw.normal(50.0, 10.0, 4000)
    reference = _reference(values)
    cells = Cells([AMOUNT], [], reference)
    measurer = Measurer(cells, reference, 500)
    shifted = draw.normal(55.0, 10.0, 3000)
    window = {0: np.zeros(aggregate.size_of(cells, 0), dtype=np.int64)}
    empty = np.empty((3000, 0), dtype=np.int32)
    customers = HASH([f"c{i}" for i in range(3000)])
    for _, series, part in aggregate.count_events(
        cells, np.zeros(3000, dtype=np.int64), shifted[:, None], empty, customers
    ):
        part.add_to(window.setdefault(series, np.zeros(aggregate.size_of(cells, series), dtype=np.int64)))
    slots = {}
    if against == "week":
        column = measurer.columns.features[0]
        past = column.training
        slots = {0: type(past)("week", 4000.0, past.psi_counts, past.shown, function(np.cumsum(past.psi_counts)))}
    amount = measurer.features(window, slots)["amount"]
    assert amount.against == against
    assert amount.wasserstein == pytest.approx(0.5, abs=0.06 if against == "training" else 0.12)
    assert "wasserstein" not in {known.name for known in EFFECTS}


def test_every_row_of_the_catalogue_is_a_member_of_a_measured_feature():
    """A row without its member would be unknown for ever."""
    assert {known.name for known in CATALOGUE} <= set(FeatureMeasurement.__struct_fields__)


def test_values_that_no_double_can_square_have_no_distance():
    """±1e300: the standard deviation is infinite, and the distance is not known."""
    column = _column(np.array([-1e300, 0.0, 1e300]))
    assert isinstance(column.cells, NumericCells)
    pair = NumberPair(column.training.function, np.array([0, 1, 1, 1, 1, 1, 1]), column.positions, column.spread)
    assert wasserstein.of_pair(pair) is None
