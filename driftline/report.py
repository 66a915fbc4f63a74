"""`driftline report`: drift as one HTML file, from what the drift worker wrote."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from driftline.errors import CommandError
from driftline.settings import CommandSettings, read_settings

if TYPE_CHECKING:
    from pages.history import History, Story


def command(
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("report.html"),
    since: Annotated[str, typer.Option(help="How far back: 2h, 7d, or an RFC 3339 date-time.")] = "7d",
    name: Annotated[
        str | None, typer.Option(help="Name of the model.", show_default="the one that was measured last")
    ] = None,
    evidently: Annotated[
        bool, typer.Option("--evidently", help="The library Evidently's report on --current instead.")
    ] = False,
    current: Annotated[
        Path | None, typer.Option(help="With --evidently: customers, CSV or JSON Lines.", show_default=False)
    ] = None,
    model: Annotated[
        Path, typer.Option(help="With --evidently: the bundle whose reference it is compared with.")
    ] = Path("artifacts/model"),
) -> None:
    """Write what was measured and announced as one HTML file: no script, nothing from elsewhere, light and dark.

    The same page as `/drift.html` of the drift worker, over a longer time. Exit code 1 if nothing was measured.
    With --evidently, the page of another library, which is installed into an environment of its own when it is first
    asked for: data drift of every feature and of the score, from a file and without Kafka.

    Example: `driftline report --since 24h --out drift.html`

    Example: `driftline report --evidently --current recent.csv --model artifacts/model --out evidently.html`
    """
    if evidently != (current is not None):
        raise CommandError("--evidently and --current go together")
    if current is not None:
        from driftline.with_evidently import write

        rows = write(model, current, out, lambda text: print(text, file=sys.stderr))
        print(f"{out}: Evidently on {rows[1]:,} customers against {rows[0]:,} of the reference")
        return
    now_ms = time.time_ns() // 1_000_000
    settings = read_settings()
    histories, passed_over = asyncio.run(_read(settings, since_ms(since, now_ms)))
    stories = {known: history.story() for known, history in histories.items()}
    measured = {known: story for known, story in stories.items() if story.newest}
    if not measured or (name is not None and name not in measured):
        what = f"no measurement of {name}" if name is not None and measured else "no measurement"
        others = f"; there are some of {', '.join(sorted(measured))}" if measured else ""
        raise CommandError(f"{what} since {since} on {settings.topic_measurements}{others}", 1)
    chosen = name if name is not None else max(measured, key=lambda known: measured[known].past[-1].end_ms)
    _write(out, page(measured[chosen], chosen, now_ms, since, settings))
    windows = len(measured[chosen].past)
    print(f"{out}: {chosen}, {windows:,} windows, {len(measured[chosen].told):,} alerts")
    if left_out := sorted(measured.keys() - {chosen}):
        print(f"not in it: {', '.join(left_out)} (--name)")
    if passed_over:
        print(f"{passed_over:,} records passed over: not measurements or alerts of this version")


def page(story: Story, model: str, now_ms: int, since: str, settings: CommandSettings) -> str:
    """The page about one model."""
    from pages.drift import drift_page

    where = f"From {settings.topic_measurements} and {settings.topic_alerts}, since {since}."
    return drift_page(story, model=model, version="", made_ms=now_ms, source=where)


def since_ms(text: str, now_ms: int) -> int:
    """A duration before `now_ms`, or a date-time, as epoch ms; CommandError if it is neither."""
    from datetime import timedelta

    from schemas import rfc3339
    from streaming.settings import duration

    at = rfc3339.parse(text)
    if at is not None:
        return at
    try:
        span = duration(text)
    except ValueError as error:
        raise CommandError(f"--since: {error}, or an RFC 3339 date-time") from None
    assert isinstance(span, timedelta), "a text is a duration or an error"  # noqa: S101
    return max(0, now_ms - round(span.total_seconds() * 1000))


async def _read(settings: CommandSettings, start_ms: int) -> tuple[Mapping[str, History], int]:
    """What there is of every model, and how many records were passed over."""
    from streaming.reading import reader
    from streaming.records import KafkaError

    found = Collected(start_ms)
    try:
        async with reader(settings) as reading:
            async for record in reading.scan(settings.topic_measurements, start_ms):
                found.measurement(record.key, record.value)
            # an alert that is still open may have begun before: the topic is compacted and small
            async for record in reading.scan(settings.topic_alerts):
                found.alert(record.value)
    except (KafkaError, TimeoutError, OSError) as error:
        raise CommandError(f"Kafka at {settings.kafka_bootstrap_servers}: {error!r}", 1) from None
    return found.histories, found.passed_over


class Collected:
    """Records of both topics → a history for each model."""

    def __init__(self, start_ms: int) -> None:
        """Alerts that were resolved before `start_ms` are left out."""
        self._start_ms = start_ms
        self.histories: dict[str, History] = {}
        self.passed_over = 0

    def measurement(self, key: bytes | None, value: bytes | None) -> None:
        """A record of the measurements' topic; the counts among them are the drift worker's own."""
        from pages.history import History
        from schemas.measurement import decode_measurement, is_window

        if value is None or not is_window(key):
            return
        try:
            measurement = decode_measurement(value)
            self.histories.setdefault(measurement.model, History(measurement.model, self._start_ms)).measured(
                measurement
            )
        except ValueError:
            self.passed_over += 1

    def alert(self, value: bytes | None) -> None:
        """A record of the alerts' topic."""
        from schemas.alert import decode_alert

        if value is None:
            return
        try:
            alert = decode_alert(value)
            history = self.histories.get(alert.labels.get("model", ""))
            if history is not None:
                history.announced(alert)
        except ValueError:
            self.passed_over += 1


def _write(out: Path, text: str) -> None:
    try:
        # a lone surrogate cannot come out of JSON, but a file name or a setting may hold one
        out.write_bytes(text.encode("utf-8", "replace"))
    except OSError as error:
        raise CommandError(f"{out}: {error.strerror or error}") from None
