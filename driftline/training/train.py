"""Customers and a spec → a model bundle. The same data, spec and library versions give the same bytes.

Rows are split once, of a classifier stratified by label. The model is fitted on the training rows and measured on the
held-out ones. Five folds over the training rows give out-of-fold scores. They choose an "f1" threshold, fit what
estimates without labels need and the interval of residuals, and are stored in the drift reference. A training row's
in-sample score would be too extreme and would look like drift in every stream (a random forest: D = 0.17 without any
drift).
"""

from __future__ import annotations

import io
import json
import pickle
import platform
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

import joblib
import numpy as np
import sklearn
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    brier_score_loss,
    f1_score,
    log_loss,
    precision_recall_curve,
    precision_score,
    recall_score,
    roc_auc_score,
)
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_predict, train_test_split
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from drift_worker.performance.classification_metrics import Rows, performance
from drift_worker.performance.multiclass_metrics import ClassRows, class_performance
from drift_worker.performance.regression_metrics import regression_metrics, residual_interval
from drift_worker.statistics.self_check import self_check, unwatched
from driftline.training.dataset import Dataset, read_dataset
from driftline.training.estimators import EstimatorError, build_estimator
from driftline.training.golden_rows import golden_rows, golden_values
from driftline.training.spec import FeatureSpec, Spec
from driftline.training.without_labels.calibration import calibrate
from driftline.training.without_labels.class_calibration import calibrate_classes
from driftline.training.without_labels.error_curve import error_curve
from schemas.bundle.files import MODEL, REFERENCE, write_bundle
from schemas.bundle.manifest import (
    SCOPE,
    ClassBusiness,
    Golden,
    Libraries,
    Manifest,
    Residuals,
    TrainingData,
    ValueFacts,
    unknown_in_matrix,
)
from schemas.features import Columns
from schemas.reference import MAX_ROWS, Reference
from schemas.task import Binary, Multiclass, Regression, Task, TaskName

FOLDS = 5
# Share of new customers whose outcome is within a value's interval.
LEVEL = 0.9

Floats = NDArray[np.float64]
Folds: TypeAlias = StratifiedKFold | KFold


class TrainingError(Exception):
    """Data on which this model cannot be trained. The text is one line."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A bundle in memory, and how many rows each part of it came from.

    folds: per metric its mean and standard deviation over the folds' left-out rows.
    """

    manifest: Manifest
    files: Mapping[str, bytes]
    training_rows: int
    held_out_rows: int
    reference_rows: int
    folds: Mapping[str, tuple[float, float]]
    #: Columns of the file that the spec does not name.
    unused: tuple[str, ...] = ()
    #: Features of which the reference has too few values to see drift, with how many it has.
    unwatched: Mapping[str, int] = field(default_factory=dict)


def train_bundle(spec: Spec, data: Path, out: Path, now: datetime) -> Trained:
    """Train on the file and write the bundle into `out`; SpecError, DatasetError, EstimatorError or TrainingError."""
    trained = train(spec, read_dataset(data, spec), now)
    reference = Reference.from_bytes(trained.files[REFERENCE])
    manifest = checked(trained.manifest, reference, spec.training.seed)
    return replace(trained, manifest=write_bundle(out, manifest, trained.files))


def train(spec: Spec, dataset: Dataset, now: datetime) -> Trained:
    """Fit, measure and describe the model. `now` is the bundle's created_at and has no other effect."""
    # One thread: with several, sums of floats depend on the order of threads, and so would the bundle's bytes.
    with threadpool_limits(limits=1):
        return _train(spec, dataset, now)


@dataclass(frozen=True, slots=True)
class _Fitted:
    """A fitted model, with out-of-sample scores of all rows."""

    model: Any
    #: float64 of the task's shape: out of fold for the training rows.
    score: Floats
    #: int64: sorted row numbers of the training and of the held-out rows.
    fit: NDArray[np.int64]
    test: NDArray[np.int64]
    #: Row numbers that each fold left out.
    parts: Sequence[NDArray[np.int64]]


