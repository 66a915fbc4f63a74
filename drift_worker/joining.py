"""Stage 1 of the business level: predictions and labels → facts on `driftline-label-state`, exactly once.

Upstream may have put a customer's label in any partition, by any hash: a fact's partition is ours, by a hash of the
customer. Nothing is held here; whatever comes is a fact of its own, so that a kill needs nothing but going on.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from drift_worker import facts
from drift_worker.report import Report
from schemas.label import decode_label
from schemas.prediction import Prediction, decode_prediction
from schemas.rfc3339 import INVALID, parse_batch
from streaming.records import ConsumerRecord, TopicPartition
from streaming.transactions import Output, Result

# A version stands in keys beside others.
_VERSION = re.compile(r"[0-9A-Za-z.+-]{1,64}")


@dataclass(frozen=True, slots=True)
class Noted:
    """What a transaction wrote: labels that were read, and refused ones by reason."""

    labels: int
    refused: Mapping[str, int]


class JoiningWork:
    """Turns the partitions that the group gives us into facts (streaming.work.Work)."""

    def __init__(
        self,
        model: str,
        report: Report,
        *,
        labels_topic: str,
        state_topic: str,
        max_future_skew_ms: int,
        partitions_of: Callable[[str], Awaitable[int]],
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """`partitions_of` tells how many partitions a topic has."""
        self._model = model
        self._report = report
        self._labels_topic = labels_topic
        self._state_topic = state_topic
        self._max_future_skew_ms = max_future_skew_ms
        self._partitions_of = partitions_of
        self._now_ms = now_ms
        self._partitions = 1

    async def opened(self, source: TopicPartition, position: int, metadata: str) -> int | None:  # noqa: ARG002
        """The partition is ours."""
        self._partitions = await self._partitions_of(self._state_topic)
        return None

    def closed(self, source: TopicPartition) -> None:
        """Nothing was held."""

    def process(self, source: TopicPartition, records: Sequence[ConsumerRecord], *, at_end: bool) -> Result | None:  # noqa: ARG002
        """One fact per record that is one."""
        if source.topic == self._labels_topic:
            found, refused = self._labels(records)
        else:
            found, refused = self._predictions(records), Counter[str]()
        outputs: dict[str | TopicPartition, list[Output]] = {}
        for customer, (key, value) in found:
            place = TopicPartition(self._state_topic, customer % self._partitions)
            outputs.setdefault(place, []).append((key, value, []))
        labels = len(found) if source.topic == self._labels_topic else 0
        return Result(outputs, context=Noted(labels, refused))

    def committed(self, source: TopicPartition, result: Result, records: Sequence[ConsumerRecord]) -> None:  # noqa: ARG002
        """It is on the log: the counters say so."""
        assert isinstance(result.context, Noted), "process put it there"  # noqa: S101
        self._report.noted(source, result.context)

    def _labels(self, records: Sequence[ConsumerRecord]) -> tuple[list[tuple[int, facts.Pair]], Counter[str]]:
        found, refused = [], Counter[str]()
        now_ms = self._now_ms()
        for record in records:
            verdict = decode_label(record.value, now_ms, self._max_future_skew_ms)
            if verdict.label is None:
                refused[str(verdict.reason)] += 1
                continue
            label = verdict.label
            found.append(facts.of_label(label.customer_id, label.prediction_id, verdict.time_ms, label.label))
        return found, refused

    def _predictions(self, records: Sequence[ConsumerRecord]) -> list[tuple[int, facts.Pair]]:
        """Of any version of our model. What is none is counted where drift is counted, and not once more here."""
        made = [prediction for record in records if (prediction := self._examine(record)) is not None]
        times = parse_batch([p.event_time for p in made]).tolist()
        latest = self._now_ms() + self._max_future_skew_ms
        return [
            facts.of_prediction(
                p.customer_id, p.prediction_id, self._model, p.model.version, at_ms, p.probability, p.threshold, p.label
            )
            for p, at_ms in zip(made, times, strict=True)
            if at_ms != INVALID and at_ms <= latest
        ]

    def _examine(self, record: ConsumerRecord) -> Prediction | None:
        try:
            prediction = decode_prediction(record.value or b"")
        except ValueError:
            return None
        good = (
            prediction.model.name == self._model
            and 0.0 <= prediction.probability <= 1.0
            and 1 <= len(prediction.customer_id) <= 128
            and _VERSION.fullmatch(prediction.model.version) is not None
        )
        return prediction if good else None
