"""Labels and predictions in memory: which days there are, which are due, and what is no longer needed."""

import pytest

from drift_worker.performance.label_records import of_label, of_prediction, prediction_key
from drift_worker.performance.label_store import DAY_MS, FORGOTTEN_MS, GRACE_MS, LabelStore, day_name

HORIZON_MS = 10 * DAY_MS


def _prediction(customer, name, at_ms, version="1.0.0", model="churn"):
    return of_prediction(customer, name, model, version, at_ms, 0.5, 0.5, True)[1]


def _store(*records):
    store = LabelStore("churn", HORIZON_MS)
    assert store.add(records) == []
    return store


def test_days_are_utc_and_apart_by_version():
    """Another model's predictions are not held."""
    store = _store(
        _prediction("ann", "p1", 5),
        _prediction("bob", "p2", DAY_MS - 1, "2.0.0"),
        _prediction("cy", "p3", DAY_MS),
        _prediction("dee", "p4", DAY_MS, model="other"),
    )
    assert [(start, store.versions[version]) for start, version in store.days()] == [
        (0, "1.0.0"),
        (0, "2.0.0"),
        (DAY_MS, "1.0.0"),
    ]
    assert store.latest_ms == DAY_MS


@pytest.mark.parametrize(("now_ms", "due"), [(DAY_MS + HORIZON_MS - 1, 0), (DAY_MS + HORIZON_MS, 1)])
def test_a_day_is_due_when_its_last_moment_is_a_horizon_ago(now_ms, due):
    """Before, a label may still come."""
    assert len(_store(_prediction("ann", "p1", 5)).due(now_ms)) == due


def test_every_change_is_a_revision_and_a_repetition_changes_no_row():
    """Facts that are read again are the same facts."""
    store = _store(_prediction("ann", "p1", 5), of_label("ann", None, 7, True)[1])
    before = store.revision
    store.add([_prediction("ann", "p1", 5), of_label("ann", None, 7, True)[1]])
    assert store.revision > before
    assert (len(store.predictions()), len(store.labels())) == (1, 1)


def test_a_fact_ahead_of_the_clock_is_named_and_left_out():
    """One of them would make every cohort due."""
    store = LabelStore("churn", HORIZON_MS)
    errors = store.add([_prediction("ann", "p1", 101), _prediction("bob", "p2", 100)], latest_ms=100)
    assert [str(error) for error in errors] == ["not a fact of the label state: time_ms 101 is ahead of the clock"]
    assert len(store.predictions()) == 1


def test_a_tombstone_takes_a_row_away():
    """And a later record of the key brings it back."""
    record = _prediction("ann", "p1", 5)
    store = _store(record, (record[0], None))
    assert len(store.predictions()) == 0
    store.add([record])
    assert len(store.predictions()) == 1


def test_old_facts_go_unless_an_open_day_needs_them():
    """A day that was never evaluated keeps its facts, for up to 400 days."""
    store = _store(_prediction("ann", "p1", 5))
    old_ms = HORIZON_MS + GRACE_MS + DAY_MS
    assert list(store.evict(old_ms, 10)) == []
    found = list(store.evict(FORGOTTEN_MS + DAY_MS, 10))
    assert [key for _, key in found] == [prediction_key(*_ids(store_of=found))]
    assert len(store.predictions()) == 0


def _ids(store_of):
    """Return the hashes that the evicted key names."""
    from drift_worker.performance.label_join import identify

    assert store_of[0][0] == identify("ann")
    return identify("ann"), identify("p1")


def test_a_day_has_a_name():
    """ISO, UTC."""
    assert [day_name(ms) for ms in (0, DAY_MS - 1, DAY_MS)] == ["1970-01-01", "1970-01-01", "1970-01-02"]
