"""Facts as in the topic → cohorts: what is final, what is known, what may be deleted."""

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drift_worker.performance import label_records
from drift_worker.performance.cohorts import CohortConfig, evaluate
from drift_worker.performance.label_store import DAY_MS, LabelStore
from schemas.bundle.inputs import Feature
from schemas.bundle.manifest import Business, Calibration, Golden, Libraries, Manifest, TrainingData
from schemas.performance import Cohort, LabelCount

NOW = 100 * DAY_MS
HORIZON = 10 * DAY_MS
MODEL = "churn-telco"


def _made(customer, name, at_ms, p=0.7, version="1.0.0", model=MODEL):
    return label_records.of_prediction(customer, name, model, version, at_ms, p, 0.5, p >= 0.5)[1]


def _said(customer, at_ms, label, about=None):
    return label_records.of_label(customer, about, at_ms, label)[1]


def _store(*records):
    store = LabelStore(MODEL, HORIZON)
    assert store.add(records) == []
    return store


def _gone(key_and_value):
    return key_and_value[0], None


def _terms(**changes):
    libraries = Libraries.model_validate({"python": "3.12.0", "numpy": "2.0.0", "scikit-learn": "1.5.0"})
    manifest = Manifest(
        name=MODEL,
        version="1.0.0",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        libraries=libraries,
        features=(Feature(name="tenure", kind="numeric"),),
        positive_class=True,
        training_data=TrainingData(sha256="0" * 64, rows=1),
        golden=Golden(rows=(), probabilities=()),
        **changes,
    )
    return CohortConfig(manifest, HORIZON, "10d")


def _cohorts(store, terms=None, status="final", now_ms=NOW):
    found = evaluate(terms or _terms(), store, store.days(), now_ms, status)
    return {(one.cohort.day, one.model_version): one for one in found}


def test_a_cohort_is_a_utc_day_and_a_version():
    """The last millisecond of a day and the first of the next; another version and another model apart."""
    store = _store(
        _made("ann", "a", 5 * DAY_MS - 1),
        _made("bob", "b", 5 * DAY_MS),
        _made("cy", "c", 5 * DAY_MS, version="1.1.0"),
        _made("dan", "d", 5 * DAY_MS, model="another"),
    )
    assert {key: one.predictions for key, one in _cohorts(store).items()} == {
        ("1970-01-05", "1.0.0"): 1,
        ("1970-01-06", "1.0.0"): 1,
        ("1970-01-06", "1.1.0"): 1,
    }


def test_a_cohort_is_due_when_its_last_moment_is_older_than_the_horizon():
    """Not a millisecond before; and never once more."""
    store = _store(_made("ann", "a", 5 * DAY_MS))
    assert store.due(6 * DAY_MS + HORIZON - 1) == []
    assert store.due(6 * DAY_MS + HORIZON) == store.days() == [(5 * DAY_MS, 0)]
    (final,) = _cohorts(store).values()
    store.add([(label_records.cohort_key(MODEL, "1.0.0", "1970-01-06"), final.encode())])
    assert store.due(NOW) == []
    assert list(store.cohorts.values()) == [final]


def test_absent_labels_are_negative_only_in_a_final_cohort_of_a_spec_that_says_so():
    """Ann said yes. Bob has no label, and Cy has a label for a later day."""
    store = _store(
        _made("ann", "a", DAY_MS),
        _made("bob", "b", DAY_MS),
        _made("cy", "c", DAY_MS),
        _made("cy", "c-2", 2 * DAY_MS),
        _said("ann", 2 * DAY_MS, True),
        _said("cy", 4 * DAY_MS, True),
    )
    day = ("1970-01-02", "1.0.0")
    negative = _terms(absent_label="negative")
    shown = {
        (name, status): _cohorts(store, terms, status)[day].labels
        for name, terms in (("negative", negative), ("unknown", _terms()))
        for status in ("final", "provisional")
    }
    known = {key: (labels.positive, labels.negative, labels.absent) for key, labels in shown.items()}
    assert known == {
        ("negative", "final"): (1, 1, 1),
        ("negative", "provisional"): (1, 0, 0),
        ("unknown", "final"): (1, 0, 0),
        ("unknown", "provisional"): (1, 0, 0),
    }


