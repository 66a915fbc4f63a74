"""A batch and its sampled events → spans. Only a scorer whose traces are on imports this module (the extra `otel`).

A batch is one span, `process {topic}`, with links to the events in it whose producers sampled them. The first of these
events have spans of their own, `publish {topic}`. Such a span continues the producer's trace, and is the context that
the prediction carries. So a trace goes from the producer to the reader of the prediction, and the batch, which belongs
to many traces, is one link away. Spans end with the commit. A batch that failed is a span with an error; another batch
answers its records again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)
from opentelemetry.util.types import AttributeValue

from kafka_runtime.kafka_types import ConsumerRecord, TopicPartition
from kafka_runtime.service import tracing
from schemas import headers as h
from schemas.validation import NO_TIMESTAMP
from scorer.pipeline import Answer

# Sampled events of a batch that it links to: the SDK's own limit of a span's links.
MOST_LINKS = 128
# Those that have spans of their own. A span costs as much CPU as scoring several events, and under a backlog a batch
# has dozens of sampled ones.
MOST_SPANS = 16
# The last hexadecimal digit of a trace context whose lowest flag is set: sampled.
_SAMPLED = frozenset(b"13579bdf")
# By the messaging conventions of OpenTelemetry.
_PROCESS = {
    "messaging.system": "kafka",
    "messaging.operation.name": "process",
    "messaging.operation.type": "process",
}
_PUBLISH = {
    "messaging.system": "kafka",
    "messaging.operation.name": "publish",
    "messaging.operation.type": "send",
}


@dataclass(frozen=True, slots=True)
class SampledEvent:
    """A record whose producer sampled it. trace_id: 32 hexadecimal digits."""

    record: ConsumerRecord
    trace_id: str
    span: Span


@dataclass(slots=True)
class OpenBatch:
    """A batch whose outcome is not known yet."""

    span: Span
    events: list[SampledEvent] = field(default_factory=list)

    @property
    def log_fields(self) -> dict[str, str]:
        """Return the members of a log line that name the batch's span; none if it is not sampled."""
        context = self.span.get_span_context()
        if not context.trace_flags.sampled:
            return {}
        return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}


