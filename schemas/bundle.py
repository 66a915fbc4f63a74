"""The model bundle: the one thing that travels from training to the services.

A bundle is a directory. `manifest.json` names every other file with its sha256 and size, so that a reader can refuse a
damaged or foreign file *before* anything in it is unpickled. Nothing here unpickles; `scorer.model` does, last.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
MODEL = "model.joblib"
REFERENCE = "reference.npz"
TRAINED_ROWS = "trained_rows.npy"  # optional: which customers the model was fitted on (training/seen.py)
# A model that does not fit in 1 GiB does not fit a scorer's memory either; the cap keeps a wrong mount from filling it.
MAX_FILE_BYTES = 1 << 30
MAX_MANIFEST_BYTES = 16 << 20

Kind = Literal["numeric", "categorical", "boolean"]
SemVer = Annotated[str, Field(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$", max_length=64)]
Bound = Annotated[float | None, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
ModelName = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,64}$")]
SCOPE = (
    "binary classifiers with predict_proba on numeric, categorical and boolean columns, on CPU; "
    "regressors, multi-class targets, raw text and dates are out of scope"
)


class BundleError(Exception):
    """A bundle that must not be served. The text is one line: which file, and why."""


class _Frozen(BaseModel):
    # JSON cannot say infinity, but 1e400 is read as it: a tolerance of that would accept every model
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False)


class Feature(_Frozen):
    """One column of the model, in the manifest's order.

    `min` and `max` are inclusive and come from the spec, never from data: a customer who drifted must be scored and
    seen as drift, not refused. `categories` is None only for numeric and boolean features.
    """

    name: Annotated[str, Field(min_length=1, max_length=128)]
    kind: Kind
    from_: Annotated[str | None, Field(alias="from")] = None
    unit: str | None = None
    min: Bound = None
    max: Bound = None
    categories: tuple[str, ...] | None = None
    nullable: bool = False
    effect_warning: float | None = None
    effect_critical: float | None = None

    @property
    def source(self) -> str:
        """Name of this feature in the event."""
        return self.from_ or self.name

    @model_validator(mode="after")
    def _consistent(self) -> Feature:
        if self.kind == "categorical" and self.categories is None:
            raise ValueError(f"feature {self.name}: a categorical feature needs its categories")
        if self.kind != "categorical" and self.categories is not None:
            raise ValueError(f"feature {self.name}: only a categorical feature has categories")
        if self.kind != "numeric" and (self.min is not None or self.max is not None):
            raise ValueError(f"feature {self.name}: only a numeric feature has min and max")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"feature {self.name}: min is above max")
        if len(set(self.categories or ())) != len(self.categories or ()):
            raise ValueError(f"feature {self.name}: a category is listed twice")
        return self


class EventMapping(_Frozen):
    """Where an event's parts stand: dotted paths; the defaults are Driftline's own envelope.

    Empty strings: `event_id` = the prediction id, `customer_id` = the record's key, `event_time` = the record's Kafka
    timestamp, `features` = the event's top level.
    """

    event_id: str = "event_id"
    customer_id: str = "customer_id"
    event_time: str = "event_time"
    features: str = "features"


class FileEntry(_Frozen):
    """Digest and size in bytes of one file of the bundle."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0)]


class Libraries(_Frozen):
    """Versions the estimator was fitted with."""

    python: str
    numpy: str
    scikit_learn: Annotated[str, Field(alias="scikit-learn")]


class TrainingData(_Frozen):
    """sha256 of the training file's bytes, and its number of rows."""

    sha256: str
    rows: int


class Golden(_Frozen):
    """Synthetic rows and the probabilities the model gave for them when the bundle was made.

    `rows` are feature objects by feature name, as JSON values; a loaded model must reproduce `probabilities` within
    `tolerance` (absolute).
    """

    rows: tuple[dict[str, Any], ...]
    probabilities: tuple[float, ...]
    tolerance: float = 1e-9

    @model_validator(mode="after")
    def _paired(self) -> Golden:
        if len(self.rows) != len(self.probabilities):
            raise ValueError("golden: as many probabilities as rows are needed")
        try:
            json.dumps(self.rows, allow_nan=False, default=str)
        except ValueError:
            raise ValueError("golden: a row holds a number beyond the range of a double") from None
        return self


class Business(_Frozen):
    """Money per outcome, in `currency`."""

    currency: str = "EUR"
    true_positive: float = 0.0
    false_positive: float = 0.0
    true_negative: float = 0.0
    false_negative: float = 0.0


class Inflation(_Frozen):
    """How far a statistic strays from its null distribution on one reference.

    ratio: its observed over its nominal 99 % point (λ), `lower` the 95 % lower bound of that, in windows of `events`.
    """

    ratio: float
    lower: float
    events: int

    @property
    def divisor(self) -> float:
        """What the drift worker divides the statistic by: λ where it is above 1 beyond doubt, else 1."""
        return self.ratio if self.lower > 1.0 else 1.0


