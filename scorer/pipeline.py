"""A batch of records → one outcome each: a prediction, a dead letter, or ignored as no event, in the records' order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from schemas import headers as h
from schemas import timestamps
from schemas.dead_letter import dead_letter
from schemas.event import DecodedBatch, EventDecoder
from schemas.features import UNSEEN
from schemas.formats.registered import Schemas
from schemas.prediction import Encoder, ModelRef, encoder_of
from schemas.rejection_reasons import Reason, Rejection
from schemas.task import Binary, Multiclass, Task
from schemas.validation import Ignored, Record, Rules
from scorer.challenger.split import Split
from scorer.model import Model

Output = tuple[bytes | None, bytes | None, list[h.Header]]


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcomes of one batch, and what is counted about it once they are committed."""

    #: One output per accepted record, in the records' order.
    predictions: Sequence[Output]
    #: One output per rejected record, in the records' order.
    dead_letters: list[Output]
    #: Rejected records by reason.
    reasons: Counter[Reason]
    #: Records that are no events, by the reason why.
    ignored: Counter[Ignored]
    #: int64: which of the records have a prediction.
    accepted: NDArray[np.int64]
    #: float64: of each prediction the number whose drift is measured.
    scores: NDArray[np.float64]
    #: Predictions whose label is true; None where no label is true or false.
    labels: int | None
    #: Predictions by class; None where predictions have no class.
    classes: dict[str, int] | None
    #: Records with an unknown category, by feature.
    unseen: dict[str, int]
    #: Predictions by the challenger; None without one.
    challenged: int | None
    #: Predictions by the champion, because the challenger had none for a customer in its share.
    fallbacks: int
    #: Fields of accepted events that are unknown to the model.
    unknown_fields: int
    #: Accepted records whose key differs from the customer id.
    key_mismatches: int
    #: Headers in our name space that were dropped.
    spoofed_headers: int
    #: int64: one per prediction, milliseconds since the epoch.
    event_time_ms: NDArray[np.int64]
    #: Time spent, by stage.
    seconds: dict[str, float] = field(default_factory=dict)


class Decoder(Protocol):
    """Reads events in another way than `schemas.event.EventDecoder`, to the same columns (schemas/native_events.py)."""

    def read(self, records: Sequence[Record], now_ms: int) -> Any:
        """Decode each record on its own: first half."""

    def assemble(self, read: Any, /) -> DecodedBatch:
        """Return columns of what was read: second half."""


class Lane(Protocol):
    """Encodes predictions in another way than `predictions_of`, to the same bytes (scorer/native)."""

    def encode(
        self,
        records: Sequence[Record],
        batch: DecodedBatch,
        scores: NDArray[np.float64],
        stamp: h.Stamp,
        now_ms: int,
    ) -> tuple[Sequence[Output], int] | None:
        """Return what `predictions_of` returns, or None for a batch that only `predictions_of` can encode."""


@dataclass(slots=True)
class _Scored:
    """A batch whose accepted records have scores. One entry of each sequence per accepted record."""

    batch: DecodedBatch
    #: The accepted records.
    records: Sequence[Record]
    scores: NDArray[np.float64]
    #: bool: whether the label is true.
    positive: NDArray[np.bool_]
    #: float64: the number whose drift is measured.
    watched: NDArray[np.float64]
    #: How many have each class as their label; None where they have no class.
    classes: Counter[str] | None
    challenged: int | None = None
    fallbacks: int = 0