def _train(spec: Spec, dataset: Dataset, now: datetime) -> Trained:
    return _TRAINED[spec.task](spec, dataset, now)


def _train_binary(spec: Spec, dataset: Dataset, now: datetime) -> Trained:
    seed = spec.training.seed
    positive = dataset.labels == spec.positive
    rows = _split(dataset.labels, spec.training.test_size, seed)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    fitted = _fit(spec, dataset, *rows, folds, Binary(spec.positive))
    fit, score = fitted.fit, fitted.score
    threshold = best_f1(positive[fit], score[fit]) if spec.model.threshold == "f1" else spec.model.threshold

    def measured(rows: NDArray[np.int64]) -> dict[str, float]:
        return measure(positive[rows], score[rows], float(threshold))

    members = {
        "positive_class": spec.positive,
        "threshold": float(threshold),
        "metric_errors": errors_of(positive[fitted.test], score[fitted.test], float(threshold)),
        "absent_label": spec.data.absent_label,
        "calibration": calibrate(positive[fit], score[fit], dataset.columns.take(fit), float(threshold), seed),
    }
    return _described(spec, dataset, now, fitted, Binary(spec.positive, float(threshold)), members, measured)


def _train_multiclass(spec: Spec, dataset: Dataset, now: datetime) -> Trained:
    seed = spec.training.seed
    # sorted, as classes_ are; the fitted model's own order is checked below
    task = Multiclass(tuple(np.unique(dataset.labels).tolist()))
    if why := foreign_money(spec, task):
        raise TrainingError(why)
    rows = _split(dataset.labels, spec.training.test_size, seed)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    fitted = _fit(spec, dataset, *rows, folds, task)
    outcome = np.searchsorted(np.array(task.classes), dataset.labels).astype(np.int64)

    def measured(rows: NDArray[np.int64]) -> dict[str, float]:
        return measure_classes(outcome[rows], fitted.score[rows])[0]

    fit, test = rows
    columns = dataset.columns.take(fit)
    members = {
        **class_members(task),
        "metric_errors": measure_classes(outcome[test], fitted.score[test])[1],
        "class_calibration": calibrate_classes(outcome[fit], fitted.score[fit], task.classes, columns, seed),
    }
    return _described(spec, dataset, now, fitted, task, members, measured)


def _train_regression(spec: Spec, dataset: Dataset, now: datetime) -> Trained:
    seed = spec.training.seed
    outcome = dataset.labels.astype(np.float64)
    task = Regression(spec.model.method)
    rows = np.arange(dataset.rows)
    if dataset.rows < 2 * FOLDS:
        raise TrainingError(f"{dataset.rows} rows; at least {2 * FOLDS} are needed")
    try:
        fit, test = train_test_split(rows, test_size=spec.training.test_size, random_state=seed)
    except ValueError as error:
        raise TrainingError(f"[training] test_size: {error}") from None
    if len(fit) < FOLDS:
        raise TrainingError(f"[training] test_size: {spec.training.test_size:g} leaves {len(fit)} training rows")
    folds = KFold(FOLDS, shuffle=True, random_state=seed)
    fitted = _fit(spec, dataset, np.sort(fit), np.sort(test), folds, task)
    score = fitted.score

    def measured(rows: NDArray[np.int64]) -> dict[str, float]:
        return measure_values(outcome[rows], score[rows])

    found = regression_metrics(outcome[fitted.test], score[fitted.test])
    members = {
        **value_members(spec, outcome[fitted.fit] - score[fitted.fit]),
        "metric_errors": {name: one.error for name, one in found.items() if one.error is not None},
        "error_curve": error_curve(outcome[fitted.fit], score[fitted.fit], dataset.columns.take(fitted.fit), seed),
    }
    return _described(spec, dataset, now, fitted, task, members, measured)


