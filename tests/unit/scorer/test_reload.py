"""Reloading: a good new bundle is served, any other leaves the present model, with the reason."""

import copy
import gc
import json
import pickle
import shutil
import sys
import threading
import weakref

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from prometheus_client import CollectorRegistry
from support import bundles
from support.events import FEATURES
from support.waiting import wait_until

from schemas.bundle.inputs import EventMapping, Feature
from schemas.bundle.manifest import Golden, new_requirement
from schemas.validation import Rules
from scorer.metrics import ScorerMetrics
from scorer.model import load
from scorer.predict import Predictor
from scorer.reload import TORN_READS, Reloader, needs_other_producers, unfit_challenger
from scorer.telemetry import ScorerTelemetry

BASE = bundles.fitted()


def versioned(number):
    """An estimator whose probabilities are its own: the intercept grows with the number."""
    estimator = copy.deepcopy(BASE)
    estimator[-1].intercept_ = BASE[-1].intercept_ + 0.1 * number
    return estimator


def write(directory, number, **changes):
    """Bundle 1.0.<number> in the directory; returns its estimator."""
    estimator = versioned(number)
    bundles.write(directory, estimator, version=f"1.0.{number}", **changes)
    return estimator


class Watched:
    """A served model, its bundle's directory and a reloader on it."""

    def __init__(self, directory, public_key=None):
        self.directory = directory
        self.registry = CollectorRegistry()
        self.report = ScorerTelemetry(ScorerMetrics(self.registry))
        self.model = load(directory, public_key)
        self.report.model_loaded(self.model, first=True)
        self.served = []
        self.reloader = Reloader(
            directory=directory,
            public_key=public_key,
            poll_s=0.01,
            served=lambda: self.model,
            serve=self.serve,
            unfit=lambda new: needs_other_producers(self.model.manifest, new),
            report=self.report,
        )

    def serve(self, model):
        self.model = model
        self.predictor = Predictor(model, Rules())
        self.served.append(model)

    def count(self, outcome):
        return self.registry.get_sample_value("driftline_scorer_model_reloads_total", {"outcome": outcome})

    def refusal(self):
        """Look twice; the reason, after making sure that it is counted once and the old model is untouched."""
        before, refused = self.model, self.count("refused")
        self.reloader.look()
        self.reloader.look()
        assert self.model is before
        assert not self.served
        assert self.count("refused") == refused + 1
        assert self.count("loaded") == 0
        state = self.reloader.state()
        assert state["state"] == "refused"
        assert state["since"]
        return state["reason"]


@pytest.fixture
def watched(tmp_path):
    """Version 1.0.0 on disk and served."""
    write(tmp_path / "model", 0)
    return Watched(tmp_path / "model")


def test_a_changed_bundle_is_served_and_said_so(watched):
    """The new version, its own probabilities, one count, and one model_info series."""
    estimator = write(watched.directory, 1)
    watched.reloader.look()
    watched.reloader.look()
    assert [m.manifest.version for m in watched.served] == ["1.0.1"]
    columns = bundles.columns(20)
    assert np.allclose(watched.model.predict(columns), estimator.predict_proba(columns.frame())[:, 1], atol=1e-12)
    assert (watched.count("loaded"), watched.count("refused")) == (1, 0)
    info = [
        s.labels["version"] for m in watched.registry.collect() for s in m.samples if m.name == "driftline_model_info"
    ]
    assert info == ["1.0.1"]
    assert watched.reloader.state() == {"state": "watching", "reason": None, "since": None}


def test_models_that_were_replaced_leave_nothing_behind(watched):
    """What only they had is gone, although the process collects garbage rarely."""
    gc.disable()
    try:
        types = []
        for number in range(1, 5):
            write(watched.directory, number)
            watched.reloader.look()
            # a decoder's type is the kind of object that only the collector can free
            types.append(weakref.ref(watched.predictor._own.decoder._forms[0]._tree.lenient_type))
        assert [reference() is None for reference in types] == [True, True, True, False]
    finally:
        gc.enable()


def test_a_touched_file_under_the_same_manifest_changes_nothing(watched):
    """The manifest's bytes are the bundle: what is served was verified when it was loaded."""
    (watched.directory / "model.joblib").write_bytes(b"anything")
    watched.reloader.look()
    assert not watched.served
    assert watched.reloader.state()["state"] == "watching"


def test_a_new_models_categories_are_counted_from_zero(watched):
    """A categorical feature that comes with a new bundle has its series before the first unseen value."""
    features = (*FEATURES, Feature(name="region", kind="categorical", categories=("north",), nullable=True))
    watched.report.model_loaded(
        type(watched.model)(
            watched.model.manifest.model_copy(update={"features": features}),
            "ab",
            False,
            watched.model.predict,
            "x",
            "",
        ),
        first=False,
    )
    name = "driftline_scorer_unseen_categories_total"
    assert watched.registry.get_sample_value(name, {"feature": "region"}) == 0
    assert watched.registry.get_sample_value(name, {"feature": "contract"}) == 0


