"""A champion, labelled customers and a spec → a candidate, and its comparison with the champion. It never promotes.

The most recent customers are held out. Both models are compared on those of them that neither was fitted on.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drift_worker.performance.any_rows import rows_of_task
from drift_worker.performance.money import money_of
from driftline.model_life.labelled_customers import Labelled, held_out
from driftline.model_life.model_comparison import Comparison, Metric, compare
from driftline.model_life.trained_rows import digests, to_bytes, unseen
from driftline.training.dataset import Label, typed_dataset
from driftline.training.fitted_estimator import try_bundle
from driftline.training.loaded_bundle import Loaded, load_bundle
from driftline.training.spec import Spec
from driftline.training.train import Trained, checked, train
from schemas.bundle.files import REFERENCE, TRAINED_ROWS, write_bundle
from schemas.bundle.manifest import BundleError, Manifest
from schemas.reference import Reference


class RetrainError(Exception):
    """Why a model is not trained, compared or promoted. The text is one line."""


@dataclass(frozen=True, slots=True)
class Judged:
    """Both models on the same rows."""

    comparison: Comparison
    #: bool (n,): the rows given that neither was fitted on.
    judged: NDArray[np.bool_]
    #: Whether both bundles list the rows that they were fitted on; otherwise some of these rows may be among them.
    sure: bool


@dataclass(frozen=True, slots=True)
class Candidate:
    """A written bundle, with its origin."""

    manifest: Manifest
    trained: Trained
    #: Rows that were not trained on.
    held_out: Labelled


def next_minor(version: str) -> str:
    """Return the version with the next minor number: that of a model that was fitted again.

    >>> next_minor("1.4.2-rc1")
    '1.5.0'
    """
    major, minor, _ = version.partition("+")[0].partition("-")[0].split(".")
    return f"{major}.{int(minor) + 1}.0"


def make_candidate(
    spec: Spec, champion: Manifest, rows: Labelled, share: float, version: str, reason: str, out: Path, now: datetime
) -> Candidate:
    """Train on all but the most recent customers (`share` of the rows) and write the bundle into `out`.

    rows: with the spec's columns. DatasetError, EstimatorError, ExistingError, TrainingError, or RetrainError.
    """
    if spec.model.name != champion.name:
        raise RetrainError(f"[model] name: {spec.model.name}, and the champion is {champion.name}")
    if version == champion.version:
        raise RetrainError(f"--version: {version} is the champion's own")
    model = spec.model.model_copy(update={"version": version})
    spec = spec.model_copy(update={"model": model})
    old, recent = held_out(rows.customers, share)
    if not len(old) or not len(recent):
        raise RetrainError(f"{len(set(rows.customers))} customers are too few to hold some out")
    fitted_on = rows.take(old)
    names = (_negative(spec.positive), spec.positive) if spec.task == "binary" else None
    dataset = typed_dataset(fitted_on.with_labels(spec.data.target, names, spec.data.id), spec, empty=True)
    trained = train(spec, dataset, now)
    note = (
        f"Trained again ({reason}) to follow version {champion.version}: on {dataset.rows} labelled rows; the "
        f"{len(recent)} of the most recent customers were held out."
    )
    manifest = trained.manifest.model_copy(update={"notes": (note,)})
    outcome = dataset.labels if names is None else dataset.labels == dataset.positive
    seen = digests(dataset.columns, outcome)
    files = {**trained.files, TRAINED_ROWS: to_bytes(seen)}
    try_bundle(manifest, files)
    reference = Reference.from_bytes(files[REFERENCE])
    written = write_bundle(out, checked(manifest, reference, spec.training.seed), files)
    return Candidate(written, trained, rows.take(recent))


def _negative(positive: Label) -> Label:
    """Return a name for the other class, which neither labels from the topics nor the manifest have."""
    if isinstance(positive, bool):
        return not positive
    return positive - 1 if isinstance(positive, int) else f"not {positive}"


def judge(champion: Loaded, candidate: Loaded, rows: Labelled, metric: Metric, confidence: float) -> Judged:
    """Return the candidate's advantage on those of the rows that neither model was fitted on.

    rows: with both models' columns. DatasetError, ExistingError, BundleError; RetrainError if no row is left.
    """
    columns = {id(one): rows.columns(one.manifest.features) for one in (champion, candidate)}
    fresh = np.ones(rows.rows, dtype=np.bool_)
    sure = True
    for one in (champion, candidate):
        kept = unseen(one.bundle, columns[id(one)], rows.outcome)
        sure = sure and kept is not None
        if kept is not None:
            fresh &= kept
    if not fresh.any():
        raise RetrainError("every one of these customers is one that a model was fitted on")
    which = np.flatnonzero(fresh)
    codes = rows.codes[which]
    sides = [
        rows_of_task(one.manifest.predicts, rows.outcome[which], one.score(columns[id(one)].take(which)), codes)
        for one in (champion, candidate)
    ]
    # each side's codes are of its own classes
    money, another = (money_of(champion.manifest.business, one.manifest.classes) for one in (champion, candidate))
    found = compare(metric, *sides, confidence=confidence, money=money, challengers_money=another)
    return Judged(found, fresh, sure)


def load_pair(champion: Path, candidate: Path, public_key_pem: bytes | None) -> tuple[Loaded, Loaded]:
    """Return both bundles; BundleError unless they are two versions of one model, of one task."""
    before, after = load_bundle(champion, public_key_pem), load_bundle(candidate, public_key_pem)
    one, other = before.manifest, after.manifest
    if one.name != other.name:
        raise BundleError(f"{candidate} is {other.name}, and {champion} is {one.name}")
    if one.version == other.version:
        raise BundleError(f"both are {one.name} {one.version}; a candidate needs another version")
    if (task := one.predicts.name) != (another := other.predicts.name):
        raise BundleError(f"task of {candidate} is {another}, and of {champion} {task}")
    return before, after
