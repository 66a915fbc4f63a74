"""Stage 1: records of a partition → deltas and progress on `drift-panes`, exactly once.

Counts are additive, so no state is snapshot or replayed. A restart continues at the committed offset. The watermark is
restored from the metadata that was committed with the offset.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from drift_worker.counts import wire_format
from drift_worker.counts.aggregate import SCORE, Sparse, count_events, count_scores
from drift_worker.counts.watermark import TooOld, Watermark, panes_of
from drift_worker.counts.wire_format import (
    NOT_A_PREDICTION,
    OTHER_MODEL,
    Delta,
    Milliseconds,
    Number,
    PartitionNumber,
    Progress,
)
from drift_worker.reference import LoadedReference
from drift_worker.telemetry import Counted, DriftTelemetry
from kafka_runtime.kafka_types import ConsumerRecord, TopicPartition
from kafka_runtime.partition_telemetry import OffsetComparisons
from kafka_runtime.sinks import Output, Result
from schemas.event import EventDecoder
from schemas.formats.registered import Schemas
from schemas.headers import SOURCE_OFFSET, SOURCE_PARTITION, SOURCE_TOPIC
from schemas.native_events import NativeDecoder
from schemas.prediction import AnyPrediction, ClassPrediction, ModelRef, PlainDecoder, decoder_of
from schemas.rejection_reasons import Reason
from schemas.timestamps import INVALID, parse_batch
from schemas.validation import Rules

# An upper bound, however long a pane is: downstream stages must not work with older progress than this.
LONGEST_WAIT_S = 5.0
# Under backlog every batch is written out at once; so is the same number of records gathered from smaller batches.
MAX_RECORDS = 5000
# Records taken in at a time: what one fetch has of a partition, so that no batch is the rest of one. A counted record
# takes a tenth of the memory. The partitions of both topics may all lag at once: 1,500 records each, with twice the
# fetch, take 10 MB more and are hardly faster.
READ_RECORDS = 800
# Every pane of every series is a record. With few events in many panes, a batch is written out before it is full.
MAX_PANES = 500
UNSEEN_NAMES = 20


class Kept(msgspec.Struct, frozen=True):
    """State committed with the offset: the watermark, and the offsets up to which events were accepted and answered."""

    watermark_ms: Milliseconds | None = None
    event_ms: Milliseconds | None = None
    accepted_next: Number = 0
    answered: dict[PartitionNumber, Number] = {}
    newest_ms: Milliseconds | None = None


@dataclass(slots=True, eq=False)
class _Batch:
    """Accepted records that are not counted yet. Events: numeric values and codes. Predictions: scores and labels."""

    event_time_ms: NDArray[np.int64]
    customers: NDArray[np.uint64]
    numeric: NDArray[np.float64]
    codes: NDArray[np.int32]


@dataclass(slots=True, eq=False)
class _Pending:
    """State of one partition: the records read since the last flush, and its progress."""

    watermark: Watermark
    too_old: TooOld
    partitions: int
    inputs: frozenset[int]  # partitions of the events whose predictions are in this partition
    accepted_next: int
    answered: dict[int, int]
    first: int
    next: int
    flushed_at_s: float
    flushed_mark: tuple[int | None, bool] = (None, False)
    oldest_s: float | None = None
    read: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    future: int = 0
    late: int = 0
    panes: int = 0  # number of panes in the batches, added up batch by batch
    batches: list[_Batch] = field(default_factory=list)


class EventCounter:
    """Counts the events and predictions of assigned partitions (kafka_runtime.processor.PartitionProcessor)."""

    def __init__(
        self,
        loaded: LoadedReference,
        report: DriftTelemetry,
        *,
        events_topic: str,
        panes_topic: str,
        rules: Rules,
        pane_ms: int,
        span_ms: int,
        idle_timeout_s: float,
        partitions_of: Callable[[str], Awaitable[int]],
        moves: OffsetComparisons | None = None,
        schemas: Schemas | None = None,
        decoder: NativeDecoder | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Count with these limits.

        partitions_of: returns the number of partitions of a topic. span_ms: the longest window plus the allowed
        lateness. moves: compares a partition's committed offset when it is assigned; None: it is not compared.
        schemas: of the registry, where the events have a registry's format. decoder: of the native lane, if it reads
        the events.
        """
        self._loaded = loaded
        self._report = report
        self._events_topic = events_topic
        self._panes_topic = panes_topic
        manifest = loaded.manifest
        self._decoder = decoder or EventDecoder(manifest.features, manifest.event, rules, schemas)
        self._decode_prediction = decoder_of(manifest.predicts)
        self._plain = PlainDecoder(manifest.predicts, ModelRef(manifest.name, manifest.version))
        self._labels = {"binary": "label", "multiclass": "label"}.get(manifest.predicts.name)
        self._class_codes = {label: code for code, label in enumerate(loaded.manifest.classes or ())}
        self._future_skew_ms = rules.max_future_skew_ms
        self._pane_ms = pane_ms
        self._span_ms = span_ms
        self._wait_s = min(pane_ms / 1000, LONGEST_WAIT_S)
        self._idle_timeout_s = idle_timeout_s
        self._partitions_of = partitions_of
        self._moves = moves
        self._now_ms = now_ms
        self._monotonic = monotonic
        self._pending: dict[TopicPartition, _Pending] = {}
        self.unseen: dict[str, Counter[str]] = {}  # feature → values without a category; never written

    async def on_assigned(self, source: TopicPartition, position: int, metadata: str) -> int | None:
        """Take over an assigned partition: restore the committed state."""
        kept = _kept(metadata, self._now_ms() + self._future_skew_ms)
        at_s = self._monotonic()
        partitions = await self._partitions_of(source.topic)
        inputs = frozenset(range(source.partition, await self._partitions_of(self._events_topic), partitions))
        self._pending[source] = _Pending(
            watermark=Watermark(self._idle_timeout_s, at_s, kept.watermark_ms, kept.event_ms),
            too_old=TooOld(self._span_ms, kept.newest_ms),
            partitions=partitions,
            inputs=inputs,
            accepted_next=kept.accepted_next,
            answered={partition: after for partition, after in kept.answered.items() if partition in inputs},
            first=position,
            next=position,
            flushed_at_s=at_s,
        )
        if self._moves is not None:
            self._moves.start(source, position)
        return None

    def on_revoked(self, source: TopicPartition) -> None:
        """Drop records that were read and not committed; the next owner of the partition reads them again."""
        self._pending.pop(source, None)
        if self._moves is not None:
            self._moves.cancel(source)

    def process(
        self, source: TopicPartition, records: Sequence[ConsumerRecord], *, at_end: bool
    ) -> Result[Counted] | None:
        """Take in records. Write them out when the oldest has waited long enough, or when there are many."""
        pending, at_s = self._pending[source], self._monotonic()
        if records:
            pending.oldest_s = at_s if pending.oldest_s is None else pending.oldest_s
            pending.read += len(records)
            pending.next = records[-1].offset + 1
            take = self._take_events if source.topic == self._events_topic else self._take_predictions
            batch = take(pending, records)
            now_ms = self._now_ms()
            pending.watermark.heard(batch.event_time_ms, now_ms, at_s)
            old = pending.too_old.find(batch.event_time_ms, now_ms)
            if old.any():
                pending.late += int(old.sum())
                batch = _rows(batch, ~old)
            if len(batch.event_time_ms):
                pending.batches.append(batch)
                pending.panes += len(np.unique(panes_of(batch.event_time_ms, self._pane_ms)))
        pending.watermark.idle(at_s, at_end=at_end)
        mark = (pending.watermark.value_ms, at_end)
        backlog = pending.read >= MAX_RECORDS or pending.panes >= MAX_PANES
        waited = pending.oldest_s is not None and at_s - pending.oldest_s >= self._wait_s
        # an empty partition is reported again and again: the evaluator needs current evidence that it is still empty
        empty = at_end and mark[0] is None
        moved = (empty or mark != pending.flushed_mark) and at_s - pending.flushed_at_s >= self._wait_s
        return self._flush(source, pending, mark, at_s) if backlog or waited or moved else None

    def on_committed(self, source: TopicPartition, result: Result[Counted], records: Sequence[ConsumerRecord]) -> None:  # noqa: ARG002
        """Update the metrics: the counts are committed."""
        self._report.deltas_committed(source, result.context)

    # -- in -----------------------------------------------------------------------------------------------------------

    def _take_events(self, pending: _Pending, records: Sequence[ConsumerRecord]) -> _Batch:
        decoded = self._decoder.decode(records, self._now_ms())
        pending.read -= len(decoded.ignored)  # no events: neither counted nor rejected
        for rejection in decoded.rejections:
            if rejection is None:
                continue
            if rejection.reason is Reason.EVENT_TIME_IN_FUTURE:
                pending.future += 1
            else:
                pending.refused[rejection.reason.value] += 1
        if len(decoded.accepted):
            pending.accepted_next = records[int(decoded.accepted[-1])].offset + 1
        columns = decoded.columns
        self._note_unseen(decoded.unseen)
        customers = self._loaded.hash_customers(decoded.customer_ids)
        return _Batch(decoded.event_time_ms, customers, columns.numeric, columns.codes)

    def _take_predictions(self, pending: _Pending, records: Sequence[ConsumerRecord]) -> _Batch:
        _note_answered(pending, records, self._events_topic)

        def second_look(i: int) -> AnyPrediction | None:
            reason, prediction = self._examine(records[i])
            if prediction is None:
                pending.refused[reason] += 1
            return prediction

        predictions = self._plain.decode([record.value or b"" for record in records], second_look)
        times = parse_batch([p.event_time for p in predictions])
        unreadable, future = times == INVALID, times > self._now_ms() + self._future_skew_ms
        refused = unreadable | future
        if refused.any():
            pending.refused[NOT_A_PREDICTION] += int(unreadable.sum())
            pending.future += int(future.sum())
            predictions = [p for p, bad in zip(predictions, refused.tolist(), strict=True) if not bad]
            times = times[~refused]
        return _Batch(
            times,
            self._loaded.hash_customers([p.customer_id for p in predictions]),
            np.array(self._plain.scores(predictions), dtype=np.float64),
            self._label_codes(predictions),
        )

    def _label_codes(self, predictions: Sequence[Any]) -> NDArray[np.int32]:
        """Return the index of each prediction's class, or 1 for a label that is true; 0 of a number."""
        if self._labels is None:
            return np.zeros(len(predictions), dtype=np.int32)
        labels = [p.label for p in predictions]
        if self._class_codes:
            labels = [self._class_codes[label] for label in labels]
        return np.array(labels, dtype=np.int32)

    def _examine(self, record: ConsumerRecord) -> tuple[str, AnyPrediction | None]:
        """Return a prediction of this model, or the reason why the record is none. No record makes it raise."""
        try:
            prediction = self._decode_prediction(record.value or b"")
        except ValueError:
            return NOT_A_PREDICTION, None
        if not prediction.valid or not 1 <= len(prediction.customer_id) <= 128:
            return NOT_A_PREDICTION, None
        manifest = self._loaded.manifest
        if (prediction.model.name, prediction.model.version) != (manifest.name, manifest.version):
            return OTHER_MODEL, None
        if isinstance(prediction, ClassPrediction) and prediction.label not in self._class_codes:
            return NOT_A_PREDICTION, None
        return "", prediction

    def _note_unseen(self, values: Sequence[tuple[int, object]]) -> None:
        for feature, value in values:
            names = self.unseen.setdefault(self._loaded.manifest.features[feature].name, Counter())
            name = str(value)[:128]
            if name in names or len(names) < UNSEEN_NAMES:
                names[name] += 1

    # -- out ----------------------------------------------------------------------------------------------------------

    def _flush(
        self, source: TopicPartition, pending: _Pending, mark: tuple[int | None, bool], at_s: float
    ) -> Result[Counted]:
        counted = sum(len(batch.event_time_ms) for batch in pending.batches) + pending.late
        refused = {reason: number for reason, number in pending.refused.items() if number}
        outputs: list[Output] = [(None, wire_format.encode(delta), []) for delta in self._deltas(source, pending)]
        progress = Progress(
            layout=wire_format.LAYOUT,
            topic=source.topic,
            partition=source.partition,
            first=pending.first,
            next=pending.next,
            read=pending.read,
            counted=counted,
            refused=refused,
            future=pending.future,
            watermark_ms=pending.watermark.value_ms,
            event_ms=pending.watermark.event_ms,
            at_end=mark[1],
            partitions=pending.partitions,
            accepted_next=pending.accepted_next,
            answered=dict(pending.answered),
            late=pending.late,
        )
        outputs.append((None, wire_format.encode(progress), []))
        context = Counted(pending.read, counted, refused, pending.future, pending.late)
        kept = Kept(
            pending.watermark.value_ms,
            pending.watermark.event_ms,
            pending.accepted_next,
            pending.answered,
            pending.too_old.newest_ms,
        )
        metadata = msgspec.json.encode(kept).decode()
        pending.first, pending.oldest_s, pending.read, pending.future = pending.next, None, 0, 0
        pending.refused, pending.batches, pending.late, pending.panes = Counter(), [], 0, 0
        pending.flushed_at_s, pending.flushed_mark = at_s, mark
        return Result({self._panes_topic: outputs}, context, metadata=metadata)

    def _deltas(self, source: TopicPartition, pending: _Pending) -> Iterable[Delta]:
        if not pending.batches:
            return
        is_events = source.topic == self._events_topic
        times, customers, numeric, codes = (
            np.concatenate([getattr(batch, name) for batch in pending.batches])
            for name in ("event_time_ms", "customers", "numeric", "codes")
        )
        panes = panes_of(times, self._pane_ms)
        starts, numbers = np.unique(panes, return_counts=True)
        events = dict(zip(starts.tolist(), numbers.tolist(), strict=True))
        cells = self._loaded.cells
        parts: Iterable[tuple[int, int, Sparse]] = (
            count_events(cells, panes, numeric, codes, customers)
            if is_events
            else self._count_scores(panes, numeric, codes, customers)
        )
        for pane, series, part in parts:
            for piece, packed in enumerate(wire_format.pack(part)):
                yield Delta(
                    layout=wire_format.LAYOUT,
                    reference=self._loaded.identity.reference,
                    key_id=self._loaded.identity.key_id,
                    topic=source.topic,
                    partition=source.partition,
                    first=pending.first,
                    next=pending.next,
                    pane_ms=pane,
                    series=series,
                    events=events[pane] if piece == 0 and series in {0, SCORE} else 0,
                    packed=packed,
                )

    def _count_scores(
        self,
        panes: NDArray[np.int64],
        scores: NDArray[np.float64],
        codes: NDArray[np.int32],
        customers: NDArray[np.uint64],
    ) -> Iterable[tuple[int, int, Sparse]]:
        cells = self._loaded.cells
        labels = codes.astype(np.bool_) if cells.labelled else np.zeros(len(codes), dtype=np.bool_)
        return count_scores(cells, panes, scores, labels, customers, codes)


