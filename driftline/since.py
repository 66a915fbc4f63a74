"""`--since`: how commands are told from when on something is meant."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from driftline.errors import CommandError
from schemas import rfc3339
from streaming.settings import duration


def parse_since(text: str | None) -> int:
    """Epoch milliseconds of a duration back from now (`2h`) or of an RFC 3339 date-time; 0 for None."""
    if text is None:
        return 0
    try:
        back = duration(text)
    except ValueError:
        ms = rfc3339.parse(text)
        if ms is None:
            raise CommandError("--since: expected a duration like 2h or an RFC 3339 date-time") from None
        return ms
    assert isinstance(back, timedelta), "duration gives one for a string"  # noqa: S101
    return round((datetime.now(UTC) - back).timestamp() * 1000)
