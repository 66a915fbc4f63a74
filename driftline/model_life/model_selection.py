"""Shared parts of `evaluate`, `retrain` and `promote`: a bundle, labelled rows to measure it on, the comparison."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from driftline import terminal
from driftline.errors import CommandError
from driftline.model_life.model_comparison import Metric, metric_of, relative

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from drift_worker.performance.any_rows import AnyRows
    from drift_worker.performance.label_free_estimate import Estimate
    from schemas.bundle.manifest import Manifest
    from schemas.task import Task, TaskName

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
    from driftline.model_life.candidate import Judged
    from driftline.model_life.labelled_customers import Labelled
    from driftline.training.loaded_bundle import Loaded


def load(model: Path, public_key: Path | None) -> Loaded:
    """Return the bundle in a folder, unpickled; CommandError, BundleError or ExistingError."""
    from driftline.mlflow_tracking import folder
    from driftline.training.loaded_bundle import load_bundle

    try:
        key = public_key.read_bytes() if public_key is not None else None
    except OSError as error:
        raise CommandError(f"{public_key}: {error.strerror or error}") from None
    return load_bundle(folder(model), key)


def label_of(loaded: Loaded) -> str | int | float | bool | None:
    """Return the positive class as a file of customers writes it; None if the model is not binary."""
    positive = loaded.manifest.positive_class
    return int(positive) if isinstance(positive, float) and positive.is_integer() else positive


def left_out(rows: Labelled) -> str:
    """Return the unused rows, and why, as the end of a sentence."""
    return "".join(f"; {count:,} {reason}" for reason, count in sorted(rows.left_out.items()))


def check_money(metric: Metric, champion: Loaded) -> None:
    """Raise CommandError if a metric is in money and the bundle has no worth of outcomes."""
    if metric == "business_value" and champion.manifest.business is None:
        raise CommandError("--metric business_value: the champion's spec has no [business]")


def metric_for(asked: Metric | None, champion: Loaded) -> Metric:
    """Return the metric that decides: without an option Brier, of other tasks their own. CommandError."""
    try:
        metric = metric_of(asked, champion.manifest.predicts.name, "brier")
    except ValueError as error:
        raise CommandError(str(error)) from None
    check_money(metric, champion)
    return metric


def counted(task: Task, rows: Labelled) -> dict[str, Any]:
    """Return what `--json` prints about the outcomes: how many are positive, or of each class; of numbers nothing."""
    from drift_worker.performance.any_rows import names_of
    from schemas.task import Binary, Multiclass

    if isinstance(task, Binary):
        return {"positive": int(rows.positive.sum())}
    if not isinstance(task, Multiclass):
        return {}
    return {"outcomes": {name: int((rows.outcome == name).sum()) for name in names_of(task, rows.outcome)}}


def comparison(judged: Judged, confidence: float) -> dict[str, Any]:
    """Return the comparison of two models as `--json` prints it."""
    return {**asdict(judged.comparison), "confidence": confidence, "judged_by_unseen_rows_only": judged.sure}


def told(found: dict[str, Any]) -> str:
    """Return the comparison in one line."""
    if found["advantage"] is None:
        return f"{found['metric']}: {found['reason']}"
    form = "+.1%" if relative(found["metric"]) else "+.4f"
    low, high = (terminal.number(found[side], form) for side in ("low", "high"))
    interval = "" if found["low"] is None else f" ({found['confidence']:.0%}: {low} to {high})"
    champion, candidate = (terminal.number(found[side], ".4f") for side in ("champion", "challenger"))
    return (
        f"{found['metric']} of {found['customers']:,} customers: champion {champion}, candidate {candidate}, "
        f"advantage {terminal.number(found['advantage'], form)}{interval}"
    )


def measured(loaded: Loaded, rows: Labelled) -> dict[str, Any]:
    """Return what `--json` prints: counts, and per metric the realised value and the estimate from the scores alone."""
    from driftline.model_life.data_checks import shares

    manifest = loaded.manifest
    columns = rows.columns(manifest.features)
    customers = rows.codes
    about, found = _MEASURED[manifest.predicts.name](manifest, loaded.score(columns), rows, customers)
    return {
        "model": {"name": manifest.name, "version": manifest.version, "sha256": loaded.bundle.manifest_sha256},
        "data": {
            "sha256": rows.table.sha256,
            "rows": rows.rows,
            "customers": int(customers.max()) + 1,
            **about,
            "left_out": rows.left_out,
            "features": shares(columns),
        },
        **found,
    }


#: What is about the outcomes, and what was measured.
_Found = tuple[dict[str, Any], dict[str, Any]]


def _binary(manifest: Manifest, probability: Floats, rows: Labelled, customers: Ints) -> _Found:
    from drift_worker.performance.classification_metrics import Rows, performance
    from drift_worker.performance.label_free_estimate import estimate

    task = manifest.binary("driftline evaluate")
    table = Rows(rows.positive, probability, task.labels(probability), customers)
    metrics = {name: asdict(one) for name, one in performance(table).items()}
    if manifest.calibration is not None:
        _add_expected(metrics, estimate(probability, task.threshold, manifest.calibration, customers))
    found = {"threshold": task.threshold, "metrics": metrics, "business": _worth(manifest, table)}
    return counted(task, rows), found


def _worth(manifest: Manifest, rows: AnyRows) -> dict[str, Any] | None:
    """Return what the rows are worth; None if the bundle does not state it."""
    from drift_worker.performance.money import business_value, money_of

    money = money_of(manifest.business, manifest.classes)
    if manifest.business is None or money is None:
        return None
    return {"currency": manifest.business.currency, **asdict(business_value(rows, money))}


def _add_expected(metrics: dict[str, dict[str, Any]], promised: Mapping[str, Estimate | None]) -> None:
    """Add to each metric what the scores alone promise."""
    for name, one in promised.items():
        metrics[name]["expected"] = None if one is None else {"value": one.value, "low": one.low, "high": one.high}


def _values(manifest: Manifest, value: Floats, rows: Labelled, customers: Ints) -> _Found:
    from drift_worker.performance.any_rows import rows_of_task
    from drift_worker.performance.error_estimate import estimate
    from drift_worker.performance.regression_metrics import ValueRows, value_performance

    table = rows_of_task(manifest.predicts, rows.outcome, value, customers)
    assert isinstance(table, ValueRows), "the caller has looked"  # noqa: S101
    metrics = {name: asdict(one) for name, one in value_performance(table).items()}
    if manifest.error_curve is not None:
        _add_expected(metrics, estimate(value, manifest.error_curve, customers))
    return counted(manifest.predicts, rows), {"metrics": metrics, "business": _worth(manifest, table)}


def _classes(manifest: Manifest, shares: Floats, rows: Labelled, customers: Ints) -> _Found:
    from drift_worker.performance.any_rows import names_of, rows_of_task
    from drift_worker.performance.class_estimate import estimate
    from drift_worker.performance.multiclass_metrics import ClassRows, class_performance, of_each_class
    from schemas.task import Multiclass

    task = manifest.predicts
    table = rows_of_task(task, rows.outcome, shares, customers)
    assert isinstance(task, Multiclass) and isinstance(table, ClassRows), "the caller has looked"  # noqa: S101, PT018
    names = names_of(task, rows.outcome)
    each = {
        names[code]: {name: asdict(one) for name, one in metrics.items()}
        for code, metrics in of_each_class(table).items()
    }
    metrics = {name: asdict(one) for name, one in class_performance(table).items()}
    if manifest.class_calibration is not None:
        promised = estimate(shares, task.classes, manifest.class_calibration, customers)
        _add_expected(metrics, promised.overall)
        for name, one in zip(task.classes, promised.classes, strict=True):
            if name in each:
                _add_expected(each[name], one)
    return counted(task, rows), {"metrics": metrics, "classes": each, "business": _worth(manifest, table)}


_MEASURED: dict[TaskName, Callable[[Manifest, Floats, Labelled, Ints], _Found]] = {
    "binary": _binary,
    "multiclass": _classes,
    "regression": _values,
}
