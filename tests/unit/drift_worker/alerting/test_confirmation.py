"""The life of an episode: every cell of the table, and its course over windows."""

import itertools

import numpy as np
import pytest

from drift_worker.alerting.confirmation import TRANSITIONS, Action, Event, State, Tracker, key_name, key_of
from drift_worker.alerting.findings import Finding, Grade
from drift_worker.alerting.limits import Confirm, Policy
from schemas.alert import AlertName

LENGTHS = {"15m": 900_000, "1h": 3_600_000, "24h": 86_400_000}
Q, DAY = LENGTHS["15m"], LENGTHS["24h"]
POLICY = Policy(LENGTHS, {"15m": Confirm(2, 3), "1h": Confirm(2, 3), "24h": Confirm(1, 1)})


DRIFT = AlertName.FEATURE_DRIFT
CLEAN = Finding(DRIFT, "x", clean=True)
BETWEEN = Finding(DRIFT, "x")
WARNING = Finding(DRIFT, "x", Grade.WARNING)
CRITICAL = Finding(DRIFT, "x", Grade.CRITICAL)
SURE = Finding(DRIFT, "x", Grade.CRITICAL, fast=True)
LACKING = Finding(DRIFT, "x", sufficient=False)


def _run(*findings, length="15m"):
    tracker = Tracker()
    return tracker, [tracker.step(POLICY, i * Q, [(length, f)])[0] for i, f in enumerate(findings, start=1)]


def test_every_transition_is_stated():
    """The table is total: every state with every event."""
    assert set(TRANSITIONS) == set(itertools.product(State, Event))


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_transitions_keep_their_promises(state, event):
    """OPEN is the only way into firing, CLOSE the only way out; what is resolved opens nothing; no data, no change."""
    after, action = TRANSITIONS[state, event]
    assert (action is Action.OPEN) == (state is not State.FIRING and after is State.FIRING)
    assert (action is Action.CLOSE) == (state is State.FIRING and after is not State.FIRING)
    assert action is not Action.RAISE or (state, event) == (State.FIRING, Event.WORSE)
    if event is Event.INSUFFICIENT:
        assert (after, action) == (state, Action.NONE)
    if state is State.RESOLVED:
        assert after in {State.RESOLVED, State.INACTIVE}


def test_two_of_three_windows_open_an_episode():
    """Exceed, clean, exceed: it fires at the third, and began at the first."""
    tracker, actions = _run(WARNING, CLEAN, WARNING)
    assert actions == [Action.NONE, Action.NONE, Action.OPEN]
    assert (tracker.state, tracker.since_ms, tracker.shown) == (State.FIRING, Q, "warning")


def test_one_window_is_pending_and_forgotten():
    """After three windows without another the subject is inactive again."""
    tracker, actions = _run(WARNING, CLEAN, CLEAN)
    assert tracker.state is State.PENDING
    assert tracker.step(POLICY, 4 * Q, [("15m", CLEAN)]) == (Action.NONE, "15m")
    assert tracker.state is State.INACTIVE
    assert set(actions) == {Action.NONE}


def test_a_critical_and_sure_window_fires_at_once():
    """The fast path; critical alone needs two."""
    assert _run(SURE)[1] == [Action.OPEN]
    assert _run(CRITICAL, CRITICAL)[1] == [Action.NONE, Action.OPEN]


def test_severity_rises_once_and_only_on_two_of_three():
    """Warning, then one sure critical window (not enough in an open episode), then a second one."""
    tracker, actions = _run(WARNING, WARNING, SURE, CRITICAL, CRITICAL, WARNING)
    assert actions == [Action.NONE, Action.OPEN, Action.NONE, Action.RAISE, Action.NONE, Action.NONE]
    assert tracker.shown == "critical"


def test_three_clean_windows_in_a_row_resolve():
    """A window that is neither clean nor exceeding starts the count again; one without data does not touch it."""
    _, actions = _run(SURE, CLEAN, CLEAN, BETWEEN, CLEAN, LACKING, CLEAN, CLEAN)
    assert actions == [Action.OPEN, *[Action.NONE] * 6, Action.CLOSE]


