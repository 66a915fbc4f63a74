"""`driftline alerts`: the drift worker's alerts, as any read_committed consumer sees them."""

from __future__ import annotations

import asyncio
import sys
from contextlib import aclosing
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from driftline import terminal
from driftline.alert_topic import announced, open_alerts
from driftline.errors import CommandError
from driftline.settings import CommandSettings, read_settings
from kafka_runtime.service.setting_types import duration
from kafka_runtime.topic_reader import READ_ERRORS, reader
from schemas.alert import Alert, Severity, decode_alert

if TYPE_CHECKING:
    import httpx

app = typer.Typer(
    help="Alerts on drift: follow them, see which are open, post them to an Alertmanager.", no_args_is_help=True
)


@app.command("tail")
def tail(
    as_json: Annotated[bool, typer.Option("--json", help="One alert a line, exactly as in the topic.")] = False,
    from_start: Annotated[bool, typer.Option("--from-start", help="First everything that is on the topic.")] = False,
    count: Annotated[int | None, typer.Option(min=1, metavar="N", help="End after N alerts.")] = None,
    timeout: Annotated[
        float | None, typer.Option(min=0.0, metavar="SECONDS", help="End when no alert came for this long.")
    ] = None,
) -> None:
    """Show alerts as they are announced, until Ctrl-C.

    With --count and --timeout the exit code is 1 if fewer alerts came.

    Example: `driftline alerts tail --from-start --timeout 5 --json | jq .annotations.summary`
    """
    settings = read_settings()
    if not as_json:
        where = f"{settings.topic_alerts} at {settings.kafka_bootstrap_servers}"
        terminal.show(f"alerts on {where}" + ("" if from_start else " from now on (--from-start for the earlier ones)"))
    shown = asyncio.run(_tail(settings, as_json, from_start, count, timeout))
    if count is not None and shown < count:
        raise typer.Exit(1)


@app.command("list")
def list_alerts(
    everything: Annotated[
        bool, typer.Option("--all", help="Every message that the topic still holds, resolved ones too, oldest first.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One alert a line, exactly as in the topic.")] = False,
) -> None:
    """Show the alerts that are open now: the last message of each, critical ones first.

    The exit code is 0 whether any is open or not.

    Example: `driftline alerts list --json | jq -r .annotations.summary`
    """
    settings = read_settings()
    records = announced(settings)
    alerts = [alert for _, alert in records if alert is not None] if everything else open_alerts(records)
    if as_json:
        for alert in alerts:
            terminal.show_encoded(alert.encode().decode())
    elif not alerts:
        terminal.show(f"no {'alerts' if everything else 'open alerts'} on {settings.topic_alerts}")
    elif sys.stdout.isatty():
        _show_table(alerts)
    else:
        for alert in alerts:
            terminal.show(_line(alert))


@app.command("forward")
def forward(
    to: Annotated[str, typer.Option(metavar="URL", help="The Alertmanager, without /api/v2/alerts.")],
    every: Annotated[
        str, typer.Option(metavar="DURATION", help="How often a firing alert is posted again; below resolve_timeout.")
    ] = "1m",
    generator_url: Annotated[
        str | None, typer.Option(metavar="URL", help="The link that Alertmanager shows as the alert's source.")
    ] = None,
) -> None:
    """Post open alerts to an Alertmanager, again and again, until SIGTERM or Ctrl-C. For those without Prometheus.

    A change is posted at once, and an end three times. After a failed request the receiver is retried after 1, 2, 4, …
    seconds. Without a forwarder, an Alertmanager ends an alert after its resolve_timeout (5 minutes). The password of
    an address is not shown: `https://user:password@host`.

    Example: `driftline alerts forward --to http://localhost:9093`
    """
    from driftline.alertmanager import forwarder

    every_s, url = _every_s(every), _http_url("--to", to)
    if generator_url is not None:
        _http_url("--generator-url", generator_url)
    settings = read_settings()
    try:
        asyncio.run(forwarder.forward(settings, url, every_s, generator_url))
    except READ_ERRORS as error:
        raise CommandError(f"Kafka at {settings.kafka_bootstrap_servers}: {error!r}", 1) from None


def _every_s(text: str) -> float:
    try:
        every = duration(text)
    except ValueError as error:
        raise CommandError(f"--every: {error}") from None
    assert isinstance(every, timedelta), "duration gives one for a string"  # noqa: S101
    return every.total_seconds()


def _http_url(option: str, text: str) -> httpx.URL:
    import httpx

    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise CommandError(f"{option}: {error}") from None
    if url.scheme not in {"http", "https"} or not url.host or (url.port or 0) > 65_535:
        raise CommandError(f"{option}: expected an address like http://localhost:9093")
    return url


async def _tail(
    settings: CommandSettings, as_json: bool, from_start: bool, count: int | None, quiet_s: float | None
) -> int:
    """Show alerts; return how many were shown."""
    shown, loop = 0, asyncio.get_running_loop()
    heard = loop.time()
    try:
        async with (
            reader(settings, blocked=terminal.note_blocked) as reading,
            aclosing(reading.follow(settings.topic_alerts, from_start)) as records,
        ):
            async for record in records:
                if record is not None and record.value is not None:
                    _show(record.value, as_json)
                    shown, heard = shown + 1, loop.time()
                if shown == count or (quiet_s is not None and loop.time() >= heard + quiet_s):
                    break
    except READ_ERRORS as error:
        raise CommandError(f"Kafka at {settings.kafka_bootstrap_servers}: {error!r}", 1) from None
    return shown


def _show(value: bytes, as_json: bool) -> None:
    if as_json:
        terminal.show_encoded(value.decode(errors="replace"))
    else:
        try:
            terminal.show(_line(decode_alert(value)))
        except ValueError as error:
            terminal.note(f"not an alert: {error}")
    sys.stdout.flush()


def _line(alert: Alert) -> str:
    """Return time, name, severity and summary of an alert as one line."""
    at = alert.ends_at or alert.window_end() or alert.starts_at
    severity, summary = alert.labels.get("severity", ""), alert.annotations.get("summary", "")
    return f"{at}  {alert.status.upper():8}  {severity:8}  {_name(alert)}: {summary}"


def _show_table(alerts: list[Alert]) -> None:
    models = len({alert.labels.get("model") for alert in alerts}) > 1
    ended = any(alert.ends_at for alert in alerts)
    optional = {"model": models, "until": ended}
    columns = [name for name in ("severity", "alert", "model", "since", "until", "summary") if optional.get(name, True)]
    rows, styles = [], {}
    for number, alert in enumerate(alerts):
        cells = {
            "severity": alert.labels.get("severity", ""),
            "alert": _name(alert),
            "model": alert.labels.get("model", ""),
            "since": terminal.second(alert.starts_at),
            "until": terminal.second(alert.ends_at or ""),
            "summary": alert.annotations.get("summary", ""),
        }
        rows.append([cells[name] for name in columns])
        if alert.status == "firing" and cells["severity"] == Severity.CRITICAL:
            styles[number] = "bold red"
    terminal.show_table(columns, rows, styles=styles)


def _name(alert: Alert) -> str:
    return " ".join(alert.labels[label] for label in ("alertname", "feature") if label in alert.labels)