_TRAINED: Mapping[TaskName, Callable[[Spec, Dataset, datetime], Trained]] = {
    "binary": _train_binary,
    "multiclass": _train_multiclass,
    "regression": _train_regression,
}


def _fit(
    spec: Spec, dataset: Dataset, fit: NDArray[np.int64], test: NDArray[np.int64], folds: Folds, task: Task
) -> _Fitted:
    frame = dataset.columns.frame()
    kind = spec.estimator_kind
    estimator = build_estimator(kind, dataset.columns.layout, spec.training.seed, task.name)
    fit_frame, fit_labels = frame.iloc[fit], dataset.labels[fit]
    try:
        # Columns of cross_val_predict are in the sorted order of the labels, as in classes_.
        folded = cross_val_predict(estimator, fit_frame, fit_labels, cv=folds, method=task.method)
        model = estimator.fit(fit_frame, fit_labels)
    except (TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise EstimatorError(f"[estimator] kind: {kind} could not be fitted: {reason}") from error
    score = np.empty(task.shape(dataset.rows), dtype=np.float64)
    if isinstance(task, Multiclass) and (why := task.unfit(model) or task.mismatch(model)) is not None:
        raise TrainingError(why)
    if isinstance(task, Binary):
        classes = model.classes_.tolist()
        if len(classes) != 2:
            raise TrainingError(f"the model has {len(classes)} classes; Driftline's scope: {SCOPE}")
        folded = folded[:, classes.index(task.positive_class)]
    score[fit] = folded
    score[test] = task.scores(model, frame.iloc[test])
    if not np.isfinite(score).all():
        raise TrainingError(f"the model gives something other than a {task.result} for some of its own customers")
    parts = [fit[left_out] for _, left_out in folds.split(fit, fit_labels)]
    return _Fitted(model, score, fit, test, parts)


def _described(
    spec: Spec,
    dataset: Dataset,
    now: datetime,
    fitted: _Fitted,
    task: Task,
    members: Mapping[str, Any],
    measured: Callable[[NDArray[np.int64]], dict[str, float]],
) -> Trained:
    """Return the bundle in memory.

    members: what the manifest has because of the task. measured: row numbers → metrics of these customers.
    """
    seed = spec.training.seed
    model_bytes = _dump(fitted.model)
    # Golden scores come from the bytes that are shipped, not from the object they were made of.
    shipped = joblib.load(io.BytesIO(model_bytes))
    rows = golden_rows(dataset.features, dataset.columns, seed)
    golden_columns = dataset.columns.layout.columns(golden_values(dataset.features, rows))
    reference = drift_reference(spec, dataset.columns, fitted.score, task)
    manifest = Manifest(
        name=spec.model.name,
        version=spec.model.version,
        created_at=now,
        libraries=libraries(),
        features=dataset.features,
        event=spec.event,
        training_data=TrainingData(sha256=dataset.sha256, rows=dataset.rows, id=spec.data.id),
        data_format=spec.data.recorded(),
        metrics=measured(fitted.test),
        golden=golden_of(task, rows, task.scores(shipped, golden_columns.frame())),
        business=spec.business,
        **members,
    )
    files = {MODEL: model_bytes, REFERENCE: reference.to_bytes()}
    each = [measured(part) for part in fitted.parts]
    spread = {
        name: (float(np.mean(v)), float(np.std(v)))
        for name in each[0]
        for v in [[one[name] for one in each if name in one]]
    }
    return Trained(
        manifest,
        files,
        len(fitted.fit),
        len(fitted.test),
        reference.rows,
        spread,
        dataset.unused,
        unwatched(dataset.features, reference),
    )


def golden_of(task: Task, rows: Sequence[Mapping[str, Any]], scores: Floats) -> Golden:
    """Return golden rows with their scores. Values may be of any size, so that their tolerance grows with them."""
    if isinstance(task, Binary):
        return Golden(rows=tuple(map(dict, rows)), probabilities=tuple(scores.tolist()))
    if isinstance(task, Multiclass):
        return Golden(rows=tuple(map(dict, rows)), distributions=tuple(map(tuple, scores.tolist())))
    tolerance = float(task.tolerances(scores, 1e-9).max(initial=1e-9))
    return Golden(rows=tuple(map(dict, rows)), values=tuple(scores.tolist()), tolerance=tolerance)


def value_members(spec: FeatureSpec, residuals: Floats | None) -> dict[str, Any]:
    """Return what the manifest of a regression has; `residuals`: outcome - value out of sample, None if unknown."""
    model = spec.model
    facts = ValueFacts(unit=model.unit, min=model.min, max=model.max)
    ends = None if residuals is None else residual_interval(residuals, LEVEL)
    known = None
    if residuals is not None and ends is not None:
        known = Residuals(low=ends[0], high=ends[1], level=LEVEL, rows=len(residuals))
    return {
        "task": "regression",
        "method": None if model.method == "predict" else model.method,
        "value": None if facts == ValueFacts() else facts,
        "residuals": known,
    }


def foreign_money(spec: FeatureSpec, task: Multiclass) -> str | None:
    """Return that [business] names something that is no class of the model; None if it does not."""
    if not isinstance(spec.business, ClassBusiness):
        return None
    unknown = unknown_in_matrix(spec.business, task.classes)
    known = ", ".join(map(json.dumps, task.classes[:5]))
    return (
        f"[business] matrix: {json.dumps(unknown[0])} is no class of the model, which has {known}" if unknown else None
    )


def class_members(task: Multiclass) -> dict[str, Any]:
    """Return what the manifest of a model with several classes has."""
    return {"task": task.name, "classes": task.classes}


def measure_classes(outcome: NDArray[np.int64], probabilities: Floats) -> tuple[dict[str, float], dict[str, float]]:
    """Return the metrics of some rows by name, and the standard errors of those where they are known.

    outcome: int64 (n,), indices of classes. probabilities: (n, classes).
    """
    predicted = probabilities.argmax(axis=1).astype(np.int64)
    found = class_performance(ClassRows(outcome, predicted, probabilities, np.arange(len(outcome))))
    values = {name: one.value for name, one in found.items() if one.value is not None}
    return values, {name: one.error for name, one in found.items() if one.error is not None}


def measure_values(outcome: Floats, value: Floats) -> dict[str, float]:
    """Return metrics of some rows: size of the errors (mae, rmse, mape), their mean (bias), and r2; known ones only."""
    found = regression_metrics(outcome, value)
    return {name: one.value for name, one in found.items() if one.value is not None}


def measure(positive: NDArray[np.bool_], probability: NDArray[np.float64], threshold: float) -> dict[str, float]:
    """Return metrics of some rows: ranking (roc_auc), labels at the threshold, and calibration (brier, log_loss)."""
    label = probability >= threshold
    return {
        "roc_auc": float(roc_auc_score(positive, probability)),
        "accuracy": float(accuracy_score(positive, label)),
        "f1": float(f1_score(positive, label, zero_division=0)),
        "precision": float(precision_score(positive, label, zero_division=0)),
        "recall": float(recall_score(positive, label, zero_division=0)),
        "brier": float(brier_score_loss(positive, probability)),
        "log_loss": float(log_loss(positive, probability, labels=[False, True])),
    }


def errors_of(positive: NDArray[np.bool_], probability: NDArray[np.float64], threshold: float) -> dict[str, float]:
    """Return standard errors of `measure`'s numbers, each row another customer; unknown ones are left out."""
    found = performance(Rows(positive, probability, probability >= threshold, np.arange(len(positive))))
    return {name: one.error for name, one in found.items() if one.error is not None}


def _split(labels: NDArray[Any], test_size: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return sorted row numbers of the training and the held-out rows, each class in both by its share."""
    classes, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    rarest = int(counts.min())
    if rarest < 2 * FOLDS:
        which = "rarer class" if len(classes) == 2 else f"class {classes[counts.argmin()]!s}"
        raise TrainingError(f"the {which} has {rarest} rows; at least {2 * FOLDS} are needed")
    try:
        rows = np.arange(len(labels))
        fit, test = train_test_split(rows, test_size=test_size, random_state=seed, stratify=codes)
    except ValueError as error:
        raise TrainingError(f"[training] test_size: {error}") from None
    if np.bincount(codes[fit], minlength=len(classes)).min() < FOLDS:
        raise TrainingError(f"[training] test_size: {test_size:g} leaves fewer than {FOLDS} training rows of a class")
    if len(np.unique(codes[test])) < len(classes):
        what = "rows of one class only" if len(classes) == 2 else "no row of a class"
        raise TrainingError(f"[training] test_size: {test_size:g} holds out {what}")
    return np.sort(fit), np.sort(test)


def best_f1(positive: NDArray[np.bool_], probability: NDArray[np.float64]) -> float:
    """Return the probability that gives the largest F1 as a threshold; the smallest of several."""
    precision, recall, thresholds = precision_recall_curve(positive, probability)
    total = np.maximum(precision + recall, np.finfo(float).tiny)
    f1 = (2 * precision * recall / total)[: len(thresholds)]  # the curve's last point has no threshold
    return float(thresholds[int(np.argmax(f1))])


def drift_reference(spec: FeatureSpec, columns: Columns, score: NDArray[np.float64], task: Task) -> Reference:
    """Return `sampled_reference`; categories are learnt where the spec lists none."""
    tables = spec.features.items()
    learnt = {name for name, table in tables if table.kind == "categorical" and table.categories is None}
    return sampled_reference(columns, score, task, learnt, spec.training.seed)


def sampled_reference(
    columns: Columns, score: NDArray[np.float64], task: Task, learnt: Container[str], seed: int
) -> Reference:
    """Return at most 10,000 rows drawn at random from all of them. score: of the task's shape.

    singletons counts the stored rows whose category occurs nowhere else in the whole data set. Divided by the number of
    stored rows, it estimates how often a new customer brings an unseen category (Good 1953), at any size of the data.
    Features whose categories were not learnt from data have none.
    """
    rows = np.arange(columns.n)
    if columns.n > MAX_ROWS:
        rows = np.sort(np.random.default_rng(seed).choice(columns.n, MAX_ROWS, replace=False))
    singletons = np.zeros(columns.codes.shape[1], dtype=np.int64)
    for column, feature in enumerate(columns.layout.categorical):
        if columns.layout.names[feature] not in learnt:
            continue
        codes = columns.codes[:, column]
        counts = np.bincount(codes[codes >= 0])
        stored = codes[rows]
        singletons[column] = int((counts[stored[stored >= 0]] == 1).sum())
    predicted = task.predicted(score[rows])
    return Reference(columns.numeric[rows], columns.codes[rows], task.watched(score[rows]), singletons, predicted)


def checked(manifest: Manifest, reference: Reference, seed: int) -> Manifest:
    """Return the manifest with its `self_check` of this reference."""
    return manifest.model_copy(update={"self_check": self_check(manifest.features, reference, seed)})


def _dump(model: Any) -> bytes:
    """Return the fitted model as joblib writes it, the same bytes for the same model."""
    out = io.BytesIO()
    try:
        joblib.dump(model, out)
    except (AttributeError, TypeError, ValueError, pickle.PicklingError) as error:  # lambdas, open files
        raise EstimatorError(f"[estimator] kind: the fitted model cannot be saved: {error}") from None
    return out.getvalue()


def libraries(scikit_learn: str = sklearn.__version__) -> Libraries:
    """Return versions of this process; scikit-learn's may be given, for an estimator fitted elsewhere."""
    # By its JSON name: "scikit-learn" is not a valid Python name.
    versions = {"python": platform.python_version(), "numpy": np.__version__, "scikit-learn": scikit_learn}
    return Libraries.model_validate(versions)