def test_no_reopening_for_three_windows():
    """What exceeds right after the end is not a new episode; after that it needs two of three again."""
    tracker, actions = _run(SURE, CLEAN, CLEAN, CLEAN, SURE, SURE, SURE, WARNING, WARNING)
    assert actions == [Action.OPEN, Action.NONE, Action.NONE, Action.CLOSE, *[Action.NONE] * 4, Action.OPEN]
    assert tracker.since_ms == 8 * Q


def test_any_length_opens_and_the_shortest_with_data_resolves():
    """Opened by a day; quarter-hours have enough data again and end it; the day's own windows do not."""
    tracker = Tracker()
    assert tracker.step(POLICY, Q, [("15m", LACKING), ("24h", WARNING)]) == (Action.OPEN, "24h")
    assert [tracker.step(POLICY, i * Q, [("15m", CLEAN)])[0] for i in (2, 3)] == [Action.NONE] * 2
    assert tracker.step(POLICY, 4 * Q, [("24h", CLEAN)])[0] is Action.NONE
    assert tracker.step(POLICY, 5 * Q, [("15m", CLEAN)])[0] is Action.CLOSE


def test_what_opened_an_episode_does_not_count_towards_the_next():
    """The day is long over when the quarter-hours have ended it."""
    tracker = Tracker()
    tracker.step(POLICY, Q, [("15m", LACKING), ("24h", WARNING)])
    for i in range(2, 9):
        tracker.step(POLICY, i * Q, [("15m", CLEAN)])
    assert tracker.state is State.INACTIVE


def test_where_quarter_hours_lack_data_the_hour_resolves():
    """Night traffic: no quarter-hour has enough."""
    tracker = Tracker()
    tracker.step(POLICY, Q, [("15m", LACKING), ("1h", SURE)])
    actions = []
    for i in range(2, 14):
        found = [("15m", LACKING)] if i % 4 else [("15m", LACKING), ("1h", CLEAN)]
        actions.append(tracker.step(POLICY, i * Q, found)[0])
    assert actions == [*[Action.NONE] * 10, Action.CLOSE, Action.NONE]


def test_a_day_that_holds_an_ended_episode_opens_no_other():
    """One movement, one alert: two hours of drift move the day, too. The day after is judged again."""
    tracker = Tracker()
    for i in range(1, 96):
        tracker.step(POLICY, i * Q, [("15m", SURE if i in {40, 41} else CLEAN)])
    assert (tracker.state, tracker.ended_ms) == (State.INACTIVE, 44 * Q)
    assert tracker.step(POLICY, DAY, [("15m", CLEAN), ("1h", CLEAN), ("24h", SURE)]) == (Action.NONE, "15m")
    assert tracker.state is State.INACTIVE
    assert tracker.step(POLICY, 2 * DAY, [("15m", CLEAN), ("24h", SURE)]) == (Action.OPEN, "24h")


def test_what_moves_again_is_announced_again():
    """The windows that began after the end are as good as any."""
    _, actions = _run(SURE, CLEAN, CLEAN, CLEAN, *[CLEAN] * 3, SURE)
    assert [i for i, action in enumerate(actions, start=1) if action is Action.OPEN] == [1, 8]


def test_a_subject_without_data_says_so():
    """A state, not an alert."""
    tracker, _ = _run(LACKING)
    assert tracker.shown == "not_enough_data"


def test_a_steady_small_shift_is_two_messages():
    """0.45 standard deviations for two days of quarter-hours, near the limit: open and close, however it flickers."""
    draw = np.random.default_rng(11)
    held = [
        (WARNING if effect >= 0.1 else CLEAN if effect < 0.08 else BETWEEN) for effect in draw.normal(0.125, 0.02, 192)
    ]
    _, actions = _run(*[CLEAN] * 10, *held, *[CLEAN] * 10)
    assert 2 <= sum(action is not Action.NONE for action in actions) <= 3


def test_tracker_names_are_keys():
    """Features may hold a slash; the window as a whole has no feature."""
    for key in ((DRIFT, "a/b"), (AlertName.NO_DATA, None)):
        assert key_of(key_name(key)) == key
