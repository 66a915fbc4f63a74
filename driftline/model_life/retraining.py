"""A retraining: the policy's decision, the labelled rows, and a candidate that is compared with the champion."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from driftline import terminal
from driftline.errors import NOT_ENOUGH, CommandError
from driftline.model_life.labelled_source import labelled_events, of_both
from driftline.model_life.model_comparison import MIN_CUSTOMERS, Metric
from driftline.model_life.model_selection import comparison, counted, left_out
from driftline.since import parse_since

if TYPE_CHECKING:
    from driftline.model_life.labelled_customers import Labelled
    from driftline.model_life.retrain_policy import Decision, Reason
    from driftline.training.loaded_bundle import Loaded
    from driftline.training.spec import Spec
    from driftline.training.train import Trained
    from schemas.alert import Alert

PLAN = (
    "look at GET /drift.html: since when, in which features, and whether one source sends all of it",
    "ask the owner of the source: a campaign or a new price is drift; a changed unit or a lost join is a defect",
    "driftline evaluate --from-topics: is what has a label by now still predicted well?",
    "if it is: driftline rebaseline, so that the new customers are the reference",
    "if it is not, and labels of the new customers are there: driftline retrain --reason manual --from-topics",
)


def decided(
    reason: Reason, alerts: list[Alert], champion: Loaded, defects: tuple[str, ...], accepted: list[str] | tuple[()]
) -> Decision:
    """Return what the policy decides, given the open alerts and the defects of the data."""
    from driftline.model_life.retrain_policy import Trigger, decide

    importance = champion.importance() if alerts else {}
    trigger = None if reason == "auto" else Trigger(reason)
    return decide(trigger, alerts, importance, defects, accepted)


def trains(decision: Decision) -> bool:
    """Return whether the decision is to train."""
    from driftline.model_life.retrain_policy import TRAINS

    return decision.action in TRAINS


def rows_of(
    spec: Spec, champion: Loaded, data: list[Path] | tuple[()], from_topics: bool, since: str | None
) -> Labelled:
    """Return the rows of the files in the order given, then of the topics; CommandError without any label."""
    from driftline.model_life.labelled_customers import read_labelled

    features = of_both(spec.manifest_features({}), champion.manifest.features)
    names = [feature.name for feature in features]
    labels = spec.data
    positive, task = (spec.positive if spec.task == "binary" else None), champion.manifest.predicts
    about = (labels.target, positive, labels.id, labels.format(), task.name)
    parts = [read_labelled(path, names, *about) for path in data]
    if from_topics:
        absent = spec.data.absent_label == "negative"
        parts.append(labelled_events(features, spec.event, parse_since(since), absent_negative=absent, task=task))
    rows, *others = [part for part in parts if part.rows] or [parts[0]]
    for newer in others:
        rows = rows.then(newer)
    if not rows.rows:
        raise CommandError(f"no event has a label yet{left_out(rows)}", NOT_ENOUGH)
    return rows


def defects_of(champion: Loaded, rows: Labelled, accepted: list[str] | tuple[()]) -> tuple[str, ...]:
    """Return the defects of the rows, a line each; for features in `accepted` they are intended."""
    from driftline.model_life.data_checks import defects

    columns = rows.columns(champion.manifest.features)
    return tuple(defects(champion.reference(), columns, rows.codes, accepted))


def train(
    report: dict[str, Any],
    decision: Decision,
    spec: Spec,
    champion: Loaded,
    rows: Labelled,
    hold_out: float,
    metric: Metric,
    confidence: float,
    version: str | None,
    out: Path,
) -> Trained | None:
    """Train, compare, and keep the candidate as the action requires; add the result to the report."""
    from driftline.model_life.candidate import judge, make_candidate, next_minor
    from driftline.model_life.labelled_customers import held_out
    from driftline.model_life.retrain_policy import Action
    from driftline.training.loaded_bundle import load_bundle
    from schemas.bundle.files import copy_bundle

    recent = len({rows.customers[row] for row in held_out(rows.customers, hold_out)[1].tolist()})
    if decision.action is not Action.RETRAIN and recent < MIN_CUSTOMERS:
        _too_few(report, recent)
        return None
    wanted = version or next_minor(champion.manifest.version)
    now = datetime.now(UTC).replace(microsecond=0)
    with tempfile.TemporaryDirectory() as folder, terminal.status("training …"):
        there = Path(folder) / "candidate"
        made = make_candidate(spec, champion.manifest, rows, hold_out, wanted, decision.trigger, there, now)
        judged = judge(champion, load_bundle(there), made.held_out, metric, confidence)
        found = judged.comparison
        report["comparison"] = comparison(judged, confidence)
        enough = found.customers >= MIN_CUSTOMERS and found.better is not None
        if decision.action is not Action.RETRAIN and not enough:
            _too_few(report, found.customers)
            return None
        if decision.action is Action.GAIN and not (found.advantage or 0.0) > 0.0:
            report["verdict"] = "the new data makes it no better; the candidate was not kept"
            report["exit_code"] = 1
            return None
        copy_bundle(there, out)
    report["candidate"] = {
        "bundle": str(out),
        "version": made.manifest.version,
        "rows": {
            "training": made.manifest.training_data.rows,
            "held_out": made.held_out.rows,
            "reference": made.trained.reference_rows,
        },
        "metrics": made.manifest.metrics,
        "unwatched_features": dict(made.trained.unwatched),
    }
    report["verdict"] = "compare again on labels to come, then driftline promote"
    return made.trained


def _too_few(report: dict[str, Any], customers: int) -> None:
    report["verdict"] = f"{customers} customers to compare by, {MIN_CUSTOMERS} are needed"
    report["exit_code"] = NOT_ENOUGH


def described(decision: Decision) -> dict[str, Any]:
    """Return the decision as `--json` prints it, before anything is trained."""
    from driftline.model_life.retrain_policy import Action

    return {
        "trigger": decision.trigger.value,
        "action": decision.action.value,
        "because": list(decision.because),
        "drifted": list(decision.drifted),
        "plan": list(PLAN) if decision.action is Action.INVESTIGATE else [],
        "candidate": None,
        "comparison": None,
    }


def data_of(rows: Labelled, champion: Loaded) -> dict[str, Any]:
    """Return which rows a candidate is made of, with the shares of missing and unseen values."""
    from driftline.model_life.data_checks import shares

    return {
        "sha256": rows.table.sha256,
        "rows": rows.rows,
        "customers": len(set(rows.customers)),
        **counted(champion.manifest.predicts, rows),
        "left_out": rows.left_out,
        "features": shares(rows.columns(champion.manifest.features)),
    }
