"""`driftline dead-letters`, `driftline skip`: what was refused, sending it again, stepping over the unreadable."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Annotated, Any, TypeVar

import orjson
import typer
from rich.console import Console
from rich.table import Table

from driftline.errors import CommandError
from driftline.settings import CommandSettings, read_settings
from driftline.since import parse_since
from schemas import headers as h
from schemas import rfc3339
from schemas.verdict import Reason
from streaming.reading import Reader, reader
from streaming.records import ConsumerRecord, KafkaError, TopicPartition
from streaming.transactions import Output, Result, TransactionalSink

CHUNK = 1000
MAX_SKIP = 100_000
T = TypeVar("T")

app = typer.Typer(help="Records that were refused: look, count, send again.", no_args_is_help=True)

_Reason = Annotated[Reason | None, typer.Option(help="Only this reason.")]
_Since = Annotated[str | None, typer.Option(help="Only what was refused since then: 2h, 7d, or an RFC 3339 date-time.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@dataclass(frozen=True)
class Letter:
    """One dead letter, as people see it."""

    partition: int
    offset: int
    reason: str
    detail: str
    source: str
    attempt: int
    key: str | None
    size: int
    stub: bool
    at: str


def read_letter(record: ConsumerRecord) -> Letter:
    """A record of the dead-letter topic; what is missing in its headers shows as `?`."""
    found = {name: (value or b"").decode("utf-8", "replace") for name, value in record.headers}
    source = f"{found.get(h.SOURCE_TOPIC, '?')}-{found.get(h.SOURCE_PARTITION, '?')}@{found.get(h.SOURCE_OFFSET, '?')}"
    return Letter(
        partition=record.partition,
        offset=record.offset,
        reason=found.get(h.REASON, "?"),
        detail=found.get(h.DETAIL, ""),
        source=source,
        attempt=h.attempt(record.headers),
        key=None if record.key is None else record.key.decode("utf-8", "replace"),
        size=len(record.value or b""),
        stub=h.TRUNCATED in found or found.get(h.REASON) == Reason.SKIPPED,
        at=rfc3339.render(record.timestamp),
    )


@app.command()
def show(reason: _Reason = None, since: _Since = None, limit: Annotated[
    int, typer.Option(min=1, help="At most so many, the newest.")] = 20, as_json: _Json = False) -> None:  # fmt: skip
    """Show refused records: why, where they came from, how large they are. Values are not shown.

    Example: `driftline dead-letters show --reason wrong_type --since 2h`
    """
    letters = _run(_letters(read_settings(), reason, parse_since(since)))[-limit:]
    if as_json:
        print("\n".join(orjson.dumps(asdict(letter)).decode() for letter in letters))
        return
    table = Table(box=None)
    for name in ("when", "reason", "source", "attempt", "bytes", "detail"):
        table.add_column(name, overflow="fold")
    for letter in letters:
        size = f"{letter.size}{' (stub)' if letter.stub else ''}"
        table.add_row(letter.at, letter.reason, letter.source, str(letter.attempt), size, letter.detail)
    Console().print(table)


@app.command()
def count(reason: _Reason = None, since: _Since = None, as_json: _Json = False) -> None:
    """Count refused records by reason.

    Example: `driftline dead-letters count --since 7d --json`
    """
    counts = Counter(letter.reason for letter in _run(_letters(read_settings(), reason, parse_since(since))))
    if as_json:
        print(orjson.dumps(counts).decode())
        return
    for name, number in counts.most_common():
        print(f"{number:>10,}  {name}")
    print(f"{counts.total():>10,}  in all")


@app.command()
def redrive(
    reason: _Reason = None,
    since: _Since = None,
    max_attempts: Annotated[int, typer.Option(min=1, help="Leave out what was redriven so often.")] = 3,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    as_json: _Json = False,
) -> None:
    """Send refused records again to the partition they came from, each exactly once.

    A record that --since or --max-attempts leaves out, and a stub, is passed over for good: the group
    driftline-redrive.REASON remembers how far it has come.

    Example: `driftline dead-letters redrive --reason missing_feature --since 2h --dry-run`
    """
    start_ms = parse_since(since)
    reasons = [reason] if reason is not None else list(Reason)
    tally = _run(_redrive(read_settings(), reasons, start_ms, max_attempts, dry_run=dry_run))
    if as_json:
        print(orjson.dumps({**tally, "dry_run": dry_run}).decode())
        return
    sent = f"{tally['sent']:,} {'would be sent' if dry_run else 'sent'} again"
    attempts = f"{tally['attempts']:,} redriven {max_attempts} times already"
    print(f"{sent}; passed over: {tally['too_old']:,} too old, {attempts}, {tally['stubs']:,} stubs")


def skip(
    topic: Annotated[str, typer.Option(help="The input topic.")],
    partition: Annotated[int, typer.Option(min=0, help="Its partition.")],
    to_offset: Annotated[int, typer.Option(min=1, help="The first offset to be answered again.")],
    why: Annotated[str, typer.Option(help="For whoever looks at the dead letters later.")],
    as_json: _Json = False,
) -> None:
    """Step over records that cannot be read: a `skipped` stub for each offset, and the group's offset moved, at once.

    Takes the partition over from the scorer that owns it, which then goes on at --to-offset.

    Example: `driftline skip --topic customer-events --partition 3 --to-offset 1043 --why "bad CRC, ticket 4711"`
    """
    settings = read_settings()
    source = TopicPartition(topic, partition)
    start = _run(_skip(settings, source, to_offset, why))
    if as_json:
        print(orjson.dumps({"topic": topic, "partition": partition, "from": start, "to": to_offset}).decode())
    else:
        print(f"{topic}-{partition}: offsets {start} to {to_offset - 1} skipped, {to_offset - start} stubs written; "
              f"{settings.scorer_group} goes on at {to_offset}")  # fmt: skip


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(work)
    except (KafkaError, TimeoutError, OSError) as error:
        raise CommandError(f"Kafka: {error!r}", 1) from None


async def _letters(settings: CommandSettings, reason: Reason | None, since_ms: int) -> list[Letter]:
    async with reader(settings) as topics:
        letters = [read_letter(record) async for record in topics.scan(settings.topic_dead_letters, since_ms)]
    chosen = [letter for letter in letters if reason is None or letter.reason == reason]
    return sorted(chosen, key=lambda letter: letter.at)


async def _redrive(
    settings: CommandSettings, reasons: list[Reason], since_ms: int, max_attempts: int, *, dry_run: bool
) -> dict[str, int]:
    tally = {"sent": 0, "too_old": 0, "attempts": 0, "stubs": 0}
    async with reader(settings) as topics:
        ends = await topics.ends(settings.topic_dead_letters)
        letters = [read_letter(record) async for record in topics.scan(settings.topic_dead_letters)]
        present = {(letter.partition, letter.reason) for letter in letters}
        for partition, end in ends.items():
            for reason in reasons:
                if (partition.partition, reason) not in present:
                    continue
                group = f"driftline-redrive.{reason}"
                if dry_run:
                    await _redrive_one(topics, None, group, partition, end, reason, since_ms, max_attempts, tally)
                    continue
                async with _sink(settings, group, partition) as sink:
                    await _redrive_one(topics, sink, group, partition, end, reason, since_ms, max_attempts, tally)
    return tally


async def _redrive_one(
    topics: Reader,
    sink: TransactionalSink | None,
    group: str,
    partition: TopicPartition,
    end: int,
    reason: Reason,
    since_ms: int,
    max_attempts: int,
    tally: dict[str, int],
) -> None:
    """One reason's letters of one partition, in transactions of at most CHUNK records and their offset."""
    position = await topics.committed(group, partition) or 0
    while position < end:
        records = await topics.between(partition, position, end, CHUNK)
        outputs: dict[str | TopicPartition, list[Output]] = {}
        for record in records:
            letter = read_letter(record)
            if letter.reason != reason:
                continue
            if letter.stub:
                tally["stubs"] += 1
            elif letter.attempt >= max_attempts:
                tally["attempts"] += 1
            elif record.timestamp < since_ms:
                tally["too_old"] += 1
            else:
                found = dict(record.headers)
                target = TopicPartition(found[h.SOURCE_TOPIC].decode(), int(found[h.SOURCE_PARTITION]))
                kept, _ = h.without_ours(record.headers)
                again = [*kept, (h.ATTEMPT, b"%d" % (letter.attempt + 1))]
                outputs.setdefault(target, []).append((record.key, record.value, again))
                tally["sent"] += 1
        position = records[-1].offset + 1 if records else end
        if sink is not None:
            await sink.write(Result(outputs), position, _ours)


