"""(h) Customers of day and night, 1.5 standard deviations apart: with `DRIFT_BASELINE=week` no alert fires."""

from __future__ import annotations

import numpy as np
from quality.engine import QUARTER_MS
from quality.rows import seasons
from quality.stream import FEATURES
from quality.week import Weeks

from drift_worker.statistics.seasonal_baseline import HOUR_MS, WEEK_MS
from schemas.timestamps import render


def test_days_and_nights_call_nobody() -> None:
    """A day each of three weeks: no episode. The first week has no past, the next looks at it."""
    row = seasons(weeks=3, days=1)
    assert row.reached, row
    stream = Weeks(0)
    stream.run(1)
    stream.skip(7 * 24 - 1)
    stream.run(1)
    assert stream.against == ["training"] * 4 + ["week"] * 4


def test_the_same_against_training_differs_and_is_seldom_a_change() -> None:
    """From midnight to noon most quarter hours are far from training; few of them are a change as well."""
    stream = Weeks(0, baseline="training")
    far = []
    for _ in range(12):
        stream.run(1)
        far.append(stream.newest[FEATURES[0].name][0] >= 0.1)
    assert np.mean(far) > 0.5
    assert np.mean(stream.exceeding) < 0.2


def test_a_shift_smaller_than_the_season_is_found_and_ends() -> None:
    """0.6 sd at noon, less than an evening's move: announced within 45 minutes, by the same hour of past weeks."""
    stream = Weeks(1)
    stream.skip(8)
    for _ in range(2):
        stream.run(8)
        stream.skip(7 * 24 - 8)
    stream.run(3)
    assert stream.pages == 0
    fired = stream.run(1, sd=0.6)
    assert {(a.labels["alertname"], a.status) for a in fired} >= {("FeatureDrift", "firing")}
    first = next(a for a in fired if a.labels["alertname"] == "FeatureDrift")
    assert first.starts_at <= render(stream.now_ms - HOUR_MS + 2 * QUARTER_MS)
    assert "Compared with the same hours of past weeks." in first.annotations["description"]
    ended = stream.run(4)
    assert {a.fingerprint for a in ended if a.status == "resolved"} == {a.fingerprint for a in fired}
    again = stream.now_ms + WEEK_MS
    name = FEATURES[0].name
    drifted, calm = (
        stream.season.slots(again - back * HOUR_MS, again - (back - 1) * HOUR_MS, [0])[0].psi_counts.sum()
        for back in (5, 6)
    )
    assert drifted < 0.8 * calm, f"the hour in which {name} had moved is no past"