class _Stopwatch:
    """Measures stages that follow each other."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last = clock()
        self.seconds: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        """End `stage`, and begin the next one."""
        now = self._clock()
        self.seconds[stage] = now - self._last
        self._last = now


class Pipeline:
    """Answers batches with one model, or with two that each have their customers. No state between batches."""

    def __init__(
        self,
        model: Model,
        rules: Rules,
        group: str,
        max_dead_letter_bytes: int,
        split: Split | None = None,
        *,
        schemas: Schemas | None = None,
        lane: Lane | None = None,
        decoder: Decoder | None = None,
    ) -> None:
        """Take `lane`, which encodes the predictions; None: Python does, as it must where there is a split.

        decoder: of the model's events; None: Python's own.
        """
        if lane is not None and split is not None:
            raise ValueError("a lane encodes the predictions of one model")
        manifest = model.manifest
        self.model = model
        self._task = manifest.predicts
        self._group = group
        self._max_dead_letter_bytes = max_dead_letter_bytes
        self._decoder: Decoder = decoder or EventDecoder(manifest.features, manifest.event, rules, schemas)
        self._encoder = encoder_for(model)
        self._split = split
        self._lane = lane

    def answer(
        self,
        records: Sequence[Record],
        topic: str,
        partition: int,
        now_ms: Callable[[], int],
        clock: Callable[[], float],
    ) -> Answer:
        """Return the outcomes of one partition's records, which are in offset order.

        now_ms: wall clock. clock: monotonic seconds, for timing.
        """
        watch = _Stopwatch(clock)
        stamp = h.Stamp(topic, partition, self.model.manifest.version, self._group)
        batch = self._decode(records, now_ms(), watch)
        scored = self._score(records, batch)
        watch.lap("predict")
        predictions, spoofed = self._predictions(scored, stamp, now_ms)
        dead_letters, reasons, more_spoofed = self._reject(records, batch.rejections, stamp)
        watch.lap("encode")
        outcomes = (len(predictions), len(dead_letters), len(batch.ignored))
        if sum(outcomes) != len(records):
            raise RuntimeError(f"{len(records)} records have {outcomes} outcomes")
        return Answer(
            predictions=predictions,
            dead_letters=dead_letters,
            reasons=reasons,
            ignored=Counter(batch.ignored.values()),
            accepted=scored.batch.accepted,
            scores=scored.watched,
            labels=int(scored.positive.sum()) if isinstance(self._task, Binary) else None,
            classes=None if scored.classes is None else dict(scored.classes),
            challenged=scored.challenged,
            fallbacks=scored.fallbacks,
            unseen=_unseen(scored.batch),
            unknown_fields=scored.batch.unknown_fields,
            key_mismatches=scored.batch.key_mismatches,
            spoofed_headers=spoofed + more_spoofed,
            event_time_ms=scored.batch.event_time_ms,
            seconds=watch.seconds,
        )

    def _decode(self, records: Sequence[Record], now_ms: int, watch: _Stopwatch) -> DecodedBatch:
        candidates = self._decoder.read(records, now_ms)
        watch.lap("decode")
        batch = self._decoder.assemble(candidates)
        del candidates  # megabytes, and copied into columns
        watch.lap("columns")
        return batch

    def _score(self, records: Sequence[Record], batch: DecodedBatch) -> _Scored:
        """Return the batch with scores; records on which the model fails are rejected in `batch.rejections`."""
        scores, wrong = self.model.score_each(batch.columns)
        if wrong:
            for row, cause in wrong.items():
                text = f"the model failed on this record: {cause}"
                batch.rejections[batch.accepted[row]] = Rejection(Reason.MODEL_ERROR, text)
            rows = np.array([row for row in range(len(scores)) if row not in wrong], dtype=np.int64)
            batch, scores = batch.take(rows), scores[rows]
        everything = len(batch.accepted) == len(records)
        accepted = records if everything else [records[i] for i in batch.accepted.tolist()]
        task = self._task
        return _Scored(batch, accepted, scores, task.labels(scores), task.watched(scores), _by_class(task, scores))

    def _predictions(self, scored: _Scored, stamp: h.Stamp, now_ms: Callable[[], int]) -> tuple[Sequence[Output], int]:
        """Return one output per scored record, and how many headers in our name space were dropped."""
        asked = (scored.records, scored.batch, scored.scores, stamp, now_ms())
        if self._lane is not None and (encoded := self._lane.encode(*asked)) is not None:
            return encoded
        predictions, spoofed = predictions_of(self._encoder, *asked)
        self._apply_split(scored, predictions, stamp, now_ms)
        return predictions, spoofed

    def _apply_split(
        self, scored: _Scored, predictions: list[Output], stamp: h.Stamp, now_ms: Callable[[], int]
    ) -> None:
        """Replace the predictions of the challenger's customers by its own, where it has one."""
        if self._split is None:
            return
        model = self._split.model
        rows = self._split.rows_of(scored.batch.customer_ids)
        scores = self._split.score([scored.records[row] for row in rows.tolist()], now_ms())
        known = ~np.isnan(scores if scores.ndim == 1 else scores[:, 0])
        scored.challenged, scored.fallbacks = int(known.sum()), int((~known).sum())
        rows, scores = rows[known], scores[known]
        own = h.Stamp(stamp.topic, stamp.partition, model.manifest.version, self._group)
        records = [scored.records[row] for row in rows.tolist()]
        batch = scored.batch.take(rows)
        outputs, _ = predictions_of(encoder_for(model), records, batch, scores, own, now_ms())
        for row, output in zip(rows.tolist(), outputs, strict=True):
            predictions[row] = output
        task = model.manifest.predicts
        scored.positive[rows] = task.labels(scores)
        if scored.classes is not None:
            scored.classes.subtract(_by_class(self._task, scored.scores[rows]))
            scored.classes.update(_by_class(task, scores))
        scored.watched[rows] = task.watched(scores)

    def _reject(
        self, records: Sequence[Record], rejections: Sequence[Rejection | None], stamp: h.Stamp
    ) -> tuple[list[Output], Counter[Reason], int]:
        """Return a dead letter per rejected record, their reasons, and how many headers of ours were dropped."""
        dead_letters: list[Output] = []
        reasons: Counter[Reason] = Counter()
        spoofed = 0
        for record, rejection in zip(records, rejections, strict=True):
            if rejection is not None:
                letter = dead_letter(record, rejection, stamp, self._max_dead_letter_bytes)
                dead_letters.append((letter.key, letter.value, letter.headers))
                reasons[rejection.reason] += 1
                spoofed += letter.spoofed
        return dead_letters, reasons, spoofed


