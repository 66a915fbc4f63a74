"""`driftline retrain`: whether a model is to be trained again, and the candidate if so."""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from driftline.errors import NOT_ENOUGH, CommandError
from driftline.evaluate import left_out, load
from driftline.labelled_data import labelled_events, of_both
from driftline.settings import read_settings
from driftline.since import parse_since
from training.compare import Metric

if TYPE_CHECKING:
    from schemas.alert import Alert
    from training.labelled import Labelled
    from training.loaded import Loaded
    from training.policy import Decision
    from training.retrain import Judged
    from training.spec import Spec
    from training.train import Trained

# Intervals are of sums over customers and take them for normal; and fewer than this decide nothing worth deciding.
MIN_CUSTOMERS = 500
PLAN = (
    "look at GET /drift.html: since when, in which features, and whether one source sends all of it",
    "ask whoever owns the source: a campaign or a new price is drift; a changed unit or a lost join is a defect",
    "driftline evaluate --from-topics: is what has a label by now still predicted well?",
    "if it is: driftline rebaseline, so that the new customers are the reference",
    "if it is not, and labels of the new customers are there: driftline retrain --reason manual --from-topics",
)


class Reason(StrEnum):
    """`--reason`."""

    AUTO = "auto"
    DRIFT = "drift"
    PERFORMANCE = "performance"
    SCHEDULE = "schedule"
    NEW_DATA = "new_data"
    MANUAL = "manual"


