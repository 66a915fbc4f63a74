"""The Telco customers as a regression (monthly charges) and as several classes (how they pay)."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from support import preloaded
from support.oracle import send
from support.services import Service
from support.stage import Stage
from support.waiting import wait_until

from driftline.training.dataset import read_dataset
from driftline.training.spec import parse_spec
from driftline.training.train import train
from schemas.bundle.files import write_bundle
from schemas.bundle.manifest import Manifest, parse_manifest

LABELLED = 300
DATA = Path("examples/telco_churn.csv")
# task → name, target, further members of [model], features that would give the target away
_TASKS = {
    "multiclass": ("payment-telco", "payment_method", "", ("payment_method",)),
    "regression": ("charges-telco", "monthly_charges", '\nunit = "USD"', ("monthly_charges", "total_charges")),
}


def spec_text(task: str, version: str = "1.0.0", without: Sequence[str] = ()) -> str:
    """Return the Telco spec with another target, and without these features."""
    name, target, more, known = _TASKS[task]
    text = Path("examples/telco.toml").read_text(encoding="utf-8")
    text = text.replace('name = "churn-telco"', f'name = "{name}"\ntask = "{task}"{more}')
    text = text.replace('target = "churn"', f'target = "{target}"')
    text = re.sub(r"^(threshold|positive|kind = \"logistic_regression\").*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"^version = .*", f'version = "{version}"', text, count=1, flags=re.MULTILINE)
    for table in ("business", *(rf"features\.{feature}" for feature in (*known, *without))):
        text = re.sub(rf"\[{table}\][^\[]*", "", text)
    return text


def write_task(task: str, directory: Path, version: str = "1.0.0", without: Sequence[str] = ()) -> Path:
    """Train on the real customers, without these features; return the bundle's folder."""
    spec = parse_spec(spec_text(task, version, without))
    trained = train(spec, read_dataset(DATA, spec), datetime(2026, 1, 1, tzinfo=UTC))
    write_bundle(directory, trained.manifest, trained.files)
    return directory


def assert_exported(stage: Stage, streamed: Mapping[str, Any], outcome: Callable[[Any], Any]) -> None:
    """Label the first LABELLED of these predictions, and require all of them in an export, each with its outcome."""
    told = {one["prediction_id"]: outcome(one) for one in list(streamed.values())[:LABELLED]}
    labels = [
        {"customer_id": one["customer_id"], "label": told[one["prediction_id"]], "label_time": one["event_time"]}
        | {"prediction_id": one["prediction_id"]}
        for one in list(streamed.values())[:LABELLED]
    ]
    topic = stage.names.environment["TOPIC_LABELS"]
    send(stage.bootstrap, topic, [(one["customer_id"].encode(), json.dumps(one).encode(), []) for one in labels])
    out = stage.folder / "log.jsonl"
    ended = stage.driftline("export", "--out", str(out), "--with-inputs", "--with-labels", "--json")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["labelled"] == LABELLED
    rows = {row["event_id"]: row for row in map(json.loads, out.read_text(encoding="utf-8").splitlines())}
    assert rows.keys() == streamed.keys()
    for event_id, one in streamed.items():
        row = rows[event_id]
        assert row["outcome"] == told.get(one["prediction_id"])
        assert row["input"]["event_id"] == event_id
        assert all(row[name] == one[name] for name in ("value", "label", "probabilities") if name in one)


def answered_by_challenger(scorer: Service, mode: str, events: int) -> float:
    """Return how many events a challenger has answered; in the shadow none, and each of them has a shadow."""
    if mode == "split":
        assert scorer.metric("driftline_scorer_challenger_fallbacks_total") == 0
        return scorer.metric("driftline_scorer_challenger_predictions_total")
    produced = lambda: scorer.metric("driftline_scorer_shadow_produced_total")  # noqa: E731
    wait_until(lambda: produced() == events, "every event has its shadow", 240.0)
    return 0.0


def assert_predicted(stage: Stage, event: object, answer: Mapping[str, Any]) -> None:
    """Require that `driftline predict` answers as the service does, and in a line that has the customer's result."""
    if "value" in answer:
        around = answer["interval"]
        result = f"{answer['value']:.6g}  (90%: {around['low']:.6g} to {around['high']:.6g})"
    else:
        result = f"{answer['label']}  {answer['probability']:.4f}"
    line = f"{answer['customer_id']}: {result}  {answer['model']['name']} 1.0.0"
    told = ["-m", "driftline", "predict", "--model", str(stage.bundle)]
    for more, check in (("--json", lambda out: json.loads(out) == answer), ("", lambda out: line in out)):
        done = preloaded.run([*told, *filter(None, [more])], os.environ, given=json.dumps(event))
        assert done.returncode == 0, done.stderr
        assert check(done.stdout), done.stdout


def assert_retrained(stage: Stage, task: str) -> Manifest:
    """Require that `retrain` makes a candidate of the labelled events on the topics; return its manifest."""
    spec, out = stage.folder / "retrain.toml", stage.folder / "candidate"
    spec.write_text(spec_text(task), encoding="utf-8")
    told = ("--spec", str(spec), "--model", str(stage.bundle), "--from-topics", "--out", str(out))
    # with fewer than 500 held-out customers no other reason keeps a candidate
    ended = stage.driftline("retrain", *told, "--reason", "performance", "--json", DRIFT_LABEL_HORIZON="1s")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = json.loads(ended.stdout)
    assert (found["action"], found["data"]["rows"]) == ("retrain", LABELLED)
    manifest = parse_manifest((out / "manifest.json").read_bytes())
    assert (manifest.task, manifest.version) == (task, "1.1.0")
    return manifest


def assert_judged_by_topics(stage: Stage, candidate: Path) -> None:
    """Require that `promote` joins the labels on the topic with their events, and finds them too few."""
    told = ("--candidate", str(candidate), "--to", str(stage.bundle), "--from-topics")
    judged = stage.driftline("promote", *told, DRIFT_LABEL_HORIZON="1s")
    assert judged.returncode == 3, judged.stderr
    assert f"not promoted: {LABELLED} labelled customers that neither model was fitted on" in judged.stderr
