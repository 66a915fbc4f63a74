"""Cohorts of a regression: numbers join values, the metrics are scikit-learn's, and the order of facts is nothing."""

import math
from datetime import UTC, datetime

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from drift_worker.performance import label_records
from drift_worker.performance.cohorts import CohortConfig, evaluate
from drift_worker.performance.label_store import DAY_MS, LabelStore
from drift_worker.performance.task_facts import facts_of
from schemas.bundle.inputs import Feature
from schemas.bundle.manifest import ErrorCurve, Golden, Libraries, Manifest, TrainingData, ValueBusiness
from schemas.performance import decode_performance
from schemas.task import Regression

NOW, HORIZON, MODEL = 100 * DAY_MS, 10 * DAY_MS, "charges"


def _made(customer, name, at_ms, value=7.0, interval=None, version="1.0.0", model=MODEL):
    return label_records.of_value(customer, name, model, version, at_ms, value, interval)[1]


def _said(customer, at_ms, label, about=None):
    return label_records.of_label(customer, about, at_ms, label)[1]


def _store(*records):
    store = LabelStore(MODEL, HORIZON, facts_of(Regression()))
    assert store.add(records) == []
    return store


def _config(**changes):
    libraries = Libraries.model_validate({"python": "3.12.0", "numpy": "2.0.0", "scikit-learn": "1.5.0"})
    manifest = Manifest(
        name=MODEL,
        version="1.0.0",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        libraries=libraries,
        features=(Feature(name="tenure", kind="numeric"),),
        task="regression",
        training_data=TrainingData(sha256="0" * 64, rows=1),
        golden=Golden(rows=(), values=()),
        **changes,
    )
    return CohortConfig(manifest, HORIZON, "10d")


def _cohorts(store, config=None, status="final"):
    found = evaluate(config or _config(), store, store.days(), NOW, status)
    return {(one.cohort.day, one.model_version): one for one in found}


def test_metrics_are_scikit_learns_to_the_last_bits():
    """2,000 values with intervals, nine of ten with an outcome."""
    draw = np.random.default_rng(4)
    outcome = draw.gamma(2.0, 30.0, 2000)
    value = outcome + draw.normal(2.0, 9.0, 2000)
    made = [_made(f"c{n}", f"p{n}", DAY_MS, v, (v - 14.0, v + 11.0)) for n, v in enumerate(value.tolist())]
    store = _store(*made, *[_said(f"c{n}", 2 * DAY_MS, told) for n, told in enumerate(outcome.tolist()) if n % 10])
    (cohort,) = _cohorts(store).values()
    known = np.arange(2000) % 10 > 0
    told, said = outcome[known], value[known]
    assert (cohort.predictions, cohort.labels.known, cohort.coverage.all) == (2000, 1800, 0.9)
    expected = {
        "mae": sk.mean_absolute_error(told, said),
        "rmse": sk.root_mean_squared_error(told, said),
        "bias": float(np.mean(said - told)),
        "r2": sk.r2_score(told, said),
        "mape": sk.mean_absolute_percentage_error(told, said),
        "interval_coverage": float(np.mean((said - 14.0 <= told) & (told <= said + 11.0))),
    }
    assert list(cohort.metrics) == list(expected)
    for name, number in expected.items():
        assert cohort.metrics[name].value == pytest.approx(number, rel=1e-12, abs=1e-12), name
        assert cohort.metrics[name].low < number < cohort.metrics[name].high, name
    assert decode_performance(cohort.encode()) == cohort
    assert b'{"version":1,"task":"regression","model":"charges"' in cohort.encode()


def test_what_is_expected_is_known_of_the_bundles_version_alone():
    """A value without an interval has no coverage, an outcome of 0 no percentage."""
    config = _config(metrics={"mae": 2.0}, metric_errors={"mae": 0.1})
    versions = (("ann", "1.0.0"), ("bob", "0.9.0"))
    store = _store(
        *[_made(name, name, DAY_MS, version=version) for name, version in versions],
        *[_said(name, 2 * DAY_MS, 0.0) for name in ("ann", "bob")],
    )
    ours, other = (_cohorts(store, config)["1970-01-02", version] for _, version in versions)
    assert (ours.expected["mae"].value, ours.expected["mae"].error, other.expected) == (2.0, 0.1, {})
    assert "interval_coverage" not in ours.metrics
    assert (ours.metrics["mape"].value, ours.metrics["mape"].reason) == (None, "zeros")


def test_the_error_is_estimated_from_the_values_alone():
    """Of all predictions, and of those with an outcome; of another version, or without a curve, nothing is."""
    curve = ErrorCurve(x=(0.0, 10.0), y=(1.0, 3.0), spread=(0.5, 0.5), rows=100, band=0.1)
    values = (("ann", 0.0, "1.0.0"), ("bob", 10.0, "1.0.0"), ("cy", 10.0, "0.9.0"))
    store = _store(
        *[_made(name, name, DAY_MS, value, version=version) for name, value, version in values],
        _said("bob", 2 * DAY_MS, 17.0),
    )
    found = _cohorts(store, _config(error_curve=curve))
    ours, other = found["1970-01-02", "1.0.0"], found["1970-01-02", "0.9.0"]
    assert ours.estimated["mae"].value == pytest.approx(2.0)
    assert ours.estimated_labelled["mae"].value == pytest.approx(3.0)
    assert ours.estimated["mae"].calibration == pytest.approx(0.2)
    assert ours.metrics["mae"].value == 7.0
    assert (other.estimated, other.estimated_labelled) == ({}, {})
    assert ours.business is None
    worth = _cohorts(store, _config(business=ValueBusiness(over=-1.0, under=-3.0)))["1970-01-02", "1.0.0"]
    assert (worth.business.currency, worth.business.total.value) == ("EUR", -21.0)
    assert decode_performance(worth.encode()) == worth
    assert decode_performance(ours.encode()) == ours
    assert all(one.estimated == {} for one in _cohorts(store).values())


