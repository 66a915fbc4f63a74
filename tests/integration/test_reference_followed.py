"""A drift worker follows the model that the scorer serves, on a real Kafka; where it cannot, it is not ready."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import joblib
import pytest
from support.drifting import alerts_of, measurements_of, own_topics, start_worker
from support.oracle import send
from support.services import Service
from support.stage import Stage
from support.waiting import wait_until

from drift_worker.session import OTHER_MODEL_S
from schemas.bundle.files import write_bundle
from schemas.bundle.manifest import parse_manifest
from schemas.reference import Reference
from schemas.timestamps import render

RATE = 200  # events a second of event time
MINUTE_S = 60.0


def _new_version(original: Path, directory: Path, version: str) -> None:
    """The same model as another version, with half of the rows as its reference."""
    manifest = parse_manifest((original / "manifest.json").read_bytes())
    rows = Reference.from_bytes((original / "reference.npz").read_bytes())
    half = len(rows.score) // 2
    reference = Reference(rows.numeric[:half], rows.codes[:half], rows.score[:half], rows.singletons)
    files = {"model.joblib": (original / "model.joblib").read_bytes(), "reference.npz": reference.to_bytes()}
    assert joblib.load(original / "model.joblib") is not None
    write_bundle(directory, manifest.model_copy(update={"version": version}), files)


def _version(service: Service) -> str:
    return service.get("/health").json()["model"]["version"]


class Customers:
    """Seconds of customers, one after the other."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._source = stage.source()
        self._start_ms = (time.time_ns() // 1_000_000 - 900_000) // 15_000 * 15_000
        self._sent_s = time.monotonic()
        self.seconds = 0

    def send(self, seconds: int) -> None:
        """Send this many seconds more, half a minute ahead of the clock of an idle topic: windows close meanwhile."""
        self.seconds += int(time.monotonic() - self._sent_s) // 15 * 15 + 45
        for _ in range(seconds):
            batch = self._source.take(RATE, float(self.seconds), self._start_ms + self.seconds * 1000)
            send(self._stage.bootstrap, self._stage.names.events, batch)
            self.seconds += 1
        self._sent_s = time.monotonic()

    def wait_measured(self, worker: Service, version: str, seconds: int) -> None:
        """Until all scores of the last `seconds` are in windows of 5 s that are measured with this version."""
        since = render(self._start_ms + (self.seconds - seconds) * 1000)

        def scores() -> int:
            return sum(
                m["score"]["events"]
                for m in measurements_of(self._stage)
                if m["window"]["length"] == "5s" and m["model_version"] == version and m["window"]["start"] >= since
            )

        wait_until(lambda: scores() >= seconds * RATE, f"{seconds * RATE} scores\n{worker.tail()}", 300.0)
        assert scores() == seconds * RATE


@pytest.mark.timeout(900)
def test_the_worker_follows_the_scorers_model(stage: Stage) -> None:
    """Another version in SCORER_MODEL: its scores are counted without a restart, and a restart changes nothing.

    A worker whose DRIFT_REFERENCE stays the old version is not ready after a minute (here 5 s), and names the reason.
    """
    bundle = stage.folder / "served"
    shutil.copytree(stage.bundle, bundle)
    stage.bundle, original = bundle, stage.bundle
    old = parse_manifest((original / "manifest.json").read_bytes()).version
    other = own_topics(stage, "left")
    poll = {"SCORER_MODEL_POLL": "200ms"}
    customers = Customers(stage)
    with (
        stage.scorer(**poll) as scorer,
        start_worker(stage, "followed", **poll) as worker,
        start_worker(
            stage,
            "left",
            hurry={"drift_worker.session.OTHER_MODEL_S": 5},
            DRIFT_REFERENCE=str(original),
            **poll,
            **other,
        ) as left,
    ):
        for service in (scorer, worker, left):
            service.wait_ready()
        customers.send(30)
        customers.wait_measured(worker, old, 30)

        _new_version(original, bundle, "9.0.0")
        for service in (scorer, worker, left):
            assert service.get("/livez").status_code == 200
        for service in (scorer, worker):
            wait_until(lambda service=service: _version(service) == "9.0.0", f"followed\n{service.tail()}", 300.0)
        worker.wait_ready()
        assert worker.metric("driftline_drift_part_up", part="reference") == 1.0
        customers.send(30)
        customers.wait_measured(worker, "9.0.0", 30)
        refused = worker.metric("driftline_drift_refused_events_total", reason="other_model")
        assert refused == 0.0

        assert OTHER_MODEL_S <= MINUTE_S  # what `left` has 5 s of
        wait_until(lambda: left.get("/readyz").status_code == 503, f"other_model\n{left.tail()}", 3 * MINUTE_S)
        assert "other_model" in left.get("/readyz").json()["reasons"]
        assert left.get("/health").json()["degraded"] == ["other_model", "scores"]
        assert left.metric("driftline_drift_part_up", part="scores") == 0.0

        worker.kill()
    with stage.scorer(**poll) as scorer, start_worker(stage, "again", **poll) as worker:
        worker.wait_ready()
        scorer.wait_ready()
        customers.send(15)
        customers.wait_measured(worker, "9.0.0", 15)
    whole = [m for m in measurements_of(stage) if m["features"]]
    starts = [(m["window"]["length"], m["window"]["start"]) for m in whole]
    assert len(starts) == len(set(starts))
    assert sum(m["sample"]["events"] for m in whole if m["window"]["length"] == "5s") == 75 * RATE
    assert {alert["labels"]["alertname"] for alert in alerts_of(stage)} <= {"NoData"}  # of the time between
