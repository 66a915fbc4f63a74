"""A regression on a real Kafka: values in and out of the topics, drift of the value, and what is refused."""

from __future__ import annotations

import json
import time
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
    DATA,
    LABELLED,
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

RATE = 200  # events per second of event time
SECONDS = 30
DAY = 86_400_000


@pytest.fixture(scope="module")
def charges(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle that predicts the monthly charges of the real customers."""
    return write_task("regression", tmp_path_factory.mktemp("charges") / "model")


@pytest.fixture
def stage(broker: Broker, topic_prefix: str, charges: Path, tmp_path: Path) -> Iterator[Stage]:
    """Topics of this test's own, with the regression as the model."""
    stage = Stage(broker, topic_prefix, charges, tmp_path)
    yield stage
    stage.reader.close()


@pytest.mark.parametrize("mode", ["shadow", "split"])
def test_values_are_scored_verified_watched_exported_and_compared(
    stage: Stage, charges: Path, mode: str, long: bool
) -> None:
    """Every event has its value; customers with DSL get fibre, and only then the value drifts.

    A challenger in the shadow (--long: that answers four in ten customers), which knows less of the customers, is not
    better. Of the labels, a candidate is trained.
    """
    if mode == "split" and not long:
        pytest.skip("only with --long")
    challenger = write_task("regression", stage.folder / "challenger", "2.0.0", ("internet_service", "tenure"))
    start_ms = (time.time_ns() // 1_000_000 - 600_000) // 15_000 * 15_000
    source = stage.source(drifts=["internet_service:swap=DSL>Fiber optic:1@10s..30s"])
    shares = {"SCORER_CHALLENGER_MODE": "split:40"} if mode == "split" else {}
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
        _assert_drift(stage, worker, start_ms)
        answer = worker.get("/performance").json()
        assert (answer["cohorts"], answer["evaluating"]) == ([], True)
        assert worker.get("/health").json()["status"] == "healthy"
        event = next(json.loads(one) for _, one, *_ in records if mode == "shadow" or not _challengers(json.loads(one)))
        asked = httpx.post(f"http://127.0.0.1:{scorer.port}/predict", json=event, timeout=60).json()
        assert scorer.metric("driftline_scorer_value_bucket", le="+Inf") == SECONDS * RATE
        assert scorer.metric("driftline_scorer_probability_count") == 0.0
        answers = scorer.get("/openapi.json").json()["paths"]["/predict"]["post"]["responses"]["200"]
        assert "value" in json.dumps(answers)
        challenged = answered_by_challenger(scorer, mode, SECONDS * RATE)
        assert scorer.stop() == 0
        assert worker.stop() == 0
    streamed = {}
    for partition in range(4):
        for _, value in stage.records(stage.names.predictions, partition):
            streamed[json.loads(value)["event_id"]] = json.loads(value)
    assert len(streamed) == SECONDS * RATE
    assert asked == {name: streamed[event["event_id"]][name] for name in asked}
    assert set(asked) == {"value", "interval", "model", "event_id", "customer_id"}
    assert_predicted(stage, event, asked)
    verified = stage.driftline("verify", "--model", str(charges), "--json")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    found = json.loads(verified.stdout)
    checked = SECONDS * RATE - challenged
    assert (found["answer"], found["scores_checked"], found["faults"]["wrong_scores"]) == ("yes", checked, 0)
    target = ("--data", str(DATA), "--target", "monthly_charges")
    evaluated = stage.driftline("evaluate", "--model", str(charges), *target, "--json")
    assert evaluated.returncode == 0, evaluated.stderr
    assert json.loads(evaluated.stdout)["data"]["rows"] == 7043
    assert_exported(stage, streamed, lambda one: round(one["value"]) + 0.5)
    if mode == "split":
        _split(stage, streamed, challenged)
        return
    _compared(stage, streamed, challenger)
    assert assert_retrained(stage, "regression").error_curve is not None


def _assert_drift(stage: Stage, worker: Service, start_ms: int) -> None:
    """Require that the value is calm before the tenth second, and drifts after it; the page has it."""
    fired = [a for a in alerts_of(stage) if a["labels"]["alertname"] == "PredictionDrift"]
    assert [alert["status"] for alert in fired] == ["firing"]
    scores = {m["window"]["start"]: m["score"] for m in measurements_of(stage) if m["window"]["length"] == "5s"}
    calm, moved = (scores[render(start_ms + second * 1000)] for second in (5, 20))
    assert calm["ks"] < 0.1 < moved["ks"]
    assert calm["mean"] == pytest.approx(64.8, abs=3.0)
    assert moved["mean"] > calm["mean"] + 4.0
    assert (moved["reference_mean"], moved["positive_ratio"]) == (pytest.approx(64.76, abs=0.1), None)
    assert "the score moved: " in worker.get("/drift.html").text


def _challengers(one: dict) -> bool:
    """Return whether an event or a prediction is of a customer whom the challenger answers in a split."""
    return is_challengers(one["customer_id"], b"charges-telco", 40)


def _split(stage: Stage, streamed: dict, challenged: float) -> None:
    """Require that each customer has the answers of one model, and that `compare` finds both sides' errors."""
    theirs = [one for one in streamed.values() if one["model"]["version"] == "2.0.0"]
    assert 0.35 < challenged / (SECONDS * RATE) < 0.45
    assert len(theirs) == challenged
    for one in streamed.values():
        assert _challengers(one) == (one["model"]["version"] == "2.0.0")
    options = ("--horizon", "1s", "--min-customers", "60", "--json", "--challenger", "charges-telco@2.0.0")
    said = json.loads(stage.driftline("compare", *options).stdout)
    assert (said["mode"], said["coverage"], said["comparison"]["metric"]) == ("split", None, "mae")
    assert said["comparison"]["champion"] > 0


def _compared(stage: Stage, streamed: dict, challenger: Path) -> None:
    """Require that the shadow has the same events with values of its own, and `compare` the errors of both."""
    shadows = {}
    for partition in range(4):
        for _, value in stage.records(stage.names.shadow, partition):
            shadows[json.loads(value)["event_id"]] = json.loads(value)
    assert shadows.keys() == streamed.keys()
    of_prediction = {"prediction_id", "customer_id", "event_time", "value", "interval", "model"}
    for event_id, one in shadows.items():
        assert set(one) == set(streamed[event_id]) > of_prediction
        assert one["model"] == {"name": "charges-telco", "version": "2.0.0"}
        assert one["prediction_id"] == streamed[event_id]["prediction_id"]
    options = ("--horizon", "1s", "--min-customers", str(LABELLED), "--json")
    asked = stage.driftline("compare", *options)
    assert asked.returncode == 1, asked.stderr
    said = json.loads(asked.stdout)
    assert (said["verdict"], said["mode"]) == ("not_better", "shadow")
    assert said["coverage"] == {"champion": SECONDS * RATE, "both": SECONDS * RATE}
    known = list(streamed)[:LABELLED]
    told = [round(streamed[event_id]["value"]) + 0.5 for event_id in known]
    ours, theirs = (
        sk.mean_absolute_error(told, [side[event_id]["value"] for event_id in known]) for side in (streamed, shadows)
    )
    found = said["comparison"]
    assert (found["metric"], found["customers"], said["also"][0]["metric"]) == ("mae", LABELLED, "rmse")
    assert (found["champion"], found["challenger"]) == pytest.approx((ours, theirs), rel=1e-12)
    assert found["advantage"] == pytest.approx(1 - theirs / ours, rel=1e-12)
    refused = stage.driftline("compare", "--metric", "accuracy")
    assert (refused.returncode, "task of the models is regression" in refused.stderr) == (2, True)
    assert_judged_by_topics(stage, challenger)


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


def _value(manifest: Manifest, name: str, customer: str, version: str, at_ms: int, value: float) -> bytes:
    """Return a prediction as a scorer writes it."""
    (raw,) = encoder_of(ModelRef(manifest.name, version), manifest.predicts).encode(
        [name], [name], [customer], [render(at_ms)], render(at_ms), [value]
    )
    return raw


def _history(stage: Stage, manifest: Manifest, start_ms: int) -> tuple[list, dict]:
    """Return four days of predictions and labels by two versions, and by day and version the outcomes and values.

    The error is that of held-out customers, then twice as large. Every fifth prediction has no label.
    """
    draw, pending, truth = np.random.default_rng(8), [], {}
    for day in range(4):
        for number in range(400):
            version = manifest.version if number % 8 else "0.9.0"
            name, customer = f"e-{day}-{number}", f"c-{day}-{number // 2}"
            at_ms = start_ms + day * DAY + number * 1000
            told = float(draw.gamma(3.0, 20.0))
            value = told + float(draw.normal(0.0, manifest.metrics["mae"] * 1.25 * (1 if day < 2 else 2)))
            raw = _value(manifest, name, customer, version, at_ms, value)
            pending.append((stage.names.predictions, (customer.encode(), raw, [], number % 4)))
            if number % 5 == 0:
                continue
            label = {"customer_id": customer, "label": told, "label_time": render(at_ms + 1000), "prediction_id": name}
            pending.append((stage.names.environment["TOPIC_LABELS"], (b"x", json.dumps(label).encode(), [])))
            truth.setdefault((render(at_ms)[:10], version), []).append((told, value))
    draw.shuffle(pending)
    wrong = {"customer_id": "c-0-0", "label": True, "label_time": render(start_ms)}
    return [(stage.names.environment["TOPIC_LABELS"], (b"x", json.dumps(wrong).encode(), [])), *pending], truth


def _expected(told: np.ndarray, value: np.ndarray, manifest: Manifest) -> dict[str, float]:
    """Return scikit-learn's numbers."""
    around = manifest.residuals
    return {
        "mae": sk.mean_absolute_error(told, value),
        "rmse": sk.root_mean_squared_error(told, value),
        "bias": np.mean(value - told),
        "r2": sk.r2_score(told, value),
        "mape": sk.mean_absolute_percentage_error(told, value),
        "interval_coverage": np.mean((value + around.low <= told) & (told <= value + around.high)),
    }


def test_labels_measure_the_error_whatever_is_killed(stage: Stage) -> None:
    """Four days by two versions, the second half with twice the error, SIGKILLs between: once, and as scikit-learn."""
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
    late = _value(manifest, "z", "z", "1.0.0", start_ms + 8 * DAY, 1.0)
    send(stage.bootstrap, stage.names.predictions, [(b"z", late, [])])
    worker = _joining(stage, "third")
    try:
        wait_until(lambda: len(final()) >= 8, "four days are final for both versions")
    finally:
        worker.kill()
    with _joining(stage, "last") as last:
        wait_until(lambda: last.reasons() is not None, "it answers")
        wait_until(lambda: len(last.get("/performance").json()["cohorts"]) == 9, "the last one has them, too")
        assert last.metric("driftline_model_mae", status="final", version="1.0.0") > 1.5 * manifest.metrics["mae"]
        # the values are as in training, and promise no more error than there
        promised = last.metric("driftline_model_estimated_mae", status="final", version="1.0.0")
        assert 0.5 * manifest.metrics["mae"] < promised < 1.5 * manifest.metrics["mae"]
        for name in ("rmse", "bias", "r2", "interval_coverage_ratio"):
            assert last.metric(f"driftline_model_{name}", status="final") != 0, name
        assert last.metric("driftline_model_label_coverage_ratio", status="final", outcome="positive") == 0
        assert last.stop() == 0
    assert len(final()) == 8
    for cohort in final():
        told, value = map(np.array, zip(*truth[cohort["cohort"]["day"], cohort["model_version"]], strict=True))
        expected = _expected(told, value, manifest)
        assert set(cohort["metrics"]) == set(expected)
        for name, number in expected.items():
            assert cohort["metrics"][name]["value"] == pytest.approx(number, rel=1e-12, abs=1e-12), name
        assert cohort["coverage"] == {"all": len(told) / cohort["predictions"]}
    states = [c["state"] for c in final() if c["model_version"] == "1.0.0"]
    assert states == ["inactive", "inactive", "critical", "critical"]
    (fired,) = [a for a in alerts_of(stage) if a["labels"]["alertname"] == "PerformanceDrop"]
    assert (fired["labels"]["severity"], fired["evidence"]["drops"][0]["metric"]) == ("critical", "mae")
    assert {drop["against"] for drop in fired["evidence"]["drops"]} == {"expected", "estimated"}


def _wait_joining(worker: Service) -> None:
    """Return when it answers and has read the one record that is no label."""
    wait_until(lambda: worker.reasons() is not None, "it answers")
    wait_until(lambda: worker.metric("driftline_model_labels_total") > 0, "it joins")