def _kept(metadata: str, latest_ms: int) -> Kept:
    """Return the committed state; the default if this stage cannot have written it, or if it is ahead of the clock."""
    try:
        kept = msgspec.json.decode(metadata or "{}", type=Kept)
    except msgspec.MsgspecError:
        return Kept()
    times = (kept.watermark_ms, kept.event_ms, kept.newest_ms)
    return Kept() if any(time is not None and time > latest_ms for time in times) else kept


def _rows(batch: _Batch, which: NDArray[np.bool_]) -> _Batch:
    """Return some rows of a batch."""
    return _Batch(batch.event_time_ms[which], batch.customers[which], batch.numeric[which], batch.codes[which])


def _note_answered(pending: _Pending, records: Sequence[ConsumerRecord], events_topic: str) -> None:
    """Note which input records these predictions answer, from the headers of the last one of each input partition.

    Predictions are in the order of their inputs. Where a scorer has written some again, too small an offset is noted
    until it has passed the old ones; windows then close later, and nothing is counted twice. Without the headers
    nothing is noted.

    Any producer can name any partition. The noted offsets are committed as metadata, and a broker accepts 4 KiB of it.
    So only partitions whose predictions belong to this partition are noted.
    """
    topic, missing = events_topic.encode(), set(pending.inputs)
    for record in reversed(records):
        source = dict(record.headers)
        partition, offset = _decimal(source.get(SOURCE_PARTITION)), _decimal(source.get(SOURCE_OFFSET))
        if (
            source.get(SOURCE_TOPIC) == topic
            and partition in pending.inputs
            and 0 <= offset < wire_format.MAX_NUMBER - 1
        ):
            pending.answered[partition] = max(offset + 1, pending.answered.get(partition, 0))
            missing.discard(partition)
            if not missing:
                return


def _decimal(value: bytes | None) -> int:
    return int(value) if value is not None and value.isdigit() and len(value) <= 18 else -1
