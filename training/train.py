"""Customers and a spec → a model bundle. The same data, spec and library versions give the same bytes.

Rows are split once, stratified by label. The model is fitted on the training rows and measured on the held-out ones.
The same five folds over the training rows give the out-of-fold probabilities from which an "f1" threshold is chosen,
from which the calibration is fitted, and which stand in the drift reference: a training row's in-sample score would be
too sure of itself, and would look like drift in every stream (a random forest: D = 0.17 with no drift at all).
"""

from __future__ import annotations

import io
import pickle
import platform
from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

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
from sklearn.model_selection import StratifiedKFold, cross_val_predict, train_test_split
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from drift_worker.performance import Rows, performance
from drift_worker.self_check import self_check
from schemas.bundle import (
    MODEL,
    REFERENCE,
    SCOPE,
    Golden,
    Libraries,
    Manifest,
    TrainingData,
    write_bundle,
)
from schemas.features import Columns
from schemas.reference import MAX_ROWS, Reference
from training.calibrate import calibrate
from training.dataset import Dataset, read_dataset
from training.estimators import EstimatorError, build_estimator
from training.golden import golden_rows, golden_values
from training.spec import FeatureSpec, Spec

FOLDS = 5


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


def train_bundle(spec: Spec, data: Path, out: Path, now: datetime) -> Trained:
    """Train on the file and write the bundle into `out`; SpecError, DatasetError, EstimatorError or TrainingError."""
    trained = train(spec, read_dataset(data, spec), now)
    reference = Reference.from_bytes(trained.files[REFERENCE])
    manifest = checked(trained.manifest, reference, spec.training.seed)
    return replace(trained, manifest=write_bundle(out, manifest, trained.files))


def train(spec: Spec, dataset: Dataset, now: datetime) -> Trained:
    """Fit, measure and describe the model. `now` is the bundle's created_at and touches nothing else."""
    # One thread: with several, sums of floats depend on who finishes first, and so would the bundle's bytes.
    with threadpool_limits(limits=1):
        return _train(spec, dataset, now)