async def _skip(settings: CommandSettings, source: TopicPartition, to_offset: int, why: str) -> int:
    """The offset from which on was skipped."""
    async with reader(settings) as topics, _sink(settings, settings.scorer_group, source) as sink:
        ends = await topics.ends(source.topic)
        if source not in ends:
            raise CommandError(f"{source.topic} has no partition {source.partition}")
        committed = await topics.committed(settings.scorer_group, source)
        start = committed if committed is not None else await topics.first(source)
        if not start < to_offset <= ends[source]:
            raise CommandError(f"--to-offset: expected {start + 1} to {ends[source]}; {start} is the committed offset")
        if to_offset - start > MAX_SKIP:
            raise CommandError(f"--to-offset: at most {MAX_SKIP} offsets at once, these are {to_offset - start}")
        stamp = h.Stamp(source.topic, source.partition, "none", settings.scorer_group)
        detail = f"skipped by an operator: {why}".encode("ascii", "backslashreplace")[:512]
        stubs: list[Output] = [
            (None, None, stamp.stub(offset, time.time_ns() // 1_000_000, Reason.SKIPPED, detail))
            for offset in range(start, to_offset)
        ]
        await sink.write(Result({settings.topic_dead_letters: stubs}), to_offset, _ours)
    return start


async def _ours() -> bool:
    """Nobody takes a partition from a person's command but by fencing it."""
    return True


@asynccontextmanager
async def _sink(settings: CommandSettings, group: str, source: TopicPartition) -> AsyncIterator[TransactionalSink]:
    """A sink that has fenced whoever wrote for this group and partition before."""
    sink = TransactionalSink(settings, group, source)
    try:
        await sink.start()
        yield sink
    finally:
        await sink.stop()
        sys.stdout.flush()
