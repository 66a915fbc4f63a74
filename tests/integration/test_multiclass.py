"""A model of several classes on a real Kafka: classes in and out of the topics, their drift, measured quality."""

from __future__ import annotations

import json
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from sklearn import metrics as sk
from support.brokers import Broker
from support.drifting import alerts_of, measurements_of, start_worker
from support.oracle import send
from support.services import Service
from support.stage import Stage
from support.telco_tasks import (
    answered_by_challenger,
    assert_exported,
    assert_judged_by_topics,
    assert_predicted,
    assert_retrained,
    write_task,
)
from support.waiting import wait_until

from schemas.bundle.manifest import Manifest, parse_manifest
from schemas.prediction import ModelRef, encoder_of
from schemas.timestamps import render
from scorer.challenger.split import is_challengers

RATE, SECONDS = 200, 30  # events per second of event time
DAY = 86_400_000


@pytest.fixture(scope="module")
def payments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle that predicts how the real customers pay."""
    return write_task("multiclass", tmp_path_factory.mktemp("payments") / "model")


@pytest.fixture
def stage(broker: Broker, topic_prefix: str, payments: Path, tmp_path: Path) -> Iterator[Stage]:
    """Topics of this test's own, with the four classes as the model."""
    stage = Stage(broker, topic_prefix, payments, tmp_path)
    yield stage
    stage.reader.close()


