"""What the output topics say about earlier answers of this group to an input partition."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from schemas.headers import GROUP, SOURCE_OFFSET, SOURCE_PARTITION, SOURCE_TOPIC
from scorer.settings import ScorerSettings
from streaming.reading import Reader, reader, unfinished
from streaming.records import ConsumerRecord, TopicPartition

# How much of an output's end is looked at for answers of ours: other groups may write there, too.
TAIL_OFFSETS = 2000


class EarlierAnswers:
    """Looks for answers in `predictions` and `dead-letters`. Every request is bounded: TimeoutError or KafkaError."""

    def __init__(self, settings: ScorerSettings) -> None:
        self._settings = settings

    async def any(self, source: TopicPartition) -> bool:
        """Whether the last outputs hold an answer of this group to this partition."""
        ours = self._headers(source)
        async with reader(self._settings) as outputs:
            async for target in self._targets(outputs, source):
                for record in await outputs.tail(target, TAIL_OFFSETS):
                    if ours.items() <= dict(record.headers).items():
                        return True
        return False

    async def unfinished(self, source: TopicPartition, position: int) -> list[TopicPartition]:
        """Output partitions in which answers to `source`, from `position` on, lie in a transaction that never ended.

        To be asked after fencing: no transaction for `source` is open then, unless a broker left one open. Answers from
        before `position` are not meant: their offset is committed, and so will they be, with the next transaction.
        """
        headers = self._headers(source)

        def ours(record: ConsumerRecord) -> bool:
            found = dict(record.headers)
            return headers.items() <= found.items() and int(found[SOURCE_OFFSET]) >= position

        async with reader(self._settings) as outputs:
            targets = [target async for target in self._targets(outputs, source)]
            return await unfinished(self._settings, outputs, targets, ours)

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
