"""`driftline alerts`: what the drift worker has announced, as any read_committed consumer sees it."""

from __future__ import annotations

import asyncio
import sys
from contextlib import aclosing
from typing import Annotated

import typer

from driftline.errors import CommandError
from driftline.settings import CommandSettings, read_settings
from schemas.alert import Alert, decode_alert

app = typer.Typer(help="Alerts on drift: follow them as they come.", no_args_is_help=True)


@app.command("tail")
def tail(
    as_json: Annotated[bool, typer.Option("--json", help="One alert a line, as it stands on the topic.")] = False,
    from_start: Annotated[bool, typer.Option("--from-start", help="First everything that is on the topic.")] = False,
    count: Annotated[int | None, typer.Option(min=1, metavar="N", help="End after N alerts.")] = None,
    timeout: Annotated[
        float | None, typer.Option(min=0.0, metavar="SECONDS", help="End when nothing came for this long.")
    ] = None,
) -> None:
    """Show alerts as they are announced, until Ctrl-C.

    With --count and --timeout the exit code is 1 if fewer alerts came.

    Example: `driftline alerts tail --from-start --timeout 5 --json | jq .annotations.summary`
    """
    settings = read_settings()
    if not as_json:
        where = f"{settings.topic_alerts} at {settings.kafka_bootstrap_servers}"
        typer.echo(f"alerts on {where}" + ("" if from_start else " from now on (--from-start for the earlier ones)"))
    shown = asyncio.run(_tail(settings, as_json, from_start, count, timeout))
    if count is not None and shown < count:
        raise typer.Exit(1)


async def _tail(
    settings: CommandSettings, as_json: bool, from_start: bool, count: int | None, quiet_s: float | None
) -> int:
    """How many alerts were shown."""
    from streaming.reading import reader
    from streaming.records import KafkaError

    shown, loop = 0, asyncio.get_running_loop()
    heard = loop.time()
    try:
        async with reader(settings) as reading, aclosing(reading.follow(settings.topic_alerts, from_start)) as records:
            async for record in records:
                if record is not None and record.value is not None:
                    _show(record.value, as_json)
                    shown, heard = shown + 1, loop.time()
                if shown == count or (quiet_s is not None and loop.time() >= heard + quiet_s):
                    break
    except (KafkaError, TimeoutError, OSError) as error:
        raise CommandError(f"Kafka at {settings.kafka_bootstrap_servers}: {error!r}", 1) from None
    return shown


def _show(value: bytes, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(value.decode(errors="replace") + "\n")
    else:
        try:
            sys.stdout.write(_line(decode_alert(value)) + "\n")
        except ValueError as error:
            sys.stderr.write(f"not an alert: {error}\n")
    sys.stdout.flush()


def _line(alert: Alert) -> str:
    """When, what, how bad, and the summary."""
    at = alert.ends_at or alert.evidence.get("window", {}).get("end") or alert.starts_at
    labels = alert.labels
    name = " ".join(labels[label] for label in ("alertname", "feature") if label in labels)
    return f"{at}  {alert.status.upper():8}  {labels['severity']:8}  {name}: {alert.annotations['summary']}"
