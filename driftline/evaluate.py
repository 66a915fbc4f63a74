"""`driftline evaluate`: how good a model is on customers whose label is known."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from driftline.errors import NOT_ENOUGH, CommandError
from driftline.labelled_data import CustomerOption, FileOption, SinceOption, TargetOption, TopicsOption, Where, labelled

if TYPE_CHECKING:
    from training.labelled import Labelled
    from training.loaded import Loaded


def command(
    model: Annotated[Path, typer.Option(help="Folder of the bundle. It is unpickled: give one you trust.")],
    data: FileOption = None,
    target: TargetOption = None,
    customer: CustomerOption = None,
    from_topics: TopicsOption = False,
    since: SinceOption = None,
    public_key: Annotated[
        Path | None, typer.Option(envvar="MODEL_PUBLIC_KEY", help="PEM file: take a signed bundle only.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure a model on customers whose label is known, beside what was to be expected without labels.

    Intervals are of 95 % and count customers, not rows. Exit code 3 if no label is there.

    Example: driftline evaluate --model artifacts/model --data november.csv --target churn --id customer_id

    Example: driftline evaluate --model artifacts/model --from-topics
    """
    from schemas.bundle import BundleError
    from training.dataset import DatasetError
    from training.existing import ExistingError

    where = Where(data, target, customer, from_topics, since)
    try:
        loaded = load(model, public_key)
        manifest = loaded.manifest
        rows = labelled(where, manifest.features, manifest.event, label_of(loaded))
        if not rows.rows:
            raise CommandError(f"no event has a label yet{left_out(rows)}", NOT_ENOUGH)
        found = measured(loaded, rows)
    except (BundleError, DatasetError, ExistingError) as error:
        raise CommandError(str(error)) from None
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        _show(found)


def load(model: Path, public_key: Path | None) -> Loaded:
    """The bundle in a folder, unpickled; CommandError, BundleError or ExistingError."""
    from driftline.tracking import folder
    from training.loaded import load_bundle

    try:
        key = public_key.read_bytes() if public_key is not None else None
    except OSError as error:
        raise CommandError(f"{public_key}: {error.strerror or error}") from None
    return load_bundle(folder(model), key)


def label_of(loaded: Loaded) -> str | int | bool:
    """The positive class as a file of customers has it."""
    positive = loaded.manifest.positive_class
    return int(positive) if isinstance(positive, float) else positive


def measured(loaded: Loaded, rows: Labelled) -> dict[str, Any]:
    """What `--json` prints: counts, and per metric the realised value and the estimate from the scores alone."""
    from drift_worker.estimate import estimate
    from drift_worker.performance import Rows, business_value, money_of, performance

    manifest = loaded.manifest
    probability = loaded.score(rows.columns(manifest.features))
    customers = rows.codes
    table = Rows(rows.positive, probability, probability >= manifest.threshold, customers)
    metrics = {name: asdict(one) for name, one in performance(table).items()}
    if manifest.calibration is not None:
        for name, one in estimate(probability, manifest.threshold, manifest.calibration, customers).items():
            expected = None if one is None else {"value": one.value, "low": one.low, "high": one.high}
            metrics[name]["expected"] = expected
    worth, money = None, money_of(manifest.business)
    if manifest.business is not None and money is not None:
        worth = {"currency": manifest.business.currency, **asdict(business_value(table, money))}
    return {
        "model": {"name": manifest.name, "version": manifest.version, "sha256": loaded.bundle.manifest_sha256},
        "data": {
            "sha256": rows.table.sha256,
            "rows": rows.rows,
            "customers": int(customers.max()) + 1,
            "positive": int(rows.positive.sum()),
            "left_out": rows.left_out,
        },
        "threshold": manifest.threshold,
        "metrics": metrics,
        "business": worth,
    }


def _show(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    data, model = found["data"], found["model"]
    table = Table(box=None)
    for name in ("metric", "value", "95 % interval", "expected without labels"):
        table.add_column(name, justify="left" if name == "metric" else "right")
    for name, one in found["metrics"].items():
        value = f"{one['value']:.4f}" if one["value"] is not None else f"– ({one['reason']})"
        table.add_row(name, value, _interval(one), _expected(one.get("expected")))
    Console(width=None if sys.stdout.isatty() else 120).print(table, highlight=False)
    print(
        f"{model['name']} {model['version']} on {data['rows']:,} rows of {data['customers']:,} customers, "
        f"{data['positive']:,} positive"
    )
    if (worth := found["business"]) is not None:
        print(f"worth {worth['value']:,.2f} {worth['currency']} {_interval(worth, ',.2f')}".rstrip())
    if data["left_out"]:
        print("left out: " + ", ".join(f"{count:,} {reason}" for reason, count in sorted(data["left_out"].items())))


def _interval(one: dict[str, Any], form: str = ".4f") -> str:
    return "" if one["low"] is None else f"{one['low']:{form}} to {one['high']:{form}}"


def _expected(one: dict[str, Any] | None) -> str:
    return "" if one is None else f"{one['value']:.4f} ({one['low']:.4f} to {one['high']:.4f})"


def left_out(rows: Labelled) -> str:
    """What was not used, and why, as the end of a sentence."""
    return "".join(f"; {count:,} {reason}" for reason, count in sorted(rows.left_out.items()))
