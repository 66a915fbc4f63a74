"""A bundle around an estimator that somebody has fitted already.

What `train` knows because it did it has to be found out here: that the estimator takes the frame a scorer makes, gives
for it what it gave where it was fitted, and can be loaded by a process that has never seen that place.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import tempfile
import types
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import sklearn
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline

from schemas.bundle import MODEL, REFERENCE, SCOPE, Golden, Manifest, TrainingData, write_bundle
from schemas.features import Columns, Layout
from training.calibrate import calibrate
from training.columns import looks_like_dates, looks_like_free_text
from training.dataset import JSON_LINES, Labels, Table, column_names, read_labels, read_table, typed_features
from training.golden import MISSING_ROW, UNSEEN_ROW, golden_rows, golden_values
from training.spec import FeatureSpec
from training.train import best_f1, checked, drift_reference, errors_of, libraries, measure

# The same estimator on the same numbers in another frame: more than this is another input.
SAME = 1e-6
MAX_PARTS = 100_000
MAY_BE_IN_SAMPLE = (
    "The customers of the drift reference may be among those the estimator was fitted on; its scores of them are then "
    "too sure, which can look like prediction drift. Customers it has not seen, with --held-out, are better."
)
NOT_MEASURED = "The estimator was fitted elsewhere and not measured here: no metrics."
ORIGIN = "training_data describes the customers of the drift reference, not those the estimator was fitted on."


class ExistingError(Exception):
    """An estimator that cannot be served as it is. The text is one line that says what to change."""


@dataclass(frozen=True, slots=True)
class Bundled:
    """A bundle that was written and tried. form: how a scorer will score with it; why_not_direct: None if direct."""

    manifest: Manifest
    reference_rows: int
    form: str
    why_not_direct: str | None


def bundle_existing(
    spec: FeatureSpec, model: Path, data: Path, out: Path, now: datetime, *, held_out: bool = False
) -> Bundled:
    """Check the estimator in `model` against the customers in `data` and write its bundle into `out`.

    held_out: it was not fitted on these customers, so that scores and metrics of them are honest. SpecError,
    DatasetError, or ExistingError.
    """
    try:
        raw = model.read_bytes()
    except OSError as error:
        raise ExistingError(f"{model}: {error.strerror or error}") from None
    estimator, fitted_with = load_estimator(model, raw)
    for part in _foreign(estimator):
        raise ExistingError(f"{model}: {part}: put it into a module that is installed where the scorer runs")
    classes = classes_of(model, estimator)
    which = _positive(spec, classes)
    _same_columns(model, estimator, spec)
    labelled = held_out and spec.data.target is not None and spec.data.target in column_names(data)
    table = read_table(data, [*spec.features, *([str(spec.data.target)] if labelled else [])])
    features, values = typed_features(table, spec, _known_categories(estimator))
    _in_scope(spec, table)
    columns = Layout(features).columns(values)
    score = scores_of(model, estimator, columns, which)
    _same_as_fitted(model, data, estimator, columns, score, which)

    labels = (
        read_labels(table.column(str(spec.data.target)), str(spec.data.target), classes[which]) if labelled else None
    )
    threshold = _threshold(spec, labels, classes[which], score)
    rows = golden_rows(features, columns, spec.training.seed)
    golden = columns.layout.columns(golden_values(features, rows))
    reference = drift_reference(spec, columns, score)
    notes = [ORIGIN, *([] if held_out else [MAY_BE_IN_SAMPLE]), *([] if labels is not None else [NOT_MEASURED])]
    manifest = Manifest(
        name=spec.model.name,
        version=spec.model.version,
        created_at=now,
        libraries=libraries(fitted_with),
        features=features,
        event=spec.event,
        positive_class=classes[which],
        threshold=threshold,
        training_data=TrainingData(sha256=table.sha256, rows=table.rows),
        metrics={} if labels is None else measure(labels == classes[which], score, threshold),
        metric_errors={} if labels is None else errors_of(labels == classes[which], score, threshold),
        absent_label=spec.data.absent_label,
        notes=tuple(notes),
        golden=Golden(rows=tuple(rows), probabilities=tuple(_golden(model, estimator, golden, which).tolist())),
        calibration=None
        if labels is None
        else calibrate(labels == classes[which], score, columns, threshold, spec.training.seed),
        business=spec.business,
    )
    files = {MODEL: raw, REFERENCE: reference.to_bytes()}
    form, why_not_direct = try_bundle(manifest, files)
    manifest = checked(manifest, reference, spec.training.seed)
    return Bundled(write_bundle(out, manifest, files), reference.rows, form, why_not_direct)


def load_estimator(path: Path, raw: bytes) -> tuple[Any, str]:
    """The estimator in a file's bytes, and the version of scikit-learn that it was fitted with; ExistingError."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            estimator = joblib.load(io.BytesIO(raw))
        except Exception as error:  # noqa: BLE001 - unpickling runs foreign code and may raise anything
            raise ExistingError(f"{path}: {_why_not_loaded(error)}") from None
    here = sklearn.__version__
    for warning in caught:
        if isinstance(warning.message, InconsistentVersionWarning):
            version = warning.message.original_sklearn_version
            if version.split(".")[:2] != here.split(".")[:2]:
                raise ExistingError(f"{path}: fitted with scikit-learn {version}, here is {here}: install the same")
            return estimator, version
    return estimator, here


