"""A bundle's bytes → a model that may be served: libraries, only then unpickling, then the golden rows."""

from __future__ import annotations

import io
import platform
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import sklearn
from numpy.typing import NDArray
from sklearn.exceptions import InconsistentVersionWarning

from schemas.bundle.files import MODEL, REFERENCE, BundleBytes, read_bundle
from schemas.bundle.manifest import MANIFEST, BundleError, Manifest, one_line
from schemas.event import EventDecoder
from schemas.features import UNSEEN, Columns, Layout
from schemas.fitted_columns import misplaced
from schemas.reference import Reference
from scorer.direct import DirectForm, NotCompilable, differs, proof_rows
from scorer.score import FrameForm, Predict, predict_each


@dataclass(frozen=True, slots=True)
class Model:
    """A verified model. `predict` maps columns to the scores (schemas.task.Task.shape).

    form: `direct` or `frame`; why_not_direct: empty for the former.
    """

    manifest: Manifest
    sha256: str
    signed: bool
    predict: Predict
    form: str
    why_not_direct: str

    def score_each(self, columns: Columns) -> tuple[NDArray[np.float64], dict[int, str]]:
        """Return the score of each row, and the error by row for rows without one (scorer.score.predict_each)."""
        return predict_each(self.predict, columns, self.manifest.predicts)


def load(directory: Path, public_key: Path | None) -> Model:
    """Read, verify and try the bundle in `directory`; raise BundleError in one line if it must not be served."""
    try:
        key = public_key.read_bytes() if public_key is not None else None
    except OSError as error:
        raise BundleError(f"MODEL_PUBLIC_KEY: {public_key}: {error.strerror}") from None
    bundle = read_bundle(directory, key)
    _check_libraries(bundle.manifest)
    try:
        EventDecoder(bundle.manifest.features, bundle.manifest.event)
    except ValueError as error:
        raise BundleError(f"{MANIFEST}: no event can be read with it: {error}") from None
    form, why_not_direct = _form(bundle, _estimator(bundle))
    model = Model(bundle.manifest, bundle.manifest_sha256, bundle.signed, form, form.name, why_not_direct)
    check_golden(model)
    return model


def _check_libraries(manifest: Manifest) -> None:
    """Require the same Python minor and scikit-learn major.minor: a pickle depends on the code that it names."""
    here = {"python": platform.python_version(), "scikit-learn": sklearn.__version__}
    fitted = {"python": manifest.libraries.python, "scikit-learn": manifest.libraries.scikit_learn}
    for name, version in here.items():
        if version.split(".")[:2] != fitted[name].split(".")[:2]:
            raise BundleError(f"{MANIFEST}: fitted with {name} {fitted[name]}, this process runs {version}")


def _estimator(bundle: BundleBytes) -> Any:
    """Return the unpickled estimator, which is one of the manifest's task."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", InconsistentVersionWarning)  # a different patch version is accepted above
            estimator = joblib.load(io.BytesIO(bundle.files[MODEL]))
    except Exception as error:  # noqa: BLE001 - unpickling runs foreign code and may raise anything
        raise BundleError(f"{MODEL}: cannot be loaded: {one_line(error)}") from None
    task = bundle.manifest.predicts
    if (why := task.unfit(estimator)) is not None:
        raise BundleError(f"{MODEL}: {why}")
    if (why := task.mismatch(estimator)) is not None:
        raise BundleError(f"{MANIFEST}: {why}")
    return estimator


def _form(bundle: BundleBytes, estimator: Any) -> tuple[DirectForm | FrameForm, str]:
    """Return the direct form if it is proven on this bundle's rows, else the frame form and the reason."""
    task = bundle.manifest.predicts
    frame = FrameForm(estimator, task, bundle.manifest.input)
    layout = Layout(bundle.manifest.features)
    reference = _reference(bundle, layout)
    _check_columns(estimator, bundle.manifest, proof_rows(layout, reference))
    try:
        direct = DirectForm(estimator, layout, task)
        why_not = differs(direct, frame, proof_rows(layout, reference))
    except NotCompilable as reason:
        return frame, str(reason)
    except Exception as error:  # noqa: BLE001 - the estimator is foreign code and may raise anything
        raise BundleError(f"{MODEL}: fails on the reference rows: {one_line(error)}") from None
    return (direct, "") if why_not is None else (frame, why_not)


def _check_columns(estimator: Any, manifest: Manifest, rows: Columns) -> None:
    """Raise BundleError if the estimator would take one of the manifest's columns for another."""
    if manifest.input is not None:
        return
    try:
        wrong = misplaced(estimator, rows, lambda frame: manifest.predicts.scores(estimator, frame))
    except Exception as error:  # noqa: BLE001 - the estimator is foreign code and may raise anything
        raise BundleError(f"{MODEL}: fails on the reference rows: {one_line(error)}") from None
    if wrong is not None:
        raise BundleError(f"{MODEL}: {wrong}")


def _reference(bundle: BundleBytes, layout: Layout) -> Reference:
    try:
        reference = Reference.from_bytes(bundle.files[REFERENCE])
    except ValueError as error:
        raise BundleError(f"{REFERENCE}: {error}") from None
    widths = (reference.numeric.shape[1], reference.codes.shape[1])
    if widths != (len(layout.numeric), len(layout.categorical)):
        raise BundleError(f"{REFERENCE}: {widths[0]} + {widths[1]} columns are not the manifest's features")
    for i, categories, codes in zip(layout.categorical, layout.categories, reference.codes.T, strict=True):
        if codes.min() < UNSEEN or codes.max() >= len(categories):
            raise BundleError(f"{REFERENCE}: a code of {layout.names[i]} is none of the manifest's categories")
    return reference


def check_golden(model: Model) -> None:
    """Raise BundleError unless the golden rows get the scores that they had when the bundle was made."""
    golden, method = model.manifest.golden, model.manifest.predicts.method
    if not golden.rows:
        raise BundleError(f"{MANIFEST}: golden: no rows")
    try:
        columns = Layout(model.manifest.features).columns(
            [[row.get(feature.name) for row in golden.rows] for feature in model.manifest.features]
        )
    except (TypeError, ValueError) as error:
        raise BundleError(f"{MANIFEST}: golden: {one_line(error)}") from None
    try:
        got = model.predict(columns)
    except Exception as error:  # noqa: BLE001 - the estimator is foreign code and may raise anything
        raise BundleError(f"{MODEL}: {method} fails on the golden rows: {one_line(error)}") from None
    if got.shape != model.manifest.predicts.shape(len(golden.rows)):
        raise BundleError(f"{MODEL}: {method} gave {got.shape[0]} rows for {len(golden.rows)}, or other classes")
    worst = float(np.max(np.abs(got - np.array(golden.scores))))
    if not worst <= golden.tolerance:
        raise BundleError(f"{MODEL}: golden rows differ by {worst:.3g}, at most {golden.tolerance:.3g} is accepted")
