"""`driftline retrain`: whether to train a model again, and the candidate if so."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from driftline import terminal
from driftline.alert_topic import open_about
from driftline.errors import CommandError
from driftline.model_life.model_comparison import Metric
from driftline.model_life.model_selection import load, metric_for, told
from driftline.model_life.retrain_policy import Reason
from driftline.model_life.retraining import data_of, decided, defects_of, described, rows_of, train, trains
from driftline.settings import read_settings

if TYPE_CHECKING:
    from driftline.model_life.retrain_policy import Decision


def command(
    spec: Annotated[Path, typer.Option(help="TOML spec of the model to train.", show_default=False)],
    model: Annotated[Path, typer.Option(help="Folder of the champion. It is unpickled: give one you trust.")],
    out: Annotated[Path, typer.Option(help="Folder of the candidate; must not exist yet.", show_default=False)],
    reason: Annotated[Reason, typer.Option(help="The reason; auto: from the open alerts.")] = "auto",
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
        float, typer.Option(min=0.01, max=0.9, help="Share of the rows for the comparison: the most recent customers'.")
    ] = 0.2,
    metric: Annotated[
        Metric | None,
        typer.Option(help="What is compared.", show_default="brier; of classes accuracy, of a regression mae"),
    ] = None,
    confidence: Annotated[float, typer.Option(min=0.5, max=0.9999, help="Of the interval.")] = 0.95,
    accept: Annotated[
        list[str] | None,
        typer.Option(help="Feature whose missing values or new categories are intended.", show_default=False),
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
    """Train a model again if the policy requires it, and compare the candidate with the champion. Promotes no model.

    docs/model-life.md has the policy. Exit code 1: broken data, or no gain; 3: too few labels to compare.

    Example: driftline retrain --spec examples/telco.toml --model artifacts/model --from-topics
    --out artifacts/candidate

    Example: driftline retrain --spec examples/telco.toml --model artifacts/model --reason schedule
    --data examples/telco_churn.csv --out artifacts/candidate
    """
    from driftline.model_life.candidate import RetrainError
    from driftline.training.dataset import DatasetError
    from driftline.training.estimator_file import ExistingError
    from driftline.training.estimators import EstimatorError
    from driftline.training.spec import SpecError, read_spec
    from driftline.training.train import TrainingError
    from schemas.bundle.manifest import BundleError

    if not (data or from_topics):
        raise CommandError("labelled customers: --data FILE, --from-topics, or both")
    if since is not None and not from_topics:
        raise CommandError("--since goes with --from-topics")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise CommandError(f"{out} exists; name another folder with --out")
    try:
        wanted, champion = read_spec(spec), load(model, public_key)
        if wanted.task != (task := champion.manifest.predicts.name):
            raise CommandError(f"{spec}: [model] task is {wanted.task}, and the champion's is {task}")
        known = bool(from_topics or reason == "auto")
        alerts = open_about(champion.manifest.name, read_settings()) if known else []
        decision = decided(reason, alerts, champion, (), accept or ())
        report: dict[str, Any] = {"alerts_read": known}
        if not trains(decision):
            _end({**report, **described(decision)}, decision, as_json)
            return
        rows = rows_of(wanted, champion, data or (), from_topics, since)
        decision = decided(reason, alerts, champion, defects_of(champion, rows, accept or ()), accept or ())
        report |= {**described(decision), "data": data_of(rows, champion)}
        if trains(decision):
            decides = metric_for(metric, champion)
            trained = train(report, decision, wanted, champion, rows, hold_out, decides, confidence, version, out)
            if track is not None and trained is not None:
                from driftline import mlflow_tracking

                report["candidate"]["registry_version"] = mlflow_tracking.track(
                    track, out, wanted, trained, "challenger"
                )
    except (BundleError, DatasetError, EstimatorError, ExistingError, RetrainError, SpecError, TrainingError) as error:
        raise CommandError(str(error)) from None
    except OSError as error:
        raise CommandError(f"{out}: {error.strerror or error}") from error
    _end(report, decision, as_json)


def _end(report: dict[str, Any], decision: Decision, as_json: bool) -> None:
    from driftline.model_life.data_checks import bundle_remarks, remarks
    from driftline.model_life.retrain_policy import Action

    code = report.pop("exit_code", 1 if decision.action is Action.BLOCK else 0)
    if as_json:
        terminal.show_json(report, indent=True)
    else:
        terminal.show(f"{report['trigger']}: {report['action']} ({'; '.join(report['because'])})")
        if not report["alerts_read"]:
            terminal.note("note: alerts were not read (--reason auto or --from-topics does)")
        for number, step in enumerate(report["plan"], 1):
            terminal.show(f"{number}. {step}")
        for line in remarks(report["data"]["features"]) if "data" in report else ():
            terminal.show(line)
        if report["comparison"] is not None:
            terminal.show(told(report["comparison"]))
        if report["candidate"] is not None:
            made = report["candidate"]
            terminal.show(f"{made['bundle']}: {made['version']}, trained on {made['rows']['training']:,} rows")
            rows, features = made["rows"]["reference"], len(report["data"]["features"])
            for line in bundle_remarks([], made["unwatched_features"], features, rows):
                terminal.show(line)
        if "verdict" in report:
            terminal.show(report["verdict"])
    if code:
        raise typer.Exit(code)
