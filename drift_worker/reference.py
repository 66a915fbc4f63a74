"""The bundle of the reference: read, checked, and turned into cells. Its model is never unpickled."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from drift_worker.counts.aggregate import CustomerHash
from drift_worker.counts.bins import Cells
from drift_worker.counts.wire_format import Identity
from schemas.bundle.files import REFERENCE, read_bundle
from schemas.bundle.manifest import BundleError, Manifest
from schemas.features import Layout
from schemas.reference import Reference


@dataclass(frozen=True, slots=True, eq=False)
class LoadedReference:
    """Everything that follows from one bundle."""

    manifest: Manifest
    manifest_sha256: str
    signed: bool
    reference: Reference
    cells: Cells
    hash_customers: CustomerHash
    identity: Identity


def load(path: Path, public_key: Path | None) -> LoadedReference:
    """Read the bundle in `path`; BundleError names the file and the defect."""
    try:
        key = public_key.read_bytes() if public_key is not None else None
    except OSError as error:
        raise BundleError(f"{public_key}: {error.strerror or error}") from None
    bundle = read_bundle(path, key)
    raw = bundle.files[REFERENCE]
    layout = Layout(bundle.manifest.features)
    try:
        reference = Reference.from_bytes(raw)
    except ValueError as error:
        raise BundleError(f"{REFERENCE}: {error}") from None
    if reference.numeric.shape[1] != len(layout.numeric) or reference.codes.shape[1] != len(layout.categorical):
        raise BundleError(f"{REFERENCE}: other columns than {path.name}'s manifest has features")
    for column, categories in zip(reference.codes.T, layout.categories, strict=True):
        if column.max(initial=-1) >= len(categories) or column.min(initial=-1) < -1:
            raise BundleError(f"{REFERENCE}: a category code that the manifest has no category for")
    classes = bundle.manifest.classes or ()
    predicted = reference.predicted
    if (predicted is None) != (not classes) or (predicted is not None and int(predicted.max()) >= len(classes)):
        raise BundleError(f"{REFERENCE}: other predicted classes than the manifest has")
    sha256 = Reference.digest(raw)
    hash_customers = CustomerHash(sha256)
    return LoadedReference(
        manifest=bundle.manifest,
        manifest_sha256=bundle.manifest_sha256,
        signed=bundle.signed,
        reference=reference,
        cells=Cells(bundle.manifest.features, layout.categories, reference, bundle.manifest.predicts.name, classes),
        hash_customers=hash_customers,
        identity=Identity(sha256, hash_customers.key_id),
    )
