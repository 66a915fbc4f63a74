"""`driftline promote` and `driftline rollback`: change the served model by evidence, and change it back."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from driftline import mlflow_tracking, terminal
from driftline.errors import NOT_ENOUGH, CommandError
from driftline.mlflow_tracking import folder
from driftline.model_life.labelled_source import (
    CustomerOption,
    FileOption,
    FormatOption,
    SinceOption,
    TargetOption,
    TopicsOption,
    Where,
    labelled,
    of_both,
    stated_format,
)
from driftline.model_life.model_comparison import MIN_CUSTOMERS, Metric
from driftline.model_life.model_selection import comparison, label_of, left_out, metric_for, told

if TYPE_CHECKING:
    from driftline.model_life.candidate import Judged
    from driftline.model_life.labelled_customers import Labelled
    from driftline.training.loaded_bundle import Loaded
    from kafka_runtime.model_registry import Address
    from schemas.bundle.manifest import Manifest


def promote(
    candidate: Annotated[
        Path, typer.Option(help="Folder of the candidate, or its mlflow:models:/ address.", show_default=False)
    ],
    to: Annotated[Path, typer.Option(help="Folder, or address with an alias, that is served now: the champion.")],
    data: FileOption = None,
    target: TargetOption = None,
    customer: CustomerOption = None,
    from_topics: TopicsOption = False,
    since: SinceOption = None,
    spec: FormatOption = None,
    metric: Annotated[
        Metric | None,
        typer.Option(help="What must be better.", show_default="brier; of classes accuracy, of a regression mae"),
    ] = None,
    confidence: Annotated[
        float, typer.Option(min=0.5, max=0.9999, help="Of the interval that must be above 0.")
    ] = 0.95,
    accept: Annotated[
        list[str] | None,
        typer.Option(help="Feature whose missing values or new categories are intended.", show_default=False),
    ] = None,
    previous: Annotated[
        Path | None, typer.Option(help="Folder that keeps the champion.", show_default="DIR.previous beside --to")
    ] = None,
    public_key: Annotated[
        Path | None, typer.Option(envvar="MODEL_PUBLIC_KEY", help="PEM file: take signed bundles only.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Serve the candidate if it is better than the champion on recent labelled customers, with that confidence.

    Only rows that neither model was fitted on count. The champion is kept for `driftline rollback`; running scorers
    swap between two batches. Exit code 1: not better, or broken data; 3: too few labels.

    Example: driftline promote --candidate artifacts/candidate --to artifacts/model --from-topics
    """
    from driftline.model_life.candidate import RetrainError, judge, load_pair
    from driftline.training.dataset import DatasetError
    from driftline.training.estimator_file import ExistingError
    from driftline.training.fitted_estimator import try_bundle
    from kafka_runtime.model_registry import RegistryError
    from schemas.bundle.files import copy_bundle
    from schemas.bundle.manifest import BundleError

    where = Where(data, target, customer, from_topics, since)
    registered = _addresses(candidate, to)
    kept = previous or beside(to)
    try:
        key = public_key.read_bytes() if public_key is not None else None
        # an alias may move during the comparison, and a folder may be written to: the compared version is served
        versions = [mlflow_tracking.pinned(place) for place in registered or ()]
        judged_at, served_at = [Path(str(version)) for version in versions] or [candidate, to]
        before, after = load_pair(folder(served_at), folder(judged_at), key)
        decides, task = metric_for(metric, before), before.manifest.predicts
        features = of_both(after.manifest.features, before.manifest.features)
        form = stated_format(spec) or before.manifest.data_format
        rows = labelled(where, features, before.manifest.event, label_of(before), form=form, task=task)
        if not rows.rows:
            raise CommandError(f"no event has a label yet{left_out(rows)}", NOT_ENOUGH)
        seen = _examined(before, after, rows, accept or ())
        judged = judge(before, after, rows, decides, confidence)
        _refuse(judged, confidence)
        try_bundle(after.manifest, dict(after.bundle.files))
        if registered is not None:
            mlflow_tracking.promote(registered[1], *versions)
        else:
            aside = kept.with_name(kept.name + ".part")
            copy_bundle(candidate, aside, after.bundle.manifest_sha256)
            copy_bundle(to, kept)
            copy_bundle(aside, to)
            shutil.rmtree(aside)
    except (BundleError, DatasetError, ExistingError) as error:
        raise CommandError(str(error)) from None
    except RetrainError as error:
        raise CommandError(f"not promoted: {error}", 1) from None
    except RegistryError as error:
        raise CommandError(f"not promoted: {error}", 1) from None
    except OSError as error:
        raise CommandError(f"{error.filename}: {error.strerror or error}") from None
    found = comparison(judged, confidence)
    if as_json:
        served = _now(to, kept, after.manifest, before.manifest)
        terminal.show_json({**served, "comparison": found, "data": {"features": seen}}, indent=True)
        return
    terminal.show(told(found))
    _say(to, kept, after.manifest, before.manifest)


