"""Stage 1: records of a partition → deltas and progress on `drift-panes`, exactly once.

Counts are additive, so nothing is ever snapshot or replayed: a restart goes on at the committed offset, and the
watermark comes back from the text that was committed beside it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from drift_worker import deltas
from drift_worker.counts import SCORE, Sparse, count_events, count_scores
from drift_worker.deltas import NOT_A_PREDICTION, OTHER_MODEL, Delta, Progress
from drift_worker.event_time import Watermark, panes_of
from drift_worker.reference import LoadedReference
from drift_worker.report import Report
from schemas.event import EventDecoder
from schemas.features import UNSEEN
from schemas.headers import SOURCE_OFFSET, SOURCE_PARTITION, SOURCE_TOPIC
from schemas.prediction import Prediction, decode_prediction
from schemas.rfc3339 import INVALID, parse_batch
from schemas.verdict import Reason, Rules
from streaming.records import ConsumerRecord, TopicPartition
from streaming.transactions import Output, Result

# However long a pane is: what is known downstream must not be older than this.
LONGEST_WAIT_S = 5.0
# Under backlog every batch is written out at once; so are as many records gathered from smaller ones.
MAX_RECORDS = 5000
# So many are taken in at a time. Counted, a record weighs a tenth, and the partitions of both topics may all be behind
# at once: 5,000 records each are 90 MB, 1,000 are 10 MB more than these, and no faster.
READ_RECORDS = 500
UNSEEN_NAMES = 20


class Kept(msgspec.Struct, frozen=True):
    """What is committed beside the offset: the watermark, and how far events were accepted and answered."""

    watermark_ms: int | None = None
    event_ms: int | None = None
    accepted_next: int = 0
    answered: dict[int, int] = {}


@dataclass(frozen=True, slots=True)
class Counted:
    """What a flush committed: for the counters."""

    read: int
    counted: int
    refused: Mapping[str, int]
    future: int


@dataclass(slots=True, eq=False)
class _Batch:
    """Accepted records, not counted yet. Rows of numeric and codes for events; scores and labels for predictions."""

    event_time_ms: NDArray[np.int64]
    customers: NDArray[np.uint64]
    numeric: NDArray[np.float64]
    codes: NDArray[np.int32]


@dataclass(slots=True, eq=False)
class _Pending:
    """One partition: what was read since the last flush, and how far it has come."""

    watermark: Watermark
    partitions: int
    inputs: frozenset[int]  # partitions of the events that are answered here
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
    batches: list[_Batch] = field(default_factory=list)


class CountingWork:
    """Counts the events and the predictions of whatever partitions the group gives us (streaming.work.Work)."""

    def __init__(
        self,
        loaded: LoadedReference,
        report: Report,
        *,
        events_topic: str,
        panes_topic: str,
        rules: Rules,
        pane_ms: int,
        idle_timeout_s: float,
        partitions_of: Callable[[str], Awaitable[int]],
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`partitions_of` tells how many partitions a topic has."""
        self._loaded = loaded
        self._report = report
        self._events_topic = events_topic
        self._panes_topic = panes_topic
        self._decoder = EventDecoder(loaded.manifest.features, loaded.manifest.event, rules)
        self._future_skew_ms = rules.max_future_skew_ms
        self._pane_ms = pane_ms
        self._wait_s = min(pane_ms / 1000, LONGEST_WAIT_S)
        self._idle_timeout_s = idle_timeout_s
        self._partitions_of = partitions_of
        self._now_ms = now_ms
        self._monotonic = monotonic
        self._pending: dict[TopicPartition, _Pending] = {}
        self.unseen: dict[str, Counter[str]] = {}  # feature → names that no category has; only shown, never written

    async def opened(self, source: TopicPartition, position: int, metadata: str) -> int | None:
        """The partition is ours: go on from what was committed."""
        kept = _kept(metadata)
        at_s = self._monotonic()
        partitions = await self._partitions_of(source.topic)
        inputs = frozenset(range(source.partition, await self._partitions_of(self._events_topic), partitions))
        self._pending[source] = _Pending(
            watermark=Watermark(self._idle_timeout_s, at_s, kept.watermark_ms, kept.event_ms),
            partitions=partitions,
            inputs=inputs,
            accepted_next=kept.accepted_next,
            answered={partition: after for partition, after in kept.answered.items() if partition in inputs},
            first=position,
            next=position,
            flushed_at_s=at_s,
        )
        return None

    def closed(self, source: TopicPartition) -> None:
        """What was read and not committed will be read again by whoever comes next."""
        self._pending.pop(source, None)

    def process(self, source: TopicPartition, records: Sequence[ConsumerRecord], *, at_end: bool) -> Result | None:
        """Take in records; write out when the oldest has waited long enough, or there are many."""
        pending, at_s = self._pending[source], self._monotonic()
        if records:
            pending.oldest_s = at_s if pending.oldest_s is None else pending.oldest_s
            pending.read += len(records)
            pending.next = records[-1].offset + 1
            take = self._take_events if source.topic == self._events_topic else self._take_predictions
            batch = take(pending, records)
            if len(batch.event_time_ms):
                pending.batches.append(batch)
            pending.watermark.heard(batch.event_time_ms, self._now_ms(), at_s)
        pending.watermark.idle(at_s, at_end=at_end)
        mark = (pending.watermark.value_ms, at_end)
        backlog = pending.read >= MAX_RECORDS
        waited = pending.oldest_s is not None and at_s - pending.oldest_s >= self._wait_s
        # that a partition is empty is said again and again: the evaluator must know that it still is
        empty = at_end and mark[0] is None
        moved = (empty or mark != pending.flushed_mark) and at_s - pending.flushed_at_s >= self._wait_s
        return self._flush(source, pending, mark, at_s) if backlog or waited or moved else None

    def committed(self, source: TopicPartition, result: Result, records: Sequence[ConsumerRecord]) -> None:  # noqa: ARG002
        """The counts are on the log: now they count here, too."""
        assert isinstance(result.context, Counted), "process put it there"  # noqa: S101
        self._report.counted(source, result.context)

    # -- in -----------------------------------------------------------------------------------------------------------

    def _take_events(self, pending: _Pending, records: Sequence[ConsumerRecord]) -> _Batch:
        decoded = self._decoder.decode(records, self._now_ms())
        for defect in decoded.defects:
            if defect is None:
                continue
            if defect.reason is Reason.EVENT_TIME_IN_FUTURE:
                pending.future += 1
            else:
                pending.refused[defect.reason.value] += 1
        if len(decoded.accepted):
            pending.accepted_next = records[int(decoded.accepted[-1])].offset + 1
        columns = decoded.columns
        self._note_unseen(columns.codes, columns.values)
        customers = self._loaded.hash_customers(decoded.customer_ids)
        return _Batch(decoded.event_time_ms, customers, columns.numeric, columns.codes)

    def _take_predictions(self, pending: _Pending, records: Sequence[ConsumerRecord]) -> _Batch:
        predictions: list[Prediction] = []
        for record in records:
            _note_answered(pending, record, self._events_topic)
            reason, prediction = self._examine(record)
            if prediction is None:
                pending.refused[reason] += 1
            else:
                predictions.append(prediction)
        times = parse_batch([p.event_time for p in predictions])
        latest = self._now_ms() + self._future_skew_ms
        kept = (times != INVALID) & (times <= latest)
        pending.refused[NOT_A_PREDICTION] += int((times == INVALID).sum())
        pending.future += int((times > latest).sum())
        predictions = [p for p, good in zip(predictions, kept.tolist(), strict=True) if good]
        return _Batch(
            times[kept],
            self._loaded.hash_customers([p.customer_id for p in predictions]),
            np.array([p.probability for p in predictions], dtype=np.float64),
            np.array([p.label for p in predictions], dtype=np.int32),
        )

    def _examine(self, record: ConsumerRecord) -> tuple[str, Prediction | None]:
        """A prediction of our model, or why it is none; nothing that a record holds raises."""
        try:
            prediction = decode_prediction(record.value or b"")
        except ValueError:
            return NOT_A_PREDICTION, None
        if not 0.0 <= prediction.probability <= 1.0 or not 1 <= len(prediction.customer_id) <= 128:
            return NOT_A_PREDICTION, None
        manifest = self._loaded.manifest
        if (prediction.model.name, prediction.model.version) != (manifest.name, manifest.version):
            return OTHER_MODEL, None
        return "", prediction

    def _note_unseen(self, codes: NDArray[np.int32], values: Sequence[Sequence[object]]) -> None:
        for column, i in enumerate(self._decoder.layout.categorical):
            rows = np.flatnonzero(codes[:, column] == UNSEEN)
            if not len(rows):
                continue
            names = self.unseen.setdefault(self._decoder.layout.names[i], Counter())
            for row in rows.tolist():
                name = str(values[i][row])[:128]
                if name in names or len(names) < UNSEEN_NAMES:
                    names[name] += 1

    # -- out ----------------------------------------------------------------------------------------------------------

    def _flush(self, source: TopicPartition, pending: _Pending, mark: tuple[int | None, bool], at_s: float) -> Result:
        counted = sum(len(batch.event_time_ms) for batch in pending.batches)
        refused = {reason: number for reason, number in pending.refused.items() if number}
        outputs: list[Output] = [(None, deltas.encode(delta), []) for delta in self._deltas(source, pending)]
        progress = Progress(
            layout=deltas.LAYOUT,
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
        )
        outputs.append((None, deltas.encode(progress), []))
        context = Counted(pending.read, counted, refused, pending.future)
        kept = Kept(pending.watermark.value_ms, pending.watermark.event_ms, pending.accepted_next, pending.answered)
        metadata = msgspec.json.encode(kept).decode()
        pending.first, pending.oldest_s, pending.read, pending.future = pending.next, None, 0, 0
        pending.refused, pending.batches = Counter(), []
        pending.flushed_at_s, pending.flushed_mark = at_s, mark
        return Result({self._panes_topic: outputs}, metadata=metadata, context=context)

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
            else count_scores(cells, panes, numeric, codes.astype(np.bool_), customers)
        )
        for pane, series, part in parts:
            for piece, packed in enumerate(deltas.pack(part)):
                yield Delta(
                    layout=deltas.LAYOUT,
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


def _kept(metadata: str) -> Kept:
    """What was committed; nothing if it was not by us."""
    try:
        return msgspec.json.decode(metadata or "{}", type=Kept)
    except msgspec.MsgspecError:
        return Kept()


def _note_answered(pending: _Pending, record: ConsumerRecord, events_topic: str) -> None:
    """Which input record this prediction answers, by its headers; nothing if they do not say.

    Anybody who may write there can name any partition: what is noted is committed beside the offset, and a broker takes
    4 KiB of that. So only partitions whose answers belong here are.
    """
    topic: bytes | None = None
    partition = offset = -1
    for name, value in record.headers:
        if name == SOURCE_TOPIC:
            topic = value
        elif name == SOURCE_PARTITION:
            partition = _decimal(value)
        elif name == SOURCE_OFFSET:
            offset = _decimal(value)
    if topic == events_topic.encode() and partition in pending.inputs and 0 <= offset < deltas.MAX_NUMBER - 1:
        pending.answered[partition] = max(offset + 1, pending.answered.get(partition, 0))


def _decimal(value: bytes | None) -> int:
    return int(value) if value is not None and value.isdigit() and len(value) <= 18 else -1