def _why_not_loaded(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, ModuleNotFoundError):
        return f"needs the module {error.name}, which is not installed here (nor, then, where the scorer runs)"
    match = re.search(r"Can't get attribute '([^']+)' on <module '(?:[\w.]+\.)?__main__'", text)
    if match:
        return f"{match[1]} lives in __main__: put it into a module that is installed where the scorer runs"
    return f"cannot be loaded: {type(error).__name__}: {text}"


def _parts(root: object) -> Iterator[tuple[str, object]]:
    """Everything that the estimator is made of, with the way to it."""
    pending: list[tuple[str, object]] = [("", root)]
    seen: set[int] = set()
    while pending and len(seen) < MAX_PARTS:
        path, part = pending.pop()
        if id(part) in seen or isinstance(part, str | bytes | int | float | np.ndarray | types.ModuleType):
            continue
        seen.add(id(part))
        yield path, part
        if isinstance(part, dict):
            pending += [(f"{path}[{key!r}]", inner) for key, inner in part.items()]
        elif isinstance(part, list | tuple | set | frozenset):
            pending += [(f"{path}[{i}]", inner) for i, inner in enumerate(part)]
        elif not isinstance(part, type | types.FunctionType):
            pending += [(f"{path}.{name}".lstrip("."), inner) for name, inner in getattr(part, "__dict__", {}).items()]


def _foreign(estimator: object) -> Iterator[str]:
    """What was defined in a script, a notebook or inside a function: no other process can import it."""
    for path, part in _parts(estimator):
        named = part if isinstance(part, type | types.FunctionType) else type(part)
        name = named.__qualname__
        where = f" (at {path})" if path else ""
        if "<lambda>" in name:
            yield f"a lambda{where}"
        elif named.__module__ == "__main__":
            yield f"{name} lives in __main__{where}"
        elif "<locals>" in name:
            yield f"{name} is defined inside a function{where}"


def classes_of(path: Path, estimator: Any) -> list[Any]:
    """The two classes; ExistingError with the scope if it is anything but a fitted binary classifier."""
    for _, part in _parts(estimator):
        if type(part).__module__.startswith("sklearn.feature_extraction.text"):
            raise ExistingError(f"{path}: {type(part).__name__} reads raw text; Driftline's scope: {SCOPE}")
    if not hasattr(estimator, "predict_proba"):
        raise ExistingError(f"{path}: {type(estimator).__name__} has no predict_proba; Driftline's scope: {SCOPE}")
    classes = getattr(estimator, "classes_", None)
    if classes is None:
        raise ExistingError(f"{path}: {type(estimator).__name__} is not fitted, or no classifier; scope: {SCOPE}")
    members: list[Any] = np.asarray(classes).tolist()
    if len(members) != 2 or any(isinstance(member, list) for member in members):
        raise ExistingError(f"{path}: {len(members)} classes; Driftline's scope: {SCOPE}")
    if not all(isinstance(member, str | int | float | bool) for member in members):
        raise ExistingError(f"{path}: classes {members} are no JSON values; Driftline's scope: {SCOPE}")
    return members


