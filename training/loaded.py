"""A bundle whose model is asked here, and not by a scorer: read, checked, unpickled."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.bundle import MODEL, REFERENCE, BundleBytes, BundleError, Manifest, read_bundle
from schemas.features import Columns
from schemas.reference import Reference
from training.existing import ExistingError, classes_of, load_estimator, scores_of


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


def load_bundle(directory: Path, public_key_pem: bytes | None = None) -> Loaded:
    """The bundle in `directory`; BundleError or ExistingError. The model is unpickled, which runs what is in it."""
    bundle = read_bundle(directory, public_key_pem)
    where = directory / MODEL
    estimator, _ = load_estimator(where, bundle.files[MODEL])
    classes = classes_of(where, estimator)
    if bundle.manifest.positive_class not in classes:
        raise ExistingError(f"{where}: {bundle.manifest.positive_class!r} is not one of its classes {classes}")
    return Loaded(directory, bundle, estimator, classes.index(bundle.manifest.positive_class))
