"""A bundle and recent customers → the same model with another drift reference.

No model is fitted: the model's bytes, training data, metrics and golden rows stay. Only the drift worker's reference is
new.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from driftline.model_life.recent_customers import Recent, read_recent
from driftline.training.fitted_estimator import MAY_BE_IN_SAMPLE, ORIGIN, try_bundle
from driftline.training.loaded_bundle import load_bundle
from driftline.training.train import checked, sampled_reference
from schemas.bundle.files import REFERENCE, SIGNATURE, write_bundle
from schemas.bundle.inputs import DataFormat
from schemas.bundle.manifest import Manifest, SemVer
from schemas.features import Layout
from schemas.reference import Reference
from schemas.validation import Rules

# Above this share, the customers that are left out would be missing from every other feature's distribution, too.
MAX_UNSEEN_SHARE = 0.05
# Which rows are stored, if there are more than a reference holds: the same ones every time.
SEED = 42
OTHER_CUSTOMERS = "The drift reference is of"
OUT_OF_SAMPLE = (
    "The model's scores of the new reference are its own: out of sample only if it was not trained on these customers, "
    "for instance because they are newer. Else they are too sure, which can look like prediction drift."
)


class RebaselineError(Exception):
    """A reference that cannot be made. The text is one line with what to change."""


@dataclass(frozen=True, slots=True)
class Rebaselined:
    """The written bundle, beside its origin."""

    manifest: Manifest
    previous: Manifest
    old: Reference
    new: Reference
    recent: Recent
    #: The old bundle had a signature; the new one has none.
    was_signed: bool


def rebaseline(
    model: Path,
    data: Path,
    out: Path,
    now: datetime,
    *,
    version: str | None = None,
    public_key_pem: bytes | None = None,
    form: DataFormat | None = None,
    rules: Rules | None = None,
) -> Rebaselined:
    """Write the bundle in `model` into `out` with a reference of the customers in `data`.

    version: the new one; None: the next patch. form: how the file writes its cells; None: as the bundle has it.
    rules: of a valid event; None: the defaults. The model is unpickled, which runs the code in it. `out` must not
    exist, or be an empty folder. BundleError, DatasetError, ExistingError, or RebaselineError.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise RebaselineError(f"{out} exists; name another folder with --out")
    loaded = load_bundle(model, public_key_pem)
    bundle, previous = loaded.bundle, loaded.manifest
    new_version = _version(previous, version)
    old = _reference(bundle.files[REFERENCE], Layout(previous.features))
    recent = read_recent(data, previous, round(now.timestamp() * 1000), form, rules)
    _few_unseen(data, recent)

    score = loaded.score(recent.columns)
    new = sampled_reference(recent.columns, score, previous.predicts, _learnt(previous, old), SEED)

    manifest = previous.model_copy(
        update={
            "version": new_version,
            "created_at": now,
            "notes": _notes(previous, recent, new, now),
        }
    )
    files = {**bundle.files, REFERENCE: new.to_bytes()}
    try_bundle(manifest, files)
    written = write_bundle(out, checked(manifest, new, SEED), files)
    return Rebaselined(written, previous, old, new, recent, (model / SIGNATURE).exists())


def next_patch(version: str) -> str:
    """Return the version with the next patch number, without the suffix of one such as `1.4.0-rc1`.

    >>> next_patch("1.4.0-rc1"), next_patch("1.4.9")
    ('1.4.1', '1.4.10')
    """
    major, minor, patch = version.partition("+")[0].partition("-")[0].split(".")
    return f"{major}.{minor}.{int(patch) + 1}"


def _version(previous: Manifest, wanted: str | None) -> str:
    if wanted is None:
        return next_patch(previous.version)
    semver: TypeAdapter[str] = TypeAdapter(SemVer)
    try:
        version = semver.validate_python(wanted)
    except ValidationError:
        raise RebaselineError(f"--version: {wanted!r} is no version such as {next_patch(previous.version)}") from None
    if version == previous.version:
        raise RebaselineError(f"--version: {version} is the bundle's own; another reference needs another version")
    return version


def _reference(raw: bytes, layout: Layout) -> Reference:
    try:
        reference = Reference.from_bytes(raw)
    except ValueError as error:
        raise RebaselineError(f"{REFERENCE}: {error}") from None
    if (reference.numeric.shape[1], reference.codes.shape[1]) != (len(layout.numeric), len(layout.categorical)):
        raise RebaselineError(f"{REFERENCE}: other columns than the manifest has features")
    if any(codes.max() >= len(known) for codes, known in zip(reference.codes.T, layout.categories, strict=True)):
        raise RebaselineError(f"{REFERENCE}: a category code that the manifest has no category for")
    return reference


def _learnt(manifest: Manifest, old: Reference) -> set[str]:
    """Return the features whose categories were learnt from data, and for which unseen ones were to be expected."""
    layout = Layout(manifest.features)
    names = [layout.names[feature] for feature in layout.categorical]
    return {name for name, singletons in zip(names, old.singletons.tolist(), strict=True) if singletons}


def _few_unseen(data: Path, recent: Recent) -> None:
    rows = recent.columns.n + recent.unseen_rows
    if recent.unseen_rows > MAX_UNSEEN_SHARE * rows:
        most = max(recent.unseen, key=lambda name: recent.unseen[name])
        raise RebaselineError(
            f"{data}: {recent.unseen_rows} of {rows} rows have a category that the model has never seen "
            f"(most in {most}); no other reference helps: train the model again"
        )


def _notes(previous: Manifest, recent: Recent, new: Reference, now: datetime) -> tuple[str, ...]:
    """Return the former notes but for those on the old reference, and where the new one comes from."""
    kept = [
        note
        for note in previous.notes or ()
        if note not in {ORIGIN, MAY_BE_IN_SAMPLE, OUT_OF_SAMPLE} and not note.startswith(OTHER_CUSTOMERS)
    ]
    origin = (
        f"{OTHER_CUSTOMERS} {new.rows} of {recent.columns.n} customers, given on {now:%Y-%m-%d} to replace that of "
        f"version {previous.version}: sha256 {recent.sha256}."
    )
    return (*kept, origin, OUT_OF_SAMPLE)
