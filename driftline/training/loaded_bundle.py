"""A bundle whose model scores in this process, not in a scorer: read, checked, unpickled."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftline.training.estimator_file import ExistingError, load_estimator, of_task
from driftline.training.own_answers import answers, scores_of
from schemas.bundle.files import MODEL, REFERENCE, BundleBytes, read_bundle
from schemas.bundle.manifest import BundleError, Manifest, one_line
from schemas.features import Columns, Layout, Value
from schemas.fitted_columns import misplaced
from schemas.reference import Reference

IMPORTANCE_ROWS = 2000


def task_of(manifest: Manifest) -> dict[str, Any]:
    """Return what `--json` prints about the model's task."""
    if manifest.classes is not None:
        return {"task": "multiclass", "classes": list(manifest.classes)}
    if manifest.task != "regression":
        return {"positive_class": manifest.positive_class, "threshold": manifest.threshold}
    known = manifest.residuals
    return {"task": "regression", "residuals": None if known is None else known.model_dump()}


def task_sentence(manifest: Manifest) -> str:
    """Return the same in a few words.

    >>> from types import SimpleNamespace
    >>> task_sentence(SimpleNamespace(task=None, classes=None, positive_class="yes", threshold=0.5))
    "positive class 'yes', threshold 0.5"
    """
    if manifest.classes is not None:
        shown = ", ".join(manifest.classes[:5]) + (", …" if len(manifest.classes) > 5 else "")
        return f"{len(manifest.classes)} classes: {shown}"
    if manifest.task != "regression":
        return f"positive class {manifest.positive_class!r}, threshold {manifest.threshold:.4g}"
    known, unit = manifest.residuals, f" {manifest.value.unit}" if manifest.value and manifest.value.unit else ""
    if known is None:
        return "regression, no interval"
    return f"regression, {known.level:.0%} of outcomes from {known.low:+.4g} to {known.high:+.4g}{unit} of the value"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A bundle in memory; `directory` is where it was read."""

    directory: Path
    bundle: BundleBytes
    estimator: Any

    @property
    def manifest(self) -> Manifest:
        """Return the bundle's manifest."""
        return self.bundle.manifest

    def score(self, columns: Columns) -> NDArray[np.float64]:
        """Return the scores, of the task's shape; ExistingError if the model fails on the columns."""
        return scores_of(self.directory / MODEL, self.estimator, columns, self.manifest.predicts, self.manifest.input)

    def reference(self) -> Reference:
        """Return the drift reference; BundleError."""
        try:
            return Reference.from_bytes(self.bundle.files[REFERENCE])
        except ValueError as error:
            raise BundleError(f"{self.directory / REFERENCE}: {error}") from None

    def misplaced(self) -> str | None:
        """Return why the model would take one of its columns for another, by the reference's rows; None if not."""
        reference, layout, task = self.reference(), Layout(self.manifest.features), self.manifest.predicts
        rows = layout.columns(_values(layout, reference, np.arange(min(reference.rows, IMPORTANCE_ROWS))))
        try:
            return misplaced(self.estimator, rows, lambda frame: answers(self.estimator, frame, task))
        except Exception as error:  # noqa: BLE001 - the estimator is foreign code and may raise anything
            raise ExistingError(f"{self.directory / MODEL}: {task.method} fails: {one_line(error)}") from None

    def importance(self, seed: int = 0) -> dict[str, float]:
        """Return by feature how far the score moves on average when the feature's values are shuffled among customers.

        Of at most 2,000 customers of the drift reference (Breiman's permutation importance, of the score itself: it
        needs no labels).
        """
        rng = np.random.default_rng(seed)
        reference, layout = self.reference(), Layout(self.manifest.features)
        rows = rng.permutation(reference.rows)[:IMPORTANCE_ROWS]
        values = _values(layout, reference, rows)
        score = self.score(layout.columns(values))
        moved = {}
        for at, name in enumerate(layout.names):
            shuffled = [values[at][row] for row in rng.permutation(len(rows))]
            other = self.score(layout.columns([*values[:at], shuffled, *values[at + 1 :]]))
            moved[name] = float(np.abs(other - score).mean())
        return moved


def _values(layout: Layout, reference: Reference, rows: NDArray[np.int64]) -> list[list[Value]]:
    """Return the reference's rows as event values, one list per feature."""
    values: dict[int, list[Value]] = {}
    for at, column in zip(layout.numeric, reference.numeric[rows].T, strict=True):
        values[at] = [None if np.isnan(value) else value for value in column.tolist()]
    for at, names, codes in zip(layout.categorical, layout.categories, reference.codes[rows].T, strict=True):
        known: list[Value] = [False, True] if layout.features[at].kind == "boolean" else list(names)
        values[at] = [known[code] if code >= 0 else None for code in codes.tolist()]
    return [values[at] for at in range(len(layout.names))]


def load_bundle(directory: Path, public_key_pem: bytes | None = None) -> Loaded:
    """Return the bundle in `directory`; BundleError or ExistingError.

    The model is unpickled, which runs the code in it.
    """
    bundle = read_bundle(directory, public_key_pem)
    where = directory / MODEL
    estimator, _ = load_estimator(where, bundle.files[MODEL])
    of_task(where, estimator, bundle.manifest.predicts)
    loaded = Loaded(directory, bundle, estimator)
    if bundle.manifest.input is None and (wrong := loaded.misplaced()) is not None:
        raise BundleError(f"{where}: {wrong}")
    return loaded