class Exits:
    """Unpickling it exits the interpreter."""

    def __reduce__(self):
        return sys.exit, (3,)


class Raises(type(BASE)):
    """A pipeline that fails on every frame."""

    def predict_proba(self, frame):  # noqa: ARG002 - scikit-learn's name
        raise ZeroDivisionError("cannot\nscore")


def _truncate(directory):
    write(directory, 1)
    path = directory / "model.joblib"
    path.write_bytes(path.read_bytes()[:-7])


def _wrong_hash(directory):
    write(directory, 1)
    path = directory / "model.joblib"
    path.write_bytes(path.read_bytes()[:-1] + b"!")


def _other_features(directory):
    features = tuple(f.model_copy(update={"nullable": False}) if f.name == "total_charges" else f for f in FEATURES)
    write(directory, 1, features=features)


def _raising(directory):
    estimator = versioned(1)
    raising = Raises(estimator.steps)
    bundles.write(directory, estimator, model=bundles.pickled(raising), version="1.0.1")


def _other_golden(directory):
    golden = bundles.manifest(versioned(1)).golden
    write(directory, 1, golden=Golden(rows=golden.rows, probabilities=(0.123,)))


DEFECTS = {
    "truncated": (_truncate, "model.joblib: "),
    "wrong hash": (_wrong_hash, "model.joblib: sha256 differs"),
    "other features": (
        _other_features,
        "restart with producers updated: total_charges is required and could be missing",
    ),
    "other mapping": (
        lambda d: write(d, 1, event=EventMapping(customer_id="")),
        "restart with producers updated: the event mapping",
    ),
    "raises": (_raising, "ZeroDivisionError: cannot score"),
    "exits": (lambda d: bundles.write(d, BASE, model=pickle.dumps(Exits()), version="1.0.1"), "SystemExit: 3"),
    "other golden rows": (_other_golden, "golden rows differ"),
    "no manifest": (lambda d: (d / "manifest.json").unlink(), "manifest.json"),
    "no directory": (shutil.rmtree, "manifest.json"),
    "not JSON": (lambda d: (d / "manifest.json").write_text("{"), "manifest.json"),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_whatever_is_wrong_with_a_new_bundle_the_old_model_serves_on(watched, defect):
    """Refused once, with a reason of one line that names the file or the input."""
    spoil, words = DEFECTS[defect]
    spoil(watched.directory)
    reason = watched.refusal()
    assert words in reason
    assert len(reason.splitlines()) == 1


def test_a_refused_bundle_is_tried_again_when_any_of_its_files_changes(watched):
    """Truncated, then mended under the same manifest: served."""
    write(watched.directory, 1)
    path = watched.directory / "model.joblib"
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    watched.refusal()
    path.write_bytes(whole)
    watched.reloader.look()
    assert [m.manifest.version for m in watched.served] == ["1.0.1"]
    assert watched.reloader.state()["state"] == "watching"


def test_going_back_to_the_served_bundle_ends_the_refusal(watched, tmp_path):
    """/health is about the bundle that is there now."""
    shutil.copytree(watched.directory, tmp_path / "good")
    _truncate(watched.directory)
    watched.refusal()
    shutil.rmtree(watched.directory)
    shutil.copytree(tmp_path / "good", watched.directory)
    watched.reloader.look()
    assert not watched.served
    assert watched.reloader.state() == {"state": "watching", "reason": None, "since": None}


def test_with_a_public_key_only_a_signed_bundle_replaces_a_signed_one(tmp_path):
    """Unsigned and wrongly signed are refused; the signature alone makes the same bundle acceptable."""
    directory, key = tmp_path / "model", Ed25519PrivateKey.generate()
    public = tmp_path / "public.pem"
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))

    def sign(by):
        (directory / "manifest.sig").write_bytes(by.sign((directory / "manifest.json").read_bytes()))

    write(directory, 0)
    sign(key)
    watched = Watched(directory, public)
    write(directory, 1)
    assert "manifest.sig: missing" in watched.refusal()
    sign(Ed25519PrivateKey.generate())
    assert "manifest.sig: not a signature" in watched.refusal()
    sign(key)
    watched.reloader.look()
    assert [m.manifest.version for m in watched.served] == ["1.0.1"]
    assert watched.model.signed


@pytest.mark.row(19)
def test_a_bundle_that_is_replaced_while_it_is_read_is_the_old_or_the_new_one(watched):
    """Against a writer that never rests: every model served is whole, and the last one written is served in the end."""
    last, ended = 40, threading.Event()

    def writer():
        for number in range(1, last + 1):
            write(watched.directory, number)
        ended.set()

    thread = threading.Thread(target=writer)
    thread.start()
    while not ended.is_set():
        watched.reloader.look()
    thread.join()
    for _ in range(TORN_READS + 2):
        watched.reloader.look()
    columns = bundles.columns(20)
    assert watched.served
    for model in watched.served:
        number = int(model.manifest.version.rpartition(".")[2])
        expected = versioned(number).predict_proba(columns.frame())[:, 1]
        assert np.allclose(model.predict(columns), expected, atol=1e-12), model.manifest.version
    assert watched.model.manifest.version == f"1.0.{last}"


