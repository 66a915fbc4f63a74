"""Another bundle in the reference's place: taken by the rules of the scorer's reload, or refused with the reason."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry
from support import bundles
from support.events import FEATURES

from drift_worker.follow import ReferenceFollower
from drift_worker.metrics import DriftMetrics
from drift_worker.reference import load
from drift_worker.telemetry import DriftTelemetry
from schemas.bundle.manifest import BundleError

BASE = bundles.fitted()


@pytest.fixture
def followed(tmp_path):
    """Version 1.0.0 in a folder, and a follower of it."""
    bundles.write(tmp_path, BASE, version="1.0.0")
    report = DriftTelemetry(DriftMetrics(CollectorRegistry(), ["events"]))
    return tmp_path, load(tmp_path, None), ReferenceFollower(tmp_path, None, lambda: None, report)


def test_another_bundle_is_returned_once(followed):
    """The same manifest is no other reference; a newer one is, until it is the one in use."""
    directory, used, follower = followed
    assert follower.look(used) is None
    bundles.write(directory, BASE, version="1.0.1")
    found = follower.look(used)
    assert found.manifest.version == "1.0.1"
    assert follower.look(found) is None
    assert follower.state() == {"state": "watching", "reason": None, "since": None}


def test_a_damaged_bundle_is_refused_until_its_files_change(followed):
    """The reason names the file; the bundle is not read again and again."""
    directory, used, follower = followed
    bundles.write(directory, BASE, version="1.0.1")
    whole = (directory / "reference.npz").read_bytes()
    (directory / "reference.npz").write_bytes(whole[:-1])
    assert follower.look(used) is None
    refused = follower.state()
    assert (refused["state"], "reference.npz" in refused["reason"]) == ("refused", True)
    assert follower.look(used) is None
    assert follower.state() == refused
    (directory / "reference.npz").write_bytes(whole)
    assert follower.look(used).manifest.version == "1.0.1"
    assert follower.refusal is None


def test_a_bundle_that_a_running_scorer_must_refuse_is_refused_here_too(followed):
    """A feature that could be missing is required now: producers must change first."""
    directory, used, follower = followed
    stricter = tuple(f.model_copy(update={"nullable": False}) for f in FEATURES)
    bundles.write(directory, BASE, version="1.0.1", features=stricter)
    assert follower.look(used) is None
    assert "restart with producers updated" in follower.refusal


def test_a_bundle_that_is_back_ends_the_refusal(followed):
    """The manifest in use is there again."""
    directory, used, follower = followed
    (directory / "manifest.json").rename(directory / "away.json")
    assert follower.look(used) is None
    assert "manifest.json" in follower.refusal
    (directory / "away.json").rename(directory / "manifest.json")
    assert follower.look(used) is None
    assert follower.refusal is None


def test_a_registry_that_does_not_answer_is_a_refusal(followed):
    """The reference in use stays; the reason is the registry's."""
    directory, used, _ = followed

    def refresh():
        raise BundleError("mlflow:models:/churn@champion: no such alias")

    report = DriftTelemetry(DriftMetrics(CollectorRegistry(), ["events"]))
    follower = ReferenceFollower(directory, None, refresh, report)
    assert follower.look(used) is None
    assert follower.refusal == "mlflow:models:/churn@champion: no such alias"