def rollback(
    model: Annotated[Path, typer.Option(help="Folder, or mlflow:models:/ address with an alias, that is served.")],
    previous: Annotated[
        Path | None, typer.Option(help="Folder that keeps the former bundle.", show_default="DIR.previous beside it")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Serve the bundle that was served before the last promotion; a second call returns to the newer one.

    Example: driftline rollback --model artifacts/model
    """
    from schemas.bundle.files import copy_bundle, read_bundle
    from schemas.bundle.manifest import BundleError

    if (registered := _address(model)) is not None:
        _roll_back(registered, as_json)
        return
    kept = previous or beside(model)
    aside = kept.with_name(kept.name + ".part")
    try:
        now, former = read_bundle(model).manifest, read_bundle(kept).manifest
        if now.name != former.name:
            raise CommandError(f"{kept} is {former.name}, and {model} is {now.name}")
        copy_bundle(model, aside)
        copy_bundle(kept, model)
        copy_bundle(aside, kept)
        shutil.rmtree(aside)
    except BundleError as error:
        raise CommandError(str(error)) from None
    except OSError as error:
        raise CommandError(f"{error.filename}: {error.strerror or error}") from None
    if as_json:
        terminal.show_json(_now(model, kept, former, now), indent=True)
        return
    _say(model, kept, former, now)


def _examined(champion: Loaded, candidate: Loaded, rows: Labelled, accepted: Sequence[str]) -> dict[str, Any]:
    """Return the missing and unseen shares by model and feature; CommandError if the data is broken."""
    from driftline.model_life.data_checks import defects, remarks, shares

    columns = rows.columns(champion.manifest.features)
    found = {"champion": shares(columns), "challenger": shares(rows.columns(candidate.manifest.features))}
    for line in dict.fromkeys(line for side in found.values() for line in remarks(side)):
        terminal.note(line)
    if broken := defects(champion.reference(), columns, rows.codes, accepted):
        raise CommandError(f"not promoted, the data is broken: {'; '.join(broken)}", 1)
    return found


def _address(place: Path) -> Address | None:
    from kafka_runtime.model_registry import RegistryError, address

    try:
        return address(place)
    except RegistryError as error:
        raise CommandError(str(error)) from None


def _addresses(candidate: Path, to: Path) -> tuple[Address, Address] | None:
    """Return both addresses in the registry, or None if both are folders."""
    one, other = _address(candidate), _address(to)
    if one is None or other is None:
        if one is not other:
            raise CommandError("--candidate and --to: two folders, or two mlflow:models:/ addresses")
        return None
    if one.name != other.name:
        raise CommandError(f"{one} and {other} are two models")
    return one, other


def _roll_back(champion: Address, as_json: bool) -> None:
    """Roll back in the registry: no file is copied, services follow the alias."""
    from kafka_runtime.model_registry import PREVIOUS, RegistryError

    try:
        mlflow_tracking.rollback(champion)
    except RegistryError as error:
        raise CommandError(str(error), 1) from None
    said = {"served": {"bundle": str(champion)}, "previous": {"bundle": f"mlflow:models:/{champion.name}@{PREVIOUS}"}}
    if as_json:
        terminal.show_json(said, indent=True)
    else:
        terminal.show(f"{champion} names the former version again")


def beside(model: Path) -> Path:
    """Return where the former bundle is kept; for one in the registry, under which alias."""
    if (place := _address(model)) is not None:
        return Path(f"mlflow:models:/{place.name}@previous")
    return model.with_name(model.resolve().name + ".previous")


def _refuse(judged: Judged, confidence: float) -> None:
    """Raise CommandError unless the candidate is better."""
    found = judged.comparison
    if found.customers < MIN_CUSTOMERS:
        raise CommandError(
            f"not promoted: {found.customers} labelled customers that neither model was fitted on, "
            f"{MIN_CUSTOMERS} are needed",
            NOT_ENOUGH,
        )
    if found.better is None:
        raise CommandError(f"not promoted: {found.metric} cannot be compared: {found.reason}", NOT_ENOUGH)
    if not found.better:
        raise CommandError(f"not promoted, not better: {told(comparison(judged, confidence))}", 1)
    if not judged.sure:
        terminal.note("note: a bundle does not list its training customers; any in the data flatter that model")


def _now(served: Path, kept: Path, manifest: Manifest, former: Manifest) -> dict[str, Any]:
    return {
        "served": {"bundle": str(served), "name": manifest.name, "version": manifest.version},
        "previous": {"bundle": str(kept), "name": former.name, "version": former.version},
    }


def _say(served: Path, kept: Path, manifest: Manifest, former: Manifest) -> None:
    terminal.show(f"{served}: {manifest.name} {manifest.version}; {former.version} is kept in {kept}")
    terminal.show("restart the drift worker: it compares with the reference of the bundle that it was started with")
