"""Cohorts of several classes: classes join classes, an unknown one is named, and the order of facts is nothing."""

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
from schemas.bundle.manifest import ClassBusiness, ClassCalibration, Curve, Golden, Libraries, Manifest, TrainingData
from schemas.performance import decode_performance
from schemas.task import Multiclass

NOW, HORIZON, MODEL = 100 * DAY_MS, 10 * DAY_MS, "tiers"
TASK = Multiclass(("bronze", "gold", "silver"))


def _made(customer, name, at_ms, shares=(0.2, 0.5, 0.3), version="1.0.0", task=TASK):
    content = task.content(list(shares))
    return label_records.of_class(customer, name, MODEL, version, at_ms, content["label"], content["probabilities"])[1]


def _said(customer, at_ms, label, about=None):
    return label_records.of_label(customer, about, at_ms, label)[1]


def _store(*records, task=TASK):
    store = LabelStore(MODEL, HORIZON, facts_of(task))
    assert store.add(records) == []
    return store


def _config(task=TASK, **changes):
    libraries = Libraries.model_validate({"python": "3.12.0", "numpy": "2.0.0", "scikit-learn": "1.5.0"})
    manifest = Manifest(
        name=MODEL,
        version="1.0.0",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        libraries=libraries,
        features=(Feature(name="tenure", kind="numeric"),),
        task="multiclass",
        classes=task.classes,
        training_data=TrainingData(sha256="0" * 64, rows=1),
        golden=Golden(rows=(), distributions=()),
        **changes,
    )
    return CohortConfig(manifest, HORIZON, "10d")


def _cohorts(store, config=None):
    found = evaluate(config or _config(), store, store.days(), NOW, "final")
    return {(one.cohort.day, one.model_version): one for one in found}


def test_metrics_are_scikit_learns_to_the_last_bits():
    """1,500 predictions, nine of ten with an outcome; the record is read as it was written."""
    draw = np.random.default_rng(6)
    p = draw.dirichlet([1.0, 2.0, 1.5], 1500)
    told = np.array([draw.choice(3, p=row) for row in p])
    made = [_made(f"c{n}", f"p{n}", DAY_MS, row) for n, row in enumerate(p.tolist())]
    said = [_said(f"c{n}", 2 * DAY_MS, TASK.classes[code]) for n, code in enumerate(told.tolist()) if n % 10]
    (cohort,) = _cohorts(_store(*made, *said)).values()
    known = np.arange(1500) % 10 > 0
    outcome, shares = told[known], p[known]
    label = shares.argmax(axis=1)
    expected = {
        "accuracy": sk.accuracy_score(outcome, label),
        "precision_macro": sk.precision_score(outcome, label, average="macro"),
        "recall_macro": sk.recall_score(outcome, label, average="macro"),
        "f1_macro": sk.f1_score(outcome, label, average="macro"),
        "roc_auc_ovr": sk.roc_auc_score(outcome, shares, multi_class="ovr"),
        "log_loss": sk.log_loss(outcome, shares),
    }
    for name, number in expected.items():
        assert cohort.metrics[name].value == pytest.approx(number, rel=1e-12, abs=1e-12), name
    counts = np.bincount(outcome).tolist()
    assert (cohort.labels.known, cohort.labels.classes) == (1350, dict(zip(TASK.classes, counts, strict=True)))
    assert cohort.predicted == dict(zip(TASK.classes, np.bincount(p.argmax(axis=1)).tolist(), strict=True))
    heard = {name: count * cohort.coverage.predicted[name] for name, count in cohort.predicted.items()}
    assert sum(heard.values()) == pytest.approx(1350)
    recall = sk.recall_score(outcome, label, average=None)
    assert [cohort.classes[name]["recall"].value for name in TASK.classes] == pytest.approx(recall.tolist(), rel=1e-12)
    assert decode_performance(cohort.encode()) == cohort


def test_a_class_that_the_model_does_not_have_is_counted_and_named():
    """It is a wrong prediction, and has no place in the ranking."""
    store = _store(
        *[_made(name, name, DAY_MS) for name in ("ann", "bob", "cy")],
        *[_said(name, 2 * DAY_MS, label) for name, label in (("ann", "gold"), ("bob", "platinum"), ("cy", "platinum"))],
    )
    (cohort,) = _cohorts(store).values()
    assert (cohort.labels.unseen, cohort.labels.known) == ({"platinum": 2}, 3)
    assert cohort.metrics["accuracy"].value == pytest.approx(1 / 3)
    assert cohort.metrics["roc_auc_ovr"].reason == "class_missing"
    assert cohort.classes["platinum"]["recall"].value == 0.0
    assert cohort.business is None
    stated = ClassBusiness(currency="USD", matrix={"gold": {"gold": 12.0}, "silver": {"gold": -5.0}})
    (worth,) = _cohorts(store, _config(business=stated)).values()
    assert (worth.business.currency, worth.business.total.value) == ("USD", 12.0)
    assert decode_performance(worth.encode()) == worth


CALIBRATION = ClassCalibration(
    curves=dict.fromkeys(TASK.classes, Curve(x=(0.0, 1.0), y=(0.0, 1.0))),
    rows=100,
    band={"accuracy": 0.02, "f1_macro": 0.03},
    class_band={"gold": {"precision": 0.04}},
)