def test_coverage_shows_that_those_who_leave_are_labelled_first():
    """Ten customers at .5: three of five leavers are known, and none who stays."""
    made = [_made(f"c-{n}", f"p-{n}", DAY_MS, p=0.5) for n in range(10)]
    store = _store(*made, *[_said(f"c-{n}", 2 * DAY_MS, True) for n in range(3)])
    (cohort,) = _cohorts(store, status="provisional").values()
    assert (cohort.coverage.all, cohort.coverage.positive, cohort.coverage.negative) == (0.3, 0.6, 0.0)
    assert cohort.metrics["roc_auc"].reason == "one_class"


def test_what_is_expected_is_known_of_the_bundles_version_alone():
    """So are the estimate and what follows from it; money is the same for all."""
    terms = _terms(
        metrics={"accuracy": 0.8},
        metric_errors={"accuracy": 0.01},
        calibration=Calibration(x=(0.0, 1.0), y=(0.0, 1.0), rows=9, band={"accuracy": 0.02}),
        business=Business(currency="CHF", true_positive=7.0),
    )
    store = _store(
        *[_made(name, name, DAY_MS, version=version) for name, version in (("ann", "1.0.0"), ("bob", "0.9.0"))],
        *[_said(name, 2 * DAY_MS, True) for name in ("ann", "bob")],
    )
    ours, other = (_cohorts(store, terms)["1970-01-02", version] for version in ("1.0.0", "0.9.0"))
    assert (ours.expected["accuracy"].value, ours.expected["accuracy"].error) == (0.8, 0.01)
    assert ours.estimated["accuracy"].value == pytest.approx(0.7)
    assert (other.expected, other.estimated) == ({}, {})
    assert (ours.business.currency, ours.business.total.value, other.business.total.value) == ("CHF", 7.0, 7.0)


def test_what_is_old_goes_with_its_keys_but_nothing_that_is_still_needed():
    """A horizon and seven days later, and not before the cohort was evaluated; at most the requested number."""
    records = [_made("ann", "a", DAY_MS), _said("ann", 3 * DAY_MS, True), _made("bob", "b", 90 * DAY_MS)]
    store = _store(*records)
    late = 40 * DAY_MS
    assert list(store.evict(late, 100)) == []
    final = _cohorts(store)["1970-01-02", "1.0.0"]
    store.add([(label_records.cohort_key(MODEL, "1.0.0", "1970-01-02"), final.encode())])
    assert list(store.evict(DAY_MS + HORIZON + 7 * DAY_MS, 100)) == []
    assert [key for _, key in store.evict(late, 1)] == [records[0][0]]
    assert [key for _, key in store.evict(late, 100)] == [records[1][0]]
    assert [one["time_ms"] for one in store.predictions()] == [90 * DAY_MS]
    # after a year that day is never evaluated again, and the record that it was may be deleted
    assert [key for _, key in store.evict(500 * DAY_MS, 100)][-1] == label_records.cohort_key(
        MODEL, "1.0.0", "1970-01-02"
    )


def test_a_tombstone_forgets_a_customer():
    """The worker's, or an operator's who erases a customer."""
    records = [_made("ann", "a", DAY_MS), _made("bob", "b", DAY_MS), _said("ann", 2 * DAY_MS, True)]
    store = _store(*records)
    store.add([_gone(records[0]), _gone(records[2])])
    assert len(store.predictions()) == 1
    assert len(store.labels()) == 0
    store.add([records[0], _gone(records[0])])
    assert len(store.predictions()) == 1
    store.add([_gone(records[1])])
    store.add([records[0], records[1]])  # what comes again after it went is there again
    assert len(store.predictions()) == 2


def test_more_versions_than_there_is_room_for_break_nothing(monkeypatch):
    """Versions come from a topic that others may write to: the last one represents all later ones."""
    monkeypatch.setattr("drift_worker.performance.label_store.MAX_VERSIONS", 3)
    store = LabelStore(MODEL, HORIZON)
    assert store.add([_made("ann", f"p{n}", DAY_MS + n, version=f"{n}.0.0") for n in range(5)]) == []
    assert store.versions == ["0.0.0", "1.0.0", "2.0.0"]
    held = store.predictions()
    assert sorted(held["version"].tolist()) == [0, 1, 2, 2, 2]


