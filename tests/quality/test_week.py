"""(h) Customers of day and night, 1.5 standard deviations apart: with `DRIFT_BASELINE=week` nobody is called."""

from __future__ import annotations

import numpy as np
from rows import seasons
from stream import FEATURES
from week import QUARTER_MS, Weeks

from drift_worker.season import HOUR_MS, WEEK_MS
from schemas.rfc3339 import render


def test_days_and_nights_call_nobody() -> None:
    """A day each of three weeks: no episode. The first week has no past, the next looks at it."""
    row = seasons(weeks=3, days=1)
    assert row.reached, row
    stream = Weeks(0)
    stream.run(1)
    stream.skip(7 * 24 - 1)
    stream.run(1)
    assert stream.against == ["training"] * 4 + ["week"] * 4


def test_the_same_against_training_calls_every_day() -> None:
    """What the past is for: from midnight to noon a quarter of the windows exceeds, and somebody is called."""
    stream = Weeks(0, baseline="training")
    stream.run(12)
    assert np.mean(stream.exceeding) > 0.25
    assert stream.pages >= 1


def test_a_shift_smaller_than_the_season_is_found_and_ends() -> None:
    """0.6 sd at noon, less than an evening brings: said within three quarter hours, for the same hour of past weeks."""
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
