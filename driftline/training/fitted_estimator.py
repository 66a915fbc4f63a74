"""A bundle around an already fitted estimator.

`train` has these facts from the training itself; here they are tested. The estimator must take the scorer's frame and
return the same for it as where it was fitted. A new process must be able to load it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline

from drift_worker.performance.regression_metrics import regression_metrics
from drift_worker.statistics.self_check import unwatched
from driftline.training.dataset import (
    Labels,
    Table,
    column_names,
    matching_class,
    read_outcomes,
    read_table,
    typed_features,
)
from driftline.training.estimator_file import (
    ExistingError,
    classes_of,
    foreign_parts,
    load_estimator,
    no_raw_text,
    of_task,
)
from driftline.training.estimator_formats import FormatError, joblib_bytes
from driftline.training.golden_rows import MISSING_ROW, UNSEEN_ROW, golden_rows, golden_values
from driftline.training.own_answers import (
    SAME,
    FittedOrder,
    fitted_categories,
    fitted_columns,
    fitted_order,
    own_answers,
    scores_of,
)
from driftline.training.spec import FeatureSpec
from driftline.training.text_columns import looks_like_dates, looks_like_free_text
from driftline.training.train import (
    best_f1,
    checked,
    class_members,
    drift_reference,
    errors_of,
    foreign_money,
    golden_of,
    libraries,
    measure,
    measure_classes,
    measure_values,
    value_members,
)
from driftline.training.without_labels.calibration import calibrate
from driftline.training.without_labels.class_calibration import calibrate_classes
from driftline.training.without_labels.error_curve import error_curve
from schemas.bundle.files import MODEL, REFERENCE, write_bundle
from schemas.bundle.inputs import DataFormat
from schemas.bundle.manifest import SCOPE, Manifest, TrainingData
from schemas.features import Columns, Layout
from schemas.fitted_columns import columns_of
from schemas.task import Binary, Multiclass, Regression, Task, class_texts

# Rows that a fresh process scores at a time.
ROWS_A_LINE = 10_000
MAY_BE_IN_SAMPLE = (
    "The customers of the drift reference may be among those the estimator was fitted on; its scores of them are then "
    "too sure, which can look like prediction drift. Customers it has not seen, with --held-out, are better."
)
NOT_MEASURED = "The estimator was fitted elsewhere and not measured here: no metrics."
ORIGIN = "training_data describes the customers of the drift reference, not those the estimator was fitted on."


@dataclass(frozen=True, slots=True)
class Bundled:
    """A bundle that was written and tried. form: how a scorer will score with it; why_not_direct: None if direct."""

    manifest: Manifest
    reference_rows: int
    form: str
    why_not_direct: str | None
    #: Columns of the file that the spec does not name.
    unused: tuple[str, ...]
    #: Features of which the reference has too few values to see drift, with how many it has.
    unwatched: dict[str, int]


def bundle_existing(
    spec: FeatureSpec, model: Path, data: Path, out: Path, now: datetime, *, held_out: bool = False
) -> Bundled:
    """Check the estimator in `model` against the customers in `data` and write its bundle into `out`.

    held_out: it was not fitted on these customers, so that scores and metrics of them are honest. SpecError,
    DatasetError, or ExistingError.
    """
    try:
        raw = joblib_bytes(model)
    except OSError as error:
        raise ExistingError(f"{model}: {error.strerror or error}") from None
    except FormatError as error:
        raise ExistingError(str(error)) from None
    estimator, fitted_with = load_estimator(model, raw)
    for part in foreign_parts(estimator):
        raise ExistingError(f"{model}: {part}: put it into a module that is installed where the scorer runs")
    task = _task(spec, model, estimator)
    order = fitted_order(model, estimator, spec)
    typed = fitted_categories(model, estimator, spec, order)
    stated = spec.ordered(order.features)
    spec = stated.with_categories(typed)
    form = spec.data.format()
    labelled = held_out and spec.data.target is not None and spec.data.target in column_names(data, form)
    table = read_table(data, [*spec.features, *([str(spec.data.target)] if labelled else [])], form)
    features, values = typed_features(table, spec, _known_categories(estimator), empty=True)
    _in_scope(stated, table)
    features = tuple(f.model_copy(update={"dtype": "category"}) if f.name in typed else f for f in features)
    order, columns, score = fitted_columns(model, estimator, order, Layout(features).columns(values), task)
    features = columns.layout.features
    own = own_answers(model, data, form, estimator, order, columns, score, task)

    labels = _labels(spec, task, table, form) if labelled else None
    rows = golden_rows(features, columns, spec.training.seed)
    golden = columns.layout.columns(golden_values(features, rows))
    reference = drift_reference(stated, columns, score, task)
    notes = [ORIGIN, *([] if held_out else [MAY_BE_IN_SAMPLE]), *([] if labels is not None else [NOT_MEASURED])]
    manifest = Manifest(
        name=spec.model.name,
        version=spec.model.version,
        created_at=now,
        libraries=libraries(fitted_with),
        features=features,
        input=order.input,
        event=spec.event,
        training_data=TrainingData(sha256=table.sha256, rows=table.rows, id=spec.data.id),
        data_format=spec.data.recorded(),
        notes=tuple(notes),
        golden=golden_of(task, rows, _golden(model, estimator, golden, task, order)),
        business=spec.business,
        **_of_its_task(spec, task, labels, score, columns),
    )
    files = {MODEL: raw, REFERENCE: reference.to_bytes()}
    tried = try_bundle(manifest, files, columns)
    _served_as_fitted(model, tried, own, task)
    manifest = checked(manifest, reference, spec.training.seed)
    unused = tuple(name for name in table.unused if name not in {spec.data.target, spec.data.id})
    few = unwatched(features, reference)
    return Bundled(write_bundle(out, manifest, files), reference.rows, tried.form, tried.why_not_direct, unused, few)


def _task(spec: FeatureSpec, model: Path, estimator: Any) -> Binary | Multiclass | Regression:
    """Return the task, of which the estimator is; ExistingError."""
    if spec.task == "regression":
        task = Regression(spec.model.method)
        of_task(model, estimator, task)
        return task
    if spec.task == "multiclass":
        no_raw_text(model, estimator)
        texts = class_texts(estimator) if hasattr(estimator, "predict_proba") else "has no predict_proba"
        if isinstance(texts, str):
            raise ExistingError(f"{model}: {texts}")
        if why := foreign_money(spec, Multiclass(texts)):
            raise ExistingError(why)
        return Multiclass(texts)
    classes = classes_of(model, estimator)
    return Binary(classes[_positive(spec, classes)])


def _labels(spec: FeatureSpec, task: Task, table: Table, form: DataFormat) -> Labels:
    positive = task.positive_class if isinstance(task, Binary) else None
    return read_outcomes(table.column(str(spec.data.target)), str(spec.data.target), positive, form, task.name)


def _of_its_task(
    spec: FeatureSpec,
    task: Binary | Multiclass | Regression,
    labels: Labels | None,
    score: NDArray[np.float64],
    columns: Columns,
) -> dict[str, Any]:
    """Return what the manifest has because of the task. labels: of held-out customers, None if they are not known."""
    if isinstance(task, Regression):
        if labels is None or task.method == "score_samples":
            return value_members(spec, None)
        outcome = labels.astype(np.float64)
        found = regression_metrics(outcome, score)
        return {
            **value_members(spec, outcome - score),
            "metrics": measure_values(outcome, score),
            "metric_errors": {name: one.error for name, one in found.items() if one.error is not None},
            "error_curve": error_curve(outcome, score, columns, spec.training.seed),
        }
    if isinstance(task, Multiclass):
        return _of_classes(task, labels, score, columns, spec.training.seed)
    threshold = _threshold(spec, labels, task.positive_class, score)
    members: dict[str, Any] = {
        "positive_class": task.positive_class,
        "threshold": threshold,
        "absent_label": spec.data.absent_label,
    }
    if labels is None:
        return members
    positive = labels == task.positive_class
    return {
        **members,
        "metrics": measure(positive, score, threshold),
        "metric_errors": errors_of(positive, score, threshold),
        "calibration": calibrate(positive, score, columns, threshold, spec.training.seed),
    }


def _of_classes(
    task: Multiclass, labels: Labels | None, score: NDArray[np.float64], columns: Columns, seed: int
) -> dict[str, Any]:
    """Return what the manifest of a model with several classes has; ExistingError if the labels are others."""
    if labels is None:
        return class_members(task)
    codes = {text: code for code, text in enumerate(task.classes)}
    if foreign := sorted(set(labels.tolist()) - codes.keys()):
        shown = ", ".join(map(json.dumps, foreign[:5]))
        raise ExistingError(f"[data] target: {shown}: no class of the model, which has {', '.join(task.classes[:5])}")
    outcome = np.array([codes[text] for text in labels.tolist()], dtype=np.int64)
    metrics, errors = measure_classes(outcome, score)
    return {
        **class_members(task),
        "metrics": metrics,
        "metric_errors": errors,
        "class_calibration": calibrate_classes(outcome, score, task.classes, columns, seed),
    }


def _positive(spec: FeatureSpec, classes: list[Any]) -> int:
    """Return which of the two classes is the positive one."""
    if spec.data.positive is not None:
        if (which := matching_class(spec.data.positive, classes)) is not None:
            return which
        known = ", ".join(json.dumps(member) for member in classes)
        raise ExistingError(f"[data] positive: {json.dumps(spec.data.positive)} is not one of the classes {known}")
    if set(classes) == {0, 1}:
        return classes.index(1)
    raise ExistingError(
        f"[data] positive: name one of the classes {', '.join(map(json.dumps, classes))}: the positive one"
    )


def _known_categories(estimator: Any) -> dict[str, set[str]]:
    """Return category names by column from a usual pipeline's encoders: the present data may lack some of them."""
    known: dict[str, set[str]] = {}
    first = estimator.steps[0][1] if isinstance(estimator, Pipeline) else estimator
    if not isinstance(first, ColumnTransformer):
        return known
    fitted_names = [str(name) for name in getattr(first, "feature_names_in_", ())]
    for _, transformer, columns in first.transformers_:
        names = columns_of(columns, fitted_names) or []
        filled: set[object] = set()
        steps = [step for _, step in transformer.steps] if isinstance(transformer, Pipeline) else [transformer]
        for step in steps:
            if isinstance(step, SimpleImputer) and step.strategy == "constant":
                filled |= set(np.asarray(step.statistics_, dtype=object).tolist())
            categories = getattr(step, "categories_", None)
            if isinstance(categories, list) and len(categories) == len(names):
                for name, members in zip(names, categories, strict=True):
                    known[name] = {m for m in members.tolist() if isinstance(m, str)} - filled
    return known


