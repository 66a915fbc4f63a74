"""The alerts topic, read by commands: every message in it, and the open alerts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from driftline import terminal
from driftline.errors import CommandError
from driftline.settings import CommandSettings
from kafka_runtime.topic_reader import READ_ERRORS, reader
from schemas.alert import Alert, Severity, decode_alert


def open_alerts(records: Iterable[tuple[str, Alert | None]]) -> list[Alert]:
    """Return the last message of every firing fingerprint, critical ones first, then by time since opening.

    records: (key, alert) in the topic's order; no alert: the key was deleted.
    """
    last = dict(records)
    firing = [alert for alert in last.values() if alert is not None and alert.status == "firing"]
    return sorted(firing, key=lambda alert: (alert.labels.get("severity") != Severity.CRITICAL, alert.starts_at))


def open_about(model: str, settings: CommandSettings) -> list[Alert]:
    """Return the open alerts of a model; CommandError if the topic cannot be read."""
    return [alert for alert in open_alerts(announced(settings)) if alert.labels.get("model") == model]


def announced(settings: CommandSettings) -> list[tuple[str, Alert | None]]:
    """Return (key, alert) of every record in the topic of alerts, in order; CommandError."""
    try:
        return asyncio.run(_written(settings))
    except READ_ERRORS as error:
        raise CommandError(f"Kafka at {settings.kafka_bootstrap_servers}: {error!r}", 1) from None


async def _written(settings: CommandSettings) -> list[tuple[str, Alert | None]]:
    """Return the alerts in the topic now; a record that is no alert is named on standard error and left out."""
    found: list[tuple[str, Alert | None]] = []
    async with reader(settings, blocked=terminal.note_blocked) as reading:
        async for record in reading.scan(settings.topic_alerts):
            try:
                alert = None if record.value is None else decode_alert(record.value)
            except ValueError as error:
                terminal.note(f"offset {record.offset}: {error}")
                continue
            key = alert.fingerprint if alert is not None else (record.key or b"").decode(errors="replace")
            found.append((key, alert))
    return found