def test_the_larger_of_two_numbers_wins_at_the_same_time():
    """A label that names the prediction first, then the later one, then the larger one."""
    made = [_made(name, name, DAY_MS, 10.0) for name in ("ann", "bob", "cy")]
    store = _store(
        *made,
        *[_said("ann", 2 * DAY_MS, number) for number in (-3.0, 4.0, 1.0)],
        *[_said("bob", at * DAY_MS, number) for at, number in ((2, 9.0), (3, 5.0))],
        *[_said("cy", 3 * DAY_MS, 9.0), _said("cy", 2 * DAY_MS, 6.0, "cy")],
    )
    (cohort,) = _cohorts(store).values()
    assert cohort.metrics["mae"].value == pytest.approx((6.0 + 5.0 + 4.0) / 3)


def test_facts_of_another_task_are_passed_over():
    """Two models share the topic: neither takes the other's labels, and neither calls them unreadable."""
    probability = label_records.of_prediction("ann", "p", MODEL, "1.0.0", DAY_MS, 0.7, 0.5, True)[1]
    theirs = [probability, _said("ann", 2 * DAY_MS, True)]
    ours = [_made("ann", "q", DAY_MS), _said("ann", 2 * DAY_MS, 1.0)]
    store, binary = _store(*theirs, *ours), LabelStore(MODEL, HORIZON)
    assert binary.add([*theirs, *ours]) == []
    assert (len(store.predictions()), len(store.labels())) == (1, 1)
    assert (len(binary.predictions()), len(binary.labels())) == (1, 1)
    assert store.labels()["label"].tolist() == [1.0]


def test_what_is_old_goes_with_its_keys():
    """The key of a label holds its number, so that a tombstone is the same key."""
    records = [_made("ann", "a", DAY_MS), _said("ann", 3 * DAY_MS, 17.25), _made("bob", "b", 90 * DAY_MS)]
    store = _store(*records)
    final = _cohorts(store)["1970-01-02", "1.0.0"]
    store.add([(label_records.cohort_key(MODEL, "1.0.0", "1970-01-02"), final.encode())])
    assert [key for _, key in store.evict(40 * DAY_MS, 100)] == [records[0][0], records[1][0]]
    store.add([records[1]])
    assert len(store.labels()) == 1
    store.add([(records[1][0], None)])
    assert len(store.labels()) == 0


def _value(**changes):
    fields = {"layout": 2, "model": MODEL, "version": "1.0.0", "time_ms": 0, "value": 1.0, "low": 0.0, "high": 2.0}
    return msgspec.msgpack.encode(list((fields | changes).values()))


@pytest.mark.parametrize(
    "record",
    [
        (label_records.prediction_key(1, 2), _value(value=math.nan)),
        (label_records.prediction_key(1, 2), _value(high=math.inf)),
        (label_records.prediction_key(1, 2), _value(low=3.0)),
        (label_records.prediction_key(1, 2), _value(version="a/b")),
        (label_records.prediction_key(1, 2), _value(time_ms=1 << 60)),
        (label_records.prediction_key(1, 2), _value(layout=9)),
        (label_records.label_key(1, 0, DAY_MS, math.nan), b"\x01"),
        (label_records.label_key(1, 0, DAY_MS, 2.0), b"\x02"),
        (label_records.label_key(1, 0, (1 << 63) - 1, 2.0), b"\x01"),
        (b"n" * 20, b"\x01"),
    ],
)
def test_a_fact_that_no_stage_can_have_written_is_passed_over(record):
    """Numbers that are none, intervals that end before they begin."""
    store = LabelStore(MODEL, HORIZON, facts_of(Regression()))
    (error,) = store.add([_made("ann", "p", DAY_MS), record], latest_ms=NOW)
    assert "not a fact" in str(error)
    assert len(store.predictions()) == 1


@settings(max_examples=50, deadline=None)
@given(st.permutations(range(16)), st.integers(1, 16))
def test_facts_in_any_order_and_any_batches_give_the_same_bits(order, size):
    """Sums of floats are in the order of customers, not of arrival."""
    records = [_made(f"c-{n}", f"p-{n}", DAY_MS + n, 0.1 * n, (0.0, 1.0)) for n in range(8)]
    records += [_said(f"c-{n}", 2 * DAY_MS, 0.3 * n, f"p-{n}" if n < 3 else None) for n in range(8)]
    shuffled = [records[n] for n in order]
    store = LabelStore(MODEL, HORIZON, facts_of(Regression()))
    for at in range(0, len(shuffled), size):
        store.add(shuffled[at : at + size])
    (cohort,) = _cohorts(store).values()
    (expected,) = _cohorts(_store(*records)).values()
    assert cohort.encode() == expected.encode()