def _in_scope(spec: FeatureSpec, table: Table) -> None:
    """Reject texts and dates, except where the spec lists them as categories."""
    for name, feature in spec.features.items():
        if feature.kind != "categorical" or feature.categories is not None:
            continue
        texts = [cell for cell in table.column(name) if isinstance(cell, str)]
        what = "dates" if looks_like_dates(texts) else "free text" if looks_like_free_text(texts) else None
        if what is not None:
            raise ExistingError(f"[features.{name}]: holds {what}; Driftline's scope: {SCOPE}")


def _golden(path: Path, estimator: Any, golden: Columns, task: Task, order: FittedOrder) -> NDArray[np.float64]:
    """Return scores of the golden rows; one of them has unseen categories, one has missing values."""
    try:
        return scores_of(path, estimator, golden, task, order.input)
    except ExistingError as error:
        for row, what in (
            (UNSEEN_ROW, "a category it has never seen (OneHotEncoder: set handle_unknown='ignore', no refit needed)"),
            (MISSING_ROW, "missing values where the spec has nullable = true"),
        ):
            try:
                scores_of(path, estimator, golden.take(np.array([row])), task, order.input)
            except ExistingError:
                raise ExistingError(f"{path}: {task.method} fails on {what}, which an event may have") from error
        raise


