"""`driftline validate`: what a scorer would make of records, before anything is deployed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from driftline import terminal
from driftline.errors import CommandError

if TYPE_CHECKING:
    from driftline.training.event_sample import Outcomes

_EXAMPLE = 200


def command(
    spec: Annotated[Path, typer.Option(help="TOML spec: [event] and [features] are enough.")],
    events: Annotated[Path | None, typer.Option(help="Events, one a line; behind a schema registry in Base64.")] = None,
    records: Annotated[
        Path | None,
        typer.Option(help="JSON Lines of records with key, headers, value (or value_base64) and timestamp."),
    ] = None,
    topic: Annotated[str | None, typer.Option(help="The newest records of this topic.")] = None,
    last: Annotated[int, typer.Option(min=1, max=1_000_000, help="With --topic: how many records.")] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check records against a spec: which are accepted, ignored or refused, and why. A file needs no broker.

    Exit code 1 if a record is refused.

    Example: driftline validate --spec examples/telco.toml --topic customer-events --last 1000
    """
    if sum(source is not None for source in (events, records, topic)) != 1:
        raise CommandError("expected one of --events, --records and --topic")
    from driftline.settings import read_rules, read_schemas
    from driftline.training import event_sample
    from driftline.training.spec import SpecError, read_event_spec
    from kafka_runtime.schema_registry.client import RegistryUnreachableError

    try:
        found = read_event_spec(spec)
    except SpecError as error:
        raise CommandError(str(error)) from None
    rules, schemas = read_rules(), read_schemas(found.event.format)
    if topic is not None:
        sample = event_sample.newest(topic, last)
    elif records is not None:
        sample = [*event_sample.read_records(records)]
    else:
        assert events is not None, "one of three is given"  # noqa: S101
        sample = [*event_sample.read_events(events, framed=schemas is not None)]
    features = found.manifest_features({})
    try:
        outcomes = event_sample.outcomes(sample, features, found.event, rules, time.time_ns() // 1_000_000, schemas)
    except RegistryUnreachableError as error:
        raise CommandError(str(error), 1) from None
    if as_json:
        terminal.show_json(event_sample.as_json(outcomes))
    else:
        _show(outcomes)
    if outcomes.count(event_sample.REFUSED):
        raise typer.Exit(1)


def _show(outcomes: Outcomes) -> None:
    summary = outcomes.summary()
    terminal.show(
        f"{summary['records']:,} records: {summary['accepted']:,} accepted, {summary['ignored']:,} ignored, "
        f"{summary['refused']:,} refused"
    )
    if summary["unknown_fields"]:
        terminal.show(f"{summary['unknown_fields']:,} fields of accepted events are not in the spec")
    if summary["key_mismatches"]:
        terminal.show(f"{summary['key_mismatches']:,} accepted records have a key that is not the customer's id")
    if summary["reasons"]:
        terminal.show_table(
            ("verdict", "reason", "records", "first", "detail"),
            [
                (one["verdict"], reason, f"{one['count']:,}", one["record"], (one["detail"] or "")[:_EXAMPLE])
                for reason, one in summary["reasons"].items()
            ],
        )
