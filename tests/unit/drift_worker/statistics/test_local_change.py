"""Values out of range and one value that spread: found in few rows, not in one customer."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import fisher_exact

from drift_worker.counts import aggregate
from drift_worker.counts.bins import Cells
from drift_worker.statistics.measure import Measurer
from drift_worker.statistics.rates import rare_values
from schemas.bundle.inputs import Feature
from schemas.measurement import FeatureMeasurement
from schemas.reference import Reference

FEATURES = (Feature(name="amount", kind="numeric", nullable=True),)
N, M = 4000, 1500


def _measure(values: np.ndarray, customers: np.ndarray | None = None, seed: int = 1) -> FeatureMeasurement:
    draw = np.random.default_rng(seed)
    rows = draw.gamma(2.0, 30.0, (N, 1))
    codes = np.empty((N, 0), dtype=np.int32)
    reference = Reference(rows, codes, draw.random(N), np.empty(0, dtype=np.int64))
    cells = Cells(FEATURES, [], reference)
    m = len(values)
    names = draw.integers(0, 1 << 63, m).astype(np.uint64) * np.uint64(2) if customers is None else customers
    window = {}
    for _, series, part in aggregate.count_events(
        cells, np.zeros(m, dtype=np.int64), values[:, None], np.empty((m, 0), dtype=np.int32), names
    ):
        window[series] = np.zeros(aggregate.size_of(cells, series), dtype=np.int64)
        part.add_to(window[series])
    return Measurer(cells, reference, min_events=500).features(window)["amount"]


def _drawn(seed: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).gamma(2.0, 30.0, M)


def test_nothing_that_changed_is_neither() -> None:
    """Forty windows without drift: shares far below their limits, and no test below chance."""
    for seed in range(40):
        found = _measure(_drawn(seed + 100))
        assert found.out_of_range_ratio is not None
        assert found.out_of_range_ratio < 0.005
        assert found.spike_ratio is not None
        assert found.spike_ratio < 0.01
        assert all(found.tests.get(name, 0.0) > -4.0 for name in ("out_of_range", "spike"))


def test_a_unit_error_in_few_rows_is_out_of_range() -> None:
    """5 % of the rows × 100: plain out of range, while PSI and D stay below their limits."""
    values = _drawn()
    values[:75] *= 100.0
    found = _measure(values)
    assert found.effect is not None
    assert found.effect < 0.1
    assert found.out_of_range_ratio == pytest.approx(0.05, abs=0.005)
    assert found.tests["out_of_range"] < -10.0


def test_the_test_of_what_is_out_of_range_is_fishers() -> None:
    """Two rows of the reference may be outside: the next one below and the next one above."""
    values = _drawn()
    values[:75] = 1e6
    found = _measure(values, np.arange(M, dtype=np.uint64) << np.uint64(58))  # every group alike
    assert found.out_of_range_ratio == 0.05
    expected = fisher_exact([[75, M - 75], [2, N - 2]], alternative="greater").pvalue
    # the design effect of equal groups is 1; the two loudest groups have at most eight values more than the median each
    loosened = fisher_exact([[59, M - 59], [2, N - 2]], alternative="greater").pvalue
    assert math.log10(expected) <= found.tests["out_of_range"] <= math.log10(loosened)


def test_a_sensor_that_sticks_in_few_rows_is_a_spike() -> None:
    """8 % of the rows hold one value, whether the reference has it or not."""
    values = _drawn()
    values[:120] = 41.5
    found = _measure(values)
    assert found.effect is not None
    assert found.effect < 0.1
    assert found.spike_ratio == pytest.approx(0.08, abs=0.003)
    assert found.tests["spike"] < -10.0


def test_one_customer_is_neither() -> None:
    """A fifth of the events, all equal and out of range, of one customer, or of two: no evidence."""
    for value in (41.5, 1e6):
        for several in (1, 2):
            values = _drawn()
            values[:300] = value
            names = np.random.default_rng(3).integers(0, 1 << 63, M).astype(np.uint64) * np.uint64(2)
            names[:300] = (np.arange(300) % several).astype(np.uint64) << np.uint64(60)
            found = _measure(values, names)
            share = found.spike_ratio if value < 100 else found.out_of_range_ratio
            assert share is not None
            assert share > 0.19
            assert all(found.tests.get(name, 0.0) > -3.0 for name in ("out_of_range", "spike"))


def test_a_common_value_is_no_spike() -> None:
    """Zeros that three in five rows have always had: what they gain is seen in D."""
    reference = np.array([0, 600, 0, 4, 1, 4, 0])
    assert rare_values(reference).tolist() == [0, 0, 1, 1, 1, 1, 0]