def test_a_bundle_caught_between_two_files_is_not_called_refused(watched, monkeypatch):
    """A writer was seen at work: the next poll decides, and only a bundle that stays broken is counted."""
    write(watched.directory, 1)
    path = watched.directory / "model.joblib"
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])

    def load_while_it_is_written(directory, key):
        try:
            return load(directory, key)
        finally:
            path.write_bytes(whole)

    monkeypatch.setattr("scorer.reload.load", load_while_it_is_written)
    watched.reloader.look()
    assert watched.count("refused") == 0
    assert watched.reloader.state()["state"] == "watching"
    watched.reloader.look()
    assert [m.manifest.version for m in watched.served] == ["1.0.1"]


def _manifest(*features, event=None):
    return bundles.manifest(BASE, features=features, **({"event": event} if event else {}))


AGE = Feature(name="age", kind="numeric")


@pytest.mark.parametrize(
    ("old", "new", "requirement"),
    [
        ((AGE,), (AGE,), None),
        ((AGE, Feature(name="b", kind="boolean")), (AGE,), None),
        ((AGE,), (AGE, Feature(name="b", kind="boolean", nullable=True)), None),
        ((AGE,), (Feature(name="age", kind="numeric", nullable=True),), None),
        ((AGE,), (Feature(name="years", kind="numeric", from_="age"),), None),
        ((AGE,), (Feature(name="age", kind="numeric", min=18),), None),
        ((AGE,), (AGE, Feature(name="b", kind="boolean")), "b is required and did not exist before"),
        ((Feature(name="age", kind="numeric", nullable=True),), (AGE,), "age is required and could be missing"),
        ((AGE,), (Feature(name="age", kind="boolean", nullable=True),), "age is boolean and was numeric"),
        ((AGE,), (Feature(name="age", kind="numeric", from_="years"),), "years is required and did not exist before"),
    ],
)
def test_what_a_new_bundle_may_ask_of_producers(old, new, requirement):
    """Fewer or optional inputs are fine; one that today's events may lack, or hold as another kind, is not."""
    assert new_requirement(_manifest(*old), _manifest(*new)) == requirement


def test_the_thread_polls_and_ends(watched):
    """Started, it finds a new bundle by itself; stopped, it is gone."""
    swapped = threading.Event()
    watched.reloader._serve = lambda model: (watched.serve(model), swapped.set())
    watched.reloader.start()
    write(watched.directory, 1)
    assert swapped.wait(20)
    # the load ends with collecting garbage, which after a whole run of tests takes longer than stop() waits
    wait_until(lambda: watched.reloader.state()["state"] == "watching", "the load is over")
    watched.reloader.stop()
    assert not watched.reloader._thread.is_alive()
    assert json.loads((watched.directory / "manifest.json").read_text())["version"] == "1.0.1"


def test_a_reloader_that_has_ended_says_why(tmp_path):
    """For any end of its thread, /health and the gauge have the reason."""
    write(tmp_path / "model", 0)
    model = load(tmp_path / "model", None)

    def refresh():
        raise MemoryError("no room\nfor a model")

    report = ScorerTelemetry(ScorerMetrics(CollectorRegistry()))
    reloader = Reloader(
        directory=tmp_path / "model",
        public_key=None,
        poll_s=0.01,
        served=lambda: model,
        serve=lambda _: None,
        unfit=lambda _: None,
        report=report,
        refresh=refresh,
    )
    assert reloader.failure is None
    reloader.start()
    wait_until(lambda: reloader.failure is not None, "the thread has ended")
    assert reloader.failure == "MemoryError: no room for a model"


def test_a_bundle_of_another_task_is_not_served_in_place_of_this_one(tmp_path):
    """Consumers of the predictions read other members; and a challenger has the champion's task."""
    one, other = bundles.write(tmp_path / "a"), bundles.write_regression(tmp_path / "b", version="2.0.0")
    assert needs_other_producers(one, other) == "restart with consumers updated: task is regression and was binary"
    assert needs_other_producers(other, one) == "restart with consumers updated: task is binary and was regression"
    assert needs_other_producers(other, other) is None
    line = unfit_challenger(one, other)
    assert line == "task of churn-small 2.0.0 is regression, and the champion's is binary"
    line = unfit_challenger(other, one)
    assert line == "task of churn-small 1.4.0 is binary, and the champion's is regression"
    assert unfit_challenger(other, other.model_copy(update={"version": "2.1.0"})) is None