def _train(spec: Spec, dataset: Dataset, now: datetime) -> Trained:
    seed = spec.training.seed
    positive = dataset.labels == dataset.positive
    fit_rows, test_rows = _split(positive, spec.training.test_size, seed)
    frame = dataset.columns.frame()
    estimator = build_estimator(spec.estimator.kind, dataset.columns.layout, seed)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    fit_frame, fit_labels = frame.iloc[fit_rows], dataset.labels[fit_rows]
    try:
        # Columns of cross_val_predict stand in sorted order of the labels, as in classes_.
        folded = cross_val_predict(estimator, fit_frame, fit_labels, cv=folds, method="predict_proba")
        model = estimator.fit(fit_frame, fit_labels)
    except (TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise EstimatorError(f"[estimator] kind: {spec.estimator.kind} could not be fitted: {reason}") from error
    classes = model.classes_.tolist()
    if len(classes) != 2:
        raise TrainingError(f"the model has {len(classes)} classes; Driftline's scope: {SCOPE}")
    which = classes.index(dataset.positive)

    score = np.empty(dataset.rows, dtype=np.float64)
    score[fit_rows] = folded[:, which]
    score[test_rows] = model.predict_proba(frame.iloc[test_rows])[:, which]
    threshold = best_f1(positive[fit_rows], score[fit_rows]) if spec.model.threshold == "f1" else spec.model.threshold

    model_bytes = _dump(model)
    # Golden probabilities come from the bytes that are shipped, not from the object they were made of.
    shipped = joblib.load(io.BytesIO(model_bytes))
    rows = golden_rows(dataset.features, dataset.columns, seed)
    golden_columns = dataset.columns.layout.columns(golden_values(dataset.features, rows))
    probabilities = shipped.predict_proba(golden_columns.frame())[:, which]
    reference = drift_reference(spec, dataset.columns, score)
    manifest = Manifest(
        name=spec.model.name,
        version=spec.model.version,
        created_at=now,
        libraries=libraries(),
        features=dataset.features,
        event=spec.event,
        positive_class=dataset.positive,
        threshold=float(threshold),
        training_data=TrainingData(sha256=dataset.sha256, rows=dataset.rows),
        metrics=measure(positive[test_rows], score[test_rows], float(threshold)),
        metric_errors=errors_of(positive[test_rows], score[test_rows], float(threshold)),
        absent_label=spec.data.absent_label,
        golden=Golden(rows=tuple(rows), probabilities=tuple(probabilities.tolist())),
        calibration=calibrate(
            positive[fit_rows], score[fit_rows], dataset.columns.take(fit_rows), float(threshold), seed
        ),
        business=spec.business,
    )
    files = {MODEL: model_bytes, REFERENCE: reference.to_bytes()}
    parts = [fit_rows[left_out] for _, left_out in folds.split(fit_rows, dataset.labels[fit_rows])]
    each = [measure(positive[part], score[part], float(threshold)) for part in parts]
    spread = {name: (float(np.mean(v)), float(np.std(v))) for name in each[0] for v in [[one[name] for one in each]]}
    return Trained(manifest, files, len(fit_rows), len(test_rows), reference.rows, spread)


def measure(positive: NDArray[np.bool_], probability: NDArray[np.float64], threshold: float) -> dict[str, float]:
    """Metrics of one set of rows: ranking (roc_auc), labels at the threshold, and calibration (brier, log_loss)."""
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
    """The standard errors of `measure`'s numbers, each row another customer; without those that are not known."""
    found = performance(Rows(positive, probability, probability >= threshold, np.arange(len(positive))))
    return {name: one.error for name, one in found.items() if one.error is not None}


def _split(positive: NDArray[np.bool_], test_size: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sorted row numbers of the training and the held-out rows, each class in both by its share."""
    rarer = int(min(positive.sum(), (~positive).sum()))
    if rarer < 2 * FOLDS:
        raise TrainingError(f"the rarer class has {rarer} rows; at least {2 * FOLDS} are needed")
    try:
        rows = np.arange(len(positive))
        fit, test = train_test_split(rows, test_size=test_size, random_state=seed, stratify=positive)
    except ValueError as error:
        raise TrainingError(f"[training] test_size: {error}") from None
    if min(positive[fit].sum(), (~positive[fit]).sum()) < FOLDS:
        raise TrainingError(f"[training] test_size: {test_size:g} leaves fewer than {FOLDS} training rows of a class")
    if len(np.unique(positive[test])) < 2:
        raise TrainingError(f"[training] test_size: {test_size:g} holds out rows of one class only")
    return np.sort(fit), np.sort(test)


def best_f1(positive: NDArray[np.bool_], probability: NDArray[np.float64]) -> float:
    """The probability which, as a threshold, gives the largest F1; the smallest of several."""
    precision, recall, thresholds = precision_recall_curve(positive, probability)
    total = np.maximum(precision + recall, np.finfo(float).tiny)
    f1 = (2 * precision * recall / total)[: len(thresholds)]  # the curve's last point has no threshold
    return float(thresholds[int(np.argmax(f1))])


def drift_reference(spec: FeatureSpec, columns: Columns, score: NDArray[np.float64]) -> Reference:
    """`sampled_reference`; categories are learnt where the spec lists none."""
    tables = spec.features.items()
    learnt = {name for name, table in tables if table.kind == "categorical" and table.categories is None}
    return sampled_reference(columns, score, learnt, spec.training.seed)


def sampled_reference(columns: Columns, score: NDArray[np.float64], learnt: Container[str], seed: int) -> Reference:
    """At most 10,000 rows drawn at random from all of them.

    singletons counts the stored rows whose category occurs nowhere else in the whole data set: over the number of
    stored rows that estimates how often a new customer brings an unseen category (Good 1953), at any size of the data.
    For a feature whose categories were not learnt from data, none is to be expected.
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
    return Reference(columns.numeric[rows], columns.codes[rows], score[rows], singletons)


def checked(manifest: Manifest, reference: Reference, seed: int) -> Manifest:
    """The manifest with its `self_check` of this reference."""
    return manifest.model_copy(update={"self_check": self_check(manifest.features, reference, seed)})


def _dump(model: Any) -> bytes:
    """The fitted model as joblib writes it, the same bytes for the same model."""
    out = io.BytesIO()
    try:
        joblib.dump(model, out)
    except (AttributeError, TypeError, ValueError, pickle.PicklingError) as error:  # lambdas, open files
        raise EstimatorError(f"[estimator] kind: the fitted model cannot be saved: {error}") from None
    return out.getvalue()


def libraries(scikit_learn: str = sklearn.__version__) -> Libraries:
    """Versions of this process; scikit-learn's may be given, for an estimator that was fitted elsewhere."""
    # By its JSON name: "scikit-learn" is no Python name.
    versions = {"python": platform.python_version(), "numpy": np.__version__, "scikit-learn": scikit_learn}
    return Libraries.model_validate(versions)
