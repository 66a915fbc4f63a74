"""`driftline report`: which records are taken, and how far back."""

import pytest
from msgspec import structs

from driftline.commands.report import since_ms
from driftline.drift_history import Collected, share_lines
from driftline.errors import CommandError
from schemas.alert import Alert, fingerprint
from schemas.measurement import FeatureMeasurement, Measurement, Sample, Window
from schemas.timestamps import render

NOW_MS = 1_795_327_200_000  # 2026-11-22T06:00:00Z


def _measurement(model, start_ms=NOW_MS - 900_000):
    return Measurement(
        model=model,
        model_version="1.4.0",
        reference_sha256="ab12",
        window=Window("15m", render(start_ms), render(start_ms + 900_000)),
        complete=True,
        sample=Sample(1, 0, 0),
    )


def _alert(model, starts_ms, ends_ms=None):
    labels = {"alertname": "FeatureDrift", "severity": "warning", "model": model, "feature": "tenure"}
    return Alert(
        fingerprint=fingerprint(labels),
        status="firing" if ends_ms is None else "resolved",
        labels=labels,
        annotations={"summary": "s"},
        starts_at=render(starts_ms),
        ends_at=None if ends_ms is None else render(ends_ms),
        sequence=1,
        evidence={},
    )


@pytest.mark.parametrize(
    ("text", "ms"),
    [("7d", NOW_MS - 604_800_000), ("2h", NOW_MS - 7_200_000), ("2026-11-22T05:00:00Z", NOW_MS - 3_600_000)],
)
def test_how_far_back_is_a_duration_or_a_date_time(text, ms):
    """As with the dead letters."""
    assert since_ms(text, NOW_MS) == ms


@pytest.mark.parametrize("text", ["", "7", "yesterday", "-1h", "0d"])
def test_anything_else_is_wrong_use(text):
    """One line that names the option."""
    with pytest.raises(CommandError, match="--since"):
        since_ms(text, NOW_MS)


def test_missing_and_unseen_values_of_the_newest_window_are_printed():
    """Of the longest window; features in which nothing is missing or unseen are not named."""
    features = {
        "plan": FeatureMeasurement(kind="categorical", events=600, missing_ratio=0.25, unseen_ratio=1.0),
        "age": FeatureMeasurement(kind="numeric", events=600, missing_ratio=0.0),
    }
    hour = Window("1h", render(NOW_MS - 3_600_000), render(NOW_MS))
    newest = {"15m": _measurement("a"), "1h": structs.replace(_measurement("a"), window=hour, features=features)}
    assert share_lines(newest) == [
        "unseen categories: plan in 100.0 % of the rows of the newest 1h window",
        "missing values: plan in 25.0 % of the rows of the newest 1h window",
    ]
    assert share_lines({}) == []


def test_records_of_both_topics_become_a_story_for_each_model():
    """Counts are passed by, garbage is counted, a tombstone is nothing; an alert of a model without windows is left."""
    found = Collected(NOW_MS - 1000)
    for key, value in [
        (b"a/15m", _measurement("a").encode()),
        (b"b/15m", _measurement("b").encode()),
        (b"a/15m/counts", b"\x00"),
        (b"a/15m", b"{"),
        (None, b'{"version": 2}'),
        (b"a/15m", None),
    ]:
        found.measurement(key, value)
    for value in (
        _alert("a", NOW_MS - 9000).encode(),
        _alert("c", NOW_MS - 9000).encode(),
        b"garbage",
        None,
    ):
        found.alert(value)
    assert sorted(found.histories) == ["a", "b"]
    assert [t.feature for t in found.histories["a"].story().told] == ["tenure"]
    assert found.passed_over == 3


def test_an_episode_that_ended_before_is_left_out_and_an_open_one_is_not():
    """However long ago it began."""
    found = Collected(NOW_MS - 1000)
    found.measurement(b"a/15m", _measurement("a").encode())
    found.alert(_alert("a", NOW_MS - 90_000, NOW_MS - 2000).encode())
    found.alert(_alert("a", NOW_MS - 80_000, NOW_MS - 500).encode())
    found.alert(_alert("a", NOW_MS - 70_000).encode())
    assert [t.starts_ms for t in found.histories["a"].story().told] == [NOW_MS - 70_000, NOW_MS - 80_000]