class SelfCheck(_Frozen):
    """`Inflation` per statistic (`psi`, `ks`, `chi2`) of every feature by name, and of the score.

    windows: how many were simulated of each size; 0: the bundle was made without. It cannot see repeated customers, a
    season, or a stream that never was like the reference.
    """

    windows: int = 0
    features: dict[str, dict[str, Inflation]] = {}
    score: dict[str, Inflation] = {}

    def sentence(self) -> str:
        """What came out of it, for the person who made the bundle."""
        found = {**self.features, "score": self.score}
        known = sum(len(statistics) for statistics in found.values())
        strays = [
            f"{statistic} of {name} by {one.divisor:g}"
            for name, statistics in found.items()
            for statistic, one in statistics.items()
            if one.divisor > 1.0
        ]
        return (
            f"self-check of {known} drift statistics, {self.windows} simulated windows of each size: "
            + (f"divided before they are tested: {', '.join(strays)}" if strays else "none alarms too often")
            + " (repeated customers, seasons and another population cannot be seen here)"
        )


class Calibration(_Frozen):
    """The model's score as a frequency, from out-of-fold scores of `rows` labelled customers (isotonic regression).

    x, y: breakpoints, x strictly increasing, y not decreasing; linear between them, constant beyond. band: per metric,
    how far an estimate from calibrated scores was off, out of fold, when a part of the customers was made more
    frequent; a metric that is not in it is not estimated.
    """

    x: tuple[Share, ...]
    y: tuple[Share, ...]
    rows: Annotated[int, Field(ge=1)]
    band: dict[str, Share]

    @model_validator(mode="after")
    def _monotone(self) -> Calibration:
        if not self.x or len(self.x) != len(self.y):
            raise ValueError("calibration: as many y as x are needed, and at least one")
        if any(a >= b for a, b in pairwise(self.x)) or any(a > b for a, b in pairwise(self.y)):
            raise ValueError("calibration: x must increase, and y must not decrease")
        return self


class Manifest(_Frozen):
    """What `manifest.json` says. `files` lists every other file of the bundle except the signature.

    metric_errors: the standard errors of `metrics`, where they are known. absent_label: what it means that there is no
    label by the horizon; None: nothing.
    notes: what a reader of `metrics` and of the reference's scores must know, one sentence each; absent if nothing.
    """

    format: Literal[1] = 1
    name: ModelName
    version: SemVer
    created_at: datetime
    files: dict[str, FileEntry] = {}
    libraries: Libraries
    features: Annotated[tuple[Feature, ...], Field(min_length=1)]
    event: EventMapping = EventMapping()
    positive_class: str | int | float | bool
    threshold: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
    training_data: TrainingData
    metrics: dict[str, float] = {}
    metric_errors: dict[str, float] = {}
    absent_label: Literal["negative"] | None = None
    notes: tuple[str, ...] | None = None
    golden: Golden
    self_check: SelfCheck = SelfCheck()
    calibration: Calibration | None = None
    business: Business | None = None

    @model_validator(mode="after")
    def _names_are_distinct(self) -> Manifest:
        for what, names in (
            ("name", [f.name for f in self.features]),
            ("source", [f.source for f in self.features]),
        ):
            twice = sorted({n for n in names if names.count(n) > 1})
            if twice:
                raise ValueError(f"features: {what} used twice: {', '.join(twice)}")
        return self


@dataclass(frozen=True, slots=True)
class BundleBytes:
    """A bundle whose every byte was checked against its manifest; nothing has been unpickled yet."""

    manifest: Manifest
    manifest_sha256: str
    signed: bool
    files: Mapping[str, bytes]


def parse_manifest(raw: bytes) -> Manifest:
    """`manifest.json`'s bytes as a Manifest; BundleError names the first field that is wrong."""
    try:
        return Manifest.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "top level"
        raise BundleError(f"{MANIFEST}: {where}: {first['msg']}") from None


def check_file(name: str, raw: bytes, entry: FileEntry) -> None:
    """BundleError unless `raw` has the size and sha256 that the manifest promised."""
    if len(raw) != entry.size:
        raise BundleError(f"{name}: {len(raw)} bytes, the manifest says {entry.size}")
    if hashlib.sha256(raw).hexdigest() != entry.sha256:
        raise BundleError(f"{name}: sha256 differs from the manifest's")


def check_signature(manifest_raw: bytes, signature: bytes | None, public_key_pem: bytes) -> None:
    """BundleError unless `signature` is the Ed25519 signature of `manifest_raw` under the PEM key."""
    try:
        key = load_pem_public_key(public_key_pem)
    except ValueError:
        raise BundleError("MODEL_PUBLIC_KEY: not a PEM public key") from None
    if not isinstance(key, Ed25519PublicKey):
        raise BundleError("MODEL_PUBLIC_KEY: not an Ed25519 key")
    if signature is None:
        raise BundleError(f"{SIGNATURE}: missing, and MODEL_PUBLIC_KEY requires a signed bundle")
    try:
        key.verify(signature, manifest_raw)
    except InvalidSignature:
        raise BundleError(f"{SIGNATURE}: not a signature of {MANIFEST} by MODEL_PUBLIC_KEY") from None