@pytest.mark.parametrize("mode", ["split", "shadow"])
def test_classes_are_scored_verified_watched_exported_and_compared(
    stage: Stage, payments: Path, mode: str, long: bool
) -> None:
    """Every event has its class; customers get contracts of two years, and fewer are predicted to pay by check.

    A challenger answers a fifth of the customers, or (--long) all of them in the shadow. Drift is that of the
    champion's answers. Of the labels, a candidate is trained that has one class more.
    """
    if mode == "shadow" and not long:
        pytest.skip("only with --long")
    challenger = write_task("multiclass", stage.folder / "challenger", "2.0.0", ("monthly_charges",))
    start_ms = (time.time_ns() // 1_000_000 - 600_000) // 15_000 * 15_000
    source = stage.source(drifts=["contract:swap=Month-to-month>Two year:1@10s..30s"])
    shares = {"SCORER_CHALLENGER_MODE": "split:20"} if mode == "split" else {}
    with stage.scorer(SCORER_CHALLENGER=str(challenger), **shares) as scorer, start_worker(stage, "drift") as worker:
        scorer.wait_ready()
        worker.wait_ready()
        wait_until(lambda: scorer.get("/health").json()["challenger"]["model"] is not None, "a challenger", 240.0)
        for second in range(SECONDS):
            records = source.take(RATE, float(second), start_ms + second * 1000)
            send(stage.bootstrap, stage.names.events, records)

        def measured() -> bool:
            ends = [m["window"]["end"] for m in measurements_of(stage) if m["window"]["length"] == "5s"]
            return bool(ends) and max(ends) >= render(start_ms + (SECONDS - 5) * 1000)

        wait_until(measured, "the last whole window of 5 s was measured")
        assert scorer.get("/health").json()["model"]["form"] == "direct"
        _assert_drift(stage, worker, start_ms)
        event = next(one for _, one, *_ in records if not _challengers(json.loads(one)["customer_id"]))
        event = json.loads(event)
        asked = httpx.post(f"http://127.0.0.1:{scorer.port}/predict", json=event, timeout=60).json()
        by_class = {
            name: scorer.metric("driftline_scorer_predictions_total", predicted=name)
            for name in parse_manifest((payments / "manifest.json").read_bytes()).classes or ()
        }
        assert scorer.metric("driftline_scorer_probability_count") == SECONDS * RATE
        challenged = answered_by_challenger(scorer, mode, SECONDS * RATE)
        assert "probabilities" in json.dumps(scorer.get("/openapi.json").json()["paths"]["/predict"])
        assert scorer.stop() == 0
        assert worker.stop() == 0
    streamed = _answers(stage, by_class, challenged)
    assert asked == {name: streamed[event["event_id"]][name] for name in asked}
    assert set(asked) == {"label", "probability", "probabilities", "model", "event_id", "customer_id"}
    assert_predicted(stage, event, asked)
    verified = stage.driftline("verify", "--model", str(payments), "--json")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    found = json.loads(verified.stdout)
    champions = SECONDS * RATE - challenged
    assert (found["answer"], found["scores_checked"], found["faults"]["wrong_scores"]) == ("yes", champions, 0)
    assert_exported(
        stage, streamed, lambda one: one["label"] if zlib.crc32(one["event_id"].encode()) % 3 else "Voucher"
    )
    _compare(stage, mode)
    if mode == "split":
        assert_judged_by_topics(stage, challenger)
        retrained = assert_retrained(stage, "multiclass")
        assert set(retrained.classes or ()) == {
            *(parse_manifest((payments / "manifest.json").read_bytes()).classes or ()),
            "Voucher",
        }


def _assert_drift(stage: Stage, worker: Service, start_ms: int) -> None:
    """Require that the predicted classes are calm before the tenth second, and drift after it; the page has it."""
    fired = [a for a in alerts_of(stage) if a["labels"]["alertname"] == "PredictionDrift"]
    assert [alert["status"] for alert in fired] == ["firing"]
    scores = {m["window"]["start"]: m["score"] for m in measurements_of(stage) if m["window"]["length"] == "5s"}
    calm, moved = (scores[render(start_ms + second * 1000)] for second in (5, 20))
    assert calm["linf"] < 0.1 < moved["linf"]
    assert moved["tests"]["chi2"] < -6 < calm["tests"]["chi2"]
    assert {"psi", "ks", "chi2"} <= set(moved["tests"])
    assert calm["ks"] < 0.1
    assert calm["positive_ratio"] is None
    assert "the score moved: " in worker.get("/drift.html").text


def _answers(stage: Stage, by_class: dict, challenged: float) -> dict:
    """Return the predictions by event: a distribution each, by the model of the customer's side."""
    streamed = {}
    for partition in range(4):
        for _, value in stage.records(stage.names.predictions, partition):
            streamed[json.loads(value)["event_id"]] = json.loads(value)
    assert len(streamed) == SECONDS * RATE
    assert Counter(one["label"] for one in streamed.values()) == by_class
    for one in streamed.values():
        assert one["probabilities"][one["label"]] == one["probability"] == max(one["probabilities"].values())
        assert sum(one["probabilities"].values()) == pytest.approx(1.0, abs=1e-9)
        theirs = challenged and _challengers(one["customer_id"])
        assert one["model"]["version"] == ("2.0.0" if theirs else "1.0.0")
    assert not challenged or 0.15 < challenged / (SECONDS * RATE) < 0.25
    assert sum(one["model"]["version"] == "2.0.0" for one in streamed.values()) == challenged
    return streamed


def _compare(stage: Stage, mode: str) -> None:
    """Require that `compare` decides by the accuracy of both sides' customers, or of the same ones."""
    options = ("--horizon", "1s", "--min-customers", "40", "--json", "--challenger", "payment-telco@2.0.0")
    compared = stage.driftline("compare", *options)
    assert compared.returncode == 1, compared.stderr
    said = json.loads(compared.stdout)
    both = {"champion": SECONDS * RATE, "both": SECONDS * RATE}
    assert (said["verdict"], said["mode"]) == ("not_better", mode)
    assert said["coverage"] == (None if mode == "split" else both)
    assert (said["comparison"]["metric"], said["also"][0]["metric"]) == ("accuracy", "f1_macro")
    assert 0.5 < said["comparison"]["champion"] < 0.8


def _challengers(customer: str) -> bool:
    return is_challengers(customer, b"payment-telco", 20)


def _joining(stage: Stage, name: str) -> Service:
    return Service(
        "drift_worker",
        {
            "KAFKA_BOOTSTRAP_SERVERS": stage.bootstrap,
            "SCORER_MODEL": str(stage.bundle),
            **stage.names.environment,
            "DRIFT_LABEL_HORIZON": "1d",
            "DRIFT_MIN_EVENTS": "150",
        },
        stage.folder / f"{name}.log",
        {
            "drift_worker.stages.evaluate_cohorts.RETRY_S": 0.5,
            "drift_worker.stages.evaluate_cohorts.LEAST_INTERVAL_S": 0.5,
        },
    )


def _value(manifest: Manifest, name: str, customer: str, at_ms: int, shares: list[float]) -> bytes:
    """Return a prediction as a scorer writes it."""
    (raw,) = encoder_of(ModelRef(manifest.name, manifest.version), manifest.predicts).encode(
        [name], [name], [customer], [render(at_ms)], render(at_ms), [shares]
    )
    return raw


def _history(stage: Stage, manifest: Manifest, start_ms: int) -> tuple[list, dict]:
    """Return three days of predictions and labels, and by day the outcomes and probabilities.

    On the first day seven of ten labels are right, then one of four. Every fifth prediction has no label; one customer
    in fifty pays in a way that the model does not have.
    """
    classes = manifest.classes or ()
    draw, pending, truth = np.random.default_rng(9), [], {}
    for day in range(3):
        for number in range(500):
            name, customer = f"e-{day}-{number}", f"c-{day}-{number // 2}"
            at_ms = start_ms + day * DAY + number * 1000
            shares = draw.dirichlet(np.ones(len(classes))).tolist()
            right = draw.random() < (0.6 if day == 0 else 0.0)
            code = int(np.argmax(shares)) if right else int(draw.integers(len(classes)))
            told = "Voucher" if number % 50 == 7 else classes[code]
            raw = _value(manifest, name, customer, at_ms, shares)
            pending.append((stage.names.predictions, (customer.encode(), raw, [], number % 4)))
            if number % 5 == 0:
                continue
            label = {"customer_id": customer, "label": told, "label_time": render(at_ms + 1000), "prediction_id": name}
            pending.append((stage.names.environment["TOPIC_LABELS"], (b"x", json.dumps(label).encode(), [])))
            truth.setdefault(render(at_ms)[:10], []).append((told, shares))
    draw.shuffle(pending)
    return pending, truth


def _expected(rows: list[tuple[str, list[float]]], classes: tuple[str, ...]) -> dict[str, float]:
    """Return scikit-learn's numbers."""
    told, shares = [told for told, _ in rows], np.array([shares for _, shares in rows])
    said = [classes[code] for code in shares.argmax(axis=1)]
    known = np.array([one in classes for one in told])
    codes = np.array([classes.index(one) for one in told if one in classes])
    means = {"average": "macro", "zero_division": 0}
    return {
        "accuracy": sk.accuracy_score(told, said),
        "precision_macro": sk.precision_score(told, said, **means),
        "recall_macro": sk.recall_score(told, said, **means),
        "f1_macro": sk.f1_score(told, said, **means),
        "roc_auc_ovr": sk.roc_auc_score(codes, shares[known], multi_class="ovr"),
        "log_loss": sk.log_loss(codes, shares[known]),
    }


def test_labels_measure_the_classes_whatever_is_killed(stage: Stage) -> None:
    """Three days, SIGKILLs between: each cohort once, as scikit-learn, and one episode."""
    manifest = parse_manifest((stage.bundle / "manifest.json").read_bytes())
    start_ms = time.time_ns() // 1_000_000 // DAY * DAY - 12 * DAY
    pending, truth = _history(stage, manifest, start_ms)

    def final() -> list[dict]:
        records = stage.records(stage.names.environment["TOPIC_MEASUREMENTS"])
        return [json.loads(value) for key, value in records if key == f"{manifest.name}/performance".encode()]

    for number, part in enumerate((pending[:1400], pending[1400:])):
        for topic in {topic for topic, _ in part}:
            send(stage.bootstrap, topic, [record for where, record in part if where == topic])
        worker = _joining(stage, f"life-{number}")
        try:
            _wait_joining(worker)
        finally:
            worker.kill()
    late = _value(manifest, "z", "z", start_ms + 8 * DAY, [0.25] * 4)
    send(stage.bootstrap, stage.names.predictions, [(b"z", late, [])])
    worker = _joining(stage, "third")
    try:
        wait_until(lambda: len(final()) >= 3, "three days are final")
    finally:
        worker.kill()
    with _joining(stage, "last") as last:
        wait_until(lambda: last.reasons() is not None, "it answers")
        wait_until(lambda: len(last.get("/performance").json()["cohorts"]) == 4, "the last one has them, too")
        assert 0 < last.metric("driftline_model_f1_macro", status="final") < 0.6
        assert last.metric("driftline_model_auc_ovr", status="final") > 0
        for name in ("accuracy", "f1_macro"):
            assert 0 < last.metric(f"driftline_model_estimated_{name}", status="final") < 1, name
        assert last.stop() == 0
    assert len(final()) == 3
    for cohort in final():
        rows = truth[cohort["cohort"]["day"]]
        for name, number in _expected(rows, manifest.classes).items():
            assert cohort["metrics"][name]["value"] == pytest.approx(number, rel=1e-12, abs=1e-12), name
        assert cohort["labels"]["unseen"] == {"Voucher": sum(told == "Voucher" for told, _ in rows)}
        assert set(cohort["classes"]) == {*manifest.classes, "Voucher"}
        assert set(cohort["estimated_classes"]) == set(manifest.classes)
    assert [c["state"] for c in final()] == ["inactive", "critical", "critical"]
    (fired,) = [a for a in alerts_of(stage) if a["labels"]["alertname"] == "PerformanceDrop"]
    assert {drop["metric"] for drop in fired["evidence"]["drops"]} == {"accuracy", "f1_macro"}


def _wait_joining(worker: Service) -> None:
    """Return when it answers and has read labels."""
    wait_until(lambda: worker.reasons() is not None, "it answers")
    wait_until(lambda: worker.metric("driftline_model_labels_total") > 0, "it joins")