def command(
    spec: Annotated[Path, typer.Option(help="TOML spec of the model to train.", show_default=False)],
    model: Annotated[Path, typer.Option(help="Folder of the champion. It is unpickled: give one you trust.")],
    out: Annotated[Path, typer.Option(help="Folder of the candidate; must not exist yet.", show_default=False)],
    reason: Annotated[Reason, typer.Option(help="Why; auto: what the open alerts say.")] = Reason.AUTO,
    data: Annotated[
        list[Path] | None,
        typer.Option(help="Labelled customers, CSV or JSON Lines, oldest first; may be repeated.", show_default=False),
    ] = None,
    from_topics: Annotated[
        bool, typer.Option("--from-topics", help="Events and their labels from Kafka, after those of --data.")
    ] = False,
    since: Annotated[
        str | None, typer.Option(help="With --from-topics: from when on, 90d or a date-time.", show_default="all")
    ] = None,
    hold_out: Annotated[
        float, typer.Option(min=0.01, max=0.9, help="Share of the rows to judge by: the most recent customers'.")
    ] = 0.2,
    metric: Annotated[Metric, typer.Option(help="What is compared.")] = "brier",
    confidence: Annotated[float, typer.Option(min=0.5, max=0.9999, help="Of the interval.")] = 0.95,
    accept: Annotated[
        list[str] | None,
        typer.Option(help="Feature whose missing values or new categories are meant so.", show_default=False),
    ] = None,
    version: Annotated[str | None, typer.Option(help="Of the candidate.", show_default="the next minor")] = None,
    track: Annotated[
        str | None, typer.Option(metavar="URI", help="MLflow store: the candidate becomes its challenger.")
    ] = None,
    public_key: Annotated[
        Path | None, typer.Option(envvar="MODEL_PUBLIC_KEY", help="PEM file: take a signed champion only.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Train a model again if the policy says so, and hold the candidate against the champion. Nothing is promoted.

    docs/model-life.md has the policy. Exit code 1: broken data, or no gain; 3: too few labels to compare.

    Example: driftline retrain --spec telco.toml --model artifacts/model --from-topics --out artifacts/candidate

    Example: driftline retrain --spec telco.toml --model artifacts/model --reason schedule --data 2026.csv
    --out artifacts/candidate
    """
    from schemas.bundle import BundleError
    from training.dataset import DatasetError
    from training.estimators import EstimatorError
    from training.existing import ExistingError
    from training.retrain import RetrainError
    from training.spec import SpecError, read_spec
    from training.train import TrainingError

    if not (data or from_topics):
        raise CommandError("labelled customers: --data FILE, --from-topics, or both")
    if since is not None and not from_topics:
        raise CommandError("--since goes with --from-topics")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise CommandError(f"{out} exists; name another folder with --out")
    try:
        wanted, champion = read_spec(spec), load(model, public_key)
        known = bool(from_topics or reason is Reason.AUTO)
        alerts = open_alerts(champion.manifest.name) if known else []
        decision = _decision(reason, alerts, champion, (), accept or ())
        report: dict[str, Any] = {"alerts_read": known}
        if not _trains(decision):
            _end({**report, **_said(decision)}, decision, as_json)
            return
        rows = _rows(wanted, champion, data or (), from_topics, since)
        decision = _decision(reason, alerts, champion, _defects(champion, rows, accept or ()), accept or ())
        report |= {**_said(decision), "data": _data(rows)}
        if _trains(decision):
            trained = _train(report, decision, wanted, champion, rows, hold_out, metric, confidence, version, out)
            if track is not None and trained is not None:
                from driftline import tracking

                report["candidate"]["registry_version"] = tracking.track(track, out, wanted, trained, "challenger")
    except (BundleError, DatasetError, EstimatorError, ExistingError, RetrainError, SpecError, TrainingError) as error:
        raise CommandError(str(error)) from None
    except OSError as error:
        raise CommandError(f"{out}: {error.strerror or error}") from error
    _end(report, decision, as_json)


def open_alerts(model: str) -> list[Alert]:
    """What is firing about the model; CommandError."""
    from driftline.alerts import announced
    from driftline.alerts import open_alerts as firing

    return [alert for alert in firing(announced(read_settings())) if alert.labels.get("model") == model]


def _decision(
    reason: Reason, alerts: list[Alert], champion: Loaded, defects: tuple[str, ...], accepted: list[str] | tuple[()]
) -> Decision:
    from training.policy import Trigger, decide

    importance = champion.importance() if alerts else {}
    trigger = None if reason is Reason.AUTO else Trigger(reason.value)
    return decide(trigger, alerts, importance, defects, accepted)


def _trains(decision: Decision) -> bool:
    from training.policy import TRAINS

    return decision.action in TRAINS


def _rows(spec: Spec, champion: Loaded, data: list[Path] | tuple[()], from_topics: bool, since: str | None) -> Labelled:
    """Files in the order given, then the topics; CommandError if no label is there."""
    from training.labelled import read_labelled

    features = of_both(spec.manifest_features({}), champion.manifest.features)
    names = [feature.name for feature in features]
    parts = [read_labelled(path, names, spec.data.target, spec.data.positive, spec.data.id) for path in data]
    if from_topics:
        absent = spec.data.absent_label == "negative"
        parts.append(labelled_events(features, spec.event, parse_since(since), absent_negative=absent))
    rows, *others = [part for part in parts if part.rows] or [parts[0]]
    for newer in others:
        rows = rows.then(newer)
    if not rows.rows:
        raise CommandError(f"no event has a label yet{left_out(rows)}", NOT_ENOUGH)
    return rows


def _defects(champion: Loaded, rows: Labelled, accepted: list[str] | tuple[()]) -> tuple[str, ...]:
    from training.checks import defects

    columns = rows.columns(champion.manifest.features)
    return tuple(defects(champion.reference(), columns, rows.codes, accepted))


def _train(
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
    """Train, compare, and keep the candidate as the action says; what came of it goes into the report."""
    from rich.console import Console

    from schemas.bundle import copy_bundle
    from training.labelled import held_out
    from training.loaded import load_bundle
    from training.policy import Action
    from training.retrain import judge, make_candidate, next_minor

    check_money(metric, champion)
    recent = len({rows.customers[row] for row in held_out(rows.customers, hold_out)[1].tolist()})
    if decision.action is not Action.RETRAIN and recent < MIN_CUSTOMERS:
        _too_few(report, recent)
        return None
    wanted = version or next_minor(champion.manifest.version)
    now = datetime.now(UTC).replace(microsecond=0)
    with tempfile.TemporaryDirectory() as folder, Console(stderr=True).status("training …"):
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
        "rows": {"training": made.manifest.training_data.rows, "held_out": made.held_out.rows},
        "metrics": made.manifest.metrics,
    }
    report["verdict"] = "compare again on labels to come, then driftline promote"
    return made.trained


def _too_few(report: dict[str, Any], customers: int) -> None:
    report["verdict"] = f"{customers} customers to compare by, {MIN_CUSTOMERS} are needed"
    report["exit_code"] = NOT_ENOUGH


def check_money(metric: Metric, champion: Loaded) -> None:
    """CommandError if money is asked for and nobody said what an outcome is worth."""
    if metric == "business_value" and champion.manifest.business is None:
        raise CommandError("--metric business_value: the champion's spec has no [business]")


def comparison(judged: Judged, confidence: float) -> dict[str, Any]:
    """What `--json` says about two models."""
    return {**asdict(judged.comparison), "confidence": confidence, "judged_by_unseen_rows_only": judged.sure}


def told(found: dict[str, Any]) -> str:
    """The comparison in one line."""
    if found["advantage"] is None:
        return f"{found['metric']}: {found['reason']}"
    interval = (
        "" if found["low"] is None else f" ({found['confidence']:.0%}: {found['low']:+.4f} to {found['high']:+.4f})"
    )
    return (
        f"{found['metric']} of {found['customers']:,} customers: champion {found['champion']:.4f}, candidate "
        f"{found['challenger']:.4f}, advantage {found['advantage']:+.4f}{interval}"
    )


def _said(decision: Decision) -> dict[str, Any]:
    from training.policy import Action

    return {
        "trigger": decision.trigger.value,
        "action": decision.action.value,
        "because": list(decision.because),
        "drifted": list(decision.drifted),
        "plan": list(PLAN) if decision.action is Action.INVESTIGATE else [],
        "candidate": None,
        "comparison": None,
    }


def _data(rows: Labelled) -> dict[str, Any]:
    return {
        "sha256": rows.table.sha256,
        "rows": rows.rows,
        "customers": len(set(rows.customers)),
        "positive": int(rows.positive.sum()),
        "left_out": rows.left_out,
    }


def _end(report: dict[str, Any], decision: Decision, as_json: bool) -> None:
    from training.policy import Action

    code = report.pop("exit_code", 1 if decision.action is Action.BLOCK else 0)
    if as_json:
        print(json.dumps(report, indent=2))
    else:
        print(f"{report['trigger']}: {report['action']} ({'; '.join(report['because'])})")
        if not report["alerts_read"]:
            print("note: alerts were not looked at (--reason auto or --from-topics does)", file=sys.stderr)
        for number, step in enumerate(report["plan"], 1):
            print(f"{number}. {step}")
        if report["comparison"] is not None:
            print(told(report["comparison"]))
        if report["candidate"] is not None:
            made = report["candidate"]
            print(f"{made['bundle']}: {made['version']}, trained on {made['rows']['training']:,} rows")
        if "verdict" in report:
            print(report["verdict"])
    if code:
        raise typer.Exit(code)
