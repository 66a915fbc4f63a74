"""Dead letters: read them, send them again to their origin, and skip records that cannot be read."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from driftline import terminal
from driftline.errors import CommandError
from driftline.settings import CommandSettings
from kafka_runtime import clients
from kafka_runtime.kafka_types import ConsumerRecord, MessageSizeTooLargeError, TopicPartition
from kafka_runtime.sinks import Output, Result, StillOurs, TransactionalSink
from kafka_runtime.topic_reader import Reader, reader
from schemas import headers as h
from schemas import timestamps
from schemas.rejection_reasons import Reason

CHUNK = 1000

# Letters that can never be sent: at most this many are shown, all are counted.
EXAMPLES, EXAMPLES_OF = 10, ("foreign", "too_large")

MAX_SKIP = 100_000


@dataclass(frozen=True)
class Letter:
    """One dead letter, as commands show it."""

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
    """Return a record of the dead-letter topic as a letter; a missing header is shown as `?`."""
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
        at="?" if record.timestamp < 0 else timestamps.render(record.timestamp),
    )


class NoSink:
    """A replacement for a sink when letters are only counted."""

    async def write(self, result: Result[None], offset: int, still_ours: StillOurs) -> None:
        """Write no record."""


class Redriving:
    """One run of `redrive`.

    tally: number of letters by result. examples: the first ones that can never be sent, a line each.
    """

    def __init__(self, settings: CommandSettings, since_ms: int, max_attempts: int, *, dry_run: bool) -> None:
        self._settings = settings
        self._since_ms = since_ms
        self._max_attempts = max_attempts
        self._dry_run = dry_run
        self.topic = settings.topic_events
        self._targets: dict[bytes, TopicPartition] = {}
        self.tally = {"sent": 0, "too_old": 0, "attempts": 0, "stubs": 0, "foreign": 0, "too_large": 0}
        self.examples: list[str] = []

    async def run(self, reasons: Sequence[Reason]) -> dict[str, int]:
        """Send every letter of these reasons again, and return the tally."""
        async with reader(self._settings, blocked=terminal.note_blocked) as topics:
            # a letter decides only which of these partitions its record goes to
            self._targets = {b"%d" % target.partition: target for target in await topics.partitions(self.topic)}
            ends = await topics.ends(self._settings.topic_dead_letters)
            present: set[tuple[int, str]] = set()
            async for record in topics.scan(self._settings.topic_dead_letters):
                present.add((record.partition, read_letter(record).reason))
            for partition, end in ends.items():
                for reason in reasons:
                    if (partition.partition, reason) in present:
                        await self._redrive(topics, partition, end, reason)
        return self.tally

    async def _redrive(self, topics: Reader, partition: TopicPartition, end: int, reason: Reason) -> None:
        """Send one reason's letters of one partition, in transactions of at most CHUNK records and their offset."""
        group = f"driftline-redrive.{reason}"
        position, most = await topics.committed(group, partition) or 0, CHUNK
        while position < end:
            async with self._sink(group, partition) as sink:
                try:
                    while position < end:
                        records = await topics.between(partition, position, end, most)
                        after = records[-1].offset + 1 if records else end
                        outputs, tally, examples = self._sort(records, reason)
                        await sink.write(Result(outputs, None), after, _ours)
                        self._count(tally, examples)
                        position = after
                    continue
                except MessageSizeTooLargeError:
                    if most > 1:
                        most = 1  # a broker checks whole batches: one by one, it rejects only the large record
                        continue
            async with self._sink(group, partition) as sink:
                await sink.write(Result({}, None), after, _ours)
            self._count(Counter(too_large=1), [f"{_place(records[0])}: larger than the broker takes"])
            position, most = after, CHUNK

    @asynccontextmanager
    async def _sink(self, group: str, partition: TopicPartition) -> AsyncIterator[TransactionalSink | NoSink]:
        if self._dry_run:
            yield NoSink()
            return
        async with _sink(self._settings, group, partition) as sink:
            yield sink

    def _count(self, tally: Counter[str], examples: Sequence[str]) -> None:
        for kind, number in tally.items():
            self.tally[kind] += number
        self.examples += examples[: max(0, EXAMPLES - len(self.examples))]

    def _sort(
        self, records: Sequence[ConsumerRecord], reason: Reason
    ) -> tuple[dict[str | TopicPartition, list[Output]], Counter[str], list[str]]:
        """Return records to send, letters by result, and a line about each that can never be sent."""
        outputs: dict[str | TopicPartition, list[Output]] = {}
        tally = Counter[str]()
        examples: list[str] = []
        for record in records:
            letter = read_letter(record)
            if letter.reason != reason:
                continue
            headers = dict(record.headers)
            from_events = headers.get(h.SOURCE_TOPIC) == self.topic.encode()
            target = self._targets.get(headers.get(h.SOURCE_PARTITION) or b"") if from_events else None
            kept, _ = h.without_ours(record.headers)
            again = [*kept, (h.ATTEMPT, b"%d" % (letter.attempt + 1))]
            if target is None:
                kind = "foreign"
                examples.append(f"{_place(record)}: its source is {letter.source}, no partition of {self.topic}")
            elif letter.stub:
                kind = "stubs"
            elif letter.attempt >= self._max_attempts:
                kind = "attempts"
            elif record.timestamp < self._since_ms:
                kind = "too_old"
            elif _size(record.key, record.value, again) > clients.MAX_BATCH_BYTES:
                kind = "too_large"
                examples.append(f"{_place(record)}: larger than a producer sends")
            else:
                kind = "sent"
                outputs.setdefault(target, []).append((record.key, record.value, again))
            tally[kind] += 1
        return outputs, tally, examples


def _place(record: ConsumerRecord) -> str:
    return f"{record.topic}-{record.partition}@{record.offset}"


def _size(key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]]) -> int:
    """Return the largest batch size of this record: 61 bytes of header, and lengths of at most 5 bytes each."""
    of_headers = sum(10 + len(name.encode()) + len(content or b"") for name, content in headers)
    return 100 + len(key or b"") + len(value or b"") + of_headers


async def letters(settings: CommandSettings, reason: Reason | None, since_ms: int) -> list[Letter]:
    """Return the dead letters of one reason, or of all, oldest first."""
    async with reader(settings, blocked=terminal.note_blocked) as topics:
        letters = [read_letter(record) async for record in topics.scan(settings.topic_dead_letters, since_ms)]
    chosen = [letter for letter in letters if reason is None or letter.reason == reason]
    return sorted(chosen, key=lambda letter: letter.at)


async def skip(settings: CommandSettings, source: TopicPartition, to_offset: int, why: str) -> int:
    """Return the offset from which on records were skipped."""
    async with (
        reader(settings, blocked=terminal.note_blocked) as topics,
        _sink(settings, settings.scorer_group, source) as sink,
    ):
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
        await sink.write(Result({settings.topic_dead_letters: stubs}, None), to_offset, _ours)
    return start


async def _ours() -> bool:
    """Do nothing: only fencing takes a partition from an operator's command."""
    return True


@asynccontextmanager
async def _sink(settings: CommandSettings, group: str, source: TopicPartition) -> AsyncIterator[TransactionalSink]:
    """Return a sink that has fenced any earlier writer of this group and partition."""
    sink = TransactionalSink(settings, group, source)
    try:
        await sink.start()
        yield sink
    finally:
        await sink.stop()
