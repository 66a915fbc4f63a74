"""`driftline dead-letters`, `driftline skip`: what was refused, sending it again, stepping over the unreadable."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from dataclasses import asdict
from typing import Annotated, Any, TypeVar

import typer

from driftline import redriving, terminal
from driftline.errors import CommandError
from driftline.settings import read_settings
from driftline.since import parse_since
from kafka_runtime.kafka_types import KafkaError, TopicPartition
from schemas.rejection_reasons import Reason

T = TypeVar("T")

app = typer.Typer(help="Rejected records: show, count, send again.", no_args_is_help=True)

_Reason = Annotated[Reason | None, typer.Option(help="Only this reason.")]
_Since = Annotated[str | None, typer.Option(help="Only records rejected since then: 2h, 7d, or an RFC 3339 date-time.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def show(reason: _Reason = None, since: _Since = None, limit: Annotated[
    int, typer.Option(min=1, help="At most this many, the newest.")] = 20, as_json: _Json = False) -> None:  # fmt: skip
    """Show refused records: why, where they came from, how large they are. Values are not shown.

    Example: `driftline dead-letters show --reason wrong_type --since 2h`
    """
    letters = _run(redriving.letters(read_settings(), reason, parse_since(since)))[-limit:]
    if as_json:
        for letter in letters:
            terminal.show_json(asdict(letter))
        return
    columns = ("when", "reason", "source", "attempt", "bytes", "detail")
    terminal.show_table(
        columns,
        [
            (one.at, one.reason, one.source, one.attempt, f"{one.size}{' (stub)' if one.stub else ''}", one.detail)
            for one in letters
        ],
    )


@app.command()
def count(reason: _Reason = None, since: _Since = None, as_json: _Json = False) -> None:
    """Count refused records by reason.

    Example: `driftline dead-letters count --since 7d --json`
    """
    counts = Counter(letter.reason for letter in _run(redriving.letters(read_settings(), reason, parse_since(since))))
    if as_json:
        terminal.show_json(counts)
        return
    for name, number in counts.most_common():
        terminal.show(f"{number:>10,}  {name}")
    terminal.show(f"{counts.total():>10,}  in all")


@app.command()
def redrive(
    reason: _Reason = None,
    since: _Since = None,
    max_attempts: Annotated[int, typer.Option(min=1, help="Leave out letters that were redriven this many times.")] = 3,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    as_json: _Json = False,
) -> None:
    """Send refused records again to the partition they came from, each exactly once.

    Records go to partitions of TOPIC_EVENTS only, for any names in a letter's headers. Letters that --since or
    --max-attempts leaves out, stubs, and letters that can never be sent are skipped for good. The group
    driftline-redrive.REASON stores the progress.

    Example: `driftline dead-letters redrive --reason missing_feature --since 2h --dry-run`
    """
    start_ms = parse_since(since)
    reasons = [reason] if reason is not None else list(Reason)
    run = redriving.Redriving(read_settings(), start_ms, max_attempts, dry_run=dry_run)
    tally = _run(run.run(reasons))
    for example in run.examples:
        terminal.note(f"passed over: {example}")
    if (more := sum(tally[kind] for kind in redriving.EXAMPLES_OF) - len(run.examples)) > 0:
        terminal.note(f"passed over: {more:,} more like these")
    if as_json:
        terminal.show_json({**tally, "dry_run": dry_run})
        return
    terminal.show(f"{tally['sent']:,} {'would be sent' if dry_run else 'sent'} again; passed over: "
                  f"{tally['too_old']:,} too old, {tally['attempts']:,} redriven {max_attempts} times already, "
                  f"{tally['stubs']:,} stubs, {tally['foreign']:,} from no partition of {run.topic}, "
                  f"{tally['too_large']:,} larger than the broker takes")  # fmt: skip


def skip(
    topic: Annotated[str, typer.Option(help="The input topic.")],
    partition: Annotated[int, typer.Option(min=0, help="Its partition.")],
    to_offset: Annotated[int, typer.Option(min=1, help="The first offset to be answered again.")],
    why: Annotated[str, typer.Option(help="The reason, for later readers of the dead letters.")],
    as_json: _Json = False,
) -> None:
    """Skip records that cannot be read: a `skipped` stub for each offset, and the group's offset moved, at once.

    Takes the partition over from the scorer that owns it, which then continues at --to-offset.

    Example: `driftline skip --topic customer-events --partition 3 --to-offset 1043 --why "bad CRC, ticket 4711"`
    """
    settings = read_settings()
    source = TopicPartition(topic, partition)
    start = _run(redriving.skip(settings, source, to_offset, why))
    if as_json:
        terminal.show_json({"topic": topic, "partition": partition, "from": start, "to": to_offset})
    else:
        skipped = f"{topic}-{partition}: offsets {start} to {to_offset - 1} skipped, {to_offset - start} stubs written"
        terminal.show(f"{skipped}; {settings.scorer_group} goes on at {to_offset}")


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(work)
    except (KafkaError, TimeoutError, OSError) as error:
        raise CommandError(f"Kafka: {error!r}", 1) from None