def _positive(spec: FeatureSpec, classes: list[Any]) -> int:
    """Which of the two classes is the positive one."""
    if spec.data.positive is not None:
        if spec.data.positive in classes:
            return classes.index(spec.data.positive)
        known = ", ".join(json.dumps(member) for member in classes)
        raise ExistingError(f"[data] positive: {json.dumps(spec.data.positive)} is not one of the classes {known}")
    if set(classes) == {0, 1}:
        return classes.index(1)
    raise ExistingError(f"[data] positive: say which of the classes {', '.join(map(json.dumps, classes))} is positive")


def _same_columns(path: Path, estimator: Any, spec: FeatureSpec) -> None:
    fitted = getattr(estimator, "feature_names_in_", None)
    if fitted is None:
        return
    names = [str(name) for name in fitted]
    unnamed = [name for name in names if name not in spec.features]
    foreign = [name for name in spec.features if name not in names]
    if unnamed:
        raise ExistingError(f"{path}: was fitted on columns that the spec does not name: {', '.join(unnamed)}")
    if foreign:
        raise ExistingError(f"{path}: was not fitted on columns that the spec names: {', '.join(foreign)}")


def _known_categories(estimator: Any) -> dict[str, set[str]]:
    """Category names by column that a usual pipeline's encoders have learnt: the data at hand may lack some of them."""
    known: dict[str, set[str]] = {}
    first = estimator.steps[0][1] if isinstance(estimator, Pipeline) else estimator
    if not isinstance(first, ColumnTransformer):
        return known
    fitted_names = [str(name) for name in getattr(first, "feature_names_in_", ())]
    for _, transformer, columns in first.transformers_:
        names = _column_names(columns, fitted_names)
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


def _column_names(columns: Any, fitted: list[str]) -> list[str]:
    if isinstance(columns, slice):
        return fitted[columns] if not isinstance(columns.start, str) else []
    listed = [columns] if isinstance(columns, str) else list(columns)
    return [fitted[c] if isinstance(c, int) and c < len(fitted) else str(c) for c in listed]


def _in_scope(spec: FeatureSpec, table: Table) -> None:
    """Texts and dates are refused where the spec does not itself list them as categories."""
    for name, feature in spec.features.items():
        if feature.kind != "categorical" or feature.categories is not None:
            continue
        texts = [cell for cell in table.column(name) if isinstance(cell, str)]
        what = "dates" if looks_like_dates(texts) else "free text" if looks_like_free_text(texts) else None
        if what is not None:
            raise ExistingError(f"[features.{name}]: holds {what}; Driftline's scope: {SCOPE}")


def _probability(estimator: Any, frame: pd.DataFrame, which: int) -> NDArray[np.float64]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an unseen category is worth a warning to some encoders, and legal here
        return np.asarray(estimator.predict_proba(frame)[:, which], dtype=np.float64)


def scores_of(path: Path, estimator: Any, columns: Columns, which: int) -> NDArray[np.float64]:
    """Probabilities of class number `which`, by the frame a scorer makes; ExistingError if they are none."""
    try:
        score = _probability(estimator, columns.frame(), which)
    except Exception as error:  # noqa: BLE001 - the estimator is foreign code and may raise anything
        raise ExistingError(f"{path}: predict_proba fails on the frame a scorer makes: {_one_line(error)}") from None
    if score.shape != (columns.n,) or not bool(((score >= 0.0) & (score <= 1.0)).all()):
        raise ExistingError(f"{path}: predict_proba gives something other than one probability per row")
    return score


