"""A regression on a real Kafka: values in and out of the topics, drift of the value, and what is refused."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from support.brokers import Broker
from support.drifting import alerts_of, measurements_of, start_worker
from support.oracle import send
from support.stage import Stage
from support.waiting import wait_until

from driftline.training.dataset import read_dataset
from driftline.training.spec import parse_spec
from driftline.training.train import train
from schemas.bundle import write_bundle
from schemas.timestamps import render

DATA = Path("examples/telco_churn.csv")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
RATE = 200  # events per second of event time
SECONDS = 30


def spec_text() -> str:
    """Return the Telco spec with the monthly charges as the target."""
    text = Path("examples/telco.toml").read_text(encoding="utf-8")
    text = text.replace('name = "churn-telco"', 'name = "charges-telco"\ntask = "regression"\nunit = "USD"')
    text = text.replace('target = "churn"', 'target = "monthly_charges"')
    text = re.sub(r"^(threshold|positive|kind = \"logistic_regression\").*\n", "", text, flags=re.MULTILINE)
    for table in ("business", r"features\.monthly_charges", r"features\.total_charges"):
        text = re.sub(rf"\[{table}\][^\[]*", "", text)
    return text


@pytest.fixture(scope="module")
def charges(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle that predicts the monthly charges of the real customers."""
    spec = parse_spec(spec_text())
    trained = train(spec, read_dataset(DATA, spec), NOW)
    directory = tmp_path_factory.mktemp("charges") / "model"
    write_bundle(directory, trained.manifest, trained.files)
    return directory


@pytest.fixture
def stage(broker: Broker, topic_prefix: str, charges: Path, tmp_path: Path) -> Iterator[Stage]:
    """Topics of this test's own, with the regression as the model."""
    stage = Stage(broker, topic_prefix, charges, tmp_path)
    yield stage
    stage.reader.close()


def test_values_are_scored_verified_and_watched(stage: Stage, charges: Path, tmp_path: Path) -> None:
    """Every event has its value; customers with DSL get fibre, and only then the value drifts."""
    start_ms = (time.time_ns() // 1_000_000 - 600_000) // 15_000 * 15_000
    source = stage.source(drifts=["internet_service:swap=DSL>Fiber optic:1@10s..30s"])
    with stage.scorer() as scorer, start_worker(stage, "drift") as worker:
        scorer.wait_ready()
        worker.wait_ready()
        for second in range(SECONDS):
            records = source.take(RATE, float(second), start_ms + second * 1000)
            send(stage.bootstrap, stage.names.events, records)

        def measured() -> bool:
            ends = [m["window"]["end"] for m in measurements_of(stage) if m["window"]["length"] == "5s"]
            return bool(ends) and max(ends) >= render(start_ms + (SECONDS - 5) * 1000)

        wait_until(measured, "the last whole window of 5 s was measured")
        fired = [a for a in alerts_of(stage) if a["labels"]["alertname"] == "PredictionDrift"]
        assert len(fired) == 1
        assert fired[0]["status"] == "firing"
        scores = {m["window"]["start"]: m["score"] for m in measurements_of(stage) if m["window"]["length"] == "5s"}
        calm, moved = (scores[render(start_ms + second * 1000)] for second in (5, 20))
        assert calm["ks"] < 0.1 < moved["ks"]
        assert calm["mean"] == pytest.approx(64.8, abs=3.0)
        assert moved["mean"] > calm["mean"] + 4.0
        assert (moved["reference_mean"], moved["positive_ratio"]) == (pytest.approx(64.76, abs=0.1), None)
        answer = worker.get("/performance").json()
        assert (answer["cohorts"], answer["evaluating"]) == ([], False)
        assert answer["reason"].startswith("manifest.json: task is regression: ")
        assert worker.get("/health").json()["status"] == "healthy"
        event = json.loads(records[-1][1])
        asked = httpx.post(f"http://127.0.0.1:{scorer.port}/predict", json=event, timeout=60).json()
        assert scorer.metric("driftline_scorer_value_bucket", le="+Inf") == SECONDS * RATE
        assert scorer.metric("driftline_scorer_probability_count") == 0.0
        answers = scorer.get("/openapi.json").json()["paths"]["/predict"]["post"]["responses"]["200"]
        assert "value" in json.dumps(answers)
        assert scorer.stop() == 0
        assert worker.stop() == 0
    streamed = {}
    for partition in range(4):
        for _, value in stage.records(stage.names.predictions, partition):
            streamed[json.loads(value)["event_id"]] = json.loads(value)
    assert len(streamed) == SECONDS * RATE
    assert asked == {name: streamed[event["event_id"]][name] for name in asked}
    assert set(asked) == {"value", "interval", "model", "event_id", "customer_id"}
    verified = stage.driftline("verify", "--model", str(charges), "--json")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    found = json.loads(verified.stdout)
    assert (found["answer"], found["scores_checked"], found["faults"]["wrong_scores"]) == ("yes", SECONDS * RATE, 0)
    target = ("--data", str(DATA), "--target", "monthly_charges")
    for arguments, words in (
        (
            ("export", "--out", str(tmp_path / "log.jsonl")),
            "task of charges-telco 1.0.0 is regression: driftline export",
        ),
        (("evaluate", "--model", str(charges), *target), "task is regression: driftline evaluate is for binary models"),
    ):
        refused = stage.driftline(*arguments)
        assert refused.returncode == 2
        assert words in refused.stderr
        assert len(refused.stderr.strip().splitlines()) == 1
