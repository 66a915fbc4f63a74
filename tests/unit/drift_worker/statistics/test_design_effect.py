"""How many independent events repeated customers amount to."""

import numpy as np
import pytest

from drift_worker.counts.bins import GROUPS
from drift_worker.statistics.design_effect import deff_cells, deff_rate, deff_thresholds
from drift_worker.statistics.stacked import Spans

SPANS = Spans.of([4])
DRAW = np.random.default_rng(2)


def _table(repeats, customers=6400, *, identical=True):
    """Return (GROUPS, 4): customers spread over the groups, each with this number of events."""
    table = np.zeros((GROUPS, 4))
    first = DRAW.integers(4, size=customers)
    for _ in range(repeats):
        cells = first if identical else DRAW.integers(4, size=customers)
        np.add.at(table, (np.arange(customers) % GROUPS, cells), 1.0)
    return table


@pytest.mark.parametrize("deff", [deff_cells, deff_thresholds])
def test_identical_repeats_count_once(deff):
    """Five equal events of each customer: 32,000 events are 6,400."""
    assert float(deff(_table(5), SPANS, 5.0)[0]) == pytest.approx(5.0, rel=0.35)
    assert float(deff(_table(1), SPANS, 5.0)[0]) == pytest.approx(1.0, abs=0.4)


@pytest.mark.parametrize("deff", [deff_cells, deff_thresholds])
def test_independent_repeats_count_nearly_in_full(deff):
    """Customers who differ from event to event give new information."""
    assert float(deff(_table(5, identical=False), SPANS, 5.0)[0]) < 1.7


def test_the_effect_is_between_1_and_the_repeats():
    """Less than independent is impossible, more than identical too."""
    table = np.zeros((GROUPS, 4))
    table[0, 0] = table[1, 1] = 500.0
    assert float(deff_cells(table, SPANS, 3.0)[0]) == 3.0
    even = np.ones((GROUPS, 4))
    assert float(deff_cells(even, SPANS, 3.0)[0]) == 1.0


def test_where_nothing_varies_every_repeat_may_be_identical():
    """All events in one cell: the spread is unknown, so the worst is assumed; without events there is no effect."""
    one = np.zeros((GROUPS, 4))
    one[:, 2] = 10.0
    assert float(deff_cells(one, SPANS, 4.0)[0]) == 4.0
    assert float(deff_cells(np.zeros((GROUPS, 4)), SPANS, 4.0)[0]) == 1.0


def test_a_rate_has_its_own_effect():
    """Half of the customers always without a value."""
    sizes = np.full((GROUPS, 1), 100.0)
    inside = np.where(np.arange(GROUPS) % 2 == 0, 100.0, 0.0)[:, None]
    assert float(deff_rate(inside, sizes, 7.0)[0]) == 7.0
    assert float(deff_rate(np.full((GROUPS, 1), 50.0), sizes, 7.0)[0]) == 1.0