def _threshold(spec: FeatureSpec, labels: Labels | None, positive: object, score: NDArray[np.float64]) -> float:
    if spec.model.threshold != "f1":
        return float(spec.model.threshold)
    if labels is None:
        raise ExistingError('[model] threshold: "f1" needs the label of held-out customers: [data] target, --held-out')
    return best_f1(labels == positive, score)


@dataclass(frozen=True, slots=True)
class Tried:
    """What a fresh process did with a bundle. form and why_not_direct: of `Bundled`."""

    form: str
    why_not_direct: str | None
    #: float64 scores of the requested rows, NaN where it gave none; None if it was not called.
    answers: NDArray[np.float64] | None


def try_bundle(manifest: Manifest, files: dict[str, bytes], columns: Columns | None = None) -> Tried:
    """Write the bundle somewhere else, and load it in a fresh process; ExistingError.

    columns: rows that it has to score as well.
    """
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "model"
        write_bundle(directory, manifest, files)
        # in an empty folder: a scorer starts without the files of the current one
        (Path(folder) / "elsewhere").mkdir()
        given = b"" if columns is None else b"".join(_asked(columns))
        command = ["-P", "-m", "scorer.offline", "--check", str(directory)]
        process = run_python(command, Path(folder) / "elsewhere", given)
    if process.returncode != 0:
        reason = process.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise ExistingError(f"a fresh process rejects the bundle: {reason}")
    first, *rest = process.stdout.splitlines()
    answer = json.loads(first)
    answers = None if columns is None else np.array([p for line in rest for p in json.loads(line)], dtype=np.float64)
    return Tried(answer["form"], answer["why_not_direct"], answers)


def run_python(arguments: Sequence[str], folder: Path, given: bytes) -> subprocess.CompletedProcess[bytes]:
    """Run a new interpreter in `folder` with `given` as its input; return its exit code, output and errors."""
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, input=given, capture_output=True, check=False)


def _asked(columns: Columns) -> Iterator[bytes]:
    """Yield lines of at most 10,000 rows, each an object with the values of every feature, as an event has them."""
    for start in range(0, columns.n, ROWS_A_LINE):
        rows = slice(start, start + ROWS_A_LINE)
        lists = {name: values[rows] for name, values in zip(columns.layout.names, columns.values, strict=True)}
        yield json.dumps(lists).encode() + b"\n"


def _served_as_fitted(path: Path, tried: Tried, own: NDArray[np.float64], task: Task) -> None:
    """Raise ExistingError unless the fresh process answered what the estimator answers."""
    if tried.answers is None or tried.answers.shape != own.shape:
        raise ExistingError(f"{path}: a fresh process did not answer every row")
    same = np.abs(tried.answers - own) <= task.tolerances(own, SAME)
    if not bool(same.all()):
        wrong = int((~same).reshape(len(own), -1).any(axis=1).sum())
        raise ExistingError(
            f"{path}: a scorer, by its {tried.form} form, gives {wrong} of {len(own)} customers another "
            f"{task.result} than the estimator"
        )
