"""The business level on a real Kafka: labels find their predictions, once, in any order and after any kill."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pytest
from confluent_kafka.admin import AdminClient
from sklearn import metrics as sk
from support.oracle import ends, members, send
from support.services import Service
from support.stage import Stage

from schemas.bundle.manifest import parse_manifest
from schemas.prediction import ModelRef, PredictionEncoder
from schemas.timestamps import render

HOUR, DAY = 3_600_000, 86_400_000
HORIZON = 2 * DAY
WAIT_S = 120.0
MODEL = "churn-telco"


@dataclass(frozen=True)
class Made:
    """A prediction as the test remembers it."""

    customer: str
    at_ms: int
    version: str
    probability: float


def _worker(stage: Stage, name: str, **environment: str) -> Service:
    return Service(
        "drift_worker",
        {
            "KAFKA_BOOTSTRAP_SERVERS": stage.bootstrap,
            "SCORER_MODEL": str(stage.bundle),
            **stage.names.environment,
            "DRIFT_LABEL_HORIZON": "2d",
            "DRIFT_MIN_EVENTS": "100",
            **environment,
        },
        stage.folder / f"{name}.log",
        # what a person would wait minutes for is looked at ten times as often
        {
            "drift_worker.stages.evaluate_cohorts.RETRY_S": 0.5,
            "drift_worker.stages.evaluate_cohorts.LEAST_INTERVAL_S": 0.5,
        },
    )


def _wait(condition: Callable[[], bool], what: str, services: Iterable[Service] = ()) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        logs = "\n".join(service.tail() for service in services)
        assert time.monotonic() < deadline, f"not within {WAIT_S} s: {what}\n{logs}"
        time.sleep(0.2)


def _predictions(made: dict[str, Made]) -> list[tuple]:
    """As a scorer writes them, each into any of the four partitions."""
    records = []
    for prediction_id, one in made.items():
        (value,) = PredictionEncoder(ModelRef(MODEL, one.version), 0.5).encode(
            [prediction_id], [prediction_id], [one.customer], [render(one.at_ms)], render(one.at_ms), [one.probability]
        )
        records.append((one.customer.encode(), value, [], random.randrange(4)))
    return records


def _label(customer: str, label: bool, at_ms: int, about: str | None = None) -> tuple:
    body = {"customer_id": customer, "label": label, "label_time": render(at_ms)}
    value = json.dumps(body if about is None else {**body, "prediction_id": about}).encode()
    return (customer.encode(), value, [], random.randrange(4))  # no partition of ours


def _history(start_ms: int, seed: int) -> tuple[dict[str, Made], list[tuple], dict[str, bool]]:
    """Two days of predictions by two versions; labels for most of them; what must become of each prediction.

    Every customer is scored once or twice. A label is by id, or by customer and then about the latest prediction.
    """
    draw = np.random.default_rng(seed)
    made, labels, outcomes = {}, [], {}
    for number in range(700):
        customer = f"customer-{seed}-{number}"
        ids = []
        for _ in range(1 + int(draw.random() < 0.3)):
            name = f"e-{seed}-{len(made)}"
            version = "1.0.0" if draw.random() < 0.8 else "0.9.0"
            made[name] = Made(customer, start_ms + int(draw.integers(2 * DAY)), version, round(draw.random(), 3))
            ids.append(name)
        told = bool(draw.random() < made[ids[-1]].probability)
        if draw.random() < 0.15:
            continue  # this one never gets a label
        latest = max(ids, key=lambda name: made[name].at_ms)
        # not so late that a label alone would make the first day final
        at_ms = min(made[latest].at_ms + int(draw.integers(1, HORIZON)), start_ms + 3 * DAY - HOUR)
        if draw.random() < 0.5:
            about = ids[0]
            labels.append(_label(customer, told, max(at_ms, made[about].at_ms), about))
            if max(at_ms, made[about].at_ms) - made[about].at_ms <= HORIZON:
                outcomes[about] = told
        else:
            labels.append(_label(customer, told, at_ms))
            outcomes[latest] = told
        if draw.random() < 0.2:
            labels.append(labels[-1])  # sent twice
    random.shuffle(labels)
    return made, labels, outcomes


def _joining(worker: Service) -> None:
    """It has begun to join labels."""
    _wait(lambda: worker.reasons() is not None, "it answers", [worker])
    _wait(lambda: worker.metric("driftline_model_labels_total") > 0, "it joins", [worker])


def _cohorts(stage: Stage) -> list[dict]:
    records = stage.records(stage.names.environment["TOPIC_MEASUREMENTS"])
    return [json.loads(value) for key, value in records if key == f"{MODEL}/performance".encode()]


def _expected(made: dict[str, Made], outcomes: dict[str, bool], day: str, version: str) -> dict[str, float]:
    """scikit-learn's numbers of a cohort's rows."""
    rows = [
        (outcomes[name], one.probability)
        for name, one in made.items()
        if name in outcomes and one.version == version and render(one.at_ms)[:10] == day
    ]
    told, p = (np.array(column) for column in zip(*rows, strict=True))
    label = p >= 0.5
    return {
        "accuracy": sk.accuracy_score(told, label),
        "precision": sk.precision_score(told, label),
        "recall": sk.recall_score(told, label),
        "f1": sk.f1_score(told, label),
        "roc_auc": sk.roc_auc_score(told, p),
        "brier": sk.brier_score_loss(told, p),
        "log_loss": sk.log_loss(told, p),
    }


def test_joined_metrics_are_scikit_learns_whatever_is_killed(stage: Stage, long: bool) -> None:
    """Labels before predictions, in any partition, some twice; SIGKILLs between and at the end: each cohort once."""
    kills = 20 if long else 2
    start_ms = time.time_ns() // 1_000_000 // DAY * DAY - 10 * DAY
    made, labels, outcomes = _history(start_ms, 1)
    pending = [(stage.names.environment["TOPIC_LABELS"], [one]) for one in labels]
    pending += [(stage.names.predictions, [one]) for one in _predictions(made)]
    random.shuffle(pending)
    share = len(pending) // kills
    worker = _worker(stage, "first")
    try:
        for number in range(kills):
            part = pending[number * share : (number + 1) * share if number < kills - 1 else None]
            for topic in {topic for topic, _ in part}:
                send(stage.bootstrap, topic, [r for where, records in part if where == topic for r in records])
            _joining(worker)
            worker.kill()
            worker = _worker(stage, f"after-{number}")
        # a later prediction shows that the two days are over
        send(
            stage.bootstrap,
            stage.names.predictions,
            _predictions({"late": Made("x", start_ms + 6 * DAY, "1.0.0", 0.5)}),
        )
        days = [render(start_ms + n * DAY)[:10] for n in (0, 1)]
        _wait(lambda: len(_cohorts(stage)) >= 4, "both days are final for both versions", [worker])
        worker.kill()
        worker = _worker(stage, "last")
        _wait(lambda: worker.reasons() is not None, "it answers", [worker])

        def shown() -> list[dict]:
            return worker.get("/performance").json()["cohorts"]

        _wait(lambda: len(shown()) == 5, "the last one knows them, too", [worker])
        final = _cohorts(stage)
        assert sorted((c["cohort"]["day"], c["model_version"], c["status"]) for c in final) == sorted(
            (day, version, "final") for day in days for version in ("0.9.0", "1.0.0")
        )
        for cohort in final:
            day, version = cohort["cohort"]["day"], cohort["model_version"]
            for name, value in _expected(made, outcomes, day, version).items():
                assert cohort["metrics"][name]["value"] == pytest.approx(value, abs=1e-12), (day, version, name)
            mine = [n for n, one in made.items() if one.version == version and render(one.at_ms)[:10] == day]
            assert cohort["predictions"] == len(mine)
            assert cohort["coverage"]["all"] == pytest.approx(len([n for n in mine if n in outcomes]) / len(mine))
        assert [c for c in shown() if c["status"] == "final"] == sorted(
            final, key=lambda c: (c["cohort"]["day"], c["model_version"]), reverse=True
        )
        assert shown()[0]["status"] == "provisional"
        assert worker.metric("driftline_model_accuracy", status="final", version="1.0.0") > 0.5
        assert worker.stop() == 0
    finally:
        if worker.process.poll() is None:
            worker.kill()


def test_a_drop_is_announced_and_ends(stage: Stage) -> None:
    """Outcomes as the scores promise, for two days half of them by chance, then as promised: one episode."""
    manifest = parse_manifest((stage.bundle / "manifest.json").read_bytes())
    assert manifest.calibration is not None
    draw = np.random.default_rng(5)
    start_ms = time.time_ns() // 1_000_000 // DAY * DAY - 20 * DAY
    made: dict[str, Made] = {}
    labels = []
    for day in range(6):
        for number in range(1200):
            name, p = f"e-{day}-{number}", float(draw.beta(0.6, 1.6))
            at_ms = start_ms + day * DAY + int(draw.integers(DAY))
            made[name] = Made(f"c-{day}-{number}", at_ms, manifest.version, p)
            truth = float(np.interp(p, manifest.calibration.x, manifest.calibration.y))
            told = bool(draw.random() < (truth if day not in {1, 2} else 0.5 * truth + 0.25))
            labels.append(_label(f"c-{day}-{number}", told, at_ms + 1000, name))
    now = {"now": Made("x", start_ms + 10 * DAY, manifest.version, 0.5)}
    send(stage.bootstrap, stage.names.environment["TOPIC_LABELS"], [*labels, (b"k", b"{", []), (b"k", None, [])])
    send(stage.bootstrap, stage.names.predictions, _predictions({**made, **now}))
    with _worker(stage, "drop", DRIFT_MIN_EVENTS="500") as worker:
        worker.wait_ready()
        _wait(lambda: len(_cohorts(stage)) == 6, "six days are final", [worker])
        states = {c["cohort"]["day"]: c["state"] for c in _cohorts(stage)}
        assert [states[render(start_ms + n * DAY)[:10]] for n in range(6)] == [
            *("inactive", "critical", "critical", "critical", "critical", "inactive"),
        ]
        said = [json.loads(value) for _, value in stage.records(stage.names.environment["TOPIC_ALERTS"])]
        alerts = [a for a in said if a["labels"]["alertname"] == "PerformanceDrop"]
        assert [(a["status"], a["labels"]["severity"], a["sequence"]) for a in alerts] == [
            ("firing", "critical", 1),
            ("resolved", "critical", 2),
        ]
        assert alerts[0]["startsAt"] == render(start_ms + 2 * DAY)
        assert alerts[1]["endsAt"] == render(start_ms + 6 * DAY)
        assert {drop["against"] for drop in alerts[0]["evidence"]["drops"]} == {"expected", "estimated"}
        assert worker.metric("driftline_drift_state", alertname="PerformanceDrop") == 0
        assert worker.metric("driftline_model_refused_labels_total", reason="not_json") == 1
        assert worker.metric("driftline_model_refused_labels_total", reason="empty") == 1
        assert worker.stop() == 0


@pytest.mark.parametrize("topic", ["empty", "missing"])
def test_without_labels_the_worker_is_what_it_was(stage: Stage, topic: str) -> None:
    """Ready, without a separate group, nothing on the label state, no series of cohorts."""
    if topic == "missing":
        admin = AdminClient({"bootstrap.servers": stage.bootstrap})
        gone = [stage.names.environment["TOPIC_LABELS"], stage.names.environment["TOPIC_LABEL_STATE"]]
        for future in admin.delete_topics(gone).values():
            future.result(timeout=60)
    start_ms = time.time_ns() // 1_000_000 - HOUR
    made = {f"e-{n}": Made(f"c-{n}", start_ms, "1.0.0", 0.5) for n in range(50)}
    send(stage.bootstrap, stage.names.predictions, _predictions(made))
    with _worker(stage, topic) as worker:
        worker.wait_ready()
        _wait(lambda: worker.metric("driftline_drift_read_records_total") == 50, "predictions are counted", [worker])
        answer = worker.get("/performance").json()
        assert (answer["horizon"], answer["cohorts"]) == ("2d", [])
        text = worker.get("/metrics").text
        assert 'driftline_drift_assigned_partitions{stage="labels"} 0.0' in text
        assert "driftline_model_accuracy{" not in text
        assert members(stage.bootstrap, f"{stage.names.environment['DRIFT_GROUP']}-labels") == 0
        assert topic == "missing" or not any(
            ends(stage.bootstrap, stage.names.environment["TOPIC_LABEL_STATE"]).values()
        )
        assert worker.stop() == 0