def _golden(path: Path, estimator: Any, golden: Columns, which: int) -> NDArray[np.float64]:
    """Probabilities of the golden rows, one of which has unseen categories and one what may be missing."""
    try:
        return scores_of(path, estimator, golden, which)
    except ExistingError as error:
        for row, what in (
            (UNSEEN_ROW, "a category it has never seen (OneHotEncoder: set handle_unknown='ignore', no refit needed)"),
            (MISSING_ROW, "missing values where the spec says nullable"),
        ):
            try:
                scores_of(path, estimator, golden.take(np.array([row])), which)
            except ExistingError:
                raise ExistingError(f"{path}: predict_proba fails on {what}, which an event may have") from error
        raise


def _same_as_fitted(
    path: Path, data: Path, estimator: Any, columns: Columns, score: NDArray[np.float64], which: int
) -> None:
    """ExistingError if the estimator, given the file as pandas reads it, sees other customers than a scorer shows it.

    The usual causes: a column that was fitted as "Yes"/"No" or 0/1 and is boolean in the spec, or numbers that are
    categories there; an encoder that ignores what it does not know then scores without a word.
    """
    frames = [frame for frame in _as_read_by_pandas(data, columns.layout.names) if len(frame) == columns.n]
    differences = []
    for frame in frames:
        try:
            difference = np.abs(_probability(estimator, frame, which) - score)
        except Exception:  # noqa: BLE001, S112 - it was not fitted on such a frame, and says so
            continue
        if bool((difference <= SAME).all()):
            return
        differences.append((difference, frame))
    if not differences:
        return
    difference, frame = min(differences, key=lambda pair: float(pair[0].max()))
    suspects = []
    for name in columns.layout.names:
        mixed = columns.frame()
        mixed[name] = frame[name]
        if _moves(estimator, mixed, score, which):
            suspects.append(name)
    raise ExistingError(
        f"{path}: gives {int((difference > SAME).sum())} of {columns.n} customers another probability (by up to "
        f"{float(difference.max()):.2g}) in the frame a scorer makes than in {data} as pandas reads it; look at the "
        f"kind of {', '.join(suspects) or 'each column'} in the spec, or fit on the scorer's frame"
    )


def _moves(estimator: Any, frame: pd.DataFrame, score: NDArray[np.float64], which: int) -> bool:
    try:
        return bool((np.abs(_probability(estimator, frame, which) - score) > SAME).any())
    except Exception:  # noqa: BLE001 - one column in another type may be refused
        return True


def _as_read_by_pandas(data: Path, names: tuple[str, ...]) -> Iterator[pd.DataFrame]:
    """The frames that somebody who fitted on this file has most likely had."""
    columns = list(names)
    try:
        if data.suffix.lower() in JSON_LINES:
            yield pd.read_json(data, lines=True)[columns]
            return
        yield pd.read_csv(data, usecols=columns, skipinitialspace=True)[columns]
        yield pd.read_csv(data, usecols=columns, keep_default_na=False, na_values=["", " "])[columns]
    except (ValueError, KeyError):
        return


def _threshold(spec: FeatureSpec, labels: Labels | None, positive: object, score: NDArray[np.float64]) -> float:
    if spec.model.threshold != "f1":
        return float(spec.model.threshold)
    if labels is None:
        raise ExistingError('[model] threshold: "f1" needs the label of held-out customers: [data] target, --held-out')
    return best_f1(labels == positive, score)


def try_bundle(manifest: Manifest, files: dict[str, bytes]) -> tuple[str, str | None]:
    """Write the bundle somewhere else and load it in a process that knows nothing of this one; how it will score."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "model"
        write_bundle(directory, manifest, files)
        # in an empty folder: what only the present one has is not there when a scorer starts
        (Path(folder) / "elsewhere").mkdir()
        process = subprocess.run(
            [sys.executable, "-m", "scorer.offline", "--check", str(directory)],
            cwd=Path(folder) / "elsewhere",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    if process.returncode != 0:
        reason = process.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise ExistingError(f"a fresh process refuses the bundle: {reason}")
    answer = json.loads(process.stdout)
    return answer["form"], answer["why_not_direct"]


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
