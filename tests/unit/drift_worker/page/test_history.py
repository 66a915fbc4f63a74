"""What a page remembers: the newest of each window and episode, bounded."""

import pytest
from support.measured import QUARTER_MS, START_MS
from support.measured import alert as _alert
from support.measured import history as _history
from support.measured import measurement as _measurement
from support.measured import page as _page

from drift_worker.page.history import MOST_EPISODES, MOST_WINDOWS
from schemas.measurement import FeatureMeasurement, Window


def test_the_newest_message_of_an_episode_is_its_story():
    """Open ones first, then the newest; what came twice counts once."""
    story = _history(
        _alert(1, starts_ms=START_MS),
        _alert(2, ended=True, starts_ms=START_MS),
        _alert(1, starts_ms=START_MS),
        _alert(1, starts_ms=START_MS - QUARTER_MS, feature="charges"),
        _alert(1, ended=True, starts_ms=START_MS + QUARTER_MS, feature="total"),
    ).story()
    assert [(t.feature, t.open, t.sequence) for t in story.told] == [
        ("charges", True, 1),
        ("total", False, 1),
        ("tenure", False, 2),
    ]


def test_features_and_score_that_close_apart_are_one_window():
    """The score of a window may arrive later than its features, in a separate record."""
    pending = FeatureMeasurement(kind="score", events=0, reason="pending")
    later = _measurement(features={}, complete=False, missing_partitions=["predictions-1"])
    story = _history(_measurement(score=pending), later).story()
    (window,) = story.newest.values()
    assert list(window.features) == ["tenure"]
    assert window.score is not None
    assert window.score.mean == 0.33
    assert (window.complete, window.missing_partitions) == (False, ["predictions-1"])
    assert [list(past.points) for past in story.past] == [["tenure", None]]


def test_another_reference_begins_another_story():
    """Measurements against the old one cannot be compared, and the page shows since when."""
    changed = _measurement(2, reference_sha256="cd34")
    story = _history(_measurement(0), _measurement(1), changed).story()
    assert [past.start_ms for past in story.past] == [START_MS + 2 * QUARTER_MS]
    assert story.reference_since_ms == START_MS + 2 * QUARTER_MS
    assert "The reference changed at 2026-11-22 06:30" in _page(_measurement(0), changed)


def test_other_models_are_passed_over():
    """Several may share the topics."""
    other = _alert(labels={"alertname": "FeatureDrift", "severity": "critical", "model": "other"})
    story = _history(_measurement(model="other"), other).story()
    assert (dict(story.newest), story.past, story.told) == ({}, (), ())


def test_lengths_are_shortest_first_whatever_came_first():
    """The order of the table and of the choice."""
    story = _history(_measurement(0, "1h", 4 * QUARTER_MS), _measurement(0)).story()
    assert list(story.newest) == ["15m", "1h"]


def test_a_history_is_bounded():
    """A worker keeps it for months."""
    history = _history(*(_measurement(i, features={}) for i in range(MOST_WINDOWS + 5)))
    for i in range(MOST_EPISODES + 5):
        history.announced(_alert(ended=i > 0, starts_ms=START_MS + i))
    story = history.story()
    assert len(story.past) == MOST_WINDOWS
    assert story.past[0].start_ms == START_MS + 5 * QUARTER_MS
    assert len(story.told) == MOST_EPISODES
    assert story.told[0].open, "what is still open is not forgotten first"


def test_a_record_without_a_time_is_an_error():
    """Its reader counts it and goes on."""
    with pytest.raises(ValueError, match="not a time: 'yesterday'"):
        _history(_measurement(window=Window("15m", "yesterday", "today")))
