"""`driftline rebaseline`: another drift reference for a model that stays as it is."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from driftline.errors import CommandError

if TYPE_CHECKING:
    from driftline.reference_diff import Change
    from training.rebaseline import Rebaselined

# The same numbers as the textbook's: above the first one a change is worth a look, above the second it is large.
WORTH_A_LOOK, LARGE = 0.1, 0.2
# Below DRIFT_MIN_EVENTS rows, the drift worker measures nothing against a reference.
FEW_ROWS = 500
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
    public_key: Annotated[
        Path | None, typer.Option(envvar="MODEL_PUBLIC_KEY", help="PEM file: take a signed bundle only.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Propose another drift reference: the same model, recent customers, and what is different about them.

    The model scores the customers itself, so they should be newer than what it was trained on. Nothing else of the
    bundle changes, and nothing is overwritten. To use it, serve it, and restart the drift worker with it: predictions
    of another version than the reference's are not counted.

    Example: driftline rebaseline --model artifacts/model --data november.jsonl --out artifacts/model-1.0.1
    """
    from driftline.reference_diff import differences
    from schemas.bundle import BundleError
    from training.dataset import DatasetError
    from training.existing import ExistingError
    from training.rebaseline import RebaselineError, rebaseline

    try:
        key = public_key.read_bytes() if public_key is not None else None
    except OSError as error:
        raise CommandError(f"{public_key}: {error.strerror or error}") from None
    now = datetime.now(UTC).replace(microsecond=0)
    try:
        with Console(stderr=True).status("scoring …"):
            made = rebaseline(model, data, out, now, version=version, public_key_pem=key)
            changes = differences(made.manifest.features, made.old, made.new)
    except (BundleError, DatasetError, ExistingError, RebaselineError) as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"{out}: {error.strerror or error}") from error
    notes = _notes(made)
    if as_json:
        print(
            json.dumps({**_summary(made, out), "notes": notes, "differences": [c.as_dict() for c in changes]}, indent=2)
        )
        return
    _show(changes)
    print(made.manifest.self_check.sentence(), file=sys.stderr)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    print(
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
        },
    }


def _notes(made: Rebaselined) -> list[str]:
    """What the person should know before using it."""
    from training.rebaseline import OUT_OF_SAMPLE

    recent = made.recent
    notes = [OUT_OF_SAMPLE]
    if recent.refused:
        what = ", ".join(f"{reason} {count}" for reason, count in sorted(recent.refused.items()))
        notes.append(f"{sum(recent.refused.values())} events were left out that a scorer refuses: {what}")
    if recent.unseen_rows:
        what = ", ".join(f"{name} {count}" for name, count in recent.unseen.items())
        notes.append(f"{recent.unseen_rows} rows were left out whose category the model does not know: {what}")
    if made.new.rows < FEW_ROWS:
        notes.append(f"a reference of fewer rows than DRIFT_MIN_EVENTS ({FEW_ROWS}) is too small to measure with")
    if recent.customers is not None and recent.columns.n > MANY_EVENTS_EACH * recent.customers:
        each = recent.columns.n / recent.customers
        notes.append(f"each customer is in it {each:.1f} times: small effects will look surer than they are")
    if made.was_signed:
        notes.append("the bundle was signed; the new one is not yet: driftline sign")
    return notes


def _show(changes: Sequence[Change]) -> None:
    table = Table(box=None)
    for name in ("feature", "PSI", "missing", "mean or shares", "sd"):
        table.add_column(name, justify="right" if name in {"PSI", "sd"} else "left")
    for change in changes:
        style = "" if (change.psi or 0.0) < WORTH_A_LOOK else "yellow" if (change.psi or 0.0) < LARGE else "red"
        table.add_row(
            escape(change.name),
            "–" if change.psi is None else f"{change.psi:.3f}",
            _pair(change.missing, ".1%"),
            escape(_middle(change)),
            "" if change.sd is None else _pair(change.sd, ".4g"),
            style=style,
        )
    Console(width=None if sys.stdout.isatty() else 160).print(table, highlight=False)


def _middle(change: Change) -> str:
    if change.mean is not None:
        return _pair(change.mean, ".4g")
    moved = sorted((change.shares or {}).items(), key=lambda item: -abs(item[1][1] - item[1][0]))[:3]
    return ", ".join(f"{name} {_pair(pair, '.0%')}" for name, pair in moved)


def _pair(pair: tuple[float, float], form: str) -> str:
    before, after = (format(value, form) for value in pair)
    return before if before == after else f"{before} → {after}"
