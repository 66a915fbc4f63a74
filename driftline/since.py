"""`--since`: the time from which records count."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from driftline.errors import CommandError
from kafka_runtime.service.setting_types import duration
from schemas import timestamps

# As a service allows labels to be ahead of the clock.
SKEW_MS = 300_000


def parse_since(text: str | None) -> int:
    """Return epoch milliseconds of a duration back from now (`2h`) or of an RFC 3339 date-time; 0 for None."""
    if text is None:
        return 0
    try:
        back = duration(text)
    except ValueError:
        ms = timestamps.parse(text)
        if ms is None:
            raise CommandError("--since: expected a duration like 2h or an RFC 3339 date-time") from None
        return ms
    assert isinstance(back, timedelta), "duration gives one for a string"  # noqa: S101
    return round((datetime.now(UTC) - back).timestamp() * 1000)


def horizon_ms(text: str) -> int:
    """Return --horizon in ms; CommandError."""
    try:
        length = duration(text)
    except ValueError as error:
        raise CommandError(f"--horizon: {error}") from None
    assert isinstance(length, timedelta), "duration gives one for a string"  # noqa: S101
    return round(length / timedelta(milliseconds=1))