def predictions_of(
    encoder: Encoder,
    records: Sequence[Record],
    batch: DecodedBatch,
    scores: NDArray[np.float64],
    stamp: h.Stamp,
    now_ms: int,
) -> tuple[list[Output], int]:
    """Return one output per record, and how many headers in our name space were dropped.

    batch: the decoded records, one each. scores: of the task's shape. now_ms: when they were scored.
    """
    prefix = f"{stamp.topic}-{stamp.partition}-"
    values = encoder.encode(
        [f"{prefix}{record.offset}" for record in records],
        batch.event_ids,
        batch.customer_ids,
        batch.event_times,
        timestamps.render(now_ms),
        scores.tolist(),
    )
    headers = stamp.batch(records, h.CONTENT_TYPE)
    spoofed = 0
    for record, ours in zip(records, headers, strict=True):
        if record.headers:
            dropped, trace = h.carried(record.headers)
            spoofed += dropped
            if trace is not None:
                ours.append(trace)
    return [(r.key, value, ours) for r, value, ours in zip(records, values, headers, strict=True)], spoofed


def _by_class(task: Task, scores: NDArray[np.float64]) -> Counter[str] | None:
    """Return how many predictions have each class of the model as their label; None where they have no class."""
    predicted = task.predicted(scores)
    if predicted is None or not isinstance(task, Multiclass):
        return None
    return Counter(dict(zip(task.classes, np.bincount(predicted, minlength=len(task.classes)).tolist(), strict=True)))


def _unseen(batch: DecodedBatch) -> dict[str, int]:
    layout = batch.columns.layout
    counts = (batch.columns.codes == UNSEEN).sum(axis=0)
    return {layout.names[i]: int(n) for i, n in zip(layout.categorical, counts, strict=True) if n}


def encoder_for(model: Model) -> Encoder:
    """Return the encoder of a model's predictions."""
    return encoder_of(ModelRef(model.manifest.name, model.manifest.version), model.manifest.predicts)