def sign_bundle(directory: Path, private_key_pem: bytes) -> Manifest:
    """Check every file of the bundle, then write `manifest.sig`; the signed manifest.

    BundleError if the bundle is not whole, or if the PEM bytes are no unencrypted Ed25519 private key.
    """
    try:
        key = load_pem_private_key(private_key_pem, password=None)
    except (TypeError, ValueError, UnsupportedAlgorithm):
        raise BundleError("private key: not an unencrypted PEM file") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise BundleError("private key: not an Ed25519 key")
    manifest_raw = _read(directory / MANIFEST, MAX_MANIFEST_BYTES)
    bundle = read_bundle(directory)
    if hashlib.sha256(manifest_raw).hexdigest() != bundle.manifest_sha256:
        raise BundleError(f"{MANIFEST}: was replaced while the bundle was checked")
    _replace(directory / SIGNATURE, key.sign(manifest_raw))
    return bundle.manifest


def _read(path: Path, cap: int) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(cap + 1)
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror or error}") from None
    if len(raw) > cap:
        raise BundleError(f"{path}: larger than {cap} bytes")
    return raw


def read_bundle(directory: Path, public_key_pem: bytes | None = None) -> BundleBytes:
    """Read every file once, and check the bytes that were read: size cap, manifest, signature, then size and sha256.

    Raises BundleError naming the file and the defect. With no public key, a signature is not looked at.
    """
    manifest_raw = _read(directory / MANIFEST, MAX_MANIFEST_BYTES)
    signature = None
    if public_key_pem is not None:
        signature_path = directory / SIGNATURE
        signature = _read(signature_path, 4096) if signature_path.exists() else None
        check_signature(manifest_raw, signature, public_key_pem)
    manifest = parse_manifest(manifest_raw)
    files = {}
    for name in (MODEL, REFERENCE):
        if name not in manifest.files:
            raise BundleError(f"{MANIFEST}: files: {name} is not listed")
    for name, entry in manifest.files.items():
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", name):
            raise BundleError(f"{MANIFEST}: files: {name!r} is not a plain file name")
        files[name] = _read(directory / name, MAX_FILE_BYTES)
        check_file(name, files[name], entry)
    return BundleBytes(manifest, hashlib.sha256(manifest_raw).hexdigest(), signature is not None, files)


def write_bundle(directory: Path, manifest: Manifest, files: Mapping[str, bytes]) -> Manifest:
    """Write `files`, then the manifest, which is replaced atomically and last: readers poll it.

    Returns the manifest as written, with `files` filled in. A signature left by an earlier bundle is removed, because
    it no longer signs what stands beside it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    entries = {name: FileEntry(sha256=hashlib.sha256(raw).hexdigest(), size=len(raw)) for name, raw in files.items()}
    sealed = manifest.model_copy(update={"files": entries})
    (directory / SIGNATURE).unlink(missing_ok=True)
    for name, raw in files.items():
        _replace(directory / name, raw)
    _replace(directory / MANIFEST, manifest_bytes(sealed))
    return sealed


def copy_bundle(source: Path, directory: Path, manifest_sha256: str | None = None) -> Manifest:
    """The bundle in `source`, byte for byte and with its signature, into `directory`, whose manifest is replaced last.

    Files that only the former one had stay, unlisted and unread. BundleError, before anything is written, if `source`
    is not whole, or its manifest, which names all its files' hashes, is not `manifest_sha256`.
    """
    manifest_raw = _read(source / MANIFEST, MAX_MANIFEST_BYTES)
    bundle = read_bundle(source)
    if hashlib.sha256(manifest_raw).hexdigest() != bundle.manifest_sha256 or (
        manifest_sha256 not in {None, bundle.manifest_sha256}
    ):
        raise BundleError(f"{source / MANIFEST}: was replaced while the bundle was read")
    signature = _read(source / SIGNATURE, 4096) if (source / SIGNATURE).exists() else None
    directory.mkdir(parents=True, exist_ok=True)
    (directory / SIGNATURE).unlink(missing_ok=True)
    signed = {} if signature is None else {SIGNATURE: signature}
    for name, raw in {**bundle.files, **signed, MANIFEST: manifest_raw}.items():
        _replace(directory / name, raw)
    return bundle.manifest


def manifest_bytes(manifest: Manifest) -> bytes:
    """The manifest as it is written: indented JSON, UTF-8, `from` under its own name, absent options left out."""
    return manifest.model_dump_json(by_alias=True, indent=2, exclude_none=True).encode() + b"\n"


def _replace(path: Path, raw: bytes) -> None:
    part = path.with_name(path.name + ".part")
    part.write_bytes(raw)
    part.replace(path)
