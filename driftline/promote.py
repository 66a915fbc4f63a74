"""`driftline promote` and `driftline rollback`: the model that is served, changed by evidence and back again."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from driftline import tracking
from driftline.errors import NOT_ENOUGH, CommandError
from driftline.evaluate import label_of, left_out
from driftline.labelled_data import (
    CustomerOption,
    FileOption,
    SinceOption,
    TargetOption,
    TopicsOption,
    Where,
    labelled,
    of_both,
)
from driftline.retrain import MIN_CUSTOMERS, check_money, comparison, told
from driftline.tracking import folder
from training.compare import Metric

if TYPE_CHECKING:
    from schemas.bundle import Manifest
    from streaming.registry import Address
    from training.retrain import Judged


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
    metric: Annotated[Metric, typer.Option(help="What must be better.")] = "brier",
    confidence: Annotated[
        float, typer.Option(min=0.5, max=0.9999, help="Of the interval that must be above 0.")
    ] = 0.95,
    accept: Annotated[
        list[str] | None,
        typer.Option(help="Feature whose missing values or new categories are meant so.", show_default=False),
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

    Only rows that neither was fitted on count. The champion is kept for `driftline rollback`; running scorers swap
    between two batches. Exit code 1: not better, or broken data; 3: too few labels.

    Example: driftline promote --candidate artifacts/candidate --to artifacts/model --from-topics
    """
    from schemas.bundle import BundleError, copy_bundle
    from streaming.registry import RegistryError
    from training.checks import defects
    from training.dataset import DatasetError
    from training.existing import ExistingError, try_bundle
    from training.retrain import RetrainError, judge, load_pair

    where = Where(data, target, customer, from_topics, since)
    registered = _addresses(candidate, to)
    kept = previous or beside(to)
    try:
        key = public_key.read_bytes() if public_key is not None else None
        # an alias may move while a version is judged, as a folder may be written to: what was judged will be served
        versions = [tracking.pinned(place) for place in registered or ()]
        judged_at, served_at = [Path(str(version)) for version in versions] or [candidate, to]
        before, after = load_pair(folder(served_at), folder(judged_at), key)
        check_money(metric, before)
        features = of_both(after.manifest.features, before.manifest.features)
        rows = labelled(where, features, before.manifest.event, label_of(before))
        if not rows.rows:
            raise CommandError(f"no event has a label yet{left_out(rows)}", NOT_ENOUGH)
        if broken := defects(before.reference(), rows.columns(before.manifest.features), rows.codes, accept or ()):
            raise CommandError(f"not promoted, the data is broken: {'; '.join(broken)}", 1)
        judged = judge(before, after, rows, metric, confidence)
        _refuse(judged, confidence)
        try_bundle(after.manifest, dict(after.bundle.files))
        if registered is not None:
            tracking.promote(registered[1], *versions)
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
        print(json.dumps({**_now(to, kept, after.manifest, before.manifest), "comparison": found}, indent=2))
        return
    print(told(found))
    _say(to, kept, after.manifest, before.manifest)


def rollback(
    model: Annotated[Path, typer.Option(help="Folder, or mlflow:models:/ address with an alias, that is served.")],
    previous: Annotated[
        Path | None, typer.Option(help="Folder that keeps the former bundle.", show_default="DIR.previous beside it")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Serve the bundle that was served before the last promotion; once more: the newer one again.

    Example: driftline rollback --model artifacts/model
    """
    from schemas.bundle import BundleError, copy_bundle, read_bundle

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
        print(json.dumps(_now(model, kept, former, now), indent=2))
        return
    _say(model, kept, former, now)


def _address(place: Path) -> Address | None:
    from streaming.registry import RegistryError, address

    try:
        return address(place)
    except RegistryError as error:
        raise CommandError(str(error)) from None


def _addresses(candidate: Path, to: Path) -> tuple[Address, Address] | None:
    """Both in the registry, or None: both folders."""
    one, other = _address(candidate), _address(to)
    if one is None or other is None:
        if one is not other:
            raise CommandError("--candidate and --to: two folders, or two mlflow:models:/ addresses")
        return None
    if one.name != other.name:
        raise CommandError(f"{one} and {other} are two models")
    return one, other


def _roll_back(champion: Address, as_json: bool) -> None:
    """In the registry: nothing is copied, services follow the alias."""
    from streaming.registry import PREVIOUS, RegistryError

    try:
        tracking.rollback(champion)
    except RegistryError as error:
        raise CommandError(str(error), 1) from None
    said = {"served": {"bundle": str(champion)}, "previous": {"bundle": f"mlflow:models:/{champion.name}@{PREVIOUS}"}}
    print(json.dumps(said, indent=2) if as_json else f"{champion} names the former version again")


def beside(model: Path) -> Path:
    """Where the former bundle is kept; of one in the registry, under which alias."""
    if (place := _address(model)) is not None:
        return Path(f"mlflow:models:/{place.name}@previous")
    return model.with_name(model.resolve().name + ".previous")


def _refuse(judged: Judged, confidence: float) -> None:
    """CommandError unless the candidate is better."""
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
        print(
            "note: a bundle does not say what it was fitted on; customers among it flatter that model", file=sys.stderr
        )


def _now(served: Path, kept: Path, manifest: Manifest, former: Manifest) -> dict[str, Any]:
    return {
        "served": {"bundle": str(served), "name": manifest.name, "version": manifest.version},
        "previous": {"bundle": str(kept), "name": former.name, "version": former.version},
    }


def _say(served: Path, kept: Path, manifest: Manifest, former: Manifest) -> None:
    print(f"{served}: {manifest.name} {manifest.version}; {former.version} is kept in {kept}")
    print("restart the drift worker: it compares with the reference of the bundle that it was started with")
