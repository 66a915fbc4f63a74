"""`driftline evaluate`: how good a model is on labelled customers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from driftline import terminal
from driftline.errors import NOT_ENOUGH, CommandError
from driftline.model_life.labelled_source import (
    CustomerOption,
    FileOption,
    FormatOption,
    SinceOption,
    TargetOption,
    TopicsOption,
    Where,
    labelled,
    stated_format,
)
from driftline.model_life.model_selection import label_of, left_out, load, measured


def command(
    model: Annotated[Path, typer.Option(help="Folder of the bundle. It is unpickled: give one you trust.")],
    data: FileOption = None,
    target: TargetOption = None,
    customer: CustomerOption = None,
    from_topics: TopicsOption = False,
    since: SinceOption = None,
    spec: FormatOption = None,
    public_key: Annotated[
        Path | None, typer.Option(envvar="MODEL_PUBLIC_KEY", help="PEM file: take a signed bundle only.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure a model on labelled customers, beside the estimate without labels.

    Intervals are of 95 % and count customers, not rows. Exit code 3 without any label.

    Example: driftline evaluate --model artifacts/model --data examples/telco_churn.csv --target churn

    Example: driftline evaluate --model artifacts/model --from-topics
    """
    from driftline.training.dataset import DatasetError
    from driftline.training.estimator_file import ExistingError
    from schemas.bundle.manifest import BundleError

    where = Where(data, target, customer, from_topics, since)
    try:
        loaded = load(model, public_key)
        manifest = loaded.manifest
        task, form = manifest.predicts, stated_format(spec) or manifest.data_format
        rows = labelled(where, manifest.features, manifest.event, label_of(loaded), form=form, task=task)
        if not rows.rows:
            raise CommandError(f"no event has a label yet{left_out(rows)}", NOT_ENOUGH)
        found = measured(loaded, rows)
    except (BundleError, DatasetError, ExistingError) as error:
        raise CommandError(str(error)) from None
    if as_json:
        terminal.show_json(found, indent=True)
    else:
        _show(found)


def _show(found: dict[str, Any]) -> None:
    from driftline.model_life.data_checks import remarks

    data, model = found["data"], found["model"]
    columns: tuple[str, ...] = ("metric", "value", "95 % interval", "expected without labels")
    rows: list[tuple[str, ...]] = [
        (name, _value(one, ".4f"), _interval(one), _expected(one.get("expected")))
        for name, one in found["metrics"].items()
    ]
    if not any(row[3] for row in rows):
        columns, rows = columns[:3], [row[:3] for row in rows]
    terminal.show_table(columns, rows, right=columns[1:])
    terminal.show(
        f"{model['name']} {model['version']} on {data['rows']:,} rows of {data['customers']:,} customers"
        + (f", {data['positive']:,} positive" if "positive" in data else "")
    )
    for name, one in found.get("classes", {}).items():
        count = data["outcomes"][name]
        terminal.show(f"{name}: {count:,} rows, " + ", ".join(f"{m} {_value(v, '.4f')}" for m, v in one.items()))
    for line in remarks(data["features"]):
        terminal.show(line)
    if (worth := found.get("business")) is not None:
        terminal.show(f"worth {_value(worth, ',.2f')} {worth['currency']} {_interval(worth, ',.2f')}".rstrip())
    if data["left_out"]:
        terminal.show(
            "left out: " + ", ".join(f"{count:,} {reason}" for reason, count in sorted(data["left_out"].items()))
        )


def _value(one: dict[str, Any], form: str) -> str:
    """Return the value, or why there is none."""
    known = one["value"] is not None
    return terminal.number(one["value"], form) if known else f"{terminal.UNKNOWN} ({one['reason']})"


def _interval(one: dict[str, Any], form: str = ".4f") -> str:
    if one["low"] is None or one["high"] is None:
        return ""
    return f"{terminal.number(one['low'], form)} to {terminal.number(one['high'], form)}"


def _expected(one: dict[str, Any] | None) -> str:
    return "" if one is None else f"{terminal.number(one['value'], '.4f')} ({_interval(one)})"
