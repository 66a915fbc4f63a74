"""POST /predict and `driftline predict` beside the topic: the same customers, the same bits."""

from __future__ import annotations

import json
import os
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx
import joblib
import numpy as np
import pytest
from support import preloaded
from support.stage import Stage

from driftline.training.spec import read_spec
from driftline.training.synthetic_customers import generate_customers
from driftline.training.train import train_bundle
from schemas.features import Layout
from scorer.model import load
from scorer.score import FrameForm

CURL = {
    "anciennete_mois": 6,
    "montant_mensuel": 85.0,
    "nb_reclamations": 4,
    "nb_produits": 1,
    "satisfaction": 2.1,
}


@pytest.fixture(scope="module")
def churn5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The five-feature model, from generated customers."""
    folder = tmp_path_factory.mktemp("churn5")
    data = folder / "churn5.csv"
    data.write_text(generate_customers(3000, 42))
    train_bundle(read_spec(Path("examples/churn5.toml")), data, folder / "model", datetime(2026, 1, 1, tzinfo=UTC))
    return folder / "model"


@pytest.fixture(scope="module")
def boosting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gradient-boosted trees on the Telco customers."""
    spec = read_spec(Path("examples/telco.toml"))
    estimator = spec.estimator.model_copy(update={"kind": "hist_gradient_boosting"})
    directory = tmp_path_factory.mktemp("boosting") / "model"
    train_bundle(
        spec.model_copy(update={"estimator": estimator}),
        Path("examples/telco_churn.csv"),
        directory,
        datetime(2026, 1, 1, tzinfo=UTC),
    )
    return directory


@pytest.mark.parametrize("kind", ["logistic_regression", "hist_gradient_boosting"])
def test_predict_and_the_topic_give_bit_equal_probabilities_for_all_customers(
    stage: Stage, kind: str, request: pytest.FixtureRequest
) -> None:
    """7,043 customers over Kafka and over HTTP, as lists and one by one; direct and frame form agree within 1e-12."""
    bundle = stage.bundle if kind == "logistic_regression" else request.getfixturevalue("boosting")
    sent = stage.send_customers(7043)
    with stage.scorer(SCORER_MODEL=str(bundle)) as scorer:
        scorer.wait_ready()
        assert scorer.get("/health").json()["model"]["form"] == "direct"
        stage.reader.wait_for(7043)
        events, streamed = [], []
        for answer in stage.reader.answers:
            events.append(json.loads(sent.records[answer.source][1]))
            streamed.append(json.loads(answer.value))
        asked = []
        with httpx.Client(base_url=f"http://127.0.0.1:{scorer.port}", timeout=60) as client:
            for first in range(0, 7043, 1000):
                asked += client.post("/predict", json=events[first : first + 1000]).json()
            for i in range(0, 7043, 100):
                assert client.post("/predict", json=events[i]).json() == asked[i]
                assert (
                    client.post("/predict", json=events[i]["features"]).json()["probability"] == asked[i]["probability"]
                )
        assert scorer.stop() == 0
    assert len(asked) == 7043
    for ours, theirs in zip(asked, streamed, strict=True):
        assert ours == {name: theirs[name] for name in ours}
        assert set(ours) == {"probability", "label", "threshold", "model", "event_id", "customer_id"}
    model = load(bundle, None)
    features = model.manifest.features
    columns = Layout(features).columns([[e["features"][f.source] for e in events] for f in features])
    frame = FrameForm(joblib.load(bundle / "model.joblib"), model.manifest.predicts)(columns)
    assert float(np.max(np.abs(frame - np.array([a["probability"] for a in asked])))) <= 1e-12


def test_the_documented_request_works_on_a_five_feature_scorer(stage: Stage, churn5: Path) -> None:
    """With curl itself; a wrong field is a 422 that names it; /docs and /openapi.json answer."""
    with stage.scorer(SCORER_MODEL=str(churn5)) as scorer:
        scorer.wait_ready()
        url = f"http://localhost:{scorer.port}/predict"
        curl = ["curl", "-sS", "-X", "POST", url, "-H", "Content-Type: application/json", "-d"]
        answer = json.loads(subprocess.run([*curl, json.dumps(CURL)], check=True, capture_output=True).stdout)
        assert 0.5 < answer["probability"] <= 1.0
        assert answer["model"] == {"name": "churn-abonnement", "version": "1.0.0"}
        assert answer["label"] == (answer["probability"] >= answer["threshold"])
        wrong = json.dumps({**CURL, "satisfaction": 11})
        refused = json.loads(subprocess.run([*curl, wrong], check=True, capture_output=True).stdout)
        assert refused["detail"][0]["loc"] == ["body", "satisfaction"]
        assert refused["detail"][0]["type"] == "out_of_range"
        assert "SwaggerUIBundle" in scorer.get("/docs").text
        assert "anciennete_mois" in scorer.get("/openapi.json").text
        assert scorer.stop() == 0


def _predict(*arguments: str, event: object) -> subprocess.CompletedProcess[str]:
    return preloaded.run(["-m", "driftline", "predict", *arguments], os.environ, given=json.dumps(event))


def test_the_command_answers_as_the_service_does(stage: Stage, churn5: Path, tmp_path: Path) -> None:
    """From standard input and from a file; exit 1 with the field for a bad event, 2 for a bad bundle."""
    with stage.scorer(SCORER_MODEL=str(churn5)) as scorer:
        scorer.wait_ready()
        url = f"http://127.0.0.1:{scorer.port}/predict"
        asked = [CURL, {**CURL, "satisfaction": None}, {"customer_id": "c1", "features": CURL}]
        over_http = httpx.post(url, json=asked, timeout=60).json()
        assert scorer.stop() == 0
    offline = _predict("--model", str(churn5), "--json", event=asked)
    assert offline.returncode == 0, offline.stderr
    assert json.loads(offline.stdout) == over_http
    path = tmp_path / "event.json"
    path.write_text(json.dumps(asked[2]))
    shown = _predict("--model", str(churn5), str(path), event=None)
    assert shown.stdout.startswith(f"c1: {over_http[2]['probability']:.4f}  positive (threshold ")
    bad = _predict("--model", str(churn5), event={**CURL, "nb_produits": "1"})
    assert bad.returncode == 1
    assert bad.stderr.startswith("body.nb_produits: wrong_type: nb_produits: expected a number from 1")
    (churn5 / "manifest.sig").unlink(missing_ok=True)
    unsigned = _predict("--model", str(churn5), "--public-key", str(tmp_path / "no.pem"), event=CURL)
    assert unsigned.returncode == 2
    assert unsigned.stderr.startswith("driftline: model refused: MODEL_PUBLIC_KEY")


def test_predict_answers_while_the_stream_is_busy(stage: Stage) -> None:
    """Under a backlog that keeps the scorer at its limit, no request waits for the backlog."""
    stage.send_customers(60_000)
    event = json.loads(stage.source().take(1, 0.0, time.time_ns() // 1_000_000)[0][1])
    with stage.scorer(SCORER_MAX_BATCH_RECORDS="5000") as scorer:
        scorer.wait_ready()
        asked, probabilities = 0, set()
        with httpx.Client(base_url=f"http://127.0.0.1:{scorer.port}", timeout=60) as client:
            while len(stage.reader.answers) < 50_000:
                answer = client.post("/predict", json=event)
                asked += 1
                assert answer.status_code == 200
                probabilities.add(answer.json()["probability"])
        assert len(probabilities) == 1
        assert asked >= 5, "requests that wait for the backlog are answered once it is gone"
        stage.reader.wait_for(60_000)
        assert scorer.stop() == 0
