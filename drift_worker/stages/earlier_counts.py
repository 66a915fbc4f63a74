"""Counts that an earlier drift worker wrote to `drift-panes` for an input partition."""

from __future__ import annotations

import asyncio

from drift_worker.counts.wire_format import Progress, decode
from drift_worker.settings import DriftSettings
from kafka_runtime.kafka_types import ConsumerRecord, TopicPartition
from kafka_runtime.partition_telemetry import MOST_COUNTED, OffsetMove
from kafka_runtime.topic_reader import Reader, reader, unfinished

# How much of the end of drift-panes is read for the last progress of each partition: a minute or more of a busy stream.
TAIL_OFFSETS = 20_000
# Records that are decoded at a time, so that the event loop does not wait: a few milliseconds.
DECODED_AT_A_TIME = 2000


class EarlierCounts:
    """Finds progress records of earlier processes. Every request is bounded: TimeoutError or KafkaError."""

    def __init__(self, settings: DriftSettings) -> None:
        self._settings = settings
        self._panes = TopicPartition(settings.topic_panes, 0)
        # Where drift-panes ended when a partition was fenced: what earlier processes wrote for it is below.
        self._ends: dict[TopicPartition, int] = {}
        # Progress records that were read: their offset, their partition, and the offset after the records they cover.
        self._progress: list[tuple[int, TopicPartition, int]] = []
        self._read_to = 0
        self._one_at_a_time = asyncio.Lock()

    async def unfinished(self, source: TopicPartition, position: int) -> dict[TopicPartition, int]:
        """Return how many records of `source` from `position` on were read for deltas that no process will commit.

        Call it after fencing.
        """

        def covers(record: ConsumerRecord) -> int | None:
            progress = _progress(record)
            ours = progress is not None and progress.first >= position and _source(progress) == source
            return progress.read if progress is not None and ours else None

        async with reader(self._settings) as reading:
            # above it are the other partitions' open transactions, which end within moments, and ours to come
            self._ends[source] = (await reading.high_watermarks(self._panes.topic))[self._panes]
            return await unfinished(self._settings, reading, [self._panes], covers)

    async def compare(self, source: TopicPartition, committed: int) -> OffsetMove | None:
        """Return how the committed offset differs from the last progress before the fence; None if none is found.

        One transaction writes both, so they differ only if somebody has moved the offset. Call it after `unfinished`.
        """
        end = self._ends.pop(source, 0)
        async with self._one_at_a_time:
            if end > self._read_to:
                async with reader(self._settings) as reading:
                    await self._read(reading, max([end, *self._ends.values()]))
            known = [following for offset, of, following in self._progress if of == source and offset < end]
            if not known:
                return None
            counted_to = known[-1]
            if counted_to == committed:
                return OffsetMove(committed, counted_to)
            async with reader(self._settings) as reading:
                if counted_to > await reading.end(source):
                    return None  # counts of an earlier topic of this name
                first, following = sorted((committed, counted_to))
                found = await reading.count(source, first, following, MOST_COUNTED)
        again = committed < counted_to
        return OffsetMove(committed, counted_to, found if again else 0, 0 if again else found)

    async def _read(self, reading: Reader, end: int) -> None:
        """Read the progress records below `end`, as far as they are not known."""
        at = max(self._read_to, end - TAIL_OFFSETS)
        while at < end:
            records = await reading.between(self._panes, at, end, DECODED_AT_A_TIME)
            if not records:
                break
            for record in records:
                if (progress := _progress(record)) is not None:
                    self._progress.append((record.offset, _source(progress), progress.next))
            at = records[-1].offset + 1
        self._read_to = end


def _progress(record: ConsumerRecord) -> Progress | None:
    """Return the progress in a record; None for another: the evaluator counts and reports what it cannot read."""
    try:
        found = decode(record.value)
    except ValueError:
        return None
    return found if isinstance(found, Progress) else None


def _source(progress: Progress) -> TopicPartition:
    return TopicPartition(progress.topic, progress.partition)
