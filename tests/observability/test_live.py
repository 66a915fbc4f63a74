"""A real Prometheus on real services under traffic and drift: every panel has data, and drift reaches the pager."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support import prometheus_tools
from support.monitoring import DEPLOY, Alertmanager, Prometheus
from support.oracle import send
from support.processes import running
from support.receiver import Receiver
from support.services import Service
from support.stage import Stage
from support.waiting import wait_until

from schemas.alert import Alert
from schemas.label import Label
from schemas.prediction import ModelRef, PredictionEncoder
from schemas.timestamps import render

PROFILE = {
    "DRIFT_PANE": "1s",
    "DRIFT_WINDOWS": "5s,15s",
    "DRIFT_ALLOWED_LATENESS": "1s",
    "DRIFT_IDLE_TIMEOUT": "10m",  # only events close windows: else empty ones would follow while panels are looked at
    "DRIFT_MIN_EVENTS": "200",
    "DRIFT_LABEL_HORIZON": "1d",
}
RATE = 200  # events per second of event time
WAIT_S = 120.0
# What Grafana puts in for a variable; all of a kind is `.*`.
CHOSEN = {"__rate_interval": "5m", "window": "5s", "model": "churn-telco", "instance": ".*", "feature": ".*"}


@contextmanager
def _forwarding(stage: Stage, to: str) -> Iterator[None]:
    """`driftline alerts forward` beside everything else."""
    topics = {name: value for name, value in stage.names.environment.items() if name.startswith("TOPIC_")}
    with (
        (stage.folder / "forward.log").open("wb") as out,
        running(
            [sys.executable, "-m", "driftline", "alerts", "forward", "--to", to, "--every", "1s"],
            env={**os.environ, "KAFKA_BOOTSTRAP_SERVERS": stage.bootstrap, **topics},
            stdout=out,
            stderr=out,
            cwd=Path.cwd(),
        ),
    ):
        yield


# Panels without data in this story: no window of a day gives a calm past, a first start has no offset to compare, and
# the model is neither a regression nor one of several classes (test_regression, test_multiclass read their series).
ELSEWHERE = {
    "Natural variation",
    "Offsets that were moved",
    "Value distribution",
    "Macro F1 and ROC AUC of several classes",
    "Errors of a regression",
    "R squared and interval coverage",
}
# A panel that shows only what is wrong is empty while nothing is; the series behind it must be there.
ONLY_FAULTS = re.compile(r" (> 0|== 0)$")


def _told(receiver: Receiver) -> list[tuple[str, str, str, str]]:
    """(receiver, status, alertname, feature) of every alert in every notification, in order."""
    return [
        (post["receiver"], alert["status"], alert["labels"]["alertname"], alert["labels"].get("feature", ""))
        for _, _, post in list(receiver.posts)
        for alert in post["alerts"]
    ]


def _states(alertmanager: Alertmanager, *matchers: str) -> list[str]:
    """`active` or `suppressed`, of each alert."""
    return [alert["status"]["state"] for alert in alertmanager.alerts(*matchers)]


def _filled_in(text: str) -> str:
    return re.sub(r"\$(\w+)", lambda match: CHOSEN[match[1]], text)


def _without_data(prometheus: Prometheus) -> list[str]:
    """Every query and every variable of every dashboard that has no answer now."""
    empty = []
    for path in sorted((DEPLOY / "grafana" / "dashboards").glob("*.json")):
        dashboard = json.loads(path.read_text())
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                series, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["definition"]).groups()
                if not prometheus.values(label, _filled_in(series)):
                    empty.append(f"{path.stem}, ${variable['name']}: {variable['definition']}")
        for panel in dashboard["panels"]:
            if panel["title"] in ELSEWHERE:
                continue
            empty += [
                f"{path.stem}, {panel['title']}: {target['expr']}"
                for target in panel.get("targets", [])
                if not prometheus.query(ONLY_FAULTS.sub("", _filled_in(target["expr"])))
            ]
    return empty


def _customers(stage: Stage, source: Any, seconds: range, start_ms: int) -> None:
    for second in seconds:
        send(stage.bootstrap, stage.names.events, source.take(RATE, float(second), start_ms + second * 1000))


def _challenger(stage: Stage) -> str:
    """The same model as another version, for the shadow."""
    folder = stage.folder / "challenger"
    shutil.copytree(stage.bundle, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"version": "2.0.0"}))
    return str(folder)


def _labelled_day(stage: Stage) -> None:
    """A day of another version's predictions, a week ago, and a label for each: final at the next look."""
    at_ms = time.time_ns() // 1_000_000 - 7 * 86_400_000
    encoder = PredictionEncoder(ModelRef("churn-telco", "0.9.0"), 0.5)
    ids = [f"labelled-{n}" for n in range(200)]
    scores = [(n % 10) / 10 for n in range(200)]
    values = encoder.encode(ids, ids, ids, [render(at_ms)] * 200, render(at_ms), scores)
    labels = [Label(name, n % 7 > 3, render(at_ms + 1000)).encode() for n, name in enumerate(ids)]
    for topic, records in ((stage.names.predictions, values), (stage.names.environment["TOPIC_LABELS"], labels)):
        send(stage.bootstrap, topic, [(name.encode(), value) for name, value in zip(ids, records, strict=True)])