@pytest.mark.parametrize(
    ("key", "value"),
    [(None, b"x"), (b"", b""), (b"p", b""), (b"l" * 26, b"\x02"), (b"c/", b"{}"), (b"x", b""), (b"pp", None)],
)
def test_what_is_no_fact_is_named_and_passed_over(key, value):
    """Any foreign content."""
    store = LabelStore(MODEL, HORIZON)
    (error,) = store.add([(key, value)])
    assert "not a fact" in str(error)


def _value(**changes):
    fields = {"layout": 1, "model": MODEL, "version": "1.0.0", "time_ms": 0, "p": 0.5, "t": 0.5, "positive": True}
    return msgspec.msgpack.encode(list((fields | changes).values()))


@pytest.mark.parametrize(
    "record",
    [
        (label_records.prediction_key(1, 2), _value(time_ms=(1 << 63) + 5)),
        (label_records.prediction_key(1, 2), _value(time_ms=1 << 60)),
        (label_records.prediction_key(1, 2), _value(time_ms=NOW + 1)),
        (label_records.prediction_key(1, 2), _value(p=7.0)),
        (label_records.prediction_key(1, 2), _value(p=float("nan"))),
        (label_records.prediction_key(1, 2), _value(t=float("inf"))),
        (label_records.prediction_key(1, 2), _value(version="a/b")),
        (label_records.label_key(1, 0, (1 << 63) - 1, True), b"\x01"),
        (label_records.label_key(1, 0, -(1 << 63), True), b"\x01"),
        (label_records.label_key(1, 0, NOW + 1, True), b"\x01"),
    ],
)
def test_a_fact_that_no_stage_can_have_written_is_passed_over(record):
    """Times beyond 64 bits or ahead of the clock, shares that are none: cohorts are what they are without it."""
    true = [_made("ann", "p-1", DAY_MS), _said("ann", 2 * DAY_MS, True)]
    store = LabelStore(MODEL, HORIZON)
    (error,) = store.add([*true, record], latest_ms=NOW)
    assert "not a fact" in str(error)
    assert _cohorts(store) == _cohorts(_store(*true))
    assert store.latest_ms == 2 * DAY_MS


@pytest.mark.parametrize(
    "changes",
    [
        {"predictions": 10**30},
        {"predictions": -1},
        {"customers": 10**400},
        {"labels": LabelCount(5, 5, 0)},
        {"labels": LabelCount(-1, 1, 0)},
        {"model_version": "2.0.0"},
        {"cohort": Cohort("2999-01-01", "2999-01-01T00:00:00.000Z", "2999-01-02T00:00:00.000Z")},
    ],
)
def test_a_cohort_that_no_evaluator_can_have_written_is_passed_over(changes):
    """Numbers that no day has, another cohort than the key names, a day of the future."""
    (true,) = _cohorts(_store(_made("ann", "p-1", DAY_MS))).values()
    forged = msgspec.structs.replace(true, **changes)
    day = forged.cohort.day
    store = LabelStore(MODEL, HORIZON)
    (error,) = store.add([(label_records.cohort_key(MODEL, "1.0.0", day), msgspec.json.encode(forged))], latest_ms=NOW)
    assert "not a fact" in str(error)
    assert store.cohorts == {}


@settings(max_examples=100, deadline=None)
@given(st.permutations(range(12)), st.integers(1, 12))
def test_facts_in_any_order_and_any_batches_give_the_same(order, size):
    """Compacted or not: each record twice, and the first ones in between once more."""
    records = [_made(f"c-{n}", f"p-{n}", DAY_MS + n, p=n / 6) for n in range(6)]
    records += [_said(f"c-{n}", 2 * DAY_MS, n % 2 == 0, f"p-{n}" if n < 3 else None) for n in range(6)]
    shuffled = [records[n] for n in order]
    shuffled += shuffled[:5]
    store = LabelStore(MODEL, HORIZON)
    for at in range(0, len(shuffled), size):
        store.add(shuffled[at : at + size])
    assert _cohorts(store) == _cohorts(_store(*records))
    assert (len(store.predictions()), len(store.labels())) == (6, 6)
