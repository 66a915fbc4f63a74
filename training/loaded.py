"""A bundle whose model is asked here, and not by a scorer: read, checked, unpickled."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.bundle import MODEL, REFERENCE, BundleBytes, BundleError, Manifest, read_bundle
from schemas.features import Columns, Layout, Value
from schemas.reference import Reference
from training.existing import ExistingError, classes_of, load_estimator, scores_of

IMPORTANCE_ROWS = 2000


@dataclass(frozen=True, slots=True)
class Loaded:
    """A bundle in memory; `directory` is where it was read."""

    directory: Path
    bundle: BundleBytes
    estimator: Any
    which: int

    @property
    def manifest(self) -> Manifest:
        """What it says of itself."""
        return self.bundle.manifest

    def score(self, columns: Columns) -> NDArray[np.float64]:
        """(n,) the positive class's probability; ExistingError if the model fails on them."""
        return scores_of(self.directory / MODEL, self.estimator, columns, self.which)

    def reference(self) -> Reference:
        """The drift reference; BundleError."""
        try:
            return Reference.from_bytes(self.bundle.files[REFERENCE])
        except ValueError as error:
            raise BundleError(f"{self.directory / REFERENCE}: {error}") from None

    def importance(self, seed: int = 0) -> dict[str, float]:
        """By feature, how far the score moves on average when the feature's values are shuffled among the customers.

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
    """The reference's rows as an event has them, one list per feature."""
    values: dict[int, list[Value]] = {}
    for at, column in zip(layout.numeric, reference.numeric[rows].T, strict=True):
        values[at] = [None if np.isnan(value) else value for value in column.tolist()]
    for at, names, codes in zip(layout.categorical, layout.categories, reference.codes[rows].T, strict=True):
        known: list[Value] = [False, True] if layout.features[at].kind == "boolean" else list(names)
        values[at] = [known[code] if code >= 0 else None for code in codes.tolist()]
    return [values[at] for at in range(len(layout.names))]


def load_bundle(directory: Path, public_key_pem: bytes | None = None) -> Loaded:
    """The bundle in `directory`; BundleError or ExistingError. The model is unpickled, which runs what is in it."""
    bundle = read_bundle(directory, public_key_pem)
    where = directory / MODEL
    estimator, _ = load_estimator(where, bundle.files[MODEL])
    classes = classes_of(where, estimator)
    if bundle.manifest.positive_class not in classes:
        raise ExistingError(f"{where}: {bundle.manifest.positive_class!r} is not one of its classes {classes}")
    return Loaded(directory, bundle, estimator, classes.index(bundle.manifest.positive_class))