@pytest.mark.timeout(600)
def test_drift_reaches_the_pager_once_and_every_panel_has_data(stage: Stage) -> None:
    """Drift → gauge → rule → Alertmanager → webhook, over a restart of the drift worker, and back to resolved.

    The same episode, forwarded from the topic, is inhibited. While it fires, every query of every dashboard has an
    answer.
    """
    for tool in ("prometheus", "alertmanager"):
        prometheus_tools.need(tool)
    drifts = ["monthly_charges:shift=+25@25s..45s"]
    source = stage.source(drifts=drifts, bad=Fraction(1, 50))
    start_ms = (time.time_ns() // 1_000_000 - 600_000) // 15_000 * 15_000
    worker_log = stage.folder / "drift.log"
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": stage.bootstrap,
        "SCORER_MODEL": str(stage.bundle),
        **stage.names.environment,
        **PROFILE,
    }
    fired = ("page", "firing", "FeatureDrift", "monthly_charges")
    resolved = ("page", "resolved", "FeatureDrift", "monthly_charges")
    with (
        Receiver() as receiver,
        Alertmanager(stage.folder, receiver.url) as alertmanager,
        stage.scorer(SCORER_CHALLENGER=_challenger(stage)) as scorer,
        Service("drift_worker", environment, worker_log) as worker,
        Prometheus(stage.folder, {"scorer": [scorer.port], "drift-worker": [worker.port]}, alertmanager) as prometheus,
        _forwarding(stage, alertmanager.url),
    ):
        scorer.wait_ready()
        worker.wait_ready()
        # every counter must have been seen at 0, and Watchdog must be there before anything is forwarded
        wait_until(lambda: len(prometheus.query("up == 1")) == 2, "scraped", WAIT_S)
        wait_until(lambda: alertmanager.alerts('alertname="Watchdog"'), "Watchdog has come", WAIT_S)

        _labelled_day(stage)
        _customers(stage, source, range(45), start_ms)
        wait_until(lambda: fired in _told(receiver), "drift is paged", WAIT_S)
        wait_until(lambda: alertmanager.alerts('origin="kafka"'), "the same is forwarded", WAIT_S)
        missing = "not known yet"

        def answered() -> bool:
            nonlocal missing
            missing = "\n".join(_without_data(prometheus))
            return not missing

        try:
            wait_until(answered, "every panel has data", WAIT_S)
        except AssertionError as error:
            raise AssertionError(f"{error}:\n{missing}") from None
        assert set(_states(alertmanager, 'origin="kafka"')) == {"suppressed"}

        assert worker.stop() == 0
        with Service("drift_worker", {**environment, "DRIFT_HTTP_PORT": str(worker.port)}, worker_log) as restarted:
            restarted.port = worker.port
            restarted.wait_ready()
            wait_until(lambda: prometheus.query("driftline_drift_state >= 2"), "the states are back", WAIT_S)
            assert resolved not in _told(receiver), "a restart is no end"

            _customers(stage, source, range(45, 80), start_ms)
            wait_until(lambda: resolved in _told(receiver), "the end is told", WAIT_S)
        assert prometheus.faults() == []
        alerts = [alert for _, _, post in receiver.posts for alert in post["alerts"]]
        assert not [alert for alert in alerts if "origin" in alert["labels"]]
        ours = [a for a in alerts if a["labels"].get("feature") == "monthly_charges" and a["status"] == "firing"]
        (page, *_) = [a for a in ours if a["labels"]["severity"] == "critical"]
        assert _told(receiver).count(resolved) == 1
        assert page["labels"] == {
            "alertname": "FeatureDrift",
            "severity": "critical",
            "model": "churn-telco",
            "feature": "monthly_charges",
        }
        assert page["annotations"]["summary"] == "monthly_charges moved"
        assert page["annotations"]["runbook_url"] == "docs/runbook.md#featuredrift"
        assert "Watchdog" not in {alert["labels"]["alertname"] for alert in alerts}


