"""The chart's scaling, computed: few rebalances for a load step, and a backlog that goes."""

from __future__ import annotations

import numpy as np
import pytest

from bench.autoscaling import Limits, by_lag_records, by_load_and_lag, simulate
from bench.autoscaling_chart import as_svg

FLAT_S = 1800


def _step(before, after):
    return np.concatenate([np.full(FLAT_S, float(before)), np.full(5400, float(after))])


@pytest.mark.parametrize(("before", "after"), [(50_000, 200_000), (100_000, 400_000), (75_000, 90_000)])
def test_a_load_step_of_four_is_two_rebalances_at_most(before, after):
    """Up, and in the end there are enough; down again later."""
    up = simulate(_step(before, after), by_load_and_lag())
    changes = np.flatnonzero(np.diff(up.replicas[FLAT_S:]) > 0)
    assert len(changes) <= 2
    assert up.replicas[-1] * 75_000 > after
    down = simulate(_step(after, before), by_load_and_lag())
    assert len(np.flatnonzero(np.diff(down.replicas[FLAT_S:]) < 0)) <= 2
    assert down.replicas[-1] < max(down.replicas[FLAT_S], 3)


def test_a_steady_load_is_left_alone():
    """Also at the edge between two numbers, for what is seen there is steady."""
    for load in (20_000, 99_000, 101_000, 250_000):
        found = simulate(np.full(7200, float(load)), by_load_and_lag())
        assert len(np.flatnonzero(np.diff(found.replicas[FLAT_S:]))) <= 1, load
        assert found.age_p99_s <= 60


def test_lag_in_records_thrashes():
    """Which is why the chart does not scale by it: it is gone as soon as the replicas are there."""
    load = np.full(14_400, 200_000.0)
    by_records = simulate(load, by_lag_records(), Limits(up_s=15, down_s=300, down_share=1.0))
    by_load = simulate(load, by_load_and_lag())
    assert by_records.rebalances > 5 * by_load.rebalances


def test_the_picture_shows_every_rule_with_its_rebalances():
    """A mark for each change of the number, and no coordinate of an age that is not known."""
    load = _step(50_000, 200_000)
    found = simulate(load, by_load_and_lag())
    found.ages_p99_s[3] = np.nan
    picture = as_svg(load, {"the chart": found})
    assert f"the chart: {found.rebalances} rebalances, event age p99 {found.age_p99_s:.0f} s" in picture
    assert picture.count('stroke="#1f2328"') == len(np.flatnonzero(np.diff(found.replicas)))
    assert "nan" not in picture
