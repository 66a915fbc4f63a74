"""`driftline train` and `driftline generate`: customers → model bundle, and customers from a generator."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from driftline import terminal
from driftline.errors import CommandError

if TYPE_CHECKING:
    from driftline.training.train import Trained

_METRICS = {
    "mae": "mean size of the error, in the value's unit",
    "rmse": "root of the mean squared error, in the value's unit",
    "bias": "mean of value minus outcome",
    "r2": "share of the outcomes' variance that is explained, 1 is perfect",
    "mape": "mean size of the error as a share of the outcome",
    "roc_auc": "ranking: 0.5 is chance, 1 is perfect",
    "accuracy": "share of right labels",
    "precision_macro": "precision, mean over the classes",
    "recall_macro": "recall, mean over the classes",
    "f1_macro": "F1, mean over the classes",
    "roc_auc_ovr": "ranking of each class against the rest, mean over the classes",
    "f1": "harmonic mean of precision and recall",
    "precision": "of those labelled positive, how many are",
    "recall": "of the positive, how many are found",
    "brier": "squared error of the probability, lower is better",
    "log_loss": "surprise per customer in nats, lower is better",
}


def train(
    spec: Annotated[Path, typer.Option(help="TOML spec: features, target, estimator.", show_default=False)],
    data: Annotated[Path, typer.Option(help="Customers: CSV with a header, or JSON Lines.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder of the bundle.")] = Path("artifacts/model"),
    seed: Annotated[int | None, typer.Option(min=0, max=2**32 - 1, help="Instead of the spec's.")] = None,
    track: Annotated[
        str | None, typer.Option(metavar="URI", help="MLflow store to record it in: sqlite:///mlflow.db, http://…")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Train a model and write its bundle: the model, its drift reference and the manifest.

    The same data, spec, seed and library versions give the same files. Metrics are of held-out customers. With --track,
    the run and its bundle are recorded in MLflow, too; a model's first version becomes its champion.

    Example: driftline train --spec examples/telco.toml --data examples/telco_churn.csv --out artifacts/model

    Example: driftline train --spec examples/churn5.toml --data artifacts/churn5.csv --out artifacts/churn5
    """
    # The messages of these errors are one line each and name the table, key or column.
    from driftline.training.dataset import DatasetError
    from driftline.training.estimators import EstimatorError
    from driftline.training.spec import SpecError, read_spec
    from driftline.training.train import TrainingError, train_bundle

    try:
        wanted = read_spec(spec)
        if seed is not None:
            wanted = wanted.model_copy(update={"training": wanted.training.model_copy(update={"seed": seed})})
        with terminal.status("training, and a self-check of the drift statistics …"):
            trained = train_bundle(wanted, data, out, datetime.now(UTC).replace(microsecond=0))
    except (SpecError, DatasetError, EstimatorError, TrainingError) as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"{out}: {error.strerror or error}") from error
    summary = _summary(trained, out)
    if track is not None:
        from driftline import mlflow_tracking

        summary["registry_version"] = mlflow_tracking.track(track, out, wanted, trained, None)
    if as_json:
        terminal.show_json(summary, indent=True)
        return
    _show(trained, out)
    if track is not None:
        terminal.show(f"mlflow: {trained.manifest.name} version {summary['registry_version']}")


def generate(
    out: Annotated[Path, typer.Option(help="CSV file to write.", show_default=False)],
    rows: Annotated[int, typer.Option(min=1, max=10_000_000, help="How many customers.")] = 5000,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same customers.")] = 42,
) -> None:
    """Write synthetic customers of a subscription service: five features and a label, for examples/churn5.toml.

    Example: driftline generate --out artifacts/churn5.csv --rows 5000 --seed 42
    """
    from driftline.training.synthetic_customers import generate_customers

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(generate_customers(rows, seed), encoding="utf-8", newline="")
    except OSError as error:
        raise CommandError(f"{out}: {error.strerror or error}") from error
    terminal.note(f"{out}: {rows} customers")


def _summary(trained: Trained, out: Path) -> dict[str, object]:
    from driftline.training.loaded_bundle import task_of

    manifest = trained.manifest
    return {
        "bundle": str(out),
        "name": manifest.name,
        "version": manifest.version,
        "features": len(manifest.features),
        **task_of(manifest),
        "rows": {
            "all": manifest.training_data.rows,
            "training": trained.training_rows,
            "held_out": trained.held_out_rows,
            "reference": trained.reference_rows,
        },
        "metrics": manifest.metrics,
        "unused_columns": list(trained.unused),
        "unwatched_features": dict(trained.unwatched),
        "files": {name: entry.sha256 for name, entry in manifest.files.items()},
    }


def _show(trained: Trained, out: Path) -> None:
    from driftline.model_life.data_checks import bundle_remarks
    from driftline.training.loaded_bundle import task_sentence

    manifest = trained.manifest
    terminal.show_table(
        ("metric", "value", "meaning"),
        [(name, terminal.number(value, ".4f"), _METRICS.get(name, "")) for name, value in manifest.metrics.items()],
        right=("value",),
        title=f"{manifest.name} {manifest.version}: {trained.held_out_rows} held-out customers",
    )
    terminal.show(
        f"{manifest.training_data.rows} customers, {len(manifest.features)} features; trained on "
        f"{trained.training_rows}; drift reference of {trained.reference_rows}; {task_sentence(manifest)}"
    )
    terminal.show(manifest.self_check.sentence())
    for line in bundle_remarks(trained.unused, trained.unwatched, len(manifest.features), trained.reference_rows):
        terminal.show(line)
    terminal.show(f"bundle: {out}")