def _among_themselves(records: list[tuple[bytes, bytes]], draw: random.Random) -> list[tuple[bytes, bytes]]:
    """The same customers, who exchange values: no feature alone moves, and two things do.

    `dependents` no longer goes with `partner`. The highest `monthly_charges` are of those who pay by a mailed check.
    """
    events = [msgspec.json.decode(value) for _, value in records]
    features = [event["features"] for event in events]
    dependents = [one["dependents"] for one in features]
    draw.shuffle(dependents)
    charges = sorted(one["monthly_charges"] for one in features)
    by_check = sorted(range(len(features)), key=lambda at: (features[at]["payment_method"] == "Mailed check", at))
    for at, of_dependents in enumerate(dependents):
        features[at]["dependents"] = of_dependents
    others = len(features) - sum(one["payment_method"] == "Mailed check" for one in features)
    low, high = charges[:others], charges[others:]
    draw.shuffle(low)
    for at, value in zip(by_check, [*low, *high], strict=True):
        features[at]["monthly_charges"] = value
    return [(key, msgspec.json.encode(event)) for (key, _), event in zip(records, events, strict=True)]


@pytest.mark.timeout(600)
def test_what_no_feature_alone_shows_reaches_the_pager_and_ends(stage: Stage) -> None:
    """RelationDrift and SegmentDrift: gauge → rule → Alertmanager → webhook, each once, and back to resolved."""
    for tool in ("prometheus", "alertmanager"):
        prometheus_tools.need(tool)
    source, draw = stage.source(), random.Random(15)
    start_ms = (time.time_ns() // 1_000_000 - 600_000) // 15_000 * 15_000
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": stage.bootstrap,
        "SCORER_MODEL": str(stage.bundle),
        **stage.names.environment,
        **PROFILE,
    }
    kinds = ("RelationDrift", "SegmentDrift")

    def told(status: str) -> set[str]:
        return {name for receiver_name, of, name, _ in _told(receiver) if (receiver_name, of) == ("page", status)}

    def send_seconds(seconds: range, change: bool) -> None:
        for second in seconds:
            records = source.take(RATE, float(second), start_ms + second * 1000)
            send(stage.bootstrap, stage.names.events, _among_themselves(records, draw) if change else records)

    with (
        Receiver() as receiver,
        Alertmanager(stage.folder, receiver.url) as alertmanager,
        stage.scorer() as scorer,
        Service("drift_worker", environment, stage.folder / "drift.log") as worker,
        Prometheus(stage.folder, {"scorer": [scorer.port], "drift-worker": [worker.port]}, alertmanager) as prometheus,
    ):
        scorer.wait_ready()
        worker.wait_ready()
        wait_until(lambda: len(prometheus.query("up == 1")) == 2, "scraped", WAIT_S)
        send_seconds(range(15), change=False)
        send_seconds(range(15, 35), change=True)
        wait_until(lambda: told("firing") >= set(kinds), "both are paged", WAIT_S)
        for name in kinds:
            assert prometheus.query(f'driftline_drift_state{{alertname="{name}"}} >= 2')
        for kind in ("association", "segment"):
            assert prometheus.query(
                f'driftline_drift_relation_change{{kind="{kind}", window="5s"}}'
                f' > on (kind) driftline_drift_relation_limit{{kind="{kind}", window="5s", severity="critical"}}'
            )
        shown = worker.get("/drift.html").text
        assert "dependents" in shown
        assert not told("resolved") & set(kinds)
        send_seconds(range(35, 75), change=False)
        wait_until(lambda: told("resolved") >= set(kinds), "the end is told", WAIT_S)
        assert prometheus.faults() == []
        of_ours = [(status, name) for _, status, name, _ in _told(receiver) if name in kinds]
        assert sorted(of_ours) == sorted((status, name) for status in ("firing", "resolved") for name in kinds)
    episodes: dict[str, list[dict[str, Any]]] = {name: [] for name in kinds}
    for _, value in stage.records(stage.names.environment["TOPIC_ALERTS"]):
        alert = msgspec.json.decode(value or b"null")
        if alert["labels"]["alertname"] in episodes:
            episodes[alert["labels"]["alertname"]].append(alert)
    for said in episodes.values():
        assert [one["status"] for one in said] == ["firing", "resolved"]
    first = {name: said[0]["evidence"]["relations"][0]["features"] for name, said in episodes.items()}
    assert set(first["RelationDrift"]) == {"partner", "dependents"}
    assert first["SegmentDrift"] == ["monthly_charges", "payment_method"]