def test_metrics_are_estimated_from_the_probabilities_alone():
    """Of all predictions, of each class, and of those with an outcome; of another version nothing is."""
    store = _store(
        _made("ann", "a", DAY_MS, (0.1, 0.8, 0.1)),
        _made("bob", "b", DAY_MS, (0.1, 0.6, 0.3)),
        _made("cy", "c", DAY_MS, version="0.9.0"),
        _said("bob", 2 * DAY_MS, "tin"),
    )
    found = _cohorts(store, _config(class_calibration=CALIBRATION))
    ours, other = found["1970-01-02", "1.0.0"], found["1970-01-02", "0.9.0"]
    assert ours.estimated["accuracy"].value == pytest.approx(0.7)
    assert (ours.estimated["accuracy"].calibration, ours.estimated["log_loss"]) == (0.02, None)
    assert ours.estimated_classes["gold"]["precision"].value == pytest.approx(0.7)
    assert ours.estimated_classes["silver"] == {"precision": None, "recall": None, "f1": None}
    assert ours.estimated_labelled["accuracy"].value == pytest.approx(0.6)
    assert ours.metrics["accuracy"].value == 0.0
    assert (other.estimated, other.estimated_classes, other.estimated_labelled) == ({}, {}, {})
    assert decode_performance(ours.encode()) == ours
    assert all(one.estimated == {} for one in _cohorts(store).values())


def test_an_older_version_with_other_classes_has_its_own_names():
    """Its label is no class of the bundle, and its probabilities are not compared."""
    old = Multiclass(("bronze", "gold", "tin"))
    config = _config(metrics={"accuracy": 0.8}, metric_errors={"accuracy": 0.01})
    store = _store(
        _made("ann", "a", DAY_MS, (0.1, 0.1, 0.8), "0.9.0", old),
        _made("bob", "b", DAY_MS),
        *[_said(name, 2 * DAY_MS, label) for name, label in (("ann", "tin"), ("bob", "gold"))],
    )
    found = _cohorts(store, config)
    older, ours = found["1970-01-02", "0.9.0"], found["1970-01-02", "1.0.0"]
    assert (older.metrics["accuracy"].value, older.labels.unseen, older.expected) == (1.0, {"tin": 1}, {})
    assert older.metrics["log_loss"].reason == "probabilities_left_out"
    assert (ours.expected["accuracy"].value, ours.metrics["accuracy"].value) == (0.8, 1.0)


def test_of_many_classes_the_probabilities_are_not_kept():
    """Accuracy and F1 are; ROC AUC and log loss have a reason."""
    many = Multiclass(tuple(f"c{n:02}" for n in range(12)))
    shares = [0.3, *[0.7 / 11] * 11]
    store = _store(_made("ann", "a", DAY_MS, shares, task=many), _said("ann", 2 * DAY_MS, "c00"), task=many)
    (cohort,) = _cohorts(store, _config(many)).values()
    assert cohort.metrics["accuracy"].value == 1.0
    assert cohort.metrics["log_loss"].reason == "probabilities_left_out"


def test_what_is_old_goes_with_its_keys():
    """The key of a label holds its class, so that a tombstone is the same key."""
    records = [_made("ann", "a", DAY_MS), _said("ann", 3 * DAY_MS, "größer"), _made("bob", "b", 90 * DAY_MS)]
    store = _store(*records)
    final = _cohorts(store)["1970-01-02", "1.0.0"]
    store.add([(label_records.cohort_key(MODEL, "1.0.0", "1970-01-02"), final.encode())])
    assert [key for _, key in store.evict(40 * DAY_MS, 100)] == [records[0][0], records[1][0]]
    store.add([records[1], (records[1][0], None)])
    assert len(store.labels()) == 0


def _value(**changes):
    fields = {"layout": 3, "model": MODEL, "version": "1.0.0", "time_ms": 0, "label": "gold", "shares": {"gold": 0.5}}
    return msgspec.msgpack.encode(list((fields | changes).values()))


@pytest.mark.parametrize(
    "record",
    [
        (label_records.prediction_key(1, 2), _value(shares={"gold": 1.5})),
        (label_records.prediction_key(1, 2), _value(shares={"gold": float("nan")})),
        (label_records.prediction_key(1, 2), _value(shares={"tin": 0.5})),
        (label_records.prediction_key(1, 2), _value(version="a/b")),
        (label_records.label_key(1, 0, DAY_MS, "gold"), b"\x02"),
        (label_records.label_key(1, 0, DAY_MS, "x" * 129), b"\x01"),
        (label_records.label_key(1, 0, DAY_MS, "gold")[:-4] + b"\xff", b"\x01"),
        (b"k" * 20, b"\x01"),
    ],
)
def test_a_fact_that_no_stage_can_have_written_is_passed_over(record):
    """Shares that are none, texts that are none."""
    store = LabelStore(MODEL, HORIZON, facts_of(TASK))
    (error,) = store.add([_made("ann", "p", DAY_MS), record], latest_ms=NOW)
    assert "not a fact" in str(error)
    assert len(store.predictions()) == 1


@settings(max_examples=50, deadline=None)
@given(st.permutations(range(16)), st.integers(1, 16))
def test_facts_in_any_order_and_any_batches_give_the_same_bits(order, size):
    """Two labels of one time among them, and a class that is unknown to the model."""
    shares = [(0.1 + n / 20, 0.3, 0.6 - n / 20) for n in range(8)]
    records = [_made(f"c-{n}", f"p-{n}", DAY_MS + n, row) for n, row in enumerate(shares)]
    records += [_said(f"c-{n // 2}", 2 * DAY_MS, ("gold", "tin", "silver")[n % 3]) for n in range(8)]
    store = LabelStore(MODEL, HORIZON, facts_of(TASK))
    shuffled = [records[n] for n in order]
    for at in range(0, len(shuffled), size):
        store.add(shuffled[at : at + size])
    (cohort,) = _cohorts(store).values()
    (expected,) = _cohorts(_store(*records)).values()
    assert cohort.encode() == expected.encode()
