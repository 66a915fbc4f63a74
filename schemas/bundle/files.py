"""A bundle's files, read and written whole.

A reader can reject a damaged or foreign file *before* anything in it is unpickled. This module never unpickles;
`scorer.model` does, last.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from schemas.bundle.manifest import MANIFEST, BundleError, FileEntry, Manifest, manifest_bytes, parse_manifest

SIGNATURE = "manifest.sig"
MODEL = "model.joblib"
REFERENCE = "reference.npz"
TRAINED_ROWS = (
    "trained_rows.npy"  # optional: the rows that the model was fitted on (driftline/model_life/trained_rows.py)
)
# A model larger than 1 GiB does not fit a scorer's memory either; the limit keeps a wrong mount from filling it.
MAX_FILE_BYTES = 1 << 30
MAX_MANIFEST_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class BundleBytes:
    """A bundle whose every byte was checked against its manifest; no part is unpickled yet."""

    manifest: Manifest
    manifest_sha256: str
    signed: bool
    files: Mapping[str, bytes]


def check_file(name: str, raw: bytes, entry: FileEntry) -> None:
    """Raise BundleError unless `raw` has the size and sha256 of the manifest."""
    if len(raw) != entry.size:
        raise BundleError(f"{name}: {len(raw)} bytes, expected {entry.size} by the manifest")
    if hashlib.sha256(raw).hexdigest() != entry.sha256:
        raise BundleError(f"{name}: sha256 differs from the manifest's")


def check_signature(manifest_raw: bytes, signature: bytes | None, public_key_pem: bytes) -> None:
    """Raise BundleError unless `signature` is the Ed25519 signature of `manifest_raw` under the PEM key."""
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
    """Check every file of the bundle, then write `manifest.sig`; return the signed manifest.

    BundleError if the bundle is not whole, or if the PEM bytes are no unencrypted Ed25519 private key.
    """
    try:
        key = load_pem_private_key(private_key_pem, password=None)
    except (TypeError, ValueError, UnsupportedAlgorithm):
        raise BundleError("private key: not an unencrypted PEM file") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise BundleError("private key: not an Ed25519 key")
    manifest_raw = _read_manifest(directory)
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


def _read_manifest(directory: Path) -> bytes:
    """Return the manifest's bytes; BundleError names what is there instead of a bundle, where that is recognised."""
    how = "driftline bundle --spec SPEC --model MODEL --data CUSTOMERS makes a bundle of it"
    if (directory / "MLmodel").exists() and not (directory / MANIFEST).exists():
        raise BundleError(f"{directory}: is an MLflow model and no bundle: {how}")
    if directory.is_file():
        raise BundleError(f"{directory}: is a file; a bundle is a directory: {how}")
    return _read(directory / MANIFEST, MAX_MANIFEST_BYTES)


def read_bundle(directory: Path, public_key_pem: bytes | None = None) -> BundleBytes:
    """Read every file once, and check the bytes that were read: size cap, manifest, signature, then size and sha256.

    Raises BundleError with the file and the defect. Without a public key, a signature is not checked.
    """
    manifest_raw = _read_manifest(directory)
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

    Returns the manifest as written, with `files` filled in. A signature of an earlier bundle is removed, because it
    does not sign the new manifest.
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
    """Copy the bundle in `source`, byte for byte and with its signature, into `directory`.

    The manifest is replaced last.

    Files that only the former one had stay, unlisted and unread. BundleError, before anything is written, if `source`
    is not whole, or its manifest, which names all its files' hashes, is not `manifest_sha256`.
    """
    manifest_raw = _read_manifest(source)
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


def _replace(path: Path, raw: bytes) -> None:
    part = path.with_name(path.name + ".part")
    part.write_bytes(raw)
    part.replace(path)
