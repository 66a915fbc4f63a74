"""Stage 1 of the business level: predictions and labels → facts on `driftline-label-state`, exactly once.

Upstream may put a customer's labels into any partition, by any hash. A fact is placed by a hash of its customer. This
stage has no state: each record becomes one fact, so a restart continues at the committed offset.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

from drift_worker.performance import label_records
from drift_worker.performance.task_facts import facts_of
from drift_worker.telemetry import DriftTelemetry, Joined
from kafka_runtime.kafka_types import ConsumerRecord, TopicPartition
from kafka_runtime.sinks import Output, Result
from schemas.label import LabelReason, known_outcome
from schemas.prediction import AnyPrediction, decoder_of
from schemas.task import Task
from schemas.timestamps import INVALID, parse_batch


class LabelRecorder:
    """Turns the assigned partitions into facts (kafka_runtime.processor.PartitionProcessor)."""

    def __init__(
        self,
        model: str,
        task: Task,
        report: DriftTelemetry,
        *,
        labels_topic: str,
        state_topic: str,
        max_future_skew_ms: int,
        partitions_of: Callable[[str], Awaitable[int]],
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """Join labels of this model with these topics. `partitions_of` returns the number of partitions of a topic."""
        self._model = model
        self._task = task
        self._facts = facts_of(task)
        self._decode = decoder_of(task)
        self._report = report
        self._labels_topic = labels_topic
        self._state_topic = state_topic
        self._max_future_skew_ms = max_future_skew_ms
        self._partitions_of = partitions_of
        self._now_ms = now_ms
        self._partitions = 1

    async def on_assigned(self, source: TopicPartition, position: int, metadata: str) -> int | None:  # noqa: ARG002
        """Take over an assigned partition: look up the partitions of the state topic."""
        self._partitions = await self._partitions_of(self._state_topic)
        return None

    def on_revoked(self, source: TopicPartition) -> None:
        """Do nothing: this stage has no state."""

    def process(
        self,
        source: TopicPartition,
        records: Sequence[ConsumerRecord],
        *,
        at_end: bool,  # noqa: ARG002
    ) -> Result[Joined] | None:
        """Return one fact for each record that holds a prediction or a label."""
        if source.topic == self._labels_topic:
            found, rejected = self._labels(records)
        else:
            found, rejected = self._predictions(records), Counter[str]()
        outputs: dict[str | TopicPartition, list[Output]] = {}
        for customer, (key, value) in found:
            place = TopicPartition(self._state_topic, customer % self._partitions)
            outputs.setdefault(place, []).append((key, value, []))
        labels = len(found) if source.topic == self._labels_topic else 0
        return Result(outputs, Joined(labels, rejected))

    def on_committed(self, source: TopicPartition, result: Result[Joined], records: Sequence[ConsumerRecord]) -> None:  # noqa: ARG002
        """Update the counters: the facts are committed."""
        self._report.labels_committed(source, result.context)

    def _labels(self, records: Sequence[ConsumerRecord]) -> tuple[list[tuple[int, label_records.Pair]], Counter[str]]:
        found, rejected = [], Counter[str]()
        now_ms = self._now_ms()
        for record in records:
            label = known_outcome(record.value, now_ms, self._max_future_skew_ms, self._task.outcome)
            if isinstance(label, LabelReason):
                rejected[label.value] += 1
                continue
            found.append(label_records.of_label(label.customer_id, label.prediction_id, label.time_ms, label.outcome))
        return found, rejected

    def _predictions(self, records: Sequence[ConsumerRecord]) -> list[tuple[int, label_records.Pair]]:
        """Return the facts of this model's predictions, of any version. The drift stage counts other records."""
        made = [prediction for record in records if (prediction := self._examine(record)) is not None]
        times = parse_batch([p.event_time for p in made]).tolist()
        latest = self._now_ms() + self._max_future_skew_ms
        return [
            fact
            for p, at_ms in zip(made, times, strict=True)
            if at_ms != INVALID and at_ms <= latest and (fact := self._facts.record(p, at_ms)) is not None
        ]

    def _examine(self, record: ConsumerRecord) -> AnyPrediction | None:
        try:
            prediction = self._decode(record.value or b"")
        except ValueError:
            return None
        good = (
            prediction.model.name == self._model
            and prediction.valid
            and 1 <= len(prediction.customer_id) <= 128
            and label_records.VERSION.fullmatch(prediction.model.version) is not None
        )
        return prediction if good else None
