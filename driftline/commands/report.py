"""`driftline report`: drift as one HTML file, from the drift worker's records."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from driftline import terminal
from driftline.errors import CommandError
from driftline.settings import CommandSettings, read_settings

if TYPE_CHECKING:
    from drift_worker.page.history import Story


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
    reference: Annotated[
        Path | None,
        typer.Option(help="With --evidently: customers to compare with, instead.", show_default="the bundle's"),
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="With --reference: the column of the outcome in both files.", show_default=False)
    ] = None,
) -> None:
    """Write measurements and alerts as one HTML file: no script, no external resource, light and dark.

    The same page as `/drift.html` of the drift worker, over a longer time. Exit code 1 without measurements. With
    --evidently, the page of another library: data drift of every feature and of the score, from a file and without
    Kafka. At its first use the library is installed into a separate environment. With --reference and --target the page
    also has the drift of the outcome, if both files have that column.

    Example: `driftline report --since 24h --out drift.html`

    Example: `driftline report --evidently --current examples/telco_churn.csv --model artifacts/model
    --out evidently.html`
    """
    if evidently != (current is not None):
        raise CommandError("--evidently and --current go together")
    if reference is not None and current is None:
        raise CommandError("--reference needs --evidently and --current")
    if target is not None and reference is None:
        raise CommandError("--target needs --reference: a bundle holds no labels")
    if current is not None:
        from driftline.evidently.write import write

        rows = write(model, current, out, terminal.note, before=reference, target=target)
        terminal.show(f"{out}: Evidently on {rows[1]:,} customers against {rows[0]:,} of the reference")
        return
    from driftline.drift_history import read_histories, share_lines

    now_ms = time.time_ns() // 1_000_000
    settings = read_settings()
    histories, passed_over = asyncio.run(read_histories(settings, since_ms(since, now_ms)))
    stories = {known: history.story() for known, history in histories.items()}
    measured = {known: story for known, story in stories.items() if story.newest}
    if not measured or (name is not None and name not in measured):
        what = f"no measurement of {name}" if name is not None and measured else "no measurement"
        others = f"; there are some of {', '.join(sorted(measured))}" if measured else ""
        raise CommandError(f"{what} since {since} on {settings.topic_measurements}{others}", 1)
    chosen = name if name is not None else max(measured, key=lambda known: measured[known].past[-1].end_ms)
    _write(out, page(measured[chosen], chosen, now_ms, since, settings))
    windows = len(measured[chosen].past)
    terminal.show(f"{out}: {chosen}, {windows:,} windows, {len(measured[chosen].told):,} alerts")
    for line in share_lines(measured[chosen].newest):
        terminal.show(line)
    if left_out := sorted(measured.keys() - {chosen}):
        terminal.show(f"not in it: {', '.join(left_out)} (--name)")
    if passed_over:
        terminal.show(f"{passed_over:,} records passed over: not measurements or alerts of this version")


def page(story: Story, model: str, now_ms: int, since: str, settings: CommandSettings) -> str:
    """Return the page of one model."""
    from drift_worker.page.page import drift_page

    where = f"From {settings.topic_measurements} and {settings.topic_alerts}, since {since}."
    return drift_page(story, model=model, version="", made_ms=now_ms, source=where)


def since_ms(text: str, now_ms: int) -> int:
    """Return a duration before `now_ms`, or a date-time, as epoch ms; CommandError if it is neither."""
    from datetime import timedelta

    from kafka_runtime.service.setting_types import duration
    from schemas import timestamps

    at = timestamps.parse(text)
    if at is not None:
        return at
    try:
        span = duration(text)
    except ValueError as error:
        raise CommandError(f"--since: {error}, or an RFC 3339 date-time") from None
    assert isinstance(span, timedelta), "a text is a duration or an error"  # noqa: S101
    return max(0, now_ms - round(span.total_seconds() * 1000))


def _write(out: Path, text: str) -> None:
    try:
        # JSON cannot contain a lone surrogate, but a file name or a setting may hold one
        out.write_bytes(text.encode("utf-8", "replace"))
    except OSError as error:
        raise CommandError(f"{out}: {error.strerror or error}") from None
