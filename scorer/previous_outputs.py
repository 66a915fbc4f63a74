"""Answers that an earlier process of this group wrote to the output topics for an input partition."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping

from kafka_runtime.kafka_types import ConsumerRecord, TopicPartition
from kafka_runtime.partition_telemetry import MOST_COUNTED, OffsetMove
from kafka_runtime.topic_reader import Reader, reader, unfinished
from schemas.headers import GROUP, SOURCE_OFFSET, SOURCE_PARTITION, SOURCE_TOPIC
from scorer.settings import ScorerSettings

# How much of an output's end is read to find this group's answers: other groups may write there, too.
TAIL_OFFSETS = 2000

# Kafka timestamp of an answer in milliseconds, and the offset of the record that it answers.
_Answer = tuple[int, int]


class EarlierAnswers:
    """Finds this group's answers in `predictions` and `dead-letters`.

    Every request is bounded: TimeoutError or KafkaError.
    """

    def __init__(self, settings: ScorerSettings) -> None:
        self._settings = settings
        # Where the outputs for a partition ended when it was fenced; None where an open transaction hid their end.
        self._ends: dict[TopicPartition, dict[TopicPartition, int] | None] = {}
        self._one_at_a_time = asyncio.Lock()

    async def any(self, source: TopicPartition) -> bool:
        """Return whether the last outputs hold an answer of this group to this partition."""
        ours = self._headers(source)
        # what an open transaction holds back may be a torn answer of this group, which is aborted after this look
        async with reader(self._settings, blocked=lambda *_: None) as outputs:
            async for target in self._targets(outputs, source):
                for record in await outputs.tail(target, TAIL_OFFSETS):
                    if ours.items() <= dict(record.headers).items():
                        return True
        return False

    async def unfinished(self, source: TopicPartition, position: int) -> dict[TopicPartition, int]:
        """Return how many answers to `source`, from `position` on, each output has in a transaction that never ended.

        Call it after fencing: no transaction for `source` is open then, unless a broker left one open. Answers before
        `position` are left out: their offset is committed, and the next transaction commits them, too.
        """
        headers = self._headers(source)

        def covers(record: ConsumerRecord) -> int | None:
            found = dict(record.headers)
            return 1 if headers.items() <= found.items() and _offset(found) >= position else None

        async with reader(self._settings) as outputs:
            targets = [target async for target in self._targets(outputs, source)]
            high = [(await outputs.high_watermarks(target.topic))[target] for target in targets]
            ends = {target: await outputs.end(target) for target in targets}
            self._ends[source] = ends if list(ends.values()) == high else None
            return await unfinished(self._settings, outputs, targets, covers)

    async def compare(self, source: TopicPartition, committed: int) -> OffsetMove | None:
        """Return how the committed offset differs from the answers before the fence; None if these do not say it.

        Exactly once, one transaction writes both, so they differ only if somebody has moved the offset. Call it after
        `unfinished`; answers that were written since then do not count, so the partition need not wait for it.
        """
        ends = self._ends.pop(source, None)
        if ends is None or not any(ends.values()):
            return None
        async with self._one_at_a_time, reader(self._settings) as outputs:
            targets = list(ends)
            tails = [await outputs.tail(target, TAIL_OFFSETS, end) for target, end in ends.items()]
            predictions, rejections = (self._answers(source, tail) for tail in tails)
            if not predictions or not await self._reaches(
                outputs, targets[1], ends[targets[1]], tails[1], max(predictions)[0]
            ):
                return None
            answers = predictions + rejections
            answered_to = max(answers)[1] + 1
            if answered_to > await outputs.end(source):
                return None  # answers to an earlier topic of this name
            first, following = sorted((committed, answered_to))
            answered = {offset for _, offset in answers} if committed > answered_to else set()
            count = await outputs.count(source, first, following, MOST_COUNTED, answered)
        again = committed < answered_to
        return OffsetMove(committed, answered_to, count if again else 0, 0 if again else count)

    def _answers(self, source: TopicPartition, records: Iterable[ConsumerRecord]) -> list[_Answer]:
        ours = self._headers(source)
        found = ((record.timestamp, dict(record.headers)) for record in records)
        answers = [(at_ms, _offset(headers)) for at_ms, headers in found if ours.items() <= headers.items()]
        return [answer for answer in answers if answer[1] >= 0]

    @staticmethod
    async def _reaches(
        outputs: Reader, target: TopicPartition, end: int, tail: list[ConsumerRecord], since_ms: int
    ) -> bool:
        """Return whether `tail` has every record of `target` below `end` that was written after `since_ms`."""
        if not tail or tail[0].timestamp <= since_ms:
            return True
        return end - await outputs.first(target) <= TAIL_OFFSETS

    async def _targets(self, outputs: Reader, source: TopicPartition) -> AsyncIterator[TopicPartition]:
        for topic in (self._settings.topic_predictions, self._settings.topic_dead_letters):
            partitions = await outputs.partitions(topic)
            yield partitions[source.partition % len(partitions)]

    def _headers(self, source: TopicPartition) -> Mapping[str, bytes]:
        return {
            SOURCE_TOPIC: source.topic.encode(),
            SOURCE_PARTITION: b"%d" % source.partition,
            GROUP: self._settings.scorer_group.encode(),
        }


def _offset(headers: Mapping[str, bytes]) -> int:
    """Return the offset that an answer names; -1 if it names none: anybody may write any header."""
    value = headers.get(SOURCE_OFFSET) or b""
    return int(value) if value.isdigit() and len(value) <= 18 else -1
