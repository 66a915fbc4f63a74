"""The subjects of a page: each in the shortest window that knows it, the largest effect first."""

from support.measured import QUARTER_MS
from support.measured import feature as _feature
from support.measured import history as _history
from support.measured import measurement as _measurement
from support.measured import unknown as _unknown

from drift_worker.page.subject import ranked, score


def test_features_are_ranked_and_the_unknown_come_last():
    """The first one is the one to look at."""
    features = {"a": _unknown(), "b": _feature(0.01, "inactive"), "c": _feature(0.4), "d": _feature(0.2)}
    found = ranked(_history(_measurement(features=features)).story())
    assert [(one.name, one.value, one.anchor) for one in found] == [
        ("c", 0.4, "f1"), ("d", 0.2, "f2"), ("b", 0.01, "f3"), ("a", None, "f4"),
    ]  # fmt: skip


def test_a_subject_is_taken_from_the_shortest_window_that_knows_it():
    """A quarter of an hour with too few events does not hide the hour."""
    hour = _measurement(0, "1h", 4 * QUARTER_MS, features={"tenure": _feature(0.123)})
    story = _history(hour, _measurement(0, features={"tenure": _unknown()})).story()
    (tenure,) = ranked(story)
    assert (tenure.measurement.window.length, tenure.value) == ("1h", 0.123)
    nowhere = _history(_measurement(features={"tenure": _unknown()})).story()
    assert ranked(nowhere)[0].value is None


def test_the_score_is_a_subject_without_a_name():
    """A story without a window has none."""
    found = score(_history(_measurement()).story())
    assert (found.name, found.title) == (None, "the score")
    assert score(_history().story()) is None