def test_without_prometheus_what_is_forwarded_pages_and_with_it_does_not(stage: Stage) -> None:
    """The topic's alert is a page and then resolved; once Watchdog has come, the next one is kept back."""
    prometheus_tools.need("alertmanager")

    def alert(feature: str, status: str = "firing") -> tuple[bytes, bytes]:
        now = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
        said = Alert(
            fingerprint=f"of-{feature}",
            status="resolved" if status == "resolved" else "firing",
            labels={"alertname": "FeatureDrift", "severity": "critical", "model": "churn-telco", "feature": feature},
            annotations={"summary": f"{feature} moved"},
            starts_at="2026-11-22T05:00:00.000Z",
            ends_at=now if status == "resolved" else None,
            sequence=1,
            evidence={},
        )
        return said.key(), said.encode()

    topic = stage.names.environment["TOPIC_ALERTS"]
    with (
        Receiver() as receiver,
        Alertmanager(stage.folder, receiver.url) as alertmanager,
        _forwarding(stage, alertmanager.url),
    ):
        send(stage.bootstrap, topic, [alert("tenure")])
        wait_until(lambda: ("page", "firing", "FeatureDrift", "tenure") in _told(receiver), "a page", WAIT_S)
        send(stage.bootstrap, topic, [alert("tenure", "resolved")])
        wait_until(lambda: ("page", "resolved", "FeatureDrift", "tenure") in _told(receiver), "its end", WAIT_S)

        alertmanager.post({"alertname": "Watchdog", "severity": "none"})
        alertmanager.post({"alertname": "FeatureDrift", "severity": "critical", "model": "churn-telco", "feature": "x"})
        send(stage.bootstrap, topic, [alert("contract")])
        wait_until(lambda: ("page", "firing", "FeatureDrift", "x") in _told(receiver), "Prometheus' own", WAIT_S)
        wait_until(
            lambda: _states(alertmanager, 'feature="contract"') == ["suppressed"], "forwarded, kept back", WAIT_S
        )
        assert "contract" not in {feature for _, _, _, feature in _told(receiver)}


def test_drift_is_not_told_while_the_pipeline_is_down_or_the_data_is_broken(tmp_path: Path) -> None:
    """Windows then measure the outage, or the defect; other models' drift and other alerts are sent."""
    prometheus_tools.need("alertmanager")
    drift = {"alertname": "FeatureDrift", "severity": "critical", "model": "churn-telco", "feature": "tenure"}

    def is_kept_back(name: str, model: str) -> bool:
        return _states(alertmanager, f'alertname="{name}"', f'model="{model}"') == ["suppressed"]

    with Receiver() as receiver, Alertmanager(tmp_path, receiver.url) as alertmanager:
        alertmanager.post({"alertname": "DataQuality", "severity": "critical", "model": "churn-telco", "feature": "x"})
        wait_until(lambda: ("page", "firing", "DataQuality", "x") in _told(receiver), "the defect is told", WAIT_S)
        alertmanager.post(drift)
        alertmanager.post({**drift, "model": "other", "feature": "y"})
        wait_until(lambda: ("page", "firing", "FeatureDrift", "y") in _told(receiver), "another model's drift", WAIT_S)
        wait_until(lambda: is_kept_back("FeatureDrift", "churn-telco"), "what moved with the defect", WAIT_S)

        alertmanager.post({"alertname": "ScorerDown", "severity": "critical"})
        wait_until(lambda: ("page", "firing", "ScorerDown", "") in _told(receiver), "the outage is told", WAIT_S)
        for name, model in (("FeatureDrift", "other"), ("DataQuality", "churn-telco")):
            wait_until(lambda name=name, model=model: is_kept_back(name, model), f"{name} is kept back", WAIT_S)
        assert ("page", "firing", "FeatureDrift", "tenure") not in _told(receiver)