class BatchTraces:
    """Spans of the batches in progress, one for each partition. Batch thread and event loop take turns."""

    def __init__(self, provider: TracerProvider, group: str, predictions: str, dead_letters: str) -> None:
        """Take the consumer group, and the topics that the answers are written to."""
        self._provider = provider
        self._tracer = provider.get_tracer("driftline")
        self._group = group
        self._predictions = {**_PUBLISH, "messaging.destination.name": predictions}
        self._dead_letters = {**_PUBLISH, "messaging.destination.name": dead_letters}
        self._open: dict[TopicPartition, OpenBatch] = {}

    def begin(
        self, source: TopicPartition, started_ns: int, records: Sequence[ConsumerRecord], answer: Answer, version: str
    ) -> None:
        """Open the spans of an answered batch, and put the new contexts into the headers of its predictions.

        started_ns: when its processing began, wall clock. version: of the model that answered.
        """
        self.failed(source, "lost")  # only a partition that was lost leaves a batch behind
        predicted = _predicted(records, answer)
        rejected = _rejected(records, answer, MOST_LINKS - len(predicted))
        parents = [(record, _context(value)) for record, value, _ in (*predicted, *rejected)]
        batch = self._tracer.start_span(
            f"process {source.topic}",
            Context(),
            SpanKind.CONSUMER,
            self._describe(source, started_ns, records, answer, version),
            [Link(parent, {"messaging.kafka.offset": record.offset}) for record, parent in parents],
            started_ns,
        )
        opened = self._open[source] = OpenBatch(batch)
        to_batch = [Link(batch.get_span_context())]
        for number, (record, parent) in enumerate(parents[:MOST_SPANS]):
            is_prediction = number < len(predicted)
            destination = self._predictions if is_prediction else self._dead_letters
            span = self._tracer.start_span(
                f"publish {destination['messaging.destination.name']}",
                set_span_in_context(NonRecordingSpan(parent), Context()),
                SpanKind.PRODUCER,
                destination,
                to_batch,
                started_ns,
            )
            if not span.is_recording():
                continue
            if is_prediction:
                predicted[number][2][-1] = (h.TRACEPARENT, _traceparent(span.get_span_context()))
            else:
                reason = dict(rejected[number - len(predicted)][2])[h.REASON].decode()
                span.set_attribute("error.type", reason)
                span.set_status(StatusCode.ERROR, reason)
            opened.events.append(SampledEvent(record, f"{parent.trace_id:032x}", span))

    def _describe(
        self, source: TopicPartition, started_ns: int, records: Sequence[ConsumerRecord], answer: Answer, version: str
    ) -> dict[str, AttributeValue]:
        described: dict[str, AttributeValue] = {
            **_PROCESS,
            "messaging.destination.name": source.topic,
            "messaging.destination.partition.id": str(source.partition),
            "messaging.consumer.group.name": self._group,
            "messaging.batch.message_count": len(records),
            "driftline.first_offset": records[0].offset,
            "driftline.last_offset": records[-1].offset,
            "driftline.predictions": len(answer.predictions),
            "driftline.dead_letters": len(answer.dead_letters),
            "driftline.model_version": version,
        }
        if records[0].timestamp != NO_TIMESTAMP:
            described["driftline.read_seconds"] = max(0.0, started_ns / 1e9 - records[0].timestamp / 1000)
        described.update({f"driftline.{stage}_seconds": seconds for stage, seconds in answer.seconds.items()})
        return described

    def batch(self, source: TopicPartition) -> OpenBatch | None:
        """Return the partition's batch in progress."""
        return self._open.get(source)

    def written(self, source: TopicPartition, produce_s: float, commit_s: float) -> None:
        """Note how long the writes and the commit of a partition's batch took."""
        if (opened := self._open.get(source)) is not None:
            opened.span.set_attributes({"driftline.produce_seconds": produce_s, "driftline.commit_seconds": commit_s})

    def committed(self, source: TopicPartition) -> None:
        """End the spans of a committed batch."""
        if (opened := self._open.pop(source, None)) is not None:
            now = time.time_ns()
            opened.span.end(now)
            for event in opened.events:
                event.span.end(now)

    def failed(self, source: TopicPartition, outcome: str) -> None:
        """End the span of a batch that was not committed; its events are answered again, and have spans then."""
        if (opened := self._open.pop(source, None)) is not None:
            opened.span.set_attribute("error.type", outcome)
            opened.span.set_status(StatusCode.ERROR, outcome)
            opened.span.end()

    def close(self) -> None:
        """Send the last spans."""
        tracing.close(self._provider)


_Sampled = tuple[ConsumerRecord, bytes, list[h.Header]]


def _predicted(records: Sequence[ConsumerRecord], answer: Answer) -> list[_Sampled]:
    """Return the sampled records that have a prediction: the record, its trace context, the prediction's headers."""
    name, sampled = h.TRACEPARENT, _SAMPLED
    # a valid context is the last header of a prediction
    rows = (
        row
        for row, (_, _, headers) in enumerate(answer.predictions)
        if headers[-1][0] == name and headers[-1][1][-1] in sampled
    )
    outputs = ((row, answer.predictions[row][2]) for row in islice(rows, MOST_LINKS))
    return [(records[int(answer.accepted[row])], headers[-1][1], headers) for row, headers in outputs]


def _rejected(records: Sequence[ConsumerRecord], answer: Answer, most: int) -> list[_Sampled]:
    """Return the sampled records that have a dead letter, `most` at most, with the dead letter's headers."""
    if not answer.dead_letters or not most:
        return []
    places = {record.offset: record for record in records}
    found: list[_Sampled] = []
    for _, _, headers in answer.dead_letters:
        context = h.traceparent(headers)
        if context is not None and context[1][-1] in _SAMPLED:
            offset = int(next(value for name, value in reversed(headers) if name == h.SOURCE_OFFSET))
            found.append((places[offset], context[1], headers))
            if len(found) == most:
                break
    return found


def _context(value: bytes) -> SpanContext:
    """Return the context of a valid `traceparent`: version, trace id, span id and flags in hexadecimal digits."""
    flags = TraceFlags(int(value[53:55], 16))
    return SpanContext(int(value[3:35], 16), int(value[36:52], 16), is_remote=True, trace_flags=flags)


def _traceparent(context: SpanContext) -> bytes:
    return b"00-%032x-%016x-%02x" % (context.trace_id, context.span_id, context.trace_flags)
