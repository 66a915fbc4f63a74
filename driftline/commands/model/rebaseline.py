"""`driftline rebaseline`: another drift reference for an unchanged model."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from driftline import terminal
from driftline.errors import CommandError
from driftline.model_life.labelled_source import FormatOption, stated_format
from driftline.settings import read_rules

if TYPE_CHECKING:
    from driftline.model_life.rebaseline import Rebaselined
    from driftline.reference_diff import Change

# The textbook's limits: above the first one look at a change, above the second it is large.
WORTH_A_LOOK, LARGE = 0.1, 0.2
MANY_EVENTS_EACH = 2.0


def command(
    model: Annotated[Path, typer.Option(help="Folder of the bundle. It is unpickled: give one you trust.")],
    data: Annotated[
        Path, typer.Option(help="Recent customers: CSV, JSON Lines, or events, one a line.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Folder of the new bundle; must not exist yet.", show_default=False)],
    version: Annotated[
        str | None, typer.Option(help="Version of the new bundle.", show_default="the next patch")
    ] = None,
    spec: FormatOption = None,
    public_key: Annotated[
        Path | None, typer.Option(envvar="MODEL_PUBLIC_KEY", help="PEM file: take a signed bundle only.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Propose another drift reference: the same model with recent customers, and how they differ.

    The model scores the customers itself, so they should be newer than its training data. The rest of the bundle stays,
    and no file is overwritten. To use it, serve it, and restart the drift worker with it: predictions of another
    version than the reference's are not counted.

    Example: driftline rebaseline --model artifacts/model --data examples/telco_churn.csv --out artifacts/model-1.0.1
    """
    from driftline.model_life.rebaseline import RebaselineError, rebaseline
    from driftline.reference_diff import differences
    from driftline.training.dataset import DatasetError
    from driftline.training.estimator_file import ExistingError
    from schemas.bundle.manifest import BundleError

    try:
        key = public_key.read_bytes() if public_key is not None else None
    except OSError as error:
        raise CommandError(f"{public_key}: {error.strerror or error}") from None
    now = datetime.now(UTC).replace(microsecond=0)
    form = stated_format(spec)
    try:
        with terminal.status("scoring …"):
            made = rebaseline(model, data, out, now, version=version, public_key_pem=key, form=form, rules=read_rules())
            changes = differences(made.manifest.features, made.old, made.new)
    except (BundleError, DatasetError, ExistingError, RebaselineError) as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"{out}: {error.strerror or error}") from error
    notes = _notes(made)
    if as_json:
        differing = [change.as_dict() for change in changes]
        terminal.show_json({**_summary(made, out), "notes": notes, "differences": differing}, indent=True)
        return
    _show(changes)
    terminal.note(made.manifest.self_check.sentence())
    for note in notes:
        terminal.note(f"note: {note}")
    terminal.show(
        f"{out}: {made.manifest.name} {made.manifest.version}, reference of {made.new.rows} rows "
        f"(version {made.previous.version}: {made.old.rows})"
    )


def _summary(made: Rebaselined, out: Path) -> dict[str, Any]:
    recent = made.recent
    return {
        "bundle": str(out),
        "name": made.manifest.name,
        "version": {"previous": made.previous.version, "new": made.manifest.version},
        "reference_rows": {"previous": made.old.rows, "new": made.new.rows},
        "data": {
            "kind": "events" if recent.events else "rows",
            "sha256": recent.sha256,
            "rows": recent.columns.n,
            "customers": recent.customers,
            "left_out": {"unseen_category": recent.unseen_rows, **recent.refused},
            "unseen_by_feature": recent.unseen,
            "features": recent.features,
        },
    }


def _notes(made: Rebaselined) -> list[str]:
    """Return what an operator must check before using it."""
    from drift_worker.statistics.self_check import unwatched, unwatched_sentence
    from driftline.model_life.rebaseline import OUT_OF_SAMPLE

    recent = made.recent
    notes = [OUT_OF_SAMPLE]
    if recent.refused:
        what = ", ".join(f"{reason} {count}" for reason, count in sorted(recent.refused.items()))
        notes.append(f"{sum(recent.refused.values())} events that a scorer rejects were left out: {what}")
    if recent.unseen_rows:
        what = ", ".join(f"{name} {count}" for name, count in recent.unseen.items())
        notes.append(f"{recent.unseen_rows} rows with a category that is unknown to the model were left out: {what}")
    features = made.manifest.features
    if found := unwatched_sentence(unwatched(features, made.new), len(features), made.new.rows):
        notes.append(found)
    if recent.customers is not None and recent.columns.n > MANY_EVENTS_EACH * recent.customers:
        each = recent.columns.n / recent.customers
        notes.append(f"each customer is in it {each:.1f} times: small effects will look surer than they are")
    if made.was_signed:
        notes.append("the bundle was signed; the new one is not yet: driftline sign")
    return notes


def _show(changes: Sequence[Change]) -> None:
    columns = ("feature", "PSI", "missing", "mean or shares", "sd")
    rows = [
        (
            change.name,
            terminal.number(change.psi),
            _pair(change.missing, ".1%"),
            _middle(change),
            "" if change.sd is None else _pair(change.sd, ".4g"),
        )
        for change in changes
    ]
    sizes = [change.psi or 0.0 for change in changes]
    styles = {n: "red" if size >= LARGE else "yellow" for n, size in enumerate(sizes) if size >= WORTH_A_LOOK}
    terminal.show_table(columns, rows, right=("PSI", "sd"), styles=styles)


def _middle(change: Change) -> str:
    if change.mean is not None:
        return _pair(change.mean, ".4g")
    moved = sorted((change.shares or {}).items(), key=lambda item: -abs(item[1][1] - item[1][0]))[:3]
    return ", ".join(f"{name} {_pair(pair, '.0%')}" for name, pair in moved)


def _pair(pair: tuple[float, float], form: str) -> str:
    before, after = (format(value, form) for value in pair)
    return before if before == after else f"{before} → {after}"
